//! `PING` to Redis, and to whoever speaks its protocol.

use super::wire::Wire;
use super::{Outcome, Pass, ProbeError, Way};

/// As an array of one bulk string, which every version since 1.2 takes, in every state.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// Redis's own errors are sentences.
const MAX_LINE_BYTES: usize = 1024;

/// One `PING` on a connection of its own.
pub(crate) async fn probe(way: Way<'_>) -> Outcome {
    let mut wire = Wire::open(way).await?;
    // A server that lets nobody in says why and closes, perhaps before it has read anything: its words count.
    let sent = wire.send(PING).await;
    match wire.line(MAX_LINE_BYTES).await {
        Ok(line) => judge(&line.ok_or(ProbeError::BadAnswer("line of RESP"))?),
        Err(unread) => Err(sent.err().unwrap_or(unread)),
    }
}

/// What the first line of an answer says.
fn judge(line: &[u8]) -> Outcome {
    let Some(error) = line.strip_prefix(b"-") else {
        return if line == b"+PONG" { Ok(Pass::Whole) } else { Err(ProbeError::BadAnswer("PONG")) };
    };
    let kind = error.split(|byte| *byte == b' ').next().unwrap_or_default();
    match kind {
        // It is there, and keeps its data from those without a password (or the right to ping).
        b"NOAUTH" | b"NOPERM" => Ok(Pass::NoLogin),
        b"LOADING" => Err(ProbeError::Loading(ProbeError::words(error))),
        // "ERR max number of clients reached", "DENIED" in protected mode, "BUSY" in a script, "MASTERDOWN".
        _ => Err(ProbeError::Refused(ProbeError::words(error))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ProbeResult;

    #[test]
    fn answers_are_told_apart() {
        for (line, wanted) in [
            ("+PONG", ProbeResult::Pass),
            ("-NOAUTH Authentication required.", ProbeResult::PassNoLogin),
            ("-NOPERM User default has no permissions to run the 'ping' command", ProbeResult::PassNoLogin),
            ("-LOADING Redis is loading the dataset in memory", ProbeResult::Loading),
            ("-ERR max number of clients reached", ProbeResult::Refused),
            ("-DENIED Redis is running in protected mode", ProbeResult::Refused),
            ("-", ProbeResult::Refused),
            ("+PONGO", ProbeResult::BadResponse),
            ("$4", ProbeResult::BadResponse),
            ("HTTP/1.1 400 Bad Request", ProbeResult::BadResponse),
            ("", ProbeResult::BadResponse),
        ] {
            assert_eq!(ProbeResult::of(&judge(line.as_bytes())), wanted, "{line}");
        }
        let refused = judge(b"-ERR max number of clients reached").unwrap_err().to_string();
        assert_eq!(refused, "refused: ERR max number of clients reached");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged_and_what_is_said_of_it_is_bounded(
            line in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let said = [&b"-"[..], &line].concat();
            for line in [&line, &said] {
                match judge(line) {
                    Ok(pass) => prop_assert!(
                        pass == Pass::NoLogin || line == b"+PONG",
                        "{:?} passed", line
                    ),
                    Err(error) => {
                        let text = error.to_text();
                        prop_assert!(text.len() <= ProbeError::MAX_TEXT_BYTES);
                        prop_assert!(!text.chars().any(char::is_control));
                    }
                }
            }
        }
    }
}
