//! The notation of `cases/*.txt`.
//!
//! ```text
//! # A comment.
//! ## name of a case
//! > bytes of the client, one line of them; CR LF follows unless it ends in a backslash
//! pause              until the gateway has read all that was sent
//! await: text        until the client has received it
//! end                of the client's direction
//! alone              nothing is sent after the case; otherwise a second request is
//! endpoint: head     what follows is done once the request's head is there; likewise
//! endpoint: request  the whole request, which is the rule
//! < bytes of the endpoint, as above
//! endpoint: pause, endpoint: close, endpoint: reset
//! client: 200 "content", 400 reason, open
//! * exact bytes that the client gets
//! upstream: nothing
//! = or one message that the endpoint gets, after an empty `upstream:`
//! ```
//!
//! A client's end is `open` (the second request was answered), `closed` (after whole responses) or `cut`
//! (within one). `upstream: incomplete` is the beginning of a message at the most, and then its
//! connection's end. Escapes are `\r \n \t \0 \\ \xNN`, and `\(text*count)` for repetition.
//! `LISTENER` is the address that the gateway listens on.

use std::fmt;

/// What the client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Send(Vec<u8>),
    Pause,
    Await(Vec<u8>),
    End,
}

/// What the endpoint does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Head,
    Request,
    Send(Vec<u8>),
    Pause,
    Close,
    Reset,
}

/// A response as a case expects it, or as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Of the gateway's own answers only.
    pub reason: Option<String>,
    /// Unless it does not matter.
    pub content: Option<Vec<u8>>,
}

/// In the notation.
impl fmt::Debug for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.status)?;
        match (&self.reason, &self.content) {
            (Some(reason), _) => write!(out, " {reason}"),
            (None, Some(content)) => write!(out, " \"{}\"", show(content)),
            (None, None) => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Open,
    Closed,
    Cut,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Nothing,
    Incomplete,
    Messages(Vec<Vec<u8>>),
}

#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub acts: Vec<Act>,
    /// Empty: the endpoint answers well.
    pub script: Vec<Step>,
    pub answers: Vec<Answer>,
    pub fate: Fate,
    /// What the client gets, byte for byte.
    pub exact: Option<Vec<u8>>,
    pub upstream: Upstream,
    is_alone: bool,
}

impl Case {
    /// Whether a second request follows.
    pub fn is_followed(&self) -> bool {
        !self.is_alone && !self.acts.contains(&Act::End)
    }

    /// Whether the case's requests are for heads, whose responses have no content.
    pub fn asks_for_heads(&self) -> bool {
        matches!(self.acts.first(), Some(Act::Send(bytes)) if bytes.starts_with(b"HEAD "))
    }
}

/// # Panics
/// Where `text` breaks the notation, with the line.
pub fn parse(text: &str) -> Vec<Case> {
    let mut drafts: Vec<Draft> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let taken = match line.strip_prefix("## ") {
            Some(name) => {
                drafts.push(Draft { name: name.to_owned(), ..Draft::default() });
                Ok(())
            }
            None if line.is_empty() || line.starts_with("# ") => Ok(()),
            None => {
                drafts.last_mut().ok_or_else(|| "no case yet".to_owned()).and_then(|draft| draft.take(line))
            }
        };
        if let Err(why) = taken {
            panic!("line {}: {why}: {line}", number + 1);
        }
    }
    drafts.into_iter().map(Draft::finish).collect()
}

#[derive(Default)]
struct Draft {
    name: String,
    acts: Vec<Act>,
    script: Vec<Step>,
    client: Option<(Vec<Answer>, Fate)>,
    exact: Option<Vec<u8>>,
    upstream: Option<Upstream>,
    is_alone: bool,
}

impl Draft {
    fn take(&mut self, line: &str) -> Result<(), String> {
        match line.split_at(1) {
            (">", rest) => {
                let bytes = bytes_of(rest)?;
                match self.acts.last_mut() {
                    Some(Act::Send(before)) => before.extend(bytes),
                    _ => self.acts.push(Act::Send(bytes)),
                }
            }
            ("<", rest) => {
                let bytes = bytes_of(rest)?;
                if let Some(Step::Send(before)) = self.script.last_mut() {
                    before.extend(bytes);
                } else {
                    if self.script.is_empty() {
                        self.script.push(Step::Request);
                    }
                    self.script.push(Step::Send(bytes));
                }
            }
            ("*", rest) => self.exact.get_or_insert_default().extend(bytes_of(rest)?),
            ("=", rest) => match &mut self.upstream {
                Some(Upstream::Messages(messages)) => {
                    messages.last_mut().ok_or("no message yet")?.extend(bytes_of(rest)?);
                }
                _ => return Err("not after `upstream:`".to_owned()),
            },
            _ => self.direct(line)?,
        }
        Ok(())
    }

