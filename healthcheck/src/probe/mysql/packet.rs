//! MySQL's packets as far as a probe needs them, pure
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>).

pub(super) const HEAD_BYTES: usize = 4;
/// A greeting has less than 200 bytes, an error at most 512 of text.
pub(super) const MAX_PAYLOAD_BYTES: usize = 4 << 10;
/// `COM_QUIT`.
pub(super) const QUIT: [u8; 5] = [1, 0, 0, 0, 1];

const PROTOCOL_10: u8 = 10;
const OK: u8 = 0;
const MORE: u8 = 1;
const SWITCH: u8 = 0xfe;
const ERROR: u8 = 0xff;

const CLIENT_LONG_PASSWORD: u32 = 1;
const CLIENT_PROTOCOL_41: u32 = 1 << 9;
const CLIENT_SECURE_CONNECTION: u32 = 1 << 15;
const CLIENT_PLUGIN_AUTH: u32 = 1 << 19;
const CAPABILITIES: u32 =
    CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH;
/// utf8mb3, which every version since 4.1 has.
const CHARACTER_SET: u8 = 33;
const METHOD: &[u8] = b"mysql_native_password\0";

/// Beside the class of SQL states for it (28: invalid authorization) what is about an account and not about the
/// server: TLS is wanted (3159), the account is locked (MySQL 3118, MariaDB 4151), its password expired (1862).
const ABOUT_LOGIN: [u16; 4] = [3159, 3118, 4151, 1862];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting<'p> {
    Welcome,
    Refused(Refusal<'p>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'p> {
    Welcome,
    /// It wants another method of login.
    OtherMethod,
    /// It goes on with a method that takes more steps.
    MoreOfMethod,
    Refused(Refusal<'p>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal<'p> {
    pub(super) code: u16,
    /// Before the greeting there is none.
    state: Option<&'p [u8]>,
    pub(super) text: &'p [u8],
}

impl Refusal<'_> {
    /// Whether the server would serve somebody else.
    pub(super) fn is_about_login(&self) -> bool {
        self.state.is_some_and(|state| state.starts_with(b"28")) || ABOUT_LOGIN.contains(&self.code)
    }
}

/// Of a packet's payload.
pub(super) fn length([first, second, third, _number]: [u8; HEAD_BYTES]) -> usize {
    usize::from(first) | usize::from(second) << 8 | usize::from(third) << 16
}

/// # Errors
/// What the payload is not.
pub(super) fn greeting(payload: &[u8]) -> Result<Greeting<'_>, &'static str> {
    const NOT: &str = "MySQL greeting";
    match payload.split_first() {
        Some((&ERROR, rest)) => refusal(rest).map(Greeting::Refused).ok_or(NOT),
        Some((&PROTOCOL_10, rest)) => {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(NOT)?;
            // A connection's number, eight bytes of scramble, a zero, and the lower half of the capabilities.
            let (fixed, capabilities) = rest[end + 1..].split_at_checked(13).ok_or(NOT)?;
            let lower = capabilities.first_chunk::<2>().ok_or(NOT)?;
            if fixed[12] != 0 {
                return Err(NOT);
            }
            if u32::from(u16::from_le_bytes(*lower)) & CLIENT_PROTOCOL_41 == 0 {
                return Err("greeting of MySQL 4.1 or later");
            }
            Ok(Greeting::Welcome)
        }
        _ => Err(NOT),
    }
}

/// To a login.
///
/// # Errors
/// What the payload is not.
pub(super) fn answer(payload: &[u8]) -> Result<Answer<'_>, &'static str> {
    const NOT: &str = "MySQL answer to a login";
    match payload.split_first() {
        Some((&OK, _)) => Ok(Answer::Welcome),
        Some((&MORE, _)) => Ok(Answer::MoreOfMethod),
        Some((&SWITCH, _)) => Ok(Answer::OtherMethod),
        Some((&ERROR, rest)) => refusal(rest).map(Answer::Refused).ok_or(NOT),
        _ => Err(NOT),
    }
}

fn refusal(rest: &[u8]) -> Option<Refusal<'_>> {
    let (code, rest) = rest.split_first_chunk::<2>()?;
    let code = u16::from_le_bytes(*code);
    match rest.strip_prefix(b"#").and_then(|marked| marked.split_at_checked(5)) {
        Some((state, text)) => Some(Refusal { code, state: Some(state), text }),
        None => Some(Refusal { code, state: None, text: rest }),
    }
}

/// `HandshakeResponse41` of `user`, without a password.
pub(super) fn login(user: &str) -> Vec<u8> {
    const MAX_PACKET: u32 = MAX_PAYLOAD_BYTES as u32;
    let mut payload = Vec::with_capacity(64 + user.len());
    payload.extend_from_slice(&CAPABILITIES.to_le_bytes());
    payload.extend_from_slice(&MAX_PACKET.to_le_bytes());
    payload.push(CHARACTER_SET);
    payload.extend_from_slice(&[0; 23]);
    payload.extend(user.bytes().filter(|byte| *byte != 0));
    // The name's end, and a proof of no bytes.
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(METHOD);
    let length = (payload.len() as u32).to_le_bytes();
    [&[length[0], length[1], length[2], 1], &payload[..]].concat()
}

/// A packet without a payload.
pub(super) fn empty(number: u8) -> [u8; HEAD_BYTES] {
    [0, 0, 0, number]
}
