//! Who takes part: gateways by name, and each of their runs by a number that no other run has.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// As `gateway.id` allows; also the longest name that a peer message can carry.
pub const MAX_ID_BYTES: usize = 128;

/// A gateway's name: 1 to 128 of `a-z A-Z 0-9 . _ -`, not starting with a dot. At most one running
/// process may take part under one name: grants are promises of a name, whoever kept it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(Arc<str>);

/// One run of a gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId([u8; 16]);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    #[error(
        "{0:?} is no gateway id; write 1 to {MAX_ID_BYTES} of a-z A-Z 0-9 . _ -, not starting with a dot"
    )]
    Gateway(String),
    #[error("{0:?} is no boot id; 32 hexadecimal digits are")]
    Boot(String),
    #[error("the system gives no random numbers")]
    Random,
}

impl GatewayId {
    /// # Errors
    /// [`IdentityError::Gateway`] for what `gateway.id` would not allow.
    pub fn parse(name: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=MAX_ID_BYTES).contains(&name.len());
        if fits && !name.starts_with('.') && name.bytes().all(allowed) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(IdentityError::Gateway(name.chars().take(MAX_ID_BYTES).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for GatewayId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for GatewayId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GatewayId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(de::Error::custom)
    }
}

impl BootId {
    /// Of nobody: in messages to a peer whose run is not known yet.
    pub const NONE: Self = Self([0; 16]);

    /// # Errors
    /// [`IdentityError::Random`] where the system has no randomness.
    pub fn random() -> Result<Self, IdentityError> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
        Ok(Self(bytes))
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// # Errors
    /// [`IdentityError::Boot`] for anything but 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError::Boot(text.chars().take(40).collect());
        let lower = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(lower) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| wrong())
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_gateways() {
        for good in ["gw-1", "a", "edge_2.example.com", &"x".repeat(128)] {
            assert_eq!(GatewayId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".hidden", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(GatewayId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn boot_ids_are_read_as_they_are_written() {
        let boot = BootId::random().unwrap();
        assert_eq!(BootId::parse(&boot.to_string()), Ok(boot));
        assert_ne!(boot, BootId::random().unwrap());
        for bad in ["", "0", &"g".repeat(32), &"A".repeat(32), &format!("+{}", "0".repeat(31))] {
            assert!(BootId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
