//! What of a request its endpoint is chosen by, where its app hashes.

use std::net::IpAddr;

use topology::{Balance, HashAlgorithm, HashKey, Hashing};

use super::matching::{cookie, only};
use crate::balance::key_of;
use crate::filter::Asked;
use crate::message::Method;
use crate::table::CompiledApp;

/// `None`: the request does not have it, or has it twice, so that nobody could say which one its endpoint goes by.
pub fn key(asked: &Asked<'_>, hashing: &Hashing) -> Option<u64> {
    let algorithm = hashing.algorithm;
    let of = |bytes: &[u8]| key_of(algorithm, bytes.iter().copied());
    match &hashing.key {
        HashKey::Client => Some(of_address(algorithm, asked.client())),
        HashKey::Header(name) => only(asked.heeded(name)).map(of),
        HashKey::Cookie(name) => only(cookie(asked, name)).map(of),
        // CONNECT asks for a host, and for no path there.
        HashKey::Path | HashKey::Uri if asked.request.method == Method::Connect => None,
        HashKey::Path => Some(of(asked.path)),
        HashKey::Uri => Some(of(asked.request.path_and_query.within(asked.head))),
    }
}

/// As [`key`], of a connection or a datagram, which have nothing but a client.
pub fn client_key(app: &CompiledApp, client: IpAddr) -> Option<u64> {
    match &app.spec.balance {
        Balance::Hash(hashing) if hashing.key == HashKey::Client => {
            Some(of_address(hashing.algorithm, client))
        }
        _ => None,
    }
}

/// IPv4 in IPv6's clothes counts as IPv4. Rings of other programs are asked by what one reads.
fn of_address(algorithm: HashAlgorithm, address: IpAddr) -> u64 {
    match (algorithm, address.to_canonical()) {
        (HashAlgorithm::Maglev, IpAddr::V4(address)) => key_of(algorithm, address.octets()),
        (HashAlgorithm::Maglev, IpAddr::V6(address)) => key_of(algorithm, address.octets()),
        (HashAlgorithm::Ketama, address) => key_of(algorithm, address.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::balance::hash;
    use crate::message::{NO_NAMES, RequestHead};

    fn key(lines: &str, key: &HashKey) -> Option<u64> {
        key_by(HashAlgorithm::Maglev, lines, key)
    }

    fn key_by(algorithm: HashAlgorithm, lines: &str, key: &HashKey) -> Option<u64> {
        let head = format!("GET /a/./b?c=d HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let parsed = RequestHead::parse(head.as_bytes()).unwrap();
        let asked = Asked {
            request: &parsed,
            head: head.as_bytes(),
            path: b"/a/b",
            host: "",
            app: "shop",
            taken_by: None,
            id: &[b'0'; 32],
            now: Instant::now(),
            worker: 0,
            is_tls: false,
            peer: "::ffff:10.1.2.3".parse().unwrap(),
            trusts: None,
            told: &NO_NAMES,
            found: Default::default(),
        };
        super::key(&asked, &Hashing { key: key.clone(), algorithm, bounded_load: None })
    }

    #[test]
    fn a_request_has_one_key_or_none() {
        let of = |text: &str| Some(hash(text.bytes()));
        let (header, cookie) = (HashKey::Header("x-user".into()), HashKey::Cookie("sid".into()));
        for (lines, wanted, expected) in [
            ("X-USER: 7\r\n", &header, of("7")),
            ("X-User: 7\r\nX-User: 8\r\n", &header, None),
            ("X-User: \r\n", &header, None),
            ("", &header, None),
            // A claim of somebody who is not trusted.
            ("X-Real-IP: 9.9.9.9\r\n", &HashKey::Header("x-real-ip".into()), None),
            ("Cookie: a=b; sid=7\r\n", &cookie, of("7")),
            ("Cookie: SID=7\r\n", &cookie, None),
            ("Cookie: sid=7\r\nCookie: sid=8\r\n", &cookie, None),
            ("", &HashKey::Path, of("/a/b")),
            ("", &HashKey::Uri, of("/a/./b?c=d")),
            ("X-Forwarded-For: 9.9.9.9\r\n", &HashKey::Client, Some(hash([10, 1, 2, 3]))),
        ] {
            assert_eq!(key(lines, wanted), expected, "{lines:?} {wanted}");
        }
        let point = |text: &str| Some(key_of(HashAlgorithm::Ketama, text.bytes()));
        assert_eq!(key_by(HashAlgorithm::Ketama, "", &HashKey::Client), point("10.1.2.3"));
        assert_eq!(key_by(HashAlgorithm::Ketama, "", &HashKey::Uri), point("/a/./b?c=d"));
    }
}
