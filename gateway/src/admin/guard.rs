//! Who may ask the admin listener: whoever is on this machine, but no page in a browser on it.
//!
//! A page of any site can have its own name resolved to the loopback (DNS rebinding), and is then of one origin
//! with us. Its requests still carry that name in Host, and what changes something also an Origin.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub async fn check(request: Request, next: Next) -> Response {
    match refusal(request.method(), request.headers()) {
        None => next.run(request).await,
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
    }
}

fn refusal(method: &Method, fields: &HeaderMap) -> Option<&'static str> {
    // Browsers always send one, some health checkers do not.
    let host = fields.get(header::HOST);
    if host.is_some_and(|host| !host.to_str().is_ok_and(is_loopback)) {
        return Some("the Host field must name the loopback: localhost, 127.0.0.1 or [::1]\n");
    }
    let is_from_page = fields.contains_key(header::ORIGIN) && method != Method::GET && method != Method::HEAD;
    is_from_page.then_some("pages in a browser change nothing here\n")
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(header::HOST, host.parse().unwrap());
        fields.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
        fields
    }

    #[test]
    fn names_that_are_not_the_loopbacks_are_refused() {
        for host in ["localhost", "LOCALHOST:9901", "127.0.0.1:9901", "127.8.9.1", "[::1]:9901"] {
            assert_eq!(refusal(&Method::GET, &fields(host, None)), None, "{host}");
        }
        for host in ["evil.test:9901", "localhost.evil.test", "10.0.0.1", "", "127.0.0.1.evil.test", "[::2]"]
        {
            assert!(refusal(&Method::GET, &fields(host, None)).is_some(), "{host}");
        }
        assert_eq!(refusal(&Method::GET, &HeaderMap::new()), None);
    }

    #[test]
    fn pages_change_nothing_even_under_our_own_name() {
        let from_page = fields("localhost:9901", Some("http://localhost:9901"));
        assert!(refusal(&Method::DELETE, &from_page).is_some());
        assert_eq!(refusal(&Method::GET, &from_page), None);
        assert_eq!(refusal(&Method::DELETE, &fields("localhost:9901", None)), None);
    }
}
