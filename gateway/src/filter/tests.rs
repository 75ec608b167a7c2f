//! Whatever clients send, what filters write stays lines of fields.

use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use topology::AppId;
use topology::filters::{HeaderEdits, HeaderValue, Piece, Redirect, RedirectStatus, Rewrite, Variable};

use super::*;
use crate::message::{NO_NAMES, RequestHead, target};

fn settings() -> Settings {
    let value = |variable| HeaderValue(vec![Piece::Variable(variable), Piece::Text(";".into())]);
    let all =
        Variable::ALL.iter().map(|(name, variable)| (format!("X-{}", name.replace('_', "-")), *variable));
    let set: Vec<_> = all.map(|(name, variable)| (name.as_str().into(), value(variable))).collect();
    let edits = HeaderEdits { set, ..HeaderEdits::default() };
    let redirect = |from: &str, to: &str| Redirect {
        from: topology::PathMatch::parse(from).unwrap(),
        host: None,
        to: to.into(),
        status: RedirectStatus(308),
        keep_query: true,
    };
    let cors = topology::filters::Cors {
        origins: vec!["https://*.example.com".into()],
        methods: vec!["PUT".into()],
        headers: None,
        expose: Vec::new(),
        credentials: true,
        max_age: std::time::Duration::from_secs(1),
    };
    Settings {
        cors: Some(cors),
        redirects: vec![redirect("/old", "/"), redirect("/away", "https://away.test/x")],
        rewrite: Some(Rewrite {
            strip_prefix: Some("/api".into()),
            add_prefix: Some("/v2".into()),
            host: None,
        }),
        request_headers: Some(edits.clone()),
        response_headers: Some(edits),
        ..Settings::default()
    }
}

fn decide(filters: &Filters, head: &[u8]) -> Option<(Step, Changes)> {
    let request = RequestHead::parse(head).ok()?;
    let path = target::route_path(request.path_and_query.within(head)).ok()?;
    let host = topology::normalize_host(request.authority.within(head))?;
    let asked = Asked {
        request: &request,
        head,
        path: &path,
        host: &host,
        app: "shop",
        taken_by: None,
        id: &[b'0'; 32],
        now: Instant::now(),
        worker: 0,
        is_tls: false,
        peer: "192.0.2.1".parse().unwrap(),
        trusts: Some(&|_| true),
        told: &NO_NAMES,
        found: Default::default(),
    };
    let mut changes = Changes::default();
    let step = filters.decide(&asked, &mut changes, 0);
    Some((step, changes))
}

/// Every line is one field that HTTP can carry.
fn are_lines(lines: &[u8]) -> Result<(), TestCaseError> {
    let text = [b"HTTP/1.1 200 OK\r\n", lines, b"\r\n"].concat();
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    prop_assert_eq!(parsed.parse(&text), Ok(httparse::Status::Complete(text.len())));
    let count = lines.windows(2).filter(|pair| pair == b"\r\n").count();
    prop_assert_eq!(parsed.headers.len(), count);
    Ok(())
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_becomes_a_field_of_its_own(
        start in prop::sample::select(vec!["/", "/old", "/old/", "/away", "/api", "/api/", "/old//", "/old/\\"]),
        rest in "[ -~\t\u{80}-\u{ff}]{0,30}",
        origin in prop::sample::select(vec!["https://a.example.com", "https://a.example.com\r\nX: y", "null"]),
        asked in "[ -~\t\u{80}-\u{ff}]{0,20}",
        method in prop::sample::select(vec!["GET", "OPTIONS"]),
    ) {
        let app = AppId::parse("shop").unwrap();
        let with = Compiling { app: &app, former: None, workers: 1, sources: &Sources::default() };
        let filters = compile(&Arc::new(settings()), with);
        let head = format!(
            "{method} {start}{rest} HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: {asked}\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: {asked}\r\nAccess-Control-Request-Headers: {asked}\r\n\r\n"
        );
        let Some((step, changes)) = decide(&filters, head.as_bytes()) else { return Ok(()) };
        for lines in [&changes.request, &changes.always, &changes.response] {
            are_lines(lines)?;
        }
        if let Some(target) = &changes.target {
            prop_assert!(target.starts_with(b"/v2"), "{:?}", target);
            prop_assert!(target.iter().all(u8::is_ascii_graphic));
        }
        if step == Step::Refused(Reason::Redirected) {
            let text = String::from_utf8(changes.always).unwrap();
            let to = text.split_once("Location: ").unwrap().1;
            let goes_nowhere_else = to.starts_with("https://away.test/x")
                || to.starts_with('/') && !to[1..].starts_with(['/', '\\']);
            prop_assert!(goes_nowhere_else, "{}", to);
        }
    }
}
