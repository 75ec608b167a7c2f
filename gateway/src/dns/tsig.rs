//! Signatures of transactions (RFC 8945), and the keys that they are made with.
//!
//! Written here because a transfer is one chain of signatures over many messages, and because the decoder need not
//! know a record that is cut off before it sees a message.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::Name;

use super::wire::{Broken, signature_at, skip_name, word};

/// RFC 8945 section 10 recommends it.
const FUDGE_SECONDS: u16 = 300;
const TSIG: u16 = 250;
const ANY_CLASS: u16 = 255;
/// RFC 8945 section 5.3.1: at the most between two that are signed.
const MAX_UNSIGNED: usize = 99;
/// A key file is some lines.
const MAX_FILE_BYTES: usize = 16 << 10;
/// RFC 8945 section 6: secrets are at least as long as the digest would be best; 16 bytes is what still resists guessing.
const MIN_SECRET_BYTES: usize = 16;

/// What a signature is wrong about (RFC 8945 section 5.2), as it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    BadSignature,
    /// Another key's, or another algorithm's.
    BadKey,
    BadTime,
    /// The record itself cannot be read.
    Malformed,
}

impl Fault {
    fn code(self) -> u16 {
        match self {
            Self::BadSignature => 16,
            Self::BadKey => 17,
            Self::BadTime => 18,
            Self::Malformed => 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::BadSignature => "its signature is not of this key's secret",
            Self::BadKey => "it is signed with another key",
            Self::BadTime => "the clocks of both differ by more than five minutes",
            Self::Malformed => "its signature cannot be read",
        })
    }
}

/// A secret that two servers share.
#[derive(Clone)]
pub struct TsigKey(Arc<Inner>);

struct Inner {
    /// Lower case, uncompressed.
    name: Vec<u8>,
    shown: String,
    algorithm: Algorithm,
    secret: hmac::Key,
}

/// Those that RFC 8945 section 6 recommends; what is older is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    fn wire(self) -> Vec<u8> {
        let name = self.name();
        [&[name.len() as u8], name.as_bytes(), &[0]].concat()
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TsigKey({})", self.0.shown)
    }
}

impl TsigKey {
    /// As BIND's `tsig-keygen` writes it, for `named.conf` and us alike.
    ///
    /// # Errors
    /// What is wrong with the file, without what stands in it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// # Errors
    /// As [`Self::open`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let form =
            "write what `tsig-keygen NAME` prints: key \"NAME\" { algorithm hmac-sha256; secret \"…\"; };";
        let bad = |why: &str| format!("{why}; {form}");
        if text.len() > MAX_FILE_BYTES {
            return Err(bad("is no key: it is too long"));
        }
        let mut words = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .map(|line| if line.trim_start().starts_with('#') { "" } else { line })
            .flat_map(|line| line.split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"')))
            .filter(|word| !word.is_empty());
        if words.next() != Some("key") {
            return Err(bad("does not begin with a key"));
        }
        let name = words.next().ok_or_else(|| bad("names no key"))?;
        let (mut algorithm, mut secret) = (None, None);
        while let Some(word) = words.next() {
            let value = words.next();
            match word {
                "algorithm" => algorithm = value,
                "secret" => secret = value,
                "key" => return Err(bad("holds more than one key")),
                _ => return Err(bad("says more than an algorithm and a secret")),
            }
        }
        let algorithm = algorithm.ok_or_else(|| bad("names no algorithm"))?;
        let wanted = algorithm.to_ascii_lowercase();
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == wanted).ok_or_else(|| {
            let known = Algorithm::ALL.map(Algorithm::name).join(", ");
            let given: String = algorithm.chars().take(32).collect();
            format!("has the algorithm {given:?}; make one with {known}")
        })?;
        let secret = secret.ok_or_else(|| bad("holds no secret"))?;
        let secret = STANDARD.decode(secret).map_err(|_| bad("has a secret that is no base64"))?;
        if secret.len() < MIN_SECRET_BYTES {
            return Err(bad(&format!(
                "has a secret of {} bytes, and needs {MIN_SECRET_BYTES}",
                secret.len()
            )));
        }
        let parsed = Name::from_ascii(name).map_err(|_| bad("has a name that is none"))?;
        let mut wire = Vec::new();
        for label in parsed.to_lowercase().iter() {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        let secret = hmac::Key::new(algorithm.hmac(), &secret);
        Ok(Self(Arc::new(Inner { name: wire, shown: name.to_owned(), algorithm, secret })))
    }

