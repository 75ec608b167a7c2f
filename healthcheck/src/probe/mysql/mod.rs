//! A MySQL or MariaDB server's greeting, and a login that it answers.
//!
//! Why a login: a server counts connections that end between its greeting and a login as errors of their host, and
//! refuses that host for good after `max_connect_errors` of them (100 by default). The host is ours, and its clients'
//! connections would be refused with ours. A login that is refused counts as an answer there and here.

mod packet;

use packet::{Answer, Greeting, MAX_PAYLOAD_BYTES, Refusal};

use super::wire::Wire;
use super::{Outcome, Pass, ProbeError, Way};

/// On a connection of its own. `user` need not exist; where it does and has no password, the login is whole.
pub(crate) async fn probe(way: Way<'_>, user: &str) -> Outcome {
    let mut wire = Wire::open(way).await?;
    let (_, payload) = read(&mut wire).await?;
    match packet::greeting(&payload).map_err(ProbeError::BadAnswer)? {
        Greeting::Refused(refusal) => return Err(ProbeError::Refused(words(&refusal))),
        Greeting::Welcome => {}
    }
    wire.send(&packet::login(user)).await?;
    let (number, mut payload) = read(&mut wire).await?;
    if let Answer::OtherMethod = packet::answer(&payload).map_err(ProbeError::BadAnswer)? {
        // In every method an empty answer stands for no password.
        wire.send(&packet::empty(number.wrapping_add(1))).await?;
        (_, payload) = read(&mut wire).await?;
    }
    match packet::answer(&payload).map_err(ProbeError::BadAnswer)? {
        Answer::Welcome => {
            // Its log would call the connection aborted; that the word arrives changes nothing here.
            let _ = wire.send(&packet::QUIT).await;
            Ok(Pass::Whole)
        }
        Answer::OtherMethod | Answer::MoreOfMethod => Ok(Pass::NoLogin),
        Answer::Refused(refusal) if refusal.is_about_login() => Ok(Pass::NoLogin),
        Answer::Refused(refusal) => Err(ProbeError::Refused(words(&refusal))),
    }
}

/// The number of a packet and its payload.
async fn read(wire: &mut Wire) -> Result<(u8, Vec<u8>), ProbeError> {
    let mut head = [0; packet::HEAD_BYTES];
    wire.fill(&mut head).await?;
    let length = packet::length(head);
    if !(1..=MAX_PAYLOAD_BYTES).contains(&length) {
        return Err(ProbeError::BadAnswer("MySQL packet of a sane size"));
    }
    let mut payload = vec![0; length];
    wire.fill(&mut payload).await?;
    Ok((head[3], payload))
}

fn words(refusal: &Refusal<'_>) -> String {
    format!("{} ({})", ProbeError::words(refusal.text), refusal.code)
}

#[cfg(test)]
mod tests;
