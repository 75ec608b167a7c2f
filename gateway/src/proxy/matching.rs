//! Which of an app's matches takes a request.

use topology::{Condition, Named, UserCondition, UserGroup, UserId, ValueMatch};

use crate::balance::hash;
use crate::filter::{Asked, Fit, fit};
use crate::message::Method;
use crate::message::cookies::cookies;
use crate::message::query::{Encoded, parameters};
use crate::table::{CompiledMatch, Matches, Way};

/// The position of the first match whose conditions all hold.
pub fn taken_by(matches: &Matches, asked: &Asked<'_>) -> Option<usize> {
    matches.iter().position(|entry| unmet(entry, asked).is_none())
}

/// The first of the match's conditions that does not hold; `None`: all do.
pub fn unmet<'m>(entry: &'m CompiledMatch, asked: &Asked<'_>) -> Option<&'m Condition> {
    let refuses = matches!(entry.way, Way::Nowhere);
    entry.conditions().iter().find(|condition| !meets(asked, condition, refuses))
}

/// `refuses`: what becomes of the request then. A path that may be one of those that are refused is refused,
/// and one that only may be among others is not.
fn meets(asked: &Asked<'_>, condition: &Condition, refuses: bool) -> bool {
    match condition {
        Condition::Method(names) => {
            let name = asked.request.method_name.within(asked.head);
            names.iter().any(|known| known.as_bytes() == name)
        }
        Condition::Path(paths) => {
            // CONNECT asks for a host, and for no path there.
            asked.request.method != Method::Connect
                && match fit(paths, asked) {
                    Fit::Yes => true,
                    Fit::Perhaps => refuses,
                    Fit::No => false,
                }
        }
        Condition::Client(networks) => {
            let client = asked.client();
            networks.iter().any(|network| network.contains(&client))
        }
        Condition::Header(named) => holds(&named.value, asked.heeded(&named.name)),
        Condition::Cookie(named) => holds(&named.value, cookie(asked, &named.name)),
        Condition::Query(named) => meets_query(asked, named),
        Condition::User(user) => user_id(asked, &user.id).is_some_and(|id| is_among(asked.app, user, id)),
    }
}

pub(super) fn cookie<'a>(asked: &'a Asked<'_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let found = cookies(&asked.request.fields, asked.head);
    found.filter(move |(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

fn meets_query(asked: &Asked<'_>, named: &Named) -> bool {
    let found = parameters(asked.request.path_and_query.within(asked.head));
    let mut values = found.filter(|(name, _)| name.equals(named.name.as_bytes())).map(|(_, value)| value);
    match &named.value {
        ValueMatch::Equals(wanted) => values.any(|value| value.equals(wanted.as_bytes())),
        ValueMatch::Prefix(wanted) => values.any(|value| value.starts_with(wanted.as_bytes())),
        ValueMatch::Present => values.any(Encoded::is_valid),
        ValueMatch::Absent => values.next().is_none(),
    }
}

fn user_id<'a>(asked: &'a Asked<'_>, id: &'a UserId) -> Option<&'a [u8]> {
    match id {
        UserId::Header(name) => only(asked.heeded(name)),
        UserId::Cookie(name) => only(cookie(asked, name)),
    }
}

/// The one value that there is: of two nobody could say which the endpoint goes by.
pub(super) fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next().filter(|value| !value.is_empty());
    first.filter(|_| values.next().is_none())
}

/// Users who are few in one app need not be the same few in the next.
fn is_among(app: &str, user: &UserCondition, id: &[u8]) -> bool {
    match user.group {
        UserGroup::Range(first, last) => number(id).is_some_and(|id| (first..=last).contains(&id)),
        UserGroup::Percent(percent) => bucket(app, id) < u64::from(percent),
    }
}

fn holds<'v>(wanted: &ValueMatch, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
    match wanted {
        ValueMatch::Equals(wanted) => values.any(|value| value == wanted.as_bytes()),
        ValueMatch::Prefix(wanted) => values.any(|value| value.starts_with(wanted.as_bytes())),
        ValueMatch::Present => values.next().is_some(),
        ValueMatch::Absent => values.next().is_none(),
    }
}

/// Digits and nothing else; `None` for what no user id is.
fn number(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    text.iter().try_fold(0u64, |number, byte| number.checked_mul(10)?.checked_add(digit(byte)?))
}

