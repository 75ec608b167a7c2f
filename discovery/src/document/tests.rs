use std::time::Duration;

use super::*;

/// What a reader of one level with all getters reports for `text`.
fn mistakes_of(text: &str) -> String {
    let read = |table: Table<'_>| {
        let _ = table.text("name");
        let _ = table.integer::<u16>("workers", 1..=256);
        let _ = table.boolean("enabled");
        let _ = table.duration("timeout", Duration::from_millis(100)..=Duration::from_secs(3600));
        let _ = table.choice("protocol", &[("http", 1), ("tcp", 2)]);
        let _ = table.list("hosts", 3, |host| if host == "bad" { Err("is bad") } else { Ok(host) });
        for server in table.tables("server", 2) {
            let port = server.integer::<u16>("port", 1..=65535);
            server.required("port", port, "port = 80");
            server.finish();
        }
        table.finish();
        Some(())
    };
    match Document::toml("a.toml", text).and_then(|document| document.read(read)) {
        Ok(()) => String::new(),
        Err(mistakes) => mistakes.to_string(),
    }
}

#[test]
fn mistakes_name_file_line_key_and_what_to_write() {
    for (text, wanted) in [
        ("\nworker = 2", "a.toml:2: worker: unknown key; did you mean \"workers\"?"),
        (
            "zzz = 2",
            "a.toml:1: zzz: unknown key; known here: enabled, hosts, name, protocol, server, timeout, workers",
        ),
        ("workers = \"two\"", "a.toml:1: workers: must be an integer from 1 to 256, not the string \"two\""),
        ("workers = 257", "a.toml:1: workers: must be an integer from 1 to 256, not the integer 257"),
        ("name = 1.5", "a.toml:1: name: must be a string, not the number 1.5"),
        ("enabled = 1", "a.toml:1: enabled: must be true or false, not the integer 1"),
        (
            "timeout = \"5\"",
            "a.toml:1: timeout: \"5\" is no duration; write a whole number with ms, s, m, h or d, such as \"300ms\" or \"5s\"",
        ),
        (
            "timeout = 5",
            "a.toml:1: timeout: must be a duration such as \"300ms\" or \"5s\", not the integer 5",
        ),
        ("timeout = \"2h\"", "a.toml:1: timeout: \"2h\" is out of range; write 100ms to 1h"),
        ("protocol = \"htp\"", "a.toml:1: protocol: \"htp\" is none of http, tcp; did you mean \"http\"?"),
        ("protocol = \"quic\"", "a.toml:1: protocol: \"quic\" is none of http, tcp"),
        (
            "hosts = [\n\"a\",\n\"bad\",\n3]",
            "a.toml:3: hosts[1]: is bad\na.toml:4: hosts[2]: must be a string, not the integer 3",
        ),
        ("hosts = [\"1\",\"2\",\"3\",\"4\"]", "a.toml:1: hosts: has 4 elements; the limit is 3"),
        (
            "[[server]]\nport = 1\n[[server]]\nprt = 1",
            "a.toml:3: server[1].port: is missing; write port = 80\na.toml:4: server[1].prt: unknown key; did you mean \"port\"?",
        ),
        ("server = [1]", "a.toml:1: server[0]: must be a table, not the integer 1"),
        ("name = \"a\"\nname = \"b\"", "a.toml:2: is no TOML: duplicate key"),
        (
            "\"a b\" = 1",
            "a.toml:1: \"a b\": unknown key; known here: enabled, hosts, name, protocol, server, timeout, workers",
        ),
    ] {
        assert_eq!(mistakes_of(text), wanted, "{text}");
    }
}

#[test]
fn every_mistake_is_reported_in_the_order_of_lines() {
    let text = "worker = 1\nname = 1\nprotocol = \"x\"";
    let lines: Vec<_> = mistakes_of(text).lines().map(|line| line[..8].to_owned()).collect();
    assert_eq!(lines, ["a.toml:1", "a.toml:2", "a.toml:3"]);
}

#[test]
fn reported_mistakes_are_bounded_and_the_rest_is_counted() {
    let text: String = (0..MAX_REPORTED + 7).map(|n| format!("k{n} = 1\n")).collect();
    let shown = mistakes_of(&text);
    assert_eq!(shown.lines().count(), MAX_REPORTED + 1);
    assert!(shown.ends_with("\nand 7 more"), "{shown}");
}

#[test]
fn durations_read_and_show() {
    for (text, millis) in [
        ("300ms", 300),
        ("5s", 5_000),
        ("1m", 60_000),
        ("2h", 7_200_000),
        ("365d", 31_536_000_000),
        ("0s", 0),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        assert_eq!(show_duration(Duration::from_millis(millis)), text);
    }
    assert_eq!(show_duration(Duration::from_millis(90_000)), "90s");
    for bad in
        ["", "5", "s", "-1s", "1.5s", "5 s", "5y", "99999999999999999999s", "18446744073709551615h", "٣s"]
    {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn json_reads_as_toml_does() {
    let read = |bytes: &[u8]| {
        Document::json("app/a", bytes).and_then(|document| {
            document.read(|table| {
                let number = table.integer::<u16>("n", 0..=9);
                table.finish();
                Some(number)
            })
        })
    };
    assert_eq!(read(br#"{"n": 3}"#), Ok(Some(3)));
    assert_eq!(read(br#"{"n": null}"#), Ok(None));
    let shown = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(shown(br#"{"n": 30}"#), "app/a: n: must be an integer from 0 to 9, not the integer 30");
    assert_eq!(shown(br#"{"m": 3}"#), "app/a: m: unknown key; did you mean \"n\"?");
    assert_eq!(shown(b"[]"), "app/a: must be a JSON object, such as {\"hosts\": []}");
    assert!(shown(b"{").starts_with("app/a: is no JSON: EOF"), "{}", shown(b"{"));
    assert!(shown(b"{\"\xff\": 1}").starts_with("app/a: is no JSON: "));
    assert!(shown(&vec![b' '; crate::registry::MAX_VALUE_BYTES + 1]).contains("the limit is"));
}

/// The worst nesting that the parsers let pass must neither exhaust a thread's stack nor take long.
#[test]
fn deep_nesting_is_refused_on_a_small_stack() {
    let dotted = vec!["a"; 79].join(".");
    let inline = format!("{dotted} = {{").repeat(79) + &"}".repeat(79);
    let worst = [
        "[".repeat(500_000),
        format!("a = {}{}", "[".repeat(79), "]".repeat(79)),
        format!("{} = 1", vec!["a"; 200_000].join(".")),
        format!("[{}]", vec!["a"; 200_000].join(".")),
        format!("[{dotted}]\n{inline}"),
        format!("[[{dotted}]]\n").repeat(2_000),
        "a = {".repeat(200_000),
    ];
    let check = move || {
        for text in &worst {
            assert!(Document::toml("a.toml", text).is_err());
        }
        for open in ["[", "{\"a\":"] {
            assert!(Document::json("k", open.repeat(100_000).as_bytes()).is_err());
            let close = if open == "[" { "]" } else { "}" };
            let closed = format!("{{\"b\": {}1{}}}", open.repeat(120), close.repeat(120));
            assert!(Document::json("k", closed.as_bytes()).is_err());
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap();
}
