//! HTTP/1.1 messages as a strict peer reads them.

use std::io;

use crate::wire::{Wire, invalid};

/// More than any server has a use for.
const MAX_INTERIM: usize = 1_000;

/// Fields in order, as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the only field of that name.
    ///
    /// # Panics
    /// When there are several: a test that expects one should not overlook the second.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} is there {} times: {values:?}", values.len());
        values.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a comma-separated field names `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let mut items = self.all(name).into_iter().flat_map(|value| value.split(','));
        items.any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    fn read(wire: &mut Wire) -> io::Result<Self> {
        let mut fields = Vec::new();
        loop {
            let line = wire.line()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            if line.is_empty() {
                return Ok(Self(fields));
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| invalid(format!("no colon in {line:?}")))?;
            if name.is_empty() || !name.bytes().all(is_token) || value.contains('\0') {
                return Err(invalid(format!("no valid field: {line:?}")));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How a body was delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length,
    Chunked,
    Close,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub framing: Framing,
}

impl Request {
    /// The next request's head; `None` when the peer ended the connection instead.
    ///
    /// # Errors
    /// When it is malformed or the connection breaks.
    pub fn read_head(wire: &mut Wire) -> io::Result<Option<Self>> {
        let Some(line) = wire.line()? else { return Ok(None) };
        let parts: Vec<&str> = line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts[..] else {
            return Err(invalid(format!("no request line of HTTP/1.1: {line:?}")));
        };
        let fields = Fields::read(wire)?;
        let framing = framing(&fields)?.unwrap_or(Framing::None);
        let (method, target) = (method.to_owned(), target.to_owned());
        let (body, trailers) = (Vec::new(), Fields::default());
        Ok(Some(Self { method, target, fields, body, trailers, framing }))
    }

    /// # Errors
    /// When it is malformed or the connection breaks.
    pub fn read_body(&mut self, wire: &mut Wire) -> io::Result<()> {
        (self.body, self.trailers) = read_body(wire, &self.fields, self.framing)?;
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    pub version: String,
    pub status: u16,
    pub phrase: String,
    pub fields: Fields,
}

impl ResponseHead {
    /// # Errors
    /// When it is malformed or the connection breaks or ends.
    pub fn read(wire: &mut Wire) -> io::Result<Self> {
        let line = wire.line()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let bad = || invalid(format!("no status line: {line:?}"));
        let (version, rest) = line.split_once(' ').ok_or_else(bad)?;
        let (status, phrase) = rest.split_once(' ').ok_or_else(bad)?;
        if version != "HTTP/1.1" || status.len() != 3 {
            return Err(bad());
        }
        let status = status.parse().map_err(|_| bad())?;
        let fields = Fields::read(wire)?;
        Ok(Self { version: version.to_owned(), status, phrase: phrase.to_owned(), fields })
    }
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub framing: Framing,
    /// The 1xx responses that came before it.
    pub interim: Vec<ResponseHead>,
}

impl Response {
    /// The final response to a request of `method`, with what came before it.
    ///
    /// # Errors
    /// When it is malformed or incomplete.
    pub fn read(wire: &mut Wire, method: &str) -> io::Result<Self> {
        let mut interim = Vec::new();
        let mut head = ResponseHead::read(wire)?;
        while (100..200).contains(&head.status) && head.status != 101 {
            if interim.len() == MAX_INTERIM {
                return Err(invalid(format!("more than {MAX_INTERIM} interim responses")));
            }
            interim.push(head);
            head = ResponseHead::read(wire)?;
        }
        let bodiless = method == "HEAD" || head.status == 204 || head.status == 304;
        // Checked even where no body follows: the field must be valid all the same.
        let declared = framing(&head.fields)?;
        let framing = if bodiless { Framing::None } else { declared.unwrap_or(Framing::Close) };
        let (body, trailers) = read_body(wire, &head.fields, framing)?;
        Ok(Self { status: head.status, fields: head.fields, body, trailers, framing, interim })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason code of an answer that the gateway made itself.
    #[track_caller]
    pub fn reason(&self) -> Option<&str> {
        self.fields.get("x-sluice-reason")
    }
}

/// What the fields declare, refusing everything that two readers could understand differently.
fn framing(fields: &Fields) -> io::Result<Option<Framing>> {
    let lengths = fields.all("content-length");
    let codings = fields.all("transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(Framing::Length))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(invalid(format!("ambiguous framing: lengths {lengths:?}, codings {codings:?}"))),
    }
}

fn read_body(wire: &mut Wire, fields: &Fields, framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
    match framing {
        Framing::None => Ok((Vec::new(), Fields::default())),
        Framing::Length => {
            let length = fields.get("content-length").and_then(|length| length.parse().ok());
            let length = length.ok_or_else(|| invalid("a length beyond this machine".to_owned()))?;
            Ok((wire.exactly(length)?, Fields::default()))
        }
        Framing::Chunked => read_chunks(wire),
        Framing::Close => Ok((wire.rest()?, Fields::default())),
    }
}

fn read_chunks(wire: &mut Wire) -> io::Result<(Vec<u8>, Fields)> {
    let mut body = Vec::new();
    loop {
        let line = wire.line()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let size = line.split(';').next().unwrap_or_default();
        let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| digits);
        match size.ok_or_else(|| invalid(format!("no chunk size: {line:?}")))? {
            0 => return Ok((body, Fields::read(wire)?)),
            size => body.extend(wire.exactly(size)?),
        }
        if wire.line()?.as_deref() != Some("") {
            return Err(invalid("a chunk not followed by CRLF".to_owned()));
        }
    }
}
