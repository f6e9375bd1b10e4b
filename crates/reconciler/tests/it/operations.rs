//! Health and metrics.

use crate::support::{Running, Settings};

/// Nothing is there to connect to, and nothing has to be.
const NO_DATABASE: Settings<'static> = &[
    ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
    ("HOLDFAST__RECONCILER__BIND", "127.0.0.1:0"),
    ("HOLDFAST__RECONCILER__SCHEDULE", "0 0 0 1 1 *"),
];

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let running = Running::start(NO_DATABASE).await;
    for (path, status) in [("/health/live", 200), ("/health/ready", 503), ("/metrics", 200), ("/x", 404)] {
        let (got, get, body) = running.ask("GET", path, "").await;
        let (asked, head, nothing) = running.ask("HEAD", path, "").await;
        assert_eq!((got, asked, nothing.as_str()), (status, status, ""), "{path}: {head}");
        assert_eq!(header(&head, "content-type"), header(&get, "content-type"), "{path}");
        assert!(header(&head, "content-length").is_some_and(|length| length != "0"), "{path}: {head}");
        if path != "/metrics" {
            assert_eq!(header(&head, "content-length"), Some(body.len().to_string().as_str()), "{path}");
        }
    }
    let (status, head, body) = running.ask("POST", "/health/live", "").await;
    assert_eq!((status, header(&head, "allow")), (405, Some("get, head")), "{head}");
    assert!(body.contains(r#""errorCode":"METHOD_NOT_ALLOWED""#), "{body}");
}

#[tokio::test]
async fn metrics_are_for_those_who_have_the_token() {
    let settings: Vec<_> =
        NO_DATABASE.iter().copied().chain([("HOLDFAST__OPS__TOKEN", "a-token-of-the-tests")]).collect();
    let running = Running::start(&settings).await;
    for wrong in [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer a-token\r\n",
        "Authorization: Basic a-token-of-the-tests\r\n",
        "Authorization: Bearer a-token-of-the-testsX\r\n",
    ] {
        for method in ["GET", "HEAD"] {
            let (status, head, body) = running.ask(method, "/metrics", wrong).await;
            assert_eq!((status, header(&head, "www-authenticate")), (401, Some("bearer")), "{wrong}: {head}");
            assert!(!body.contains("build_info"), "{body}");
        }
    }
    let (status, _, body) =
        running.ask("GET", "/metrics", "Authorization: Bearer a-token-of-the-tests\r\n").await;
    assert!(status == 200 && body.contains("build_info{program=\"reconciler\""), "{status} {body}");
    assert_eq!(running.ask("GET", "/health/live", "").await.0, 200, "health is for everyone");
}
