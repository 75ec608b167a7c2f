//! What is asked: a request that nobody has sent, as the bytes that it would come in.

use std::net::{IpAddr, Ipv4Addr};

use crate::listener::Doorway;

/// Longer than any head that a listener takes; a question above it could not be a request.
const MAX_QUESTION_BYTES: usize = crate::message::request::CEILING_HEAD_BYTES;

/// A request that might come.
#[derive(Debug)]
pub struct Question {
    pub doorway: Doorway,
    /// A complete head of HTTP/1.1.
    pub head: Vec<u8>,
    /// Who would send it: the peer of its connection.
    pub client: IpAddr,
    /// Whether that is one of `trusted_proxies`, whose word on the client is believed.
    pub is_trusted: bool,
}

/// What is wrong with a question: the parameter, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadQuestion {
    pub field: &'static str,
    pub message: String,
}

/// As it was asked.
#[derive(Debug, Default, Clone, Copy)]
pub struct Asking<'a> {
    /// `https://shop.example.com/a?b`; without a scheme, http.
    pub url: &'a str,
    /// Default: GET.
    pub method: Option<&'a str>,
    /// `Name: value` each.
    pub headers: &'a [String],
    /// Default: this machine.
    pub client: Option<&'a str>,
    /// The name of an HTTP listener. Default: the one that has the URL's port, or else the first of its scheme.
    pub listener: Option<&'a str>,
}

impl Question {
    /// `doorways`: the HTTP listeners that are open; `trusts`: whether an address is one of `trusted_proxies`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(
        asking: &Asking<'_>,
        doorways: &[Doorway],
        trusts: impl Fn(IpAddr) -> bool,
    ) -> Result<Self, Vec<BadQuestion>> {
        let mut mistakes = Vec::new();
        let mut blame = |field, message: String| mistakes.push(BadQuestion { field, message });
        let target = Target::read(asking.url).map_err(|why| blame("url", why)).ok();
        let method = asking.method.unwrap_or("GET");
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
            blame("method", "is no method; write one such as GET".to_owned());
        }
        for header in asking.headers {
            if let Err(why) = check_header(header) {
                blame("header", format!("{header:?} {why}"));
            }
        }
        let client = match asking.client.map(str::parse::<IpAddr>) {
            None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(Ok(client)) => Some(client),
            Some(Err(_)) => {
                blame("client", "is no address; write one such as 192.0.2.7".to_owned());
                None
            }
        };
        let doorway = target.as_ref().and_then(|target| match choose(asking.listener, target, doorways) {
            Ok(doorway) => Some(doorway.clone()),
            Err(why) => {
                blame(if asking.listener.is_some() { "listener" } else { "url" }, why);
                None
            }
        });
        let (Some(target), Some(client), Some(doorway), true) =
            (target, client, doorway, mistakes.is_empty())
        else {
            return Err(mistakes);
        };
        let head = target.head(method, asking.headers);
        if head.len() > MAX_QUESTION_BYTES {
            let message = format!("makes a head of {} bytes; the most is {MAX_QUESTION_BYTES}", head.len());
            return Err(vec![BadQuestion { field: "url", message }]);
        }
        Ok(Self { doorway, head, client, is_trusted: trusts(client) })
    }
}

/// One listener's part in it.
fn choose<'d>(
    name: Option<&str>,
    target: &Target<'_>,
    doorways: &'d [Doorway],
) -> Result<&'d Doorway, String> {
    let names = || doorways.iter().map(|doorway| &*doorway.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let found = doorways.iter().find(|doorway| &*doorway.name == name);
        return found.ok_or_else(|| format!("no HTTP listener has this name; there are {}", names()));
    }
    let has_port = |doorway: &&Doorway| Some(doorway.address.port()) == target.port();
    let has_scheme = |doorway: &&Doorway| doorway.is_tls == target.is_https;
    let found = doorways.iter().find(|doorway| has_port(doorway) && has_scheme(doorway));
    found.or_else(|| doorways.iter().find(has_scheme)).ok_or_else(|| {
        let (scheme, other) = if target.is_https { ("https", "http") } else { ("http", "https") };
        format!("no listener speaks {scheme}; write {other}://, or name a listener: {}", names())
    })
}

