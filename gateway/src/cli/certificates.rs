//! `sluice certificates`: what is served, and what the registry keeps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use http::Method;
use serde_json::Value;
use topology::CertificateName;

use super::Output;
use super::connection::Admin;
use super::failure::Failure;
use super::output::{Cell, Colour, columns, list, say, say_error, say_json, text};
use super::wait::Manner;

/// Chains and keys have some 10 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every certificate that this gateway's listeners have, of files and of the registry
    Ls,
    /// Have all gateways of the registry serve a chain and its key
    Put {
        #[arg(value_name = "NAME", value_parser = read_name)]
        name: CertificateName,
        /// In PEM: the chain, leaf first, and the leaf's key
        file: PathBuf,
        #[command(flatten)]
        manner: Manner,
    },
    /// Remove one from the registry
    Rm {
        #[arg(value_name = "NAME", value_parser = read_name)]
        name: CertificateName,
        #[command(flatten)]
        manner: Manner,
    },
}

fn read_name(text: &str) -> Result<CertificateName, String> {
    CertificateName::parse(text).map_err(|error| error.to_string())
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, command: &Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Ls => ls(admin, output).await,
        Command::Put { name, file, manner } => {
            let pem = Value::String(read(file)?);
            change(admin, Method::PUT, name, Some(&pem), manner, output).await
        }
        Command::Rm { name, manner } => change(admin, Method::DELETE, name, None, manner, output).await,
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let bad = |why: String| Failure::invalid(format!("{}: {why}", file.display()));
    let size = file.metadata().map_err(|error| bad(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(bad(format!("has {size} bytes; the limit is {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))
}

async fn change(
    admin: &Admin,
    method: Method,
    name: &CertificateName,
    pem: Option<&Value>,
    manner: &Manner,
    output: Output,
) -> Result<(), Failure> {
    let message = manner.message.as_deref().unwrap_or_default();
    let message: String = form_urlencoded::byte_serialize(message.as_bytes()).collect();
    let target = format!("/v1/config/certificates/{name}?message={message}");
    let outcome = admin.ask(method, &target, &[], pem).await?.json()?;
    let waited = manner.waiting.until_applied(admin, &outcome).await?;
    if output == Output::Json {
        say_json(&outcome);
        return Ok(());
    }
    list(&outcome, "warnings")
        .iter()
        .filter_map(Value::as_str)
        .for_each(|warning| say_error(&format!("warning: {warning}")));
    let action = list(&outcome, "changes").first().map_or("as it was", |change| text(change, "action"));
    say(&format!("certificate/{name}  {action}"));
    if let Some(waited) = waited {
        say(&waited);
    }
    Ok(())
}

async fn ls(admin: &Admin, output: Output) -> Result<(), Failure> {
    let shown = admin.get("/v1/certificates").await?;
    if output == Output::Json {
        say_json(&shown);
        return Ok(());
    }
    let (mut seen, mut rows) = (BTreeSet::new(), Vec::new());
    for listener in list(&shown, "listeners") {
        for certificate in list(listener, "certificates") {
            // Those of the registry are the same at every listener.
            let source = text(certificate, "file");
            if seen.insert(source) {
                rows.push(row(source, certificate));
            }
        }
    }
    say(&columns(0, &["SOURCE", "NAMES", "ENDS", "STATE"], &rows));
    Ok(())
}

fn row(source: &str, certificate: &Value) -> Vec<Cell> {
    let names: Vec<_> = list(certificate, "names").iter().filter_map(Value::as_str).collect();
    let (state, colour) = match (text(certificate, "rejected"), text(certificate, "not_after")) {
        ("", _) => ("in force".to_owned(), Colour::Good),
        (why, "") => (format!("not served: {why}"), Colour::Bad),
        (why, _) => (format!("a former one is in force: {why}"), Colour::Doubtful),
    };
    vec![
        source.into(),
        names.join(" ").into(),
        text(certificate, "not_after").into(),
        Cell::coloured(state, Some(colour)),
    ]
}
