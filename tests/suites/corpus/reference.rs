//! A second opinion on every byte that the gateway sends: a reader that knows no liberty of RFC 9112,
//! written without a look at the gateway's. What two readers could understand differently is an error,
//! even where the RFC would say how to repair it.

/// How far a stream of bytes is.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading<T> {
    Whole { message: T, length: usize },
    Partial,
}

/// Why a message has more than one meaning.
pub type Ambiguity = String;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The start line and the field lines, without their ends.
    pub lines: Vec<String>,
    pub fields: Vec<(String, String)>,
    /// Without its framing.
    pub content: Vec<u8>,
    /// As field lines, after a chunked body.
    trailers: Vec<String>,
    is_chunked: bool,
}

impl Message {
    /// Names in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn target(&self) -> &str {
        self.lines[0].split(' ').nth(1).unwrap_or_default()
    }

    /// The message with only those lines that `keep` wants; a chunked body as one chunk, since where one
    /// ends says nothing.
    pub fn render(&self, mut keep: impl FnMut(&str) -> bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let line = |line: &str, bytes: &mut Vec<u8>| {
            // Latin-1, as it was read.
            bytes.extend(line.chars().map(|char| char as u8));
            bytes.extend_from_slice(b"\r\n");
        };
        self.lines.iter().filter(|text| keep(text)).for_each(|text| line(text, &mut bytes));
        line("", &mut bytes);
        if self.is_chunked && !self.content.is_empty() {
            line(&format!("{:x}", self.content.len()), &mut bytes);
        }
        bytes.extend_from_slice(&self.content);
        if self.is_chunked {
            line(if self.content.is_empty() { "0" } else { "\r\n0" }, &mut bytes);
            self.trailers.iter().for_each(|text| line(text, &mut bytes));
            line("", &mut bytes);
        }
        bytes
    }
}

/// A request's head: HTTP/1.1, one Host, one framing.
pub fn request_head(bytes: &[u8]) -> Result<Reading<Message>, Ambiguity> {
    let Some((lines, length)) = head_lines(bytes)? else { return Ok(Reading::Partial) };
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(format!("request line {:?}", lines[0])) };
    if !is_token(method) || !is_target(method, target) {
        return Err(format!("request line {:?}", lines[0]));
    }
    let message = message(lines)?;
    let hosts: Vec<&str> = all(&message.fields, "host").collect();
    match hosts[..] {
        [host] if !host.contains([' ', '\t', ',', '/', '@', '#', '?', '\\']) => {}
        _ => return Err(format!("hosts {hosts:?}")),
    }
    check_connection(&message.fields)?;
    framing(&message.fields)?;
    Ok(Reading::Whole { message, length })
}

pub fn request(bytes: &[u8]) -> Result<Reading<Message>, Ambiguity> {
    let Reading::Whole { message, length } = request_head(bytes)? else { return Ok(Reading::Partial) };
    match framing(&message.fields)? {
        Framing::Absent => Ok(Reading::Whole { message, length }),
        framing => body(message, length, framing, bytes),
    }
}

/// A response to the client. `is_head`: it answers HEAD; `has_ended`: no byte will follow `bytes`.
pub fn response(bytes: &[u8], is_head: bool, has_ended: bool) -> Result<Reading<(u16, Message)>, Ambiguity> {
    let Some((lines, length)) = head_lines(bytes)? else { return Ok(Reading::Partial) };
    let status =
        lines[0].strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..4)).ok_or_else(|| lines[0].clone())?;
    let status: u16 = status.trim_end().parse().map_err(|_| format!("status {status:?}"))?;
    let message = message(lines)?;
    let framing = framing(&message.fields)?;
    if is_head || matches!(status, 100..=199 | 204 | 304) {
        return Ok(Reading::Whole { message: (status, message), length });
    }
    if framing == Framing::Absent {
        let message = Message { content: bytes[length..].to_vec(), ..message };
        let length = bytes.len();
        return Ok(if has_ended {
            Reading::Whole { message: (status, message), length }
        } else {
            Reading::Partial
        });
    }
    Ok(match body(message, length, framing, bytes)? {
        Reading::Whole { message, length } => Reading::Whole { message: (status, message), length },
        Reading::Partial => Reading::Partial,
    })
}

fn message(lines: Vec<String>) -> Result<Message, Ambiguity> {
    let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<_, _>>()?;
    Ok(Message { lines, fields, content: Vec::new(), trailers: Vec::new(), is_chunked: false })
}

/// Lines up to the empty one, and their length with it; `None` while that has not come.
fn head_lines(bytes: &[u8]) -> Result<Option<(Vec<String>, usize)>, Ambiguity> {
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some((line, length)) = line(&bytes[at..])? {
        at += length;
        match line.is_empty() {
            true if lines.is_empty() => return Err("an empty line before the message".to_owned()),
            true => return Ok(Some((lines, at))),
            false => lines.push(line),
        }
    }
    Ok(None)
}

/// One line in Latin-1, and its length with CR LF.
fn line(bytes: &[u8]) -> Result<Option<(String, usize)>, Ambiguity> {
    let mut line = String::new();
    for (at, &byte) in bytes.iter().enumerate() {
        match (byte, bytes.get(at + 1)) {
            (b'\r', Some(b'\n')) => return Ok(Some((line, at + 2))),
            (b'\r', None) => return Ok(None),
            (b'\t', _) | (b' '..=b'~', _) | (0x80.., _) => line.push(char::from(byte)),
            _ => return Err(format!("byte {byte:#04x} after {line:?}")),
        }
    }
    Ok(None)
}