    pub fn name(&self) -> &str {
        &self.0.shown
    }

    /// How much longer a message gets with a signature.
    pub fn signature_bytes(&self) -> usize {
        // Fixed fields of the record and its data, six bytes of server time included.
        self.0.name.len() + 10 + self.0.algorithm.wire().len() + 16 + 64 + 6
    }

    /// Signs what answers `chain`, and remembers for what follows.
    pub fn sign(&self, message: &mut Vec<u8>, chain: &mut Chain, now: u64) {
        self.sign_with(message, chain, now, None);
    }

    fn sign_with(&self, message: &mut Vec<u8>, chain: &mut Chain, now: u64, fault: Option<Fault>) {
        let fields = Fields {
            time: now,
            fudge: FUDGE_SECONDS,
            error: fault.map_or(0, Fault::code),
            // RFC 8945 section 5.2.3: when the server thinks it is.
            other: if fault == Some(Fault::BadTime) { now.to_be_bytes()[2..].to_vec() } else { Vec::new() },
        };
        let mac = hmac::sign(&self.0.secret, &self.digested(message, chain, &fields));
        let id = u16::from_be_bytes([message[0], message[1]]);
        append(message, &self.0.name, &self.0.algorithm.wire(), id, mac.as_ref(), &fields);
        *chain = Chain { mac: mac.as_ref().to_vec(), has_begun: true, unsigned: Vec::new(), count: 0 };
    }

    /// RFC 8945 sections 4.3 and 5.3.1. `message` is without its signature.
    fn digested(&self, message: &[u8], chain: &Chain, fields: &Fields) -> Vec<u8> {
        let mut digested = Vec::with_capacity(message.len() + chain.unsigned.len() + 256);
        if !chain.mac.is_empty() {
            digested.extend((chain.mac.len() as u16).to_be_bytes());
            digested.extend(&chain.mac);
        }
        digested.extend(&chain.unsigned);
        digested.extend(message);
        let time = &fields.time.to_be_bytes()[2..];
        if chain.has_begun {
            // Of a chain only the first one signs all of its fields.
            digested.extend(time);
            digested.extend(fields.fudge.to_be_bytes());
            return digested;
        }
        digested.extend(&self.0.name);
        digested.extend(ANY_CLASS.to_be_bytes());
        digested.extend(0_u32.to_be_bytes());
        digested.extend(self.0.algorithm.wire());
        digested.extend(time);
        digested.extend(fields.fudge.to_be_bytes());
        digested.extend(fields.error.to_be_bytes());
        digested.extend((fields.other.len() as u16).to_be_bytes());
        digested.extend(&fields.other);
        digested
    }

    /// Checks `signed`, takes its signature off, and remembers it for the answer or what follows.
    ///
    /// # Errors
    /// [`Fault`]. Where it is [`Fault::BadTime`] the chain goes on, since that is answered with a signature.
    pub fn verify(&self, signed: &Signed, chain: &mut Chain, now: u64) -> Result<(), Fault> {
        let Signature { name, algorithm, mac, fields, .. } = &signed.signature;
        if *name != self.0.name || *algorithm != self.0.algorithm.wire() {
            return Err(Fault::BadKey);
        }
        let digested = self.digested(&signed.message, chain, fields);
        // Shortened ones (RFC 8945 section 5.2.2.1) are nobody's any more, and refused with the others.
        hmac::verify(&self.0.secret, &digested, mac).map_err(|_| Fault::BadSignature)?;
        let is_chained = !chain.mac.is_empty();
        *chain = Chain { mac: mac.clone(), has_begun: is_chained, unsigned: Vec::new(), count: 0 };
        if fields.time.abs_diff(now) > u64::from(fields.fudge.min(FUDGE_SECONDS)) {
            return Err(Fault::BadTime);
        }
        Ok(())
    }

    /// Whether `signed` says that it is of this key.
    pub fn is_named_by(&self, signed: &Signed) -> bool {
        self.0.name == signed.signature.name
    }
}

/// What signatures of one exchange have in common: each signs the one before.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    mac: Vec<u8>,
    /// The first answer has been signed.
    has_begun: bool,
    /// Messages since then.
    unsigned: Vec<u8>,
    count: usize,
}

impl Chain {
    /// For who has asked: what comes next is the first answer.
    pub fn asked(mut self) -> Self {
        self.has_begun = false;
        self
    }

