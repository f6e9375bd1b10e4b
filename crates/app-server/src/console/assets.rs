//! The three files that the pages need, inside the program.

use super::page::POLICY;
use crate::http::failure::{Case, Failure};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "console.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("../../assets/console.css"),
    },
    Asset {
        name: "console.js",
        media_type: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/console.js"),
    },
    Asset { name: "icon.svg", media_type: "image/svg+xml", text: include_str!("../../assets/icon.svg") },
];

/// Names the contents of all files: with it in their addresses a browser may keep them, and never keeps old ones.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    ASSETS.iter().for_each(|asset| hash.update(asset.text));
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// A file by its name.
pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse, Failure> {
    let name = request.match_info().get("file").unwrap_or_default();
    let asset = ASSETS.iter().find(|asset| asset.name == name).ok_or(Failure::new(Case::UnknownPath))?;
    let kept = request.query_string() == VERSION.as_str();
    let keep = if kept { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.media_type))
        .insert_header((CACHE_CONTROL, keep))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(asset.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy would stop it in a browser; here it does not even get into the program.
    #[test]
    fn no_file_names_another_host() {
        for Asset { name, text, .. } in &ASSETS {
            assert!(!text.is_empty(), "{name}");
            for (at, _) in text.match_indices("://") {
                let around = text.get(at.saturating_sub(5)..(at + 22).min(text.len())).unwrap_or_default();
                assert!(around.contains("http://www.w3.org/2000"), "{name}: {around}");
            }
            assert!(!text.contains("@import"), "{name}");
        }
        assert_eq!(VERSION.len(), 12);
    }
}