/// The name in lower case, and the value.
fn field(line: &str) -> Result<(String, String), Ambiguity> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    if !is_token(name) {
        return Err(format!("field name {name:?}"));
    }
    let name = name.to_ascii_lowercase();
    // CGI and its heirs read both as the same variable.
    if name.contains('_') && GUARDED.contains(&&*name.replace('_', "-")) {
        return Err(format!("{name} imitates another field"));
    }
    Ok((name, value.trim_matches([' ', '\t']).to_owned()))
}

/// Fields that decide where a message ends, where it goes, or whom it is said to be from.
const GUARDED: [&str; 7] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Absent,
    Length(usize),
    Chunked,
}

fn framing(fields: &[(String, String)]) -> Result<Framing, Ambiguity> {
    let lengths: Vec<&str> = all(fields, "content-length").collect();
    let codings: Vec<&str> = all(fields, "transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Absent),
        ([length], []) if is_canonical(length, 10) => {
            length.parse().map(Framing::Length).map_err(|_| format!("length {length:?}"))
        }
        ([], ["chunked"]) => Ok(Framing::Chunked),
        _ => Err(format!("lengths {lengths:?}, codings {codings:?}")),
    }
}

/// What stays on a hop is named by Connection, and nothing else is.
fn check_connection(fields: &[(String, String)]) -> Result<(), Ambiguity> {
    let options: Vec<String> = all(fields, "connection")
        .flat_map(|value| value.split(','))
        .map(|option| option.trim().to_ascii_lowercase())
        .collect();
    for option in &options {
        let is_field = matches!(&**option, "te" | "upgrade") && all(fields, option).next().is_some();
        if !is_field && !matches!(&**option, "close" | "keep-alive") {
            return Err(format!("Connection names {option:?}"));
        }
    }
    for name in ["te", "upgrade"] {
        if all(fields, name).next().is_some() && !options.iter().any(|option| option == name) {
            return Err(format!("{name} without Connection"));
        }
    }
    match fields.iter().find(|(name, _)| matches!(&**name, "keep-alive" | "proxy-connection")) {
        Some((name, _)) => Err(format!("{name} belongs to another hop")),
        None => Ok(()),
    }
}

fn body(
    mut message: Message,
    head: usize,
    framing: Framing,
    bytes: &[u8],
) -> Result<Reading<Message>, Ambiguity> {
    let rest = &bytes[head..];
    if let Framing::Length(length) = framing {
        let Some(content) = rest.get(..length) else { return Ok(Reading::Partial) };
        message.content = content.to_vec();
        return Ok(Reading::Whole { message, length: head + length });
    }
    message.is_chunked = true;
    let mut at = 0;
    loop {
        let Some((size, length)) = line(&rest[at..])? else { return Ok(Reading::Partial) };
        at += length;
        let parsed = usize::from_str_radix(&size, 16).ok().filter(|_| is_canonical(&size, 16));
        let size = parsed.ok_or_else(|| format!("chunk size {size:?}"))?;
        if size == 0 {
            break;
        }
        let Some(chunk) = rest.get(at..at + size) else { return Ok(Reading::Partial) };
        message.content.extend_from_slice(chunk);
        at += size;
        match rest.get(at..) {
            Some([b'\r', b'\n', ..]) => at += 2,
            Some([] | [b'\r']) => return Ok(Reading::Partial),
            _ => return Err("a chunk is longer than its size".to_owned()),
        }
    }
    loop {
        let Some((line, length)) = line(&rest[at..])? else { return Ok(Reading::Partial) };
        at += length;
        if line.is_empty() {
            return Ok(Reading::Whole { message, length: head + at });
        }
        let (name, _) = field(&line)?;
        if GUARDED.contains(&&*name) {
            return Err(format!("trailer {name}"));
        }
        message.trailers.push(line);
    }
}

fn all<'a>(fields: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
}

/// Digits in lower case, without leading zeros.
fn is_canonical(number: &str, radix: u32) -> bool {
    let digits = number.chars().all(|digit| digit.is_digit(radix) && !digit.is_ascii_uppercase());
    digits && !number.is_empty() && (number == "0" || !number.starts_with('0'))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The origin form, or the asterisk of OPTIONS.
fn is_target(method: &str, target: &str) -> bool {
    let visible = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    visible && (target.starts_with('/') || method == "OPTIONS" && target == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_one_meaning_is_read() {
        for (bytes, content) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "abc"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
                "abc0123456789",
            ),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(request(&bytes.as_bytes()[..cut]), Ok(Reading::Partial), "{bytes:?} up to {cut}");
            }
            let followed = [bytes, "GET"].concat();
            let Ok(Reading::Whole { message, length }) = request(followed.as_bytes()) else {
                panic!("{bytes:?}")
            };
            assert_eq!((message.content.as_slice(), length), (content.as_bytes(), bytes.len()));
        }
    }

    #[test]
    fn a_message_is_rendered_with_one_chunk_and_the_lines_that_are_wanted() {
        let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nVia: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nX: y\r\n\r\n";
        let Ok(Reading::Whole { message, .. }) = request(bytes) else { panic!() };
        assert_eq!(
            message.render(|line| !line.starts_with("Via")),
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n"
        );
    }

    #[test]
    fn what_has_two_meanings_is_not() {
        for bytes in [
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 03\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n03\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(request(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
