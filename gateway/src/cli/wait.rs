//! Waiting until every gateway has applied a change.

use std::time::{Duration, Instant};

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use super::connection::Admin;
use super::failure::Failure;
use super::output::{list, text};

/// One question waits no longer than this, and is asked again.
const ROUND: u64 = 30;
/// Beyond what the gateway waits.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Waiting {
    /// Return when every gateway of the registry has applied the change; end with 3 if that takes longer than SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    wait: Option<u64>,
}

/// How a change is made.
#[derive(Debug, Args)]
pub struct Manner {
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    #[command(flatten)]
    pub waiting: Waiting,
}

impl Waiting {
    /// `outcome`: what the gateway said of the change. Returns what there is to say.
    ///
    /// # Errors
    /// [`Failure::Differs`]: who has not applied it in time.
    pub async fn until_applied(&self, admin: &Admin, outcome: &Value) -> Result<Option<String>, Failure> {
        let (Some(seconds), Some(revision)) = (self.wait, outcome["registry_revision"].as_u64()) else {
            return Ok(None);
        };
        let began = Instant::now();
        loop {
            let left = seconds.saturating_sub(began.elapsed().as_secs());
            let timeout = left.min(ROUND);
            let target = format!("/v1/revisions?applied={revision}&timeout={timeout}");
            let patience = Duration::from_secs(timeout) + GRACE;
            let answer = admin.ask_for(patience, Method::GET, &target, &[], None).await?;
            if answer.status != StatusCode::GATEWAY_TIMEOUT {
                let count = list(&answer.json()?, "gateways").len();
                return Ok(Some(format!("applied by {count} of {count} gateways")));
            }
            if left <= ROUND {
                let shown = serde_json::from_slice(&answer.body).unwrap_or_default();
                return Err(Failure::Differs(late(&shown, revision, seconds)));
            }
        }
    }
}

fn late(shown: &Value, revision: u64, seconds: u64) -> String {
    let is_late = |gateway: &&Value| gateway["applied"].as_u64().unwrap_or(0) < revision;
    let gateways = list(shown, "gateways").iter().filter(is_late);
    let names: Vec<_> = gateways.map(|one| format!("{} (at {})", text(one, "id"), one["applied"])).collect();
    let names = if names.is_empty() { "no gateway reports".to_owned() } else { names.join(", ") };
    format!("the change is written, and revision {revision} is not applied after {seconds} s by: {names}")
}
