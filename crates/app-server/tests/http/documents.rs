//! The documents that are checked in are those that the code makes. `UPDATE_DOCS=1` writes them.

use crate::support::{Request, Server};
use app_server::failure::{Case, Failure};
use bootstrap::settings::Locale;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/{name} is not what the code makes; run this test with UPDATE_DOCS=1");
}

#[test]
fn the_openapi_documents_are_up_to_date() {
    check("openapi.json", &app_server::openapi::text(&app_server::openapi::public_document()));
    check("openapi-operations.json", &app_server::openapi::text(&app_server::openapi::operations_document()));
}

#[test]
fn the_table_of_errors_is_up_to_date() {
    let mut text = String::from(
        "# Errors\n\nMade from the table in `crates/app-server/src/http/failure.rs` and the texts in `crates/app-server/locales` by a test; don't edit.\n\n\
         Every failed call has `meta.errorCode`, one of a few, and `meta.reason`, which says which case of it. Programs decide by \
         these two; the message is for people, in Korean or (`Accept-Language: en`) English. `{}` stands for a field's name, or for the \
         payment gateway's own words. `PAYMENT_IN_PROGRESS` is not in the table: it comes with HTTP 202 and a SUCCESS envelope, and says that it \
         is not known yet whether the payment gateway got the payment.\n\n\
         | HTTP | errorCode | reason | message (ko) | message (en) | logged at |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for case in Case::ALL {
        let message = |locale| case.message(locale, "{}");
        let (code, ko, en) = (case.code(), message(Locale::Ko), message(Locale::En));
        let status = code.status().as_u16();
        writeln!(
            text,
            "| {status} | {} | {} | {ko} | {en} | {} |",
            code.as_str(),
            case.reason(),
            case.level()
        )
        .unwrap();
    }
    check("errors.md", &text);
}

#[test]
fn reasons_are_unique_and_say_when_to_come_back() {
    let mut reasons = BTreeSet::new();
    for case in Case::ALL {
        assert!(reasons.insert(case.reason()), "{}", case.reason());
        let status = case.code().status();
        let retry_after = Failure::new(*case).retry_after_seconds();
        assert_eq!(retry_after.is_some(), matches!(status.as_u16(), 429 | 503), "{}", case.reason());
    }
}

/// The operations of a document: method, path with every parameter 1, and the documented statuses.
fn operations(document: &Value) -> Vec<(String, String, BTreeSet<u16>)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys().map(|key| key.parse().unwrap());
            let filled: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "1" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            all.push((method.to_uppercase(), filled, statuses.collect()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_answers_what_is_documented() {
    let server = Server::start();
    for (addr, count) in [(server.addr, 14), (server.ops, 14)] {
        let served = Request::new(addr, "GET", "/api-docs/openapi.json").send().await;
        let document = served.value();
        assert_eq!(document["openapi"], "3.1.0");
        let operations = operations(&document);
        assert_eq!(operations.len(), count);
        for (method, path, statuses) in operations {
            for body in ["", "{}", r#"{"amount":1,"state":"CLOSED","resolution":"x","quantity":1}"#] {
                let request = Request::new(addr, &method, &path).header("X-USER-ID", "1");
                let request = if method == "GET" { request } else { request.json(body) };
                let told = request.send().await;
                assert!(
                    statuses.contains(&told.status),
                    "{method} {path} {body}: {} {}",
                    told.status,
                    told.body
                );
                assert!(!told.body.contains("UNKNOWN_PATH"), "{method} {path} is documented, but not there");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_page_loads_nothing_from_elsewhere() {
    let server = Server::start();
    let moved = server.get("/docs").send().await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("/docs/")));
    let page = server.get("/docs/").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")), "{}", page.body);
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "{}", page.body);
    assert!(!page.body.contains("<script>"), "an inline script would not run");
    let sources: Vec<&str> = page
        .body
        .split(['"', '\''])
        .filter(|part| [".js", ".css", ".png"].iter().any(|end| part.ends_with(end)))
        .collect();
    assert!(sources.len() >= 4, "{sources:?}");
    for source in sources.iter().filter(|source| !source.ends_with(".png")) {
        let path = format!("/docs/{}", source.trim_start_matches("./"));
        assert_eq!(server.get(&path).send().await.status, 200, "{path}");
    }
    let settings = server.get("/docs/swagger-initializer.js").send().await;
    assert!(settings.body.contains("/api-docs/openapi.json"), "{}", settings.body);
}