    /// A message in the middle of a transfer that is not signed; the next signature is of it too.
    ///
    /// # Errors
    /// [`Fault::BadSignature`] where there are too many of them, or the first one is.
    pub fn pass(&mut self, message: &[u8]) -> Result<(), Fault> {
        self.count += 1;
        if !self.has_begun || self.count > MAX_UNSIGNED {
            return Err(Fault::BadSignature);
        }
        self.unsigned.extend_from_slice(message);
        Ok(())
    }

    /// Whether nothing is left that only a further signature would prove.
    pub fn is_proven(&self) -> bool {
        self.count == 0
    }
}

#[derive(Debug, Clone)]
struct Fields {
    time: u64,
    fudge: u16,
    error: u16,
    other: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Signature {
    name: Vec<u8>,
    algorithm: Vec<u8>,
    mac: Vec<u8>,
    fields: Fields,
}

/// A message whose last record was a signature.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Without it, and with the id that was signed.
    message: Vec<u8>,
    signature: Signature,
}

impl Signed {
    /// `None`: it has no signature.
    ///
    /// # Errors
    /// [`Fault::Malformed`], also where the message itself is.
    pub fn read(message: &[u8]) -> Result<Option<Self>, Fault> {
        let begin = match signature_at(message) {
            Ok(None) => return Ok(None),
            Ok(Some(begin)) => begin,
            Err(Broken) => return Err(Fault::Malformed),
        };
        read_signature(message, begin).map(Some).map_err(|Broken| Fault::Malformed)
    }

    /// What was signed.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// What the signer says is wrong with ours; 0: nothing.
    pub fn error(&self) -> u16 {
        self.signature.fields.error
    }
}

fn read_signature(raw: &[u8], begin: usize) -> Result<Signed, Broken> {
    let fixed = skip_name(raw, begin)?;
    let name = plain_name(raw.get(begin..fixed).ok_or(Broken)?)?;
    let data = fixed + 10;
    let after = skip_name(raw, data)?;
    let algorithm = plain_name(raw.get(data..after).ok_or(Broken)?)?;
    let time = [word(raw, after)?, word(raw, after + 2)?, word(raw, after + 4)?];
    let time = time.iter().fold(0_u64, |time, part| time << 16 | u64::from(*part));
    let fudge = word(raw, after + 6)?;
    let length = usize::from(word(raw, after + 8)?);
    let mac = raw.get(after + 10..after + 10 + length).ok_or(Broken)?.to_vec();
    let rest = after + 10 + length;
    let (id, error, other) = (word(raw, rest)?, word(raw, rest + 2)?, usize::from(word(raw, rest + 4)?));
    let other = raw.get(rest + 6..rest + 6 + other).ok_or(Broken)?;
    if rest + 6 + other.len() != raw.len() {
        return Err(Broken);
    }
    let mut message = raw.get(..begin).ok_or(Broken)?.to_vec();
    let additionals = word(&message, 10)?.checked_sub(1).ok_or(Broken)?;
    message[10..12].copy_from_slice(&additionals.to_be_bytes());
    message[..2].copy_from_slice(&id.to_be_bytes());
    let fields = Fields { time, fudge, error, other: other.to_vec() };
    Ok(Signed { message, signature: Signature { name, algorithm, mac, fields } })
}

/// In lower case. RFC 8945 section 4.2: not compressed.
fn plain_name(wire: &[u8]) -> Result<Vec<u8>, Broken> {
    if wire.last() != Some(&0) {
        return Err(Broken);
    }
    Ok(wire.to_ascii_lowercase())
}

fn append(message: &mut Vec<u8>, name: &[u8], algorithm: &[u8], id: u16, mac: &[u8], fields: &Fields) {
    let Fields { time, fudge, error, other } = fields;
    let additionals = u16::from_be_bytes([message[10], message[11]]).saturating_add(1);
    message[10..12].copy_from_slice(&additionals.to_be_bytes());
    message.extend(name);
    message.extend(TSIG.to_be_bytes());
    message.extend(ANY_CLASS.to_be_bytes());
    message.extend(0_u32.to_be_bytes());
    message.extend(((algorithm.len() + 16 + mac.len() + other.len()) as u16).to_be_bytes());
    message.extend(algorithm);
    message.extend(&time.to_be_bytes()[2..]);
    message.extend(fudge.to_be_bytes());
    message.extend((mac.len() as u16).to_be_bytes());
    message.extend(mac);
    message.extend(id.to_be_bytes());
    message.extend(error.to_be_bytes());
    message.extend((other.len() as u16).to_be_bytes());
    message.extend(other);
}

