//! The keys that cookies of sticky apps are signed with.

use std::path::Path;

use aws_lc_rs::rand::{SystemRandom, generate};
use discovery::secrets::{SecretError, read_keys};

use crate::balance::StickyKeys;

/// What comes of an app with `sticky` on a gateway without that file.
pub const UNSHARED_KEY: &str = "clients lose their endpoints with every restart, and other gateways do not know where \
     they were, since this gateway has no gateway.sticky_key_file; name a file with a line that `sluice secret new-key ID` \
     prints, the same on all gateways";

/// Those in `gateway.sticky_key_file`; without one a key that nobody else has, and that is gone with this process.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn sticky_keys(path: Option<&Path>) -> Result<StickyKeys, SecretError> {
    let Some(path) = path else {
        let key: [u8; 32] = generate(&SystemRandom::new()).map_err(|_| SecretError::Refused)?.expose();
        return Ok(StickyKeys::new(&[key], false));
    };
    Ok(StickyKeys::new(&read_keys(path, StickyKeys::MOST)?, true))
}
