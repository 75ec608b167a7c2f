//! `sluice secret`: keys, and values that are sealed with them. Values come from standard input: a command
//! line is seen by everybody on the machine.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use discovery::registry::{Key, MAX_VALUE_BYTES};
use discovery::secrets::{Keys, is_sealed, new_key, unseal};

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a line for the key file, with a key that nobody has yet
    NewKey {
        /// What values say that they are sealed with, such as 2026-11
        id: String,
    },
    /// Read a value and print it sealed, with the first key of the file
    Encrypt {
        #[command(flatten)]
        place: Place,
    },
    /// Read a sealed value and print what is in it
    Decrypt {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
pub struct Place {
    /// What `registry.key_file` names
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The key below the prefix at which the value stands, such as app/shop: it opens nowhere else
    #[arg(long, value_name = "KEY")]
    key: String,
}

pub fn run(command: SecretCommand) -> anyhow::Result<()> {
    let answer = match command {
        SecretCommand::NewKey { id } => format!("{}\n", new_key(&id)?).into_bytes(),
        SecretCommand::Encrypt { place } => {
            let (keys, key, value) = place.read()?;
            anyhow::ensure!(!is_sealed(&value), "the value is sealed already");
            format!("{}\n", keys.seal(&key, &value).context("the value")?).into_bytes()
        }
        SecretCommand::Decrypt { place } => {
            let (keys, key, value) = place.read()?;
            anyhow::ensure!(is_sealed(&value), "the value is not sealed");
            unseal(Some(&keys), &key, &value).context("the value")?.into_owned()
        }
    };
    std::io::stdout().write_all(&answer).context("cannot write the answer")
}

impl Place {
    fn read(self) -> anyhow::Result<(Keys, Key, Vec<u8>)> {
        let key = Key::parse(&self.key)?;
        let keys = Keys::open(&self.key_file)?;
        let mut value = Vec::new();
        let most = MAX_VALUE_BYTES as u64 + 1;
        std::io::stdin().lock().take(most).read_to_end(&mut value).context("cannot read the value")?;
        anyhow::ensure!(value.len() <= MAX_VALUE_BYTES, "the value is longer than {MAX_VALUE_BYTES} bytes");
        Ok((keys, key, value))
    }
}
