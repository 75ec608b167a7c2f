//! Waiting until an app is what is wanted of it, and saying how far it is.

use std::time::{Duration, Instant};

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;
use topology::AppId;

use crate::cli::Output;
use crate::cli::connection::{Admin, Answer};
use crate::cli::failure::Failure;
use crate::cli::output::{list, plain, say, text};

/// One question waits no longer than this, and is asked again.
const ROUND: u64 = 30;
/// Beyond what the API waits.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Waiting {
    /// Say how far it is, and return when nothing changes by itself any more; end with 3 if it was given up, or takes longer
    /// than SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "900")]
    wait: Option<u64>,
}

impl Waiting {
    /// `revision`: of what was written, which whoever is asked may not have seen yet. Returns the last that was shown, where there
    /// was any waiting; an app of which nothing is left is no failure.
    ///
    /// # Errors
    /// [`Failure::Differs`] with the reason.
    pub async fn until_settled(
        &self,
        admin: &Admin,
        app: &AppId,
        revision: Option<u64>,
        output: Output,
    ) -> Result<Option<Value>, Failure> {
        let Some(seconds) = self.wait else { return Ok(None) };
        let began = Instant::now();
        let (mut mark, mut told) = (String::new(), String::new());
        let after = revision.map_or(String::new(), |revision| format!("&after={revision}"));
        loop {
            let left = seconds.saturating_sub(began.elapsed().as_secs());
            let wait = left.min(ROUND);
            let target = format!("/v1/apps/{app}/status?wait={wait}&unlike={mark}{after}");
            let answer =
                admin.ask_for(Duration::from_secs(wait) + GRACE, Method::GET, &target, &[], None).await?;
            if answer.status == StatusCode::NOT_FOUND {
                if output == Output::Table {
                    say(&format!("{app}: nothing is left of it"));
                }
                return Ok(Some(
                    serde_json::json!({ "id": app.to_string(), "standing": "done", "settled": true }),
                ));
            }
            if left > 0 && is_behind(&answer) {
                continue;
            }
            let shown = answer.json()?;
            text(&shown, "mark").clone_into(&mut mark);
            let line = line(&shown);
            if output == Output::Table && line != told {
                say(&line);
                told = line;
            }
            match text(&shown, "standing") {
                "given_up" => return Err(Failure::Differs(plain(&format!("{app}: {}", reason(&shown))))),
                "done" | "waiting" => return Ok(Some(shown)),
                _ if left == 0 => {
                    let why = reason(&shown);
                    return Err(Failure::Differs(plain(&format!(
                        "{app}: not done after {seconds} s: {why}"
                    ))));
                }
                _ => {}
            }
        }
    }
}

/// Whether whoever was asked has waited for the change in vain.
fn is_behind(answer: &Answer) -> bool {
    let problem = || serde_json::from_slice::<Value>(&answer.body);
    answer.status == StatusCode::CONFLICT
        && problem().is_ok_and(|problem| problem["type"] == "urn:sluice:behind")
}

fn reason(shown: &Value) -> &str {
    match text(shown, "reason") {
        "" => "it does not say why",
        reason => reason,
    }
}

/// How an app is, in one line.
pub fn line(shown: &Value) -> String {
    let rollout = &shown["rollout"];
    let status = match text(rollout, "status") {
        "" => "not begun",
        status => status,
    };
    let way = match (text(rollout, "from"), text(rollout, "to")) {
        (_, "") => text(shown, "version").to_owned(),
        ("", to) => to.to_owned(),
        (from, to) if from == to => to.to_owned(),
        (from, to) => format!("{from} to {to}"),
    };
    let mut line =
        format!("{} {way}: {status}, {} of {} serve", text(shown, "id"), shown["serving"], shown["wanted"]);
    let others = others(shown);
    if !others.is_empty() {
        line.push_str(&format!(" ({others})"));
    }
    if text(shown, "standing") == "waiting" {
        line.push_str("; waits for an operator");
    }
    if !matches!(text(shown, "reason"), "") && text(shown, "standing") != "done" {
        line.push_str(&format!("; {}", text(shown, "reason")));
    }
    plain(&line)
}

/// What instances do that do not serve.
fn others(shown: &Value) -> String {
    const PHASES: [&str; 6] = ["starting", "probing", "registering", "leaving", "draining", "stopping"];
    let count =
        |phase: &&str| list(shown, "instances").iter().filter(|one| text(one, "phase") == *phase).count();
    let counted = PHASES.iter().map(|phase| (phase, count(phase))).filter(|(_, count)| *count > 0);
    counted.map(|(phase, count)| format!("{count} {phase}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_from_where_to_where_and_what_is_in_the_way() {
        let shown = json!({
            "id": "shop", "version": "v2", "standing": "changing", "serving": 2, "wanted": 3, "reason": "why\u{1b}",
            "rollout": { "status": "progressing", "from": "v1", "to": "v2" },
            "instances": [{ "phase": "serving" }, { "phase": "probing" }, { "phase": "probing" }],
        });
        assert_eq!(line(&shown), "shop v1 to v2: progressing, 2 of 3 serve (2 probing); why\\u{1b}");
        let fresh =
            json!({ "id": "shop", "version": "v1", "serving": 0, "wanted": 1, "standing": "changing" });
        assert_eq!(line(&fresh), "shop v1: not begun, 0 of 1 serve");
    }
}
