//! Frames written and read byte by byte, for peers that break rules (RFC 9113 section 4).

use std::io;
use std::net::{IpAddr, SocketAddr};

use tests::{DEADLINE, Wire};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113 section 7.
pub const PROTOCOL_ERROR: u32 = 1;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// `:method: GET`, `:scheme: http` and `:path: /` as the static table has them, and an authority.
pub fn get_block() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84];
    block.extend(literal_indexed(1, "a.test"));
    block
}

/// As [`get_block`], of a POST.
pub fn post_block() -> Vec<u8> {
    let mut block = get_block();
    block[0] = 0x83;
    block
}

/// A field whose name is in the static table (RFC 7541 section 6.2.2).
pub fn literal_indexed(name: u8, value: &str) -> Vec<u8> {
    let mut field = vec![name];
    push_string(value.as_bytes(), &mut field);
    field
}

/// A field that is not added to any table.
pub fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut field = vec![0];
    push_string(name.as_bytes(), &mut field);
    push_string(value, &mut field);
    field
}

/// RFC 7541 section 5.2, not compressed.
pub fn push_string(text: &[u8], out: &mut Vec<u8>) {
    const PREFIX: usize = 127;
    if text.len() < PREFIX {
        out.push(text.len() as u8);
    } else {
        out.push(PREFIX as u8);
        let mut left = text.len() - PREFIX;
        while left >= 128 {
            out.push((left % 128) as u8 | 0x80);
            left /= 128;
        }
        out.push(left as u8);
    }
    out.extend_from_slice(text);
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The value of a setting, as a SETTINGS frame has it.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The status, where the peer's table of fields has one for it (RFC 7541 appendix A).
    pub fn status(&self) -> Option<u16> {
        // A dynamic table's size may be said first.
        let first = self.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
        match (self.kind, first) {
            (HEADERS, Some(index @ 0x88..=0x8e)) => {
                Some([200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)])
            }
            _ => None,
        }
    }

    fn word(&self, at: usize) -> u32 {
        self.payload[at..at + 4].try_into().map_or(0, u32::from_be_bytes)
    }

    /// Why, of a RST_STREAM or a GOAWAY.
    pub fn code(&self) -> u32 {
        self.word(if self.kind == GOAWAY { 4 } else { 0 })
    }
}

pub struct Raw {
    pub wire: Wire,
}

impl Raw {
    /// A client that has sent its preface and these settings.
    pub fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut raw = Self::connect_silent(address);
        raw.send(PREFACE).expect("the gateway takes a preface");
        raw.send(&frame(SETTINGS, 0, 0, settings)).expect("the gateway takes settings");
        raw
    }

    /// As [`Raw::connect`], from this address.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let wire = Wire::connect_from(source, address, DEADLINE).expect("the gateway listens");
        let mut raw = Self { wire };
        // Whoever is kept out may be told at any time.
        raw.send(PREFACE).and_then(|()| raw.send_frame(SETTINGS, 0, 0, &[])).ok();
        raw
    }

    pub fn connect_silent(address: SocketAddr) -> Self {
        Self { wire: Wire::connect(address, DEADLINE).expect("the gateway listens") }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes)
    }

    pub fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.send(&frame(kind, flags, stream, payload))
    }

    /// A GET that is all of its stream.
    pub fn send_get(&mut self, stream: u32) -> io::Result<()> {
        self.send_frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_block())
    }

    /// The next frame; `None` when the peer has ended the connection.
    pub fn receive(&mut self) -> io::Result<Option<Frame>> {
        receive(&mut self.wire)
    }

    /// Reads on until `wanted`, and answers what has to be answered meanwhile.
    ///
    /// # Panics
    /// When the connection ends before.
    #[track_caller]
    pub fn await_frame(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut seen = Vec::new();
        loop {
            match self.receive() {
                Ok(Some(frame)) if wanted(&frame) => return frame,
                Ok(Some(frame)) => {
                    if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                        self.send_frame(SETTINGS, ACK, 0, &[]).ok();
                    }
                    seen.push(frame);
                }
                ended => panic!("no {what}: {ended:?} after {seen:?}"),
            }
        }
    }

    /// Whether stream 1 is refused, with an answer or a reset, or the whole connection is.
    ///
    /// # Panics
    /// When nothing comes.
    #[track_caller]
    pub fn receive_until_refused(&mut self) -> bool {
        let end = self.receive_until(|frame| frame.stream == 1 || frame.kind == GOAWAY);
        end.is_none_or(|frame| frame.kind != HEADERS || frame.status() != Some(200))
    }

    /// The first frame that is `wanted`; `None` when the connection ends before.
    fn receive_until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            match self.receive() {
                Ok(Some(frame)) if wanted(&frame) => return Some(frame),
                Ok(Some(_)) => {}
                Err(error) if is_quiet(&error) => panic!("nothing comes"),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The error code with which the peer ended the connection, 0 when it said none; waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn cut_off_code(&mut self) -> u32 {
        let mut code = 0;
        loop {
            match self.receive() {
                Ok(Some(frame)) if frame.kind == GOAWAY => code = frame.code(),
                Ok(Some(_)) => {}
                Ok(None) => return code,
                Err(error) if is_quiet(&error) => panic!("the connection stays open"),
                // A reset, which may overtake the GOAWAY.
                Err(_) => return code,
            }
        }
    }
}

pub fn is_quiet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub fn receive(wire: &mut Wire) -> io::Result<Option<Frame>> {
    let mut header = match wire.exactly(1) {
        Ok(header) => header,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    header.extend(wire.exactly(8)?);
    let [a, b, c, kind, flags, stream @ ..] = &header[..] else { return Ok(None) };
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    let stream = stream.try_into().map_or(0, u32::from_be_bytes);
    let (kind, flags) = (*kind, *flags);
    Ok(Some(Frame { kind, flags, stream, payload: wire.exactly(length)? }))
}