    fn direct(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(':').unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("pause", "") => self.acts.push(Act::Pause),
            ("end", "") => self.acts.push(Act::End),
            ("alone", "") => self.is_alone = true,
            ("await", text) => self.acts.push(Act::Await(unescape(text)?)),
            ("endpoint", step) => self.script.push(match step {
                "head" => Step::Head,
                "request" => Step::Request,
                "pause" => Step::Pause,
                "close" => Step::Close,
                "reset" => Step::Reset,
                _ => return Err("no such step".to_owned()),
            }),
            ("client", expected) => self.client = Some(client(expected)?),
            ("upstream", "nothing") => self.upstream = Some(Upstream::Nothing),
            ("upstream", "incomplete") => self.upstream = Some(Upstream::Incomplete),
            ("upstream", "") => match &mut self.upstream {
                Some(Upstream::Messages(messages)) => messages.push(Vec::new()),
                former => *former = Some(Upstream::Messages(vec![Vec::new()])),
            },
            _ => return Err("no such direction".to_owned()),
        }
        Ok(())
    }

    fn finish(self) -> Case {
        let Self { name, acts, script, client, exact, upstream, is_alone } = self;
        let (answers, fate) = client.unwrap_or_else(|| panic!("{name}: what does the client get?"));
        let upstream = upstream.unwrap_or_else(|| panic!("{name}: what does the endpoint get?"));
        assert!(!acts.is_empty(), "{name}: what does the client send?");
        Case { name, acts, script, answers, fate, exact, upstream, is_alone }
    }
}

/// `200 "content", 400 reason, closed`.
fn client(text: &str) -> Result<(Vec<Answer>, Fate), String> {
    let mut items: Vec<&str> = text.split(", ").collect();
    let fate = match items.pop() {
        Some("open") => Fate::Open,
        Some("closed") => Fate::Closed,
        Some("cut") => Fate::Cut,
        _ => return Err("ends in none of open, closed, cut".to_owned()),
    };
    Ok((items.into_iter().map(answer).collect::<Result<_, _>>()?, fate))
}

fn answer(item: &str) -> Result<Answer, String> {
    let (status, rest) = item.split_once(' ').unwrap_or((item, ""));
    let status = status.parse().map_err(|_| format!("no status: {item}"))?;
    let quoted = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let content = quoted.map(unescape).transpose()?;
    let reason = (content.is_none() && !rest.is_empty()).then(|| rest.to_owned());
    Ok(Answer { status, reason, content })
}

/// One line of bytes, after its mark.
fn bytes_of(line: &str) -> Result<Vec<u8>, String> {
    let line = line.strip_prefix(' ').unwrap_or(line);
    let continues = line.ends_with('\\') && !line.ends_with("\\\\");
    let mut bytes = unescape(if continues { &line[..line.len() - 1] } else { line })?;
    if !continues {
        bytes.extend_from_slice(b"\r\n");
    }
    Ok(bytes)
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut parts = text.split('\\');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    while let Some(part) = parts.next() {
        let rest = match part.as_bytes() {
            // Two backslashes: the part between them.
            [] => {
                bytes.push(b'\\');
                parts.next().unwrap_or_default()
            }
            [b'r', ..] => push(&mut bytes, b'\r', &part[1..]),
            [b'n', ..] => push(&mut bytes, b'\n', &part[1..]),
            [b't', ..] => push(&mut bytes, b'\t', &part[1..]),
            [b'0', ..] => push(&mut bytes, 0, &part[1..]),
            [b'x', ..] => {
                let digits = part.get(1..3).ok_or("\\x needs two digits")?;
                let byte = u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits}"))?;
                push(&mut bytes, byte, &part[3..])
            }
            [b'(', ..] => {
                let (inner, rest) = part[1..].split_once(')').ok_or("\\( is not closed")?;
                repeat(inner, &mut bytes)?;
                rest
            }
            _ => return Err(format!("no such escape: \\{part}")),
        };
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(bytes)
}

fn push<'a>(bytes: &mut Vec<u8>, byte: u8, rest: &'a str) -> &'a str {
    bytes.push(byte);
    rest
}

/// `text*count`; `|` in the text is a line's end.
fn repeat(inner: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    let (text, count) = inner.rsplit_once('*').ok_or("a repetition is text*count")?;
    let count: usize = count.parse().map_err(|_| format!("no count: {count}"))?;
    bytes.extend(text.replace('|', "\r\n").repeat(count).into_bytes());
    Ok(())
}

/// For people: bytes in the notation's escapes, long runs cut.
pub fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 1_500;
    let text: String =
        bytes.iter().take(SHOWN).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    let text = text.replace("\\r\\n", "\\r\\n\n      ");
    match bytes.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{text}… and {more} bytes more"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_is_meant() {
        let case = &parse(
            "# What it shows.\n## two lines\n> GET /\\x41 HTTP/1.1\n>  Fold:\\r\\n\\(ab*2)\\\npause\n> \\\\x\n\
             endpoint: head\n< HTTP/1.1 200 OK\n<\nclient: 100, 200 \"a\\n\", 400 bad_request, closed\n\
             upstream:\n= A\n=\nupstream:\n= B\n",
        )[0];
        assert_eq!(case.name, "two lines");
        let first = b"GET /A HTTP/1.1\r\n Fold:\r\nabab".to_vec();
        assert_eq!(case.acts, [Act::Send(first), Act::Pause, Act::Send(b"\\x\r\n".to_vec())]);
        assert_eq!(case.script, [Step::Head, Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())]);
        let statuses: Vec<_> = case.answers.iter().map(|answer| answer.status).collect();
        assert_eq!((&statuses[..], case.fate), (&[100, 200, 400][..], Fate::Closed));
        assert_eq!(case.answers[1].content.as_deref(), Some(&b"a\n"[..]));
        assert_eq!(case.answers[2].reason.as_deref(), Some("bad_request"));
        assert_eq!(case.upstream, Upstream::Messages(vec![b"A\r\n\r\n".to_vec(), b"B\r\n".to_vec()]));
    }
}
