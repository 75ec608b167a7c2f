//! Speaks to another server over one connection: takes its zone, and gives it updates. Everything is signed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dns::publish::unix_seconds;
use crate::dns::tsig::{Chain, Fault, Signed, TsigKey};

const CONNECTING: Duration = Duration::from_secs(5);
/// For one message there and one back. A primary writes its journal to disk in between.
const ANSWERING: Duration = Duration::from_secs(10);
/// A zone with 100,000 apps has three records for each.
const MAX_RECORDS: usize = 1_000_000;
/// Beyond what that many records take.
const MAX_TRANSFER_BYTES: usize = 256 << 20;

#[derive(Debug)]
pub enum ClientError {
    Connect(io::Error),
    Exchange(io::Error),
    /// What came back is no answer to what was asked.
    Unexpected(&'static str),
    Signature(Fault),
    /// It cannot verify our signature: BADSIG, BADKEY or BADTIME (RFC 8945 section 3).
    NotBelieved(u16),
    Refused {
        doing: &'static str,
        code: ResponseCode,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "cannot connect: {error}"),
            Self::Exchange(error) => write!(formatter, "the connection failed: {error}"),
            Self::Unexpected(what) => write!(formatter, "what it answered is {what}"),
            Self::Signature(fault) => write!(formatter, "its answer is not believed: {fault}"),
            Self::NotBelieved(16) => {
                formatter.write_str("it has another secret under the name of our key (BADSIG)")
            }
            Self::NotBelieved(17) => {
                formatter.write_str("it does not know our key, or has it with another algorithm (BADKEY)")
            }
            Self::NotBelieved(18) => {
                formatter.write_str("its clock and ours differ by more than five minutes (BADTIME)")
            }
            Self::NotBelieved(code) => write!(formatter, "it does not believe our signature ({code})"),
            Self::Refused { doing, code } => {
                write!(
                    formatter,
                    "it refuses {doing} ({code}); the key needs allow-transfer and allow-update there"
                )
            }
        }
    }
}

/// A connection.
pub struct Session {
    stream: TcpStream,
    key: TsigKey,
}

impl Session {
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn open(server: SocketAddr, key: TsigKey) -> Result<Self, ClientError> {
        let connecting = timeout(CONNECTING, TcpStream::connect(server)).await;
        let stream = connecting.map_err(io::Error::from).and_then(|connected| connected);
        let stream = stream.map_err(ClientError::Connect)?;
        stream.set_nodelay(true).map_err(ClientError::Connect)?;
        Ok(Self { stream, key })
    }

    /// All records of `zone` as the server has it.
    ///
    /// # Errors
    /// [`ClientError`]; also where the zone is larger than any of ours.
    pub async fn transfer(&mut self, zone: &Name) -> Result<Vec<Record>, ClientError> {
        let id = fastrand::u16(..);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(zone.clone(), RecordType::AXFR));
        let mut chain = self.send(&message).await?;
        let (mut records, mut received, mut ends) = (Vec::new(), 0, 0);
        while ends < 2 {
            let bytes = self.receive().await?;
            received += bytes.len();
            let message = open(&self.key, &bytes, &mut chain)?;
            expect(&message, id, OpCode::Query)?;
            if message.metadata.response_code != ResponseCode::NoError {
                return Err(ClientError::Refused {
                    doing: "a transfer",
                    code: message.metadata.response_code,
                });
            }
            if message.answers.is_empty() || records.len() > MAX_RECORDS || received > MAX_TRANSFER_BYTES {
                return Err(ClientError::Unexpected("no zone, or one without an end"));
            }
            if records.is_empty() && !matches!(message.answers[0].data, RData::SOA(_)) {
                return Err(ClientError::Unexpected("a zone without a beginning"));
            }
            ends += message.answers.iter().filter(|record| matches!(record.data, RData::SOA(_))).count();
            records.extend(message.answers);
        }
        // RFC 8945 section 5.3.1: the last message is signed.
        if chain.is_proven() { Ok(records) } else { Err(ClientError::Signature(Fault::BadSignature)) }
    }

    /// One update. Returns what the server says of it.
    ///
    /// # Errors
    /// [`ClientError`]: whether it has happened is not known.
    pub async fn update(&mut self, message: &Message) -> Result<ResponseCode, ClientError> {
        let mut chain = self.send(message).await?;
        let bytes = self.receive().await?;
        let answer = open(&self.key, &bytes, &mut chain)?;
        expect(&answer, message.metadata.id, OpCode::Update)?;
        Ok(answer.metadata.response_code)
    }

    async fn send(&mut self, message: &Message) -> Result<Chain, ClientError> {
        let mut bytes = message.to_vec().map_err(|error| ClientError::Exchange(io::Error::other(error)))?;
        let mut chain = Chain::default();
        self.key.sign(&mut bytes, &mut chain, unix_seconds());
        let length =
            u16::try_from(bytes.len()).map_err(|_| ClientError::Unexpected("too large to be asked"))?;
        let framed = [&length.to_be_bytes(), &bytes[..]].concat();
        let sent = timeout(ANSWERING, self.stream.write_all(&framed)).await;
        sent.map_err(io::Error::from).and_then(|sent| sent).map_err(ClientError::Exchange)?;
        Ok(chain.asked())
    }

    async fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        let reading = async {
            let length = self.stream.read_u16().await?;
            let mut bytes = vec![0; usize::from(length)];
            self.stream.read_exact(&mut bytes).await?;
            Ok(bytes)
        };
        let read = timeout(ANSWERING, reading).await;
        read.map_err(io::Error::from).and_then(|read| read).map_err(ClientError::Exchange)
    }
}

/// What `bytes` say, if they are of who has the key.
fn open(key: &TsigKey, bytes: &[u8], chain: &mut Chain) -> Result<Message, ClientError> {
    let unreadable = ClientError::Unexpected("no message");
    let plain = match Signed::read(bytes).map_err(ClientError::Signature)? {
        Some(signed) if matches!(signed.error(), 16..=18) => {
            return Err(ClientError::NotBelieved(signed.error()));
        }
        Some(signed) => {
            key.verify(&signed, chain, unix_seconds()).map_err(ClientError::Signature)?;
            signed.message().to_vec()
        }
        None => {
            // Who does not know the key at all cannot sign that.
            let refusal = Message::from_vec(bytes).map(|message| message.metadata.response_code);
            if let Ok(code @ (ResponseCode::Refused | ResponseCode::NotAuth | ResponseCode::FormErr)) =
                refusal
            {
                return Err(ClientError::Refused { doing: "what was asked", code });
            }
            chain.pass(bytes).map_err(ClientError::Signature)?;
            bytes.to_vec()
        }
    };
    Message::from_vec(&plain).map_err(|_| unreadable)
}

fn expect(message: &Message, id: u16, op_code: OpCode) -> Result<(), ClientError> {
    let metadata = &message.metadata;
    let is_answer =
        metadata.id == id && metadata.message_type == MessageType::Response && metadata.op_code == op_code;
    if is_answer { Ok(()) } else { Err(ClientError::Unexpected("no answer to what was asked")) }
}
