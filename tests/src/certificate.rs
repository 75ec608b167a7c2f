//! Certificates as operators make them: with openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::DEADLINE;
use crate::command::finish;

/// A self-signed certificate for one name; its files lie in a folder of the caller's.
pub struct Certificate {
    key: PathBuf,
    chain: PathBuf,
}

impl Certificate {
    /// # Panics
    /// When openssl is missing or refuses.
    #[track_caller]
    pub fn make(folder: &Path, host: &str) -> Self {
        let (key, chain) = (folder.join(format!("{host}.key")), folder.join(format!("{host}.crt")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj", &format!("/CN={host}")]);
        command.args(["-addext", &format!("subjectAltName=DNS:{host}")]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&chain);
        let report = finish(&mut command, "", DEADLINE);
        assert_eq!(report.code, Some(0), "{}", report.text());
        Self { key, chain }
    }

    /// Chain and key in one PEM.
    ///
    /// # Panics
    /// When the folder is gone.
    pub fn pem(&self) -> String {
        let read = |path| std::fs::read_to_string(path).expect("openssl wrote it");
        read(&self.chain) + &read(&self.key)
    }

    /// What clients are to trust.
    pub fn chain(&self) -> &Path {
        &self.chain
    }

    pub fn key(&self) -> &Path {
        &self.key
    }
}
