//! What an engine's refusals mean.
//!
//! Engines say little by status and much in words. The words here are those of Docker 20.10 to 29 and of
//! runc; what is not recognised stays a failure with the engine's own text.

use std::error::Error as _;
use std::sync::Arc;

use bollard::errors::Error;

use super::transport::ConnectError;
use crate::runtime::{Fault, RuntimeError};

/// Enough of an engine's text: it may carry a whole page of a proxy.
const MAX_REASON_CHARS: usize = 500;

/// What was asked, as far as it changes what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Pull,
    Other,
}

pub(super) fn runtime_error(host: &Arc<str>, doing: &str, asked: Asked, error: Error) -> RuntimeError {
    let (fault, may_have_happened) = classify(asked, &error);
    let reason = printable(&match &error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => chain(other),
    });
    let (host, doing) = (host.clone(), doing.to_owned());
    RuntimeError { fault, doing, host, reason, may_have_happened, source: Some(Box::new(error)) }
}

fn classify(asked: Asked, error: &Error) -> (Fault, bool) {
    match error {
        // An engine that answers knows what it did not do.
        Error::DockerResponseServerError { status_code, message } => {
            (by_words(asked, message).unwrap_or_else(|| by_status(asked, *status_code)), false)
        }
        Error::DockerStreamError { error } => (by_words(asked, error).unwrap_or(Fault::Failed), false),
        Error::IOError { err } if err.get_ref().is_some_and(|cause| cause.is::<ConnectError>()) => {
            (Fault::HostUnreachable, false)
        }
        Error::RequestTimeoutError => (Fault::Timeout, true),
        Error::IOError { .. } | Error::HyperResponseError { .. } => (Fault::HostUnreachable, true),
        _ => (Fault::Failed, true),
    }
}

fn by_status(asked: Asked, status: u16) -> Fault {
    match (status, asked) {
        (404, Asked::Pull) => Fault::ImageNotFound,
        (404, Asked::Other) => Fault::NoSuchInstance,
        (401 | 403, Asked::Pull) => Fault::RegistryAuth,
        (400, _) => Fault::InvalidSpec,
        (409, _) => Fault::Conflict,
        _ => Fault::Failed,
    }
}

fn by_words(asked: Asked, text: &str) -> Option<Fault> {
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if asked == Asked::Pull {
        if says(&[
            "no basic auth credentials",
            "unauthorized",
            "authentication required",
            "incorrect username",
        ]) {
            return Some(Fault::RegistryAuth);
        }
        if says(&["manifest unknown", "not found", "name unknown", "pull access denied"]) {
            return Some(Fault::ImageNotFound);
        }
        if says(&[
            "connection refused",
            "no such host",
            "i/o timeout",
            "request canceled",
            "dial tcp",
            "x509",
        ]) {
            return Some(Fault::RegistryUnreachable);
        }
    }
    if says(&["port is already allocated", "address already in use"]) {
        return Some(Fault::PortTaken);
    }
    if says(&[
        "no space left",
        "cannot allocate memory",
        "resource temporarily unavailable",
        "quota exceeded",
    ]) {
        return Some(Fault::OutOfResources);
    }
    if says(&[
        "cannot assign requested address",
        "minimum memory limit",
        "range of cpus",
        "invalid user",
        "unable to find user",
    ]) {
        return Some(Fault::InvalidSpec);
    }
    if says(&[
        "executable file not found",
        "no such file or directory: unknown",
        "permission denied: unknown",
        "exec format error",
        "no command specified",
    ]) {
        return Some(Fault::CommandNotFound);
    }
    if says(&["is not running", "is restarting", "is paused"]) {
        return Some(Fault::NotRunning);
    }
    if says(&["unable to set memory limit", "device or resource busy"]) {
        return Some(Fault::OutOfResources);
    }
    if says(&["does not support reading"]) {
        return Some(Fault::Unsupported);
    }
    says(&["no such image"]).then_some(Fault::ImageNotFound)
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

pub(super) fn printable(text: &str) -> String {
    let printed = text.trim().chars().map(|char| if char.is_control() { ' ' } else { char });
    printed.take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(asked: Asked, status_code: u16, message: &str) -> Fault {
        let error = Error::DockerResponseServerError { status_code, message: message.to_owned() };
        runtime_error(&"host".into(), "start it", asked, error).fault
    }

    #[test]
    fn words_of_engines_are_understood() {
        let pull = [
            (500, "Head \"http://r/v2/a/manifests/v1\": no basic auth credentials", Fault::RegistryAuth),
            (404, "manifest for r/a:v9 not found: manifest unknown: manifest unknown", Fault::ImageNotFound),
            (
                500,
                "Get \"https://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                Fault::RegistryUnreachable,
            ),
            (404, "", Fault::ImageNotFound),
            (500, "write /var/lib/docker/tmp/x: no space left on device", Fault::OutOfResources),
        ];
        for (status, message, fault) in pull {
            assert_eq!(refused(Asked::Pull, status, message), fault, "{message}");
        }
        let other = [
            (500, "Bind for 127.0.0.1:80 failed: port is already allocated", Fault::PortTaken),
            (500, "listen tcp4 127.0.0.1:80: bind: address already in use", Fault::PortTaken),
            (400, "exec: \"nope\": executable file not found in $PATH: unknown", Fault::CommandNotFound),
            (404, "No such container: x", Fault::NoSuchInstance),
            (404, "No such image: r/a:v1", Fault::ImageNotFound),
            (409, "Container x is not running", Fault::NotRunning),
            (409, "Conflict. The container name is already in use", Fault::Conflict),
            (400, "Minimum memory limit allowed is 6MB", Fault::InvalidSpec),
            (500, "write memory.limit_in_bytes: device or resource busy: unknown", Fault::OutOfResources),
            (501, "configured logging driver does not support reading", Fault::Unsupported),
            (500, "something new", Fault::Failed),
        ];
        for (status, message, fault) in other {
            assert_eq!(refused(Asked::Other, status, message), fault, "{message}");
        }
    }

    #[test]
    fn reasons_are_bounded_and_printable() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(printable(&"ü".repeat(10_000)).chars().count(), MAX_REASON_CHARS);
    }
}
