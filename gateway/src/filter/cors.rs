//! Cross-origin requests (the Fetch standard's "CORS protocol"): the gateway answers preflights and says
//! who may read the rest, so that endpoints need not know.

use std::sync::Arc;

use topology::filters::Cors as Settings;

use super::{Asked, Changes, Decision, push_line};
use crate::message::Method;
use crate::reason::Reason;

/// What endpoints say in these is replaced: two that differ would make browsers refuse both.
pub(super) const OURS: [&str; 6] = [
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
];

#[derive(Debug)]
pub struct Cors {
    origins: Box<[Origin]>,
    credentials: bool,
    methods: Box<str>,
    /// `None`: whatever a preflight asks for.
    headers: Option<Box<str>>,
    expose: Box<str>,
    max_age: Box<str>,
}

#[derive(Debug)]
enum Origin {
    Any,
    Exact(Arc<str>),
    /// What comes before any number of labels, and what after: `https://` and `.example.com`.
    Below(Box<str>, Box<str>),
}

impl Origin {
    fn parse(text: &Arc<str>) -> Self {
        match text.split_once("*.") {
            _ if &**text == "*" => Self::Any,
            Some((scheme, domain)) => Self::Below(scheme.into(), format!(".{domain}").into()),
            None => Self::Exact(text.clone()),
        }
    }

    /// `origin` is in lower case, as browsers write it.
    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_bytes() == origin,
            Self::Below(scheme, domain) => {
                let labels = origin
                    .strip_prefix(scheme.as_bytes())
                    .and_then(|rest| rest.strip_suffix(domain.as_bytes()));
                labels.is_some_and(|labels| {
                    !labels.is_empty()
                        && labels.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
                })
            }
        }
    }
}

impl Cors {
    pub(super) fn compile(settings: &Settings) -> Self {
        let list = |names: &[Arc<str>]| names.join(", ").into_boxed_str();
        Self {
            origins: settings.origins.iter().map(Origin::parse).collect(),
            credentials: settings.credentials,
            methods: list(&settings.methods),
            headers: settings.headers.as_deref().map(list),
            expose: list(&settings.expose),
            max_age: settings.max_age.as_secs().to_string().into(),
        }
    }

    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let lines = &mut changes.always;
        if !matches!(*self.origins, [Origin::Any]) {
            // A cache must not show one origin what another may read.
            lines.extend_from_slice(b"Vary: Origin\r\n");
        }
        let Some(origin) = asked.field("Origin") else { return Decision::Pass };
        let method = asked.field("Access-Control-Request-Method");
        let is_preflight = asked.request.method == Method::Options && method.is_some();
        if !self.origins.iter().any(|known| known.matches(origin)) {
            // The browser keeps the response from its script; whoever is no browser was never kept by CORS.
            return if is_preflight { Decision::Refuse(Reason::CorsOriginDenied) } else { Decision::Pass };
        }
        let allowed = if matches!(*self.origins, [Origin::Any]) { b"*" } else { origin };
        push_line(b"Access-Control-Allow-Origin", allowed, lines);
        if self.credentials {
            lines.extend_from_slice(b"Access-Control-Allow-Credentials: true\r\n");
        }
        if is_preflight {
            self.answer_preflight(asked, lines);
            return Decision::Refuse(Reason::CorsPreflight);
        }
        if !self.expose.is_empty() {
            push_line(b"Access-Control-Expose-Headers", self.expose.as_bytes(), lines);
        }
        Decision::Pass
    }

    fn answer_preflight(&self, asked: &Asked<'_>, lines: &mut Vec<u8>) {
        push_line(b"Access-Control-Allow-Methods", self.methods.as_bytes(), lines);
        let wanted = asked.field("Access-Control-Request-Headers");
        let headers = self.headers.as_deref().map(str::as_bytes).or(wanted);
        if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
            push_line(b"Access-Control-Allow-Headers", headers, lines);
        }
        if self.headers.is_none() {
            lines.extend_from_slice(b"Vary: Access-Control-Request-Headers\r\n");
        }
        push_line(b"Access-Control-Max-Age", self.max_age.as_bytes(), lines);
    }

    pub(super) fn describe(&self) -> String {
        let origin = |origin: &Origin| match origin {
            Origin::Any => "*".to_owned(),
            Origin::Exact(exact) => exact.to_string(),
            Origin::Below(scheme, domain) => format!("{scheme}*{domain}"),
        };
        let origins: Vec<_> = self.origins.iter().map(origin).collect();
        format!("{} for {}", self.methods, origins.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole() {
        let below = Origin::parse(&"https://*.example.com".into());
        for (origin, wanted) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("http://a.example.com", false),
            ("https://evil.test/.example.com", false),
            ("https://a.example.com.evil.test", false),
            ("null", false),
        ] {
            assert_eq!(below.matches(origin.as_bytes()), wanted, "{origin}");
        }
        assert!(Origin::parse(&"*".into()).matches(b"null"));
        assert!(!Origin::parse(&"https://a.test".into()).matches(b"https://a.test:444"));
    }
}
