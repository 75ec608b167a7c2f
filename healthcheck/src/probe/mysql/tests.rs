use proptest::prelude::*;

use super::packet::*;

/// As MariaDB 11.8 sends it, with a scramble of ones.
fn mariadb() -> Vec<u8> {
    let mut payload = b"\x0a11.8.3-MariaDB\0\x05\0\0\0".to_vec();
    payload.extend_from_slice(b"11111111\0\xfe\xff\x2d\x02\0\xff\x81\x15");
    payload.extend_from_slice(b"\0\0\0\0\0\0\x1d\0\0\x00111111111111\0mysql_native_password\0");
    payload
}

#[test]
fn a_greeting_is_told_from_a_refusal() {
    assert_eq!(greeting(&mariadb()), Ok(Greeting::Welcome));
    let full = b"\xff\x10\x04Too many connections";
    let Ok(Greeting::Refused(refusal)) = greeting(full) else { panic!("{:?}", greeting(full)) };
    assert_eq!(
        (refusal.code, refusal.text, refusal.is_about_login()),
        (1040, &b"Too many connections"[..], false)
    );
    let blocked = b"\xff\x69\x04Host '10.0.0.1' is blocked because of many connection errors";
    let Ok(Greeting::Refused(refusal)) = greeting(blocked) else { panic!("{:?}", greeting(blocked)) };
    assert_eq!(refusal.code, 1129);
    assert_eq!(super::words(&refusal), "Host '10.0.0.1' is blocked because of many connection errors (1129)");
    for bad in
        [&b""[..], b"\x0a", b"\x0aabc", b"\x0aabc\0", b"\xff", b"\xff\x10", b"+PONG\r\n", b"HTTP/1.1 400 "]
    {
        assert!(greeting(bad).is_err(), "{bad:?}");
    }
    let mut old = mariadb();
    let lower = old.iter().position(|byte| *byte == 0xfe).unwrap();
    old[lower + 1] = 0;
    assert_eq!(greeting(&old), Err("greeting of MySQL 4.1 or later"));
}

#[test]
fn a_refused_login_is_told_from_a_server_that_serves_nobody() {
    for (payload, about_login) in [
        (&b"\xff\x15\x04#28000Access denied for user 'sluice_probe'@'localhost'"[..], true),
        (b"\xff\x57\x0c#HY000Connections using insecure transport are prohibited", true),
        (b"\xff\x10\x04#08004Too many connections", false),
        (b"\xff\x1d\x04#08S01Server shutdown in progress", false),
    ] {
        let Ok(Answer::Refused(refusal)) = answer(payload) else { panic!("{payload:?}") };
        assert_eq!(refusal.is_about_login(), about_login, "{payload:?}");
    }
    assert_eq!(answer(b"\0\0\0\x02\0\0\0"), Ok(Answer::Welcome));
    assert_eq!(answer(b"\xfemysql_native_password\0abc"), Ok(Answer::OtherMethod));
    assert_eq!(answer(b"\x01\x04"), Ok(Answer::MoreOfMethod));
    assert!(answer(b"").is_err() && answer(b"\x02").is_err() && answer(b"\xff\x15").is_err());
}

#[test]
fn a_login_has_the_users_name_and_no_password() {
    let packet = login("monitor");
    let head: [u8; HEAD_BYTES] = *packet.first_chunk().unwrap();
    assert_eq!((length(head), head[3]), (packet.len() - HEAD_BYTES, 1));
    let payload = &packet[HEAD_BYTES..];
    assert_eq!(&payload[32..], b"monitor\0\0mysql_native_password\0");
}

proptest! {
    #[test]
    fn whatever_comes_is_read_within_its_bounds(
        payload in proptest::collection::vec(any::<u8>(), 0..300), first in prop::sample::select(vec![0, 1, 10, 254, 255u8]),
    ) {
        for payload in [payload.clone(), [&[first][..], &payload].concat()] {
            if let Ok(Greeting::Refused(refusal)) = greeting(&payload) {
                prop_assert!(super::words(&refusal).len() < 1_000);
            }
            let _ = answer(&payload);
        }
    }

    /// Cut anywhere, a greeting is none; a byte changed somewhere panics nobody.
    #[test]
    fn a_greeting_that_is_cut_short_is_none(cut in 0usize..31, at in 0usize..80, byte in any::<u8>()) {
        let whole = mariadb();
        prop_assert!(greeting(&whole[..cut]).is_err());
        let mut changed = whole.clone();
        let at = at % changed.len();
        changed[at] = byte;
        let _ = greeting(&changed);
    }
}