/// Tells whoever signed `asked` what is wrong with it. `key`: the one that he named, where we have it.
pub fn refuse(
    message: &mut Vec<u8>,
    asked: &Signed,
    fault: Fault,
    key: Option<&TsigKey>,
    chain: &mut Chain,
    now: u64,
) {
    if let (Fault::BadTime, Some(key)) = (fault, key) {
        return key.sign_with(message, chain, now, Some(fault));
    }
    // RFC 8945 section 5.2: nobody to sign for.
    let Signature { name, algorithm, fields, .. } = &asked.signature;
    let fields = Fields { error: fault.code(), other: Vec::new(), ..fields.clone() };
    let id = u16::from_be_bytes([message[0], message[1]]);
    append(message, name, algorithm, id, &[], &fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# of the platform\nkey \"Xfer.Key\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\";\n};\n";

    fn question() -> Vec<u8> {
        [&[0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x00\x00\x01\x00\x01"].concat()
    }

    #[test]
    fn key_files_are_those_of_bind() {
        let key = TsigKey::parse(FILE).unwrap();
        assert_eq!(key.name(), "Xfer.Key");
        assert_eq!(key.0.name, b"\x04xfer\x03key\x00");
        for (broken, why) in [
            ("", "begin"),
            ("key \"a\" { algorithm hmac-md5; secret \"c2VjcmV0LXNlY3JldC1zZWNyZXQ=\"; };", "hmac-sha256"),
            ("key \"a\" { algorithm hmac-sha256; secret \"!\"; };", "base64"),
            ("key \"a\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };", "16"),
            ("key \"a\" { algorithm hmac-sha256; };", "no secret"),
            (&format!("{FILE}{FILE}"), "more than one"),
        ] {
            let told = TsigKey::parse(broken).unwrap_err();
            assert!(told.contains(why), "{broken}: {told}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_message_its_key_and_its_time() {
        let key = TsigKey::parse(FILE).unwrap();
        let other = TsigKey::parse(&FILE.replace("c2VjcmV0LXNl", "b3RoZXItb3Ro")).unwrap();
        let mut message = question();
        key.sign(&mut message, &mut Chain::default(), 1_000_000);
        let check = |message: &[u8], key: &TsigKey, now| {
            let signed = Signed::read(message)?.ok_or(Fault::Malformed)?;
            key.verify(&signed, &mut Chain::default(), now)
        };
        assert_eq!(check(&message, &key, 1_000_299), Ok(()));
        assert_eq!(Signed::read(&message).unwrap().unwrap().message(), question());
        assert_eq!(check(&message, &key, 1_000_301), Err(Fault::BadTime));
        assert_eq!(check(&message, &other, 1_000_000), Err(Fault::BadSignature));
        message[13] = b'b';
        assert_eq!(check(&message, &key, 1_000_000), Err(Fault::BadSignature));
        assert!(Signed::read(&question()).unwrap().is_none());
    }

    #[test]
    fn the_answers_of_a_transfer_are_one_chain_that_may_have_gaps() {
        let key = TsigKey::parse(FILE).unwrap();
        let (mut asking, mut answering) = (Chain::default(), Chain::default());
        let mut request = question();
        key.sign(&mut request, &mut asking, 5);
        let mut asking = asking.asked();
        key.verify(&Signed::read(&request).unwrap().unwrap(), &mut answering, 5).unwrap();
        for round in 0..4 {
            let mut answer = question();
            answer[1] = round;
            key.sign(&mut answer, &mut answering, 5);
            let signed = Signed::read(&answer).unwrap().unwrap();
            key.verify(&signed, &mut asking, 5).unwrap();
        }
        // Replayed, it is another chain's.
        let mut replay = question();
        key.sign(&mut replay, &mut Chain::default(), 5);
        let signed = Signed::read(&replay).unwrap().unwrap();
        assert_eq!(key.verify(&signed, &mut asking, 5), Err(Fault::BadSignature));
        // One without a signature is proven by the next one.
        let plain = question();
        asking.pass(&plain).unwrap();
        assert!(!asking.is_proven());
        answering.unsigned.extend_from_slice(&plain);
        let mut last = question();
        key.sign(&mut last, &mut answering, 5);
        key.verify(&Signed::read(&last).unwrap().unwrap(), &mut asking, 5).unwrap();
        assert!(asking.is_proven());
        assert_eq!(Chain::default().pass(&plain), Err(Fault::BadSignature));
    }
}
