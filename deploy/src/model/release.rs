//! What an instance runs, to the last setting.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use topology::VersionId;

use super::stored::id;
use super::version::VersionSpec;

/// Names a [`Release`] by its content: 16 hexadecimal digits of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(String);

/// A version with its spec and the generation of its configuration as they were when it was asked for. An app goes from
/// release to release; going back needs the former one whole, whatever became of its version's entry meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    #[serde(with = "id")]
    pub version: VersionId,
    pub config_generation: u64,
    pub spec: VersionSpec,
}

impl Release {
    pub fn digest(&self) -> Digest {
        let content = serde_json::to_vec(self).expect("maps of ours have strings for keys");
        let hash = digest(&SHA256, &content);
        Digest(hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Digest {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