/// 0 to 99: the same one on every gateway and in every release.
fn bucket(salt: &str, id: &[u8]) -> u64 {
    hash(salt.bytes().chain([0]).chain(id.iter().copied())) % 100
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Instant;

    use topology::PathMatch;

    use super::*;
    use crate::message::{Names, RequestHead, target};

    const HEAD: &str = "GET /shop/cart?beta=1&x=a+b HTTP/1.1\r\nHost: a\r\nX-Canary: yes\r\nx-canary: maybe\r\n\
                        Cookie: uid=42; canary=on\r\nX-Real-IP: 9.9.9.9\r\nX-User: 1000\r\n\
                        X_Told: 1\r\nx-told: 2\r\n\r\n";

    fn meets(condition: &Condition) -> bool {
        meets_in(HEAD, condition, false)
    }

    fn meets_in(head: &str, condition: &Condition, refuses: bool) -> bool {
        let parsed = RequestHead::parse(head.as_bytes()).unwrap();
        let told: Names = ["X-Told"].into_iter().collect();
        let asked = Asked {
            request: &parsed,
            head: head.as_bytes(),
            path: &target::route_path(parsed.path_and_query.within(head.as_bytes())).unwrap(),
            host: "a",
            app: "shop",
            taken_by: None,
            id: &[b'0'; 32],
            now: Instant::now(),
            worker: 0,
            is_tls: false,
            // As a socket for both families has it.
            peer: "::ffff:10.1.2.3".parse::<IpAddr>().unwrap(),
            trusts: None,
            told: &told,
            found: Default::default(),
        };
        super::meets(&asked, condition, refuses)
    }

    fn named(name: &str, value: ValueMatch) -> Named {
        Named { name: name.into(), value }
    }

    fn equals(text: &str) -> ValueMatch {
        ValueMatch::Equals(text.into())
    }

    fn prefix(text: &str) -> ValueMatch {
        ValueMatch::Prefix(text.into())
    }

    fn user(id: UserId, group: UserGroup) -> Condition {
        Condition::User(UserCondition { id, group })
    }

    #[test]
    fn every_condition_holds_where_it_should_and_nowhere_else() {
        let (header, cookie) =
            (|name: &str| UserId::Header(name.into()), |name: &str| UserId::Cookie(name.into()));
        let paths = |text: &str| Condition::Path(vec![PathMatch::parse(text).unwrap()]);
        let network = |text: &str| Condition::Client(vec![text.parse().unwrap()]);
        for (condition, wanted) in [
            (Condition::Method(vec!["POST".into(), "GET".into()]), true),
            (Condition::Method(vec!["get".into()]), false),
            (paths("/shop"), true),
            (paths("/sho"), false),
            (network("10.0.0.0/8"), true),
            (network("10.1.2.4/32"), false),
            (Condition::Header(named("x-canary", equals("maybe"))), true),
            (Condition::Header(named("x-canary", equals("Yes"))), false),
            (Condition::Header(named("x-canary", prefix("may"))), true),
            (Condition::Header(named("x-canary", ValueMatch::Absent)), false),
            (Condition::Header(named("x-other", ValueMatch::Absent)), true),
            // A claim of somebody who is not trusted.
            (Condition::Header(named("x-real-ip", ValueMatch::Present)), false),
            // What only the gateway may say.
            (Condition::Header(named("x-told", ValueMatch::Present)), false),
            (Condition::Header(named("x_told", ValueMatch::Present)), false),
            (Condition::Header(named("x-told", ValueMatch::Absent)), true),
            (user(header("x-told"), UserGroup::Percent(100)), false),
            (Condition::Cookie(named("canary", equals("on"))), true),
            (Condition::Cookie(named("Canary", ValueMatch::Present)), false),
            (Condition::Query(named("x", equals("a b"))), true),
            (Condition::Query(named("beta", ValueMatch::Present)), true),
            (Condition::Query(named("bet", ValueMatch::Present)), false),
            (user(cookie("uid"), UserGroup::Range(42, 42)), true),
            (user(cookie("uid"), UserGroup::Range(43, 99)), false),
            (user(cookie("canary"), UserGroup::Range(0, u64::MAX)), false),
            (user(header("x-user"), UserGroup::Range(0, 999)), false),
            (user(header("x-canary"), UserGroup::Percent(100)), false),
            (user(header("x-user"), UserGroup::Percent(100)), true),
            (user(header("x-nobody"), UserGroup::Percent(100)), false),
        ] {
            assert_eq!(meets(&condition), wanted, "{condition:?}");
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused_and_not_let_in() {
        let metrics = Condition::Path(vec![PathMatch::parse("/metrics").unwrap()]);
        let taken = |target: &str, refuses| {
            meets_in(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), &metrics, refuses)
        };
        for doubtful in [
            "/x/..%2fmetrics",
            "/x/..;/metrics",
            "/x\\..\\metrics",
            "/x/%2e%2e/metrics",
            "//metrics",
            "/metrics//../x",
            "/metrics/../x",
            "/metrics;x",
            "/metrics;x=1/y",
            "/x/..%252fmetrics",
        ] {
            assert_eq!((taken(doubtful, true), taken(doubtful, false)), (true, false), "{doubtful}");
        }
        let all = Condition::Path(vec![PathMatch::all()]);
        assert!(
            meets_in("GET /x/..%2fy HTTP/1.1\r\nHost: a\r\n\r\n", &all, false),
            "whatever it is, it is below /"
        );
        for (target, wanted) in
            [("/metrics", true), ("/m%65trics/x", true), ("/metricsx", false), ("/x;y=1", false)]
        {
            assert_eq!((taken(target, true), taken(target, false)), (wanted, wanted), "{target}");
        }
    }

    #[test]
    fn ids_beyond_any_number_are_no_user() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["18446744073709551616", "-1", "1.0", " 1", "0x1", "1a"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad:?}");
        }
    }

    /// A changed hash would move users between versions at an upgrade.
    #[test]
    fn buckets_are_even_and_never_change() {
        let known: Vec<_> =
            ["1", "2", "alice", "bob"].iter().map(|id| bucket("shop", id.as_bytes())).collect();
        assert_eq!(known, [51, 42, 20, 11]);
        let mut counts = [0u32; 100];
        for id in 0..100_000 {
            counts[bucket("shop", id.to_string().as_bytes()) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..=1150).contains(count)), "{counts:?}");
        let both = (0..10_000).filter(|id| {
            let id = id.to_string();
            bucket("shop", id.as_bytes()) < 10 && bucket("blog", id.as_bytes()) < 10
        });
        assert!((50..=150).contains(&both.count()), "10 % of two apps are not the same users");
    }
}
