//! Another app of this gateway says whether a request may pass. What it is asked and what is made of its
//! answer is here; `proxy::ask` carries the question.

use std::sync::Arc;
use std::time::Duration;

use topology::AppId;
use topology::filters::{Filters, ForwardAuth as Settings};

use super::compile::identity_fields;
use super::{Asked, Changes, Decision, push_line, scope};
use crate::message::{FieldKind, Names, RequestHead, ResponseHead};
use crate::reason::Reason;

/// Of an answer that refuses: what the client needs to do better.
const TOLD_TO_CLIENTS: [&str; 4] = ["WWW-Authenticate", "Location", "Set-Cookie", "Retry-After"];

/// Fields of the client's that are about its own request only: how the answer is to be had, where its body
/// ends. The last ones are the question's own.
const NOT_ASKED: [&str; 12] = [
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
    "Accept-Encoding",
    "Max-Forwards",
    "X-Forwarded-Method",
    "X-Forwarded-Uri",
    "Sec-WebSocket-Key",
    "Trailer",
];

#[derive(Debug)]
pub struct ForwardAuth {
    settings: Settings,
    left_out: Names,
}

impl ForwardAuth {
    /// `all`: what else is done to the request. Whatever of it only the gateway says, or is shown to the gateway
    /// alone, the other app is not asked with as the client has it. Fields that are only removed on their way to
    /// endpoints are asked with: a session's cookie may be the other app's own.
    pub(super) fn compile(settings: &Settings, all: &Filters) -> Arc<Self> {
        let set = all.request_headers.iter().flat_map(|edits| edits.set.iter().map(|(name, _)| &**name));
        let left_out = NOT_ASKED.into_iter().chain(identity_fields(all)).chain(set).collect();
        Arc::new(Self { settings: settings.clone(), left_out })
    }

    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        if scope::includes(&self.settings.scope, asked) { Decision::Wait } else { Decision::Pass }
    }

    pub fn app(&self) -> &AppId {
        &self.settings.app
    }

    /// For all of it, another endpoint after a failure included.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The head of the question: a GET for the path of the settings with the client's own fields, and with what the
    /// filters before this one have found.
    pub fn question(&self, request: &RequestHead, head: &[u8], found: &Changes) -> Vec<u8> {
        let mut out = Vec::with_capacity(head.len() + found.request.len() + 256);
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(self.settings.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        push_line(b"Host", request.authority.within(head), &mut out);
        push_line(b"X-Forwarded-Method", request.method_name.within(head), &mut out);
        let target = match (&found.target, request.path_and_query.within(head)) {
            (Some(target), _) => target,
            (None, b"") => request.target.within(head),
            (None, target) => target,
        };
        push_line(b"X-Forwarded-Uri", target, &mut out);
        for field in request.fields.iter() {
            let name = field.name.within(head);
            let is_own =
                matches!(field.kind, FieldKind::Host | FieldKind::Expect) || field.kind.is_hop_by_hop();
            if !is_own && !self.left_out.contains(name) && !request.connection_names(head, name) {
                push_line(name, field.value.within(head), &mut out);
            }
        }
        out.extend_from_slice(&found.request);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// What the answer means for the request.
    pub fn conclude(&self, response: &ResponseHead, head: &[u8], changes: &mut Changes) -> Decision {
        match response.status {
            200..=299 => {
                self.settings.copy.iter().for_each(|name| copy(name, response, head, &mut changes.request));
                Decision::Pass
            }
            // It has not decided anything.
            500.. => Decision::Refuse(Reason::ForwardAuthFailed),
            status => {
                TOLD_TO_CLIENTS.iter().for_each(|name| copy(name, response, head, &mut changes.always));
                changes.status = Some(status);
                Decision::Refuse(Reason::ForwardAuthDenied)
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        let Settings { app, path, timeout, scope, .. } = &self.settings;
        let timeout = discovery::document::show_duration(*timeout);
        format!("asks {app} for {path} within {timeout}{}", scope::describe(scope))
    }
}

fn copy(name: &str, response: &ResponseHead, head: &[u8], lines: &mut Vec<u8>) {
    let is_named = |given: &[u8]| given.eq_ignore_ascii_case(name.as_bytes());
    for field in response.fields.iter().filter(|field| is_named(field.name.within(head))) {
        push_line(name.as_bytes(), field.value.within(head), lines);
    }
}

#[cfg(test)]
mod tests {
    use topology::filters::{ApiKeyPlace, ApiKeys, BasicAuth, HeaderEdits, HeaderValue};

    use super::*;
    use crate::message::Method;

    fn filter() -> Arc<ForwardAuth> {
        among(Filters::default())
    }

    fn among(others: Filters) -> Arc<ForwardAuth> {
        let settings = Settings {
            scope: Default::default(),
            app: AppId::parse("auth").unwrap(),
            path: "/check".into(),
            timeout: Duration::from_secs(1),
            copy: vec!["X-User".into()],
        };
        ForwardAuth::compile(&settings, &Filters { forward_auth: Some(settings.clone()), ..others })
    }

    #[test]
    fn the_question_is_a_get_with_the_clients_fields() {
        let head =
            b"POST /pay?x HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nCookie: a=b\r\nX_User: root\r\n\
            Range: bytes=0-1\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nX-Forwarded-Uri: /free\r\n\r\n";
        let question = filter().question(&RequestHead::parse(head).unwrap(), head, &Changes::default());
        assert_eq!(
            String::from_utf8(question.clone()).unwrap(),
            "GET /check HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Method: POST\r\nX-Forwarded-Uri: /pay?x\r\n\
             Cookie: a=b\r\n\r\n"
        );
        assert!(RequestHead::parse(&question).is_ok());
    }

    #[test]
    fn nothing_is_asked_that_only_the_gateway_says_or_is_shown() {
        let others = Filters {
            api_keys: Some(ApiKeys {
                scope: Default::default(),
                place: ApiKeyPlace::Query("key".into()),
                keys: Vec::new(),
                file: None,
                consumer_header: "X-Consumer".into(),
            }),
            basic_auth: Some(BasicAuth {
                scope: Default::default(),
                realm: "shop".into(),
                users: Vec::new(),
                file: None,
                consumer_header: "X-Name".into(),
            }),
            request_headers: Some(HeaderEdits {
                set: vec![("X-Stage".into(), HeaderValue(Vec::new()))],
                add: Vec::new(),
                remove: vec!["Cookie".into()],
            }),
            ..Filters::default()
        };
        let head = b"GET /a?key=secret&b HTTP/1.1\r\nHost: shop\r\nAuthorization: Basic eDp5\r\nx_consumer: root\r\n\
            X-Name: root\r\nX-Stage: test\r\nCookie: a=b\r\n\r\n";
        let found = Changes {
            target: Some(b"/a?b"[..].into()),
            request: b"X-Consumer: alice\r\n".to_vec(),
            ..Changes::default()
        };
        let question = among(others).question(&RequestHead::parse(head).unwrap(), head, &found);
        assert_eq!(
            String::from_utf8(question).unwrap(),
            "GET /check HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /a?b\r\n\
             Cookie: a=b\r\nX-Consumer: alice\r\n\r\n"
        );
    }

    #[test]
    fn its_answer_decides() {
        let conclude = |text: &str| {
            let mut changes = Changes::default();
            let response = ResponseHead::parse(text.as_bytes(), Method::Get).unwrap();
            let decision = filter().conclude(&response, text.as_bytes(), &mut changes);
            (decision, changes)
        };
        let (decision, changes) = conclude("HTTP/1.1 204 No Content\r\nX-User: bob\r\nX-Other: 1\r\n\r\n");
        assert_eq!((decision, changes.request.as_slice()), (Decision::Pass, &b"X-User: bob\r\n"[..]));
        let (decision, changes) = conclude("HTTP/1.1 302 Found\r\nLocation: /login\r\nX-User: bob\r\n\r\n");
        assert_eq!(decision, Decision::Refuse(Reason::ForwardAuthDenied));
        assert_eq!((changes.status, changes.always.as_slice()), (Some(302), &b"Location: /login\r\n"[..]));
        let (decision, _) = conclude("HTTP/1.1 500 Oops\r\n\r\n");
        assert_eq!(decision, Decision::Refuse(Reason::ForwardAuthFailed));
    }
}
