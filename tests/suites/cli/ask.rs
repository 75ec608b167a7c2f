//! An operator at a shell.

use std::process::Command;

use serde_json::Value;
use tests::{DEADLINE, Finished, Gateway, finish, sluice};

pub fn command(admin: &str, arguments: &[&str]) -> Command {
    let mut command = sluice();
    command.args(arguments).env("SLUICE_ADMIN", admin);
    for name in ["SLUICE_TOKEN", "SLUICE_TOKEN_FILE", "SLUICE_CA", "SLUICE_CERT"] {
        command.env_remove(name);
    }
    command
}

#[track_caller]
pub fn at(admin: &str, arguments: &[&str]) -> Finished {
    finish(&mut command(admin, arguments), "", DEADLINE * 4)
}

#[track_caller]
pub fn ask(gateway: &Gateway, arguments: &[&str]) -> Finished {
    at(&format!("http://{}", gateway.admin()), arguments)
}

/// What a command shows that ends with `code`.
///
/// # Panics
/// When it ends otherwise.
#[track_caller]
pub fn shown(gateway: &Gateway, code: i32, arguments: &[&str]) -> String {
    let finished = ask(gateway, arguments);
    assert_eq!(finished.code, Some(code), "{arguments:?}: {}", finished.text());
    assert!(!finished.stdout.contains('\x1b'), "colours are for terminals");
    finished.text()
}

/// As [`shown`], with `-o json`.
///
/// # Panics
/// When it is no JSON.
#[track_caller]
pub fn json(gateway: &Gateway, code: i32, arguments: &[&str]) -> Value {
    let finished = ask(gateway, &[arguments, &["-o", "json"]].concat());
    assert_eq!(finished.code, Some(code), "{arguments:?}: {}", finished.text());
    let text = if finished.stdout.is_empty() { &finished.stderr } else { &finished.stdout };
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// Words of a line that begins with `start`, blanks folded.
#[track_caller]
pub fn line(text: &str, start: &str) -> String {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let found = lines.find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line begins with {start:?}:\n{text}"))
}
