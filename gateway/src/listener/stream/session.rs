//! One side of a TLS session: records in, plain bytes out, and the other way round. No I/O, no buffers.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

/// RFC 8446 section 5.1.
pub const MAX_PLAIN_BYTES: usize = 1 << 14;
/// Header, plain bytes and the most that TLS 1.2 allows encryption to add (RFC 5246 section 6.2.3).
pub const MAX_RECORD_BYTES: usize = 5 + MAX_PLAIN_BYTES + (2 << 10);

/// Both are nearly of the same size.
pub enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// Why no more records were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// There is no other whole record, or it belongs to a message that is not whole.
    Short,
    /// The taker has no more room.
    Full,
    /// The other side has said that it has sent everything.
    Closed,
}

impl Session {
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(Self::Server)
    }

    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(Self::Client)
    }

    pub fn state(&self) -> &CommonState {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }

    /// Opens the records at the front of `incoming`, which it changes, and gives the plain bytes to `take`
    /// until that says that it has no room for more. Returns how many bytes are done with; the others must
    /// be at the front again the next time. What is to be sent in answer goes to `replies`, an error's
    /// alert too.
    pub fn open(
        &mut self,
        incoming: &mut [u8],
        replies: &mut Vec<u8>,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> (usize, Result<Stopped, Error>) {
        match self {
            Self::Server(server) => open(&mut **server, incoming, replies, take),
            Self::Client(client) => open(&mut **client, incoming, replies, take),
        }
    }

    /// Encrypts `plain` to the front of `records`, behind messages that are due; returns their bytes.
    /// `incoming` is what [`Self::open`] left, unless it left whole records.
    pub fn seal(&mut self, incoming: &mut [u8], plain: &[u8], records: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::Server(server) => seal(&mut **server, incoming, plain, records),
            Self::Client(client) => seal(&mut **client, incoming, plain, records),
        }
    }

    /// Says that we have sent everything. `incoming` as for [`Self::seal`].
    pub fn close(&mut self, incoming: &mut [u8], replies: &mut Vec<u8>) {
        match self {
            Self::Server(server) => close(&mut **server, incoming, replies),
            Self::Client(client) => close(&mut **client, incoming, replies),
        }
    }
}

/// What rustls offers for each role separately.
trait Side {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
}

impl Side for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Side for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

fn open<S: Side>(
    side: &mut S,
    incoming: &mut [u8],
    replies: &mut Vec<u8>,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> (usize, Result<Stopped, Error>) {
    let mut done = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = side.process(&mut incoming[done..]);
        let mut has_data = false;
        let stopped = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                has_data = true;
                let mut has_room = true;
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            has_room = take(record.payload);
                        }
                        Err(error) => return (incoming.len(), Err(error)),
                    }
                }
                (!has_room).then_some(Stopped::Full)
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                encode(&mut message, replies);
                None
            }
            // Replies are sent in their order and never twice.
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                None
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Stopped::Closed),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Some(Stopped::Short),
            Ok(_) => return (done, Err(unexpected())),
            Err(error) => {
                drain(side, replies);
                return (incoming.len(), Err(error));
            }
        };
        done += discard;
        if let Some(stopped) = stopped {
            return (done, Ok(stopped));
        }
        if has_data && done == incoming.len() && !side.common().wants_write() {
            // rustls would look once more and find nothing: most requests end here.
            return (done, Ok(Stopped::Short));
        }
    }
}

/// Appends the messages that wait to be sent.
fn drain<S: Side>(side: &mut S, replies: &mut Vec<u8>) {
    // After an error rustls must not see the bytes again; messages come before it looks for any.
    while side.common().wants_write() {
        match side.process(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, replies),
            _ => return,
        }
    }
}

fn encode<D>(message: &mut EncodeTlsData<'_, D>, replies: &mut Vec<u8>) {
    let start = replies.len();
    let mut size = 0;
    loop {
        replies.resize(start + size, 0);
        match message.encode(&mut replies[start..]) {
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) if size == 0 => {
                size = required_size;
            }
            _ => return,
        }
    }
}

fn seal<S: Side>(
    side: &mut S,
    incoming: &mut [u8],
    plain: &[u8],
    records: &mut [u8],
) -> Result<usize, Error> {
    let mut before = 0;
    loop {
        match side.process(incoming).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                return match traffic.encrypt(plain, &mut records[before..]) {
                    Ok(written) => Ok(before + written),
                    Err(EncryptError::EncryptExhausted) => Err(Error::EncryptError),
                    Err(EncryptError::InsufficientSize(_)) => Err(unexpected()),
                };
            }
            ConnectionState::EncodeTlsData(mut message) => {
                before += message.encode(&mut records[before..]).map_err(|_| unexpected())?;
            }
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            _ => return Err(unexpected()),
        }
    }
}

fn close<S: Side>(side: &mut S, incoming: &mut [u8], replies: &mut Vec<u8>) {
    loop {
        match side.process(incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                // Without room it stays with the messages that wait, and leaves as they do.
                let _ = traffic.queue_close_notify(&mut []);
                return drain(side, replies);
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, replies),
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            // Nothing may be said now.
            _ => return,
        }
    }
}

fn unexpected() -> Error {
    Error::General("the session cannot do this now".into())
}
