//! `sticky`: the cookie that keeps a client at its endpoint.

use std::sync::Arc;
use std::time::Duration;

use topology::{SameSite, Sticky};

use super::matching::{COOKIE, token};
use crate::document::Table;

/// Browsers count in seconds, and round less down to none.
const MIN_AGE: Duration = Duration::from_secs(1);
/// What browsers keep at most (RFC 6265bis section 5.5).
const MAX_AGE: Duration = Duration::from_secs(400 * 86_400);
const MAX_PATH_BYTES: usize = 1_024;

const EXAMPLE: &str = "cookie = \"instance\"";

pub(super) fn read_sticky(spec: &Table<'_>) -> Option<Sticky> {
    let table = spec.table("sticky")?;
    let cookie = table.parsed("cookie", |text| token(text, COOKIE).map(str::to_owned));
    let cookie = table.required("cookie", cookie, EXAMPLE);
    let max_age = table.duration("max_age", MIN_AGE..=MAX_AGE);
    let path = table.parsed("path", cookie_path);
    let same_site = table.choice("same_site", &SameSite::ALL.map(|kind| (kind.as_str(), kind)));
    let secure = table.boolean("secure");
    if same_site == Some(SameSite::None) && secure != Some(true) {
        table.mistake("same_site", "\"none\" is dropped by browsers without secure; add secure = true");
    }
    // RFC 6265bis section 4.1.3.
    let has_prefix = |prefix: &str| {
        let start = cookie.as_deref().and_then(|name| name.get(..prefix.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if (has_prefix("__Secure-") || has_prefix("__Host-")) && secure != Some(true) {
        table
            .mistake("cookie", "is dropped by browsers without secure; add secure = true, or choose another");
    }
    if has_prefix("__Host-") && path.as_deref().is_some_and(|path| path != Sticky::DEFAULT_PATH) {
        table.mistake("path", "must be \"/\" for a cookie whose name begins with __Host-; remove it");
    }
    table.finish();
    Some(Sticky {
        cookie: cookie?.into(),
        max_age,
        path: path.unwrap_or_else(|| Arc::from(Sticky::DEFAULT_PATH)),
        same_site: same_site.unwrap_or_default(),
        secure,
    })
}

/// It is written into a field as it is.
fn cookie_path(text: &str) -> Result<Arc<str>, &'static str> {
    let is_path = text.starts_with('/')
        && text.len() <= MAX_PATH_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if is_path { Ok(Arc::from(text)) } else { Err("is no path of a cookie; write \"/\" or \"/shop\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse_app_file;

    fn read(line: &str) -> Result<Option<Sticky>, String> {
        let read = parse_app_file("shop.toml", &format!("id = \"shop\"\n{line}\n"));
        let sticky = |app: topology::App| app.spec.sticky.as_deref().cloned();
        read.map(sticky).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn what_is_not_said_is_argued_for() {
        assert_eq!(read(""), Ok(None));
        let least = Sticky {
            cookie: "at".into(),
            max_age: None,
            path: "/".into(),
            same_site: SameSite::Lax,
            secure: None,
        };
        assert_eq!(read("sticky = { cookie = \"at\" }"), Ok(Some(least.clone())));
        let all = Sticky {
            max_age: Some(Duration::from_secs(3600)),
            path: "/shop".into(),
            same_site: SameSite::None,
            secure: Some(true),
            ..least
        };
        let line = r#"sticky = { cookie = "at", max_age = "1h", path = "/shop", same_site = "none", secure = true }"#;
        assert_eq!(read(line), Ok(Some(all)));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (line, wanted) in [
            ("sticky = {}", "2: sticky.cookie: is missing; write cookie = \"instance\""),
            (
                "sticky = { cookie = \"a b\" }",
                "2: sticky.cookie: is no cookie's name; write a token such as canary",
            ),
            (
                "sticky = { cookie = \"a\", path = \"/;a\" }",
                "2: sticky.path: is no path of a cookie; write \"/\" or \"/shop\"",
            ),
            (
                "sticky = { cookie = \"a\", same_site = \"none\" }",
                "2: sticky.same_site: \"none\" is dropped by browsers without secure; add secure = true",
            ),
            (
                "sticky = { cookie = \"__host-a\" }",
                "2: sticky.cookie: is dropped by browsers without secure; add secure = true, or choose another",
            ),
            (
                "sticky = { cookie = \"__Host-a\", secure = true, path = \"/a\" }",
                "2: sticky.path: must be \"/\" for a cookie whose name begins with __Host-; remove it",
            ),
            (
                "sticky = { cookie = \"a\", max_age = \"1ms\" }",
                "2: sticky.max_age: \"1ms\" is out of range; write 1s to 400d",
            ),
        ] {
            assert_eq!(read(line), Err(format!("shop.toml:{wanted}")), "{line}");
        }
    }
}
