//! `sluice config`: values for an app's secrets and files. They go in, and never come out.

use std::io::{IsTerminal as _, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};
use topology::AppId;

use super::progress::Waiting;
use super::tell;
use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{list, plain, say, say_json};

/// As the API has it, of all values together.
const MAX_VALUE_BYTES: u64 = 256 << 10;

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Set one value, read from standard input or a file; the app is rolled
    Set(Set),
    /// Take values away; the app is rolled
    Unset(Unset),
    /// The names that there are, and those that are missing; values are shown to nobody
    Ls {
        #[arg(value_parser = AppId::parse)]
        app: AppId,
    },
}

#[derive(Debug, Args)]
pub struct Set {
    #[arg(value_parser = AppId::parse)]
    app: AppId,
    /// As the app's file has it in `secrets` and `files`
    name: String,
    /// Take the value from here, as it is. Without it, it is read from standard input, without the line end at its end
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Unset {
    #[arg(value_parser = AppId::parse)]
    app: AppId,
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, command: &Config, output: Output) -> Result<(), Failure> {
    match command {
        Config::Set(set) => {
            let value = set.read()?;
            let changes = Map::from_iter([(set.name.clone(), Value::String(value))]);
            let said = format!("{}: {} is set", set.app, plain(&set.name));
            change(admin, &set.app, changes, &said, &set.waiting, output).await
        }
        Config::Unset(Unset { app, names, waiting }) => {
            let shown = admin.get(&format!("/v1/apps/{app}/config")).await?;
            let is_known = |name: &&String| list(&shown, "names").iter().any(|known| known == *name);
            if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
                return Err(Failure::invalid(format!("{app} has no {unknown:?}; `sluice config ls {app}`")));
            }
            let changes = names.iter().map(|name| (name.clone(), Value::Null)).collect();
            let said = format!("{app}: {} taken away", plain(&names.join(", ")));
            change(admin, app, changes, &said, waiting, output).await
        }
        Config::Ls { app } => {
            let shown = admin.get(&format!("/v1/apps/{app}/config")).await?;
            match output {
                Output::Json => say_json(&shown),
                Output::Table => {
                    let words = |key| list(&shown, key).iter().filter_map(Value::as_str);
                    words("names").for_each(|name| say(&plain(name)));
                    words("missing").for_each(|name| say(&plain(&format!("{name} (missing)"))));
                }
            }
            Ok(())
        }
    }
}

async fn change(
    admin: &Admin,
    app: &AppId,
    changes: Map<String, Value>,
    said: &str,
    waiting: &Waiting,
    output: Output,
) -> Result<(), Failure> {
    let place = format!("/v1/apps/{app}/config");
    let answer = admin.ask(Method::PATCH, &place, &[], Some(&Value::Object(changes))).await?.json()?;
    tell(admin, app, &answer, said, waiting, output).await
}

impl Set {
    fn read(&self) -> Result<String, Failure> {
        let bytes = match &self.file {
            Some(path) => {
                let bad = |error| Failure::invalid(format!("--file: {}: {error}", path.display()));
                bounded(std::fs::File::open(path).map_err(bad)?)?
            }
            None => {
                let stdin = std::io::stdin();
                if stdin.is_terminal() {
                    let why = "the value is read from standard input, which is a terminal; write < FILE or --file FILE";
                    return Err(Failure::invalid(why));
                }
                without_line_end(bounded(stdin.lock())?)
            }
        };
        let text = String::from_utf8(bytes);
        text.map_err(|_| Failure::invalid("the value is no UTF-8 text; encode it, for example as base64"))
    }
}

fn bounded(from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_VALUE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::invalid(format!("cannot read the value: {error}")))?;
    if bytes.len() as u64 > MAX_VALUE_BYTES {
        return Err(Failure::invalid(format!("the value has more than {MAX_VALUE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What `echo` adds.
fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    if bytes.ends_with(b"\r") {
        bytes.pop();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_value() {
        for (given, taken) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\n", "")] {
            assert_eq!(without_line_end(given.as_bytes().to_vec()), taken.as_bytes(), "{given:?}");
        }
        assert!(bounded(std::io::repeat(b'x')).is_err());
    }
}
