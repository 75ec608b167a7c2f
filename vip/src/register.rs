//! The register of one address, as it lies in the registry: who holds it, and who has to agree.
//!
//! It changes only by compare-and-set. Its epoch grows with every holder; within one epoch only the
//! holder writes it.

use serde::{Deserialize, Serialize};

use crate::identity::{BootId, GatewayId};

/// A holder waits for the slowest grantor and writes to each of them 20 times a second: more would add
/// nothing but that.
pub const MAX_GRANTORS: usize = 32;
/// Above what [`MAX_GRANTORS`] of the longest names take.
pub const MAX_REGISTER_BYTES: usize = 8 << 10;

/// What is written. Unknown fields are refused: what a newer release wrote is not understood by guessing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    pub holder: GatewayId,
    /// The run of the holder that holds. Another run of the same gateway is somebody else.
    pub boot_id: BootId,
    /// Grows by one with every takeover. With the registry's version it is the fencing token.
    pub epoch: u64,
    /// The holder has let go: anyone may take over at once.
    pub released: bool,
    /// Who is to be first to take over what is released; the others let it be for a grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<GatewayId>,
    /// Gateways without whose grants the holder holds nothing, sorted. None: registry mode.
    pub grantors: Vec<GatewayId>,
}

/// A register and the registry's number for it, which grows with every write of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Versioned {
    pub version: u64,
    pub register: Register,
}

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("a register of {given} bytes is above the limit of {MAX_REGISTER_BYTES}")]
    TooLarge { given: usize },
    #[error("not a register")]
    Syntax(#[source] serde_json::Error),
    #[error("{given} grantors are more than {MAX_GRANTORS}")]
    TooManyGrantors { given: usize },
    #[error("grantors must be sorted, each of them once, without the holder")]
    Grantors,
    #[error("only what is released has a successor or no need of grantors")]
    Released,
    #[error("epochs begin at 1")]
    Epoch,
}

impl Register {
    /// # Errors
    /// For anything that [`to_bytes`](Self::to_bytes) could not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegisterError> {
        if bytes.len() > MAX_REGISTER_BYTES {
            return Err(RegisterError::TooLarge { given: bytes.len() });
        }
        let register: Self = serde_json::from_slice(bytes).map_err(RegisterError::Syntax)?;
        register.check()?;
        Ok(register)
    }

    fn check(&self) -> Result<(), RegisterError> {
        if self.grantors.len() > MAX_GRANTORS {
            return Err(RegisterError::TooManyGrantors { given: self.grantors.len() });
        }
        let sorted = self.grantors.windows(2).all(|pair| pair[0] < pair[1]);
        if !sorted || self.grantors.contains(&self.holder) {
            return Err(RegisterError::Grantors);
        }
        let consistent = if self.released { self.grantors.is_empty() } else { self.successor.is_none() };
        if !consistent {
            return Err(RegisterError::Released);
        }
        if self.epoch == 0 { Err(RegisterError::Epoch) } else { Ok(()) }
    }

    /// JSON, in one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and a list: nothing that JSON cannot say.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether this run of this gateway is the one that holds, or held last.
    pub fn names(&self, holder: &GatewayId, boot: BootId) -> bool {
        self.holder == *holder && self.boot_id == boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn register(grantors: &[&str]) -> Register {
        Register {
            holder: GatewayId::parse("gw-1").unwrap(),
            boot_id: BootId::from_bytes([7; 16]),
            epoch: 3,
            released: false,
            successor: None,
            grantors: grantors.iter().map(|name| GatewayId::parse(name).unwrap()).collect(),
        }
    }

    #[test]
    fn registers_are_read_as_they_are_written() {
        let longest = (10..42).map(|n| format!("{}{n}", "x".repeat(126))).collect::<Vec<_>>();
        let longest = longest.iter().map(String::as_str).collect::<Vec<_>>();
        for grantors in [&[][..], &["gw-2", "gw-3"], &longest] {
            let register = register(grantors);
            assert_eq!(Register::parse(&register.to_bytes()).unwrap(), register);
        }
    }

    #[test]
    fn layout_is_stable() {
        let text = r#"{"holder":"gw-1","boot_id":"07070707070707070707070707070707","epoch":3,"released":false,"grantors":["gw-2"]}"#;
        assert_eq!(String::from_utf8(register(&["gw-2"]).to_bytes()).unwrap(), text);
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        let good = String::from_utf8(register(&["gw-2", "gw-3"]).to_bytes()).unwrap();
        let cases = [
            ("\"epoch\":3", "\"epoch\":0"),
            ("\"epoch\":3", "\"epoch\":-1"),
            ("\"epoch\":3", "\"epoch\":3,\"epoch\":4"),
            ("\"epoch\":3", "\"epoch\":3,\"weight\":4"),
            ("[\"gw-2\",\"gw-3\"]", "[\"gw-3\",\"gw-2\"]"),
            ("[\"gw-2\",\"gw-3\"]", "[\"gw-2\",\"gw-2\"]"),
            ("[\"gw-2\",\"gw-3\"]", "[\"gw-1\",\"gw-3\"]"),
            ("\"released\":false", "\"released\":true"),
            ("\"released\":false", "\"released\":false,\"successor\":\"gw-2\""),
            ("gw-1", "gw 1"),
            ("}", "} {}"),
        ];
        for (from, to) in cases {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(Register::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = (100..133).map(|n| format!("g{n}")).collect::<Vec<_>>();
        let many = many.iter().map(String::as_str).collect::<Vec<_>>();
        assert!(Register::parse(&register(&many).to_bytes()).is_err());
        assert!(Register::parse(&vec![b' '; MAX_REGISTER_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_stable(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(register) = Register::parse(&bytes) {
                prop_assert_eq!(Register::parse(&register.to_bytes()).unwrap(), register);
            }
        }
    }
}