fn check_header(header: &str) -> Result<(), &'static str> {
    if header.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("has control characters");
    }
    match header.split_once(':') {
        Some((name, _)) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        _ => Err("is no field; write one such as \"X-User: 7\""),
    }
}

struct Target<'a> {
    is_https: bool,
    authority: &'a str,
    path_and_query: &'a str,
}

impl<'a> Target<'a> {
    fn read(url: &'a str) -> Result<Self, String> {
        // A blank would end the target, and a fragment never leaves a client.
        if url.is_empty() || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is no URL; write visible ASCII such as https://shop.example.com/cart".to_owned());
        }
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let (is_https, rest) = match url.split_once("://") {
            None => (false, url),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, _)) => return Err(format!("{scheme:?} is neither http nor https")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return Err("names no host; write one such as https://shop.example.com/cart".to_owned());
        }
        Ok(Self { is_https, authority, path_and_query })
    }

    fn port(&self) -> Option<u16> {
        let (_, port) = self.authority.rsplit_once(':')?;
        port.parse().ok()
    }

    fn head(&self, method: &str, headers: &[String]) -> Vec<u8> {
        let Self { authority, path_and_query, .. } = self;
        let slash = if path_and_query.starts_with('/') { "" } else { "/" };
        let target = match method {
            "CONNECT" => (*authority).to_owned(),
            _ => format!("{slash}{path_and_query}"),
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let names_host = |header: &String| {
            header.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("host"))
        };
        if !headers.iter().any(names_host) {
            head.push_str(&format!("Host: {authority}\r\n"));
        }
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorways() -> [Doorway; 2] {
        [("web", 8080, false), ("web-tls", 8443, true)].map(|(name, port, is_tls)| Doorway {
            name: name.into(),
            address: ([127, 0, 0, 1], port).into(),
            is_tls,
            https: (&crate::config::HttpsConfig::default()).into(),
            limits: Default::default(),
        })
    }

    fn read(asking: &Asking<'_>) -> Result<(String, String), Vec<&'static str>> {
        let question = Question::read(asking, &doorways(), |_| false);
        let fields =
            |mistakes: Vec<BadQuestion>| mistakes.iter().map(|mistake| mistake.field).collect::<Vec<_>>();
        let question = question.map_err(fields)?;
        Ok((question.doorway.name.to_string(), String::from_utf8(question.head).unwrap()))
    }

    #[test]
    fn a_url_becomes_the_head_that_it_would_come_in() {
        for (url, listener, head) in [
            ("http://a.test", "web", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            ("a.test/x?y=1", "web", "GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            ("https://a.test?q#f", "web-tls", "GET /?q HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            ("https://[::1]:8443//..%2f", "web-tls", "GET //..%2f HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n"),
        ] {
            let asking = Asking { url, ..Asking::default() };
            assert_eq!(read(&asking), Ok((listener.to_owned(), head.to_owned())), "{url}");
        }
        let headers = ["host: b.test".to_owned(), "X-User: 7".to_owned()];
        let asking = Asking { url: "a.test", method: Some("POST"), headers: &headers, ..Asking::default() };
        assert_eq!(read(&asking).unwrap().1, "POST / HTTP/1.1\r\nhost: b.test\r\nX-User: 7\r\n\r\n");
    }

    #[test]
    fn all_mistakes_are_told_and_nothing_is_smuggled_in() {
        let headers = ["a: b\r\nc: d".to_owned(), "nothing".to_owned()];
        let asking = Asking {
            url: "http://a.test/ HTTP/1.1",
            method: Some("GET /"),
            headers: &headers,
            client: Some("a.test"),
            listener: None,
        };
        assert_eq!(read(&asking), Err(vec!["url", "method", "header", "header", "client"]));
        for url in ["", "ftp://a.test/", "http:///x", "http://user@a.test/", "http://ä.test/"] {
            assert_eq!(read(&Asking { url, ..Asking::default() }), Err(vec!["url"]), "{url}");
        }
        let asking = Asking { url: "a.test", listener: Some("db"), ..Asking::default() };
        assert_eq!(read(&asking), Err(vec!["listener"]));
        let long = format!("a.test/{}", "x".repeat(MAX_QUESTION_BYTES));
        assert_eq!(read(&Asking { url: &long, ..Asking::default() }), Err(vec!["url"]));
    }
}
