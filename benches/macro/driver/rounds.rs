//! Several peers under one load, in turn, round by round.
//!
//! A machine's speed drifts while a run goes on. What is compared is therefore never two medians but two
//! figures of one round, taken seconds apart: the median of these ratios is the finding.

use serde_json::{Value, json};

use crate::distribution::Distribution;
use crate::generator::Outcome;

/// One peer in one round.
#[derive(Debug, Clone)]
pub struct Turn {
    pub round: usize,
    pub peer: String,
    pub outcome: Outcome,
    /// How long the load ran.
    pub seconds: f64,
    /// CPU time of the peer's whole process tree, in seconds; its two parts are good to 10 ms.
    pub cpu_seconds: f64,
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// Work of others on the peer's core, as a share of it.
    pub disturbance: f64,
    /// Memory after the load.
    pub pss_kib: u64,
}

impl Turn {
    pub fn cpu_micros(&self) -> f64 {
        self.per_request(self.cpu_seconds)
    }

    pub fn user_micros(&self) -> f64 {
        self.per_request(self.user_seconds)
    }

    pub fn system_micros(&self) -> f64 {
        self.per_request(self.system_seconds)
    }

    pub fn requests_per_second(&self) -> f64 {
        self.outcome.requests as f64 / self.seconds
    }

    /// Share of its core that the peer used. Below 1 the clients set the pace.
    pub fn utilisation(&self) -> f64 {
        self.cpu_seconds / self.seconds
    }

    pub fn to_json(&self, workload: &str) -> Value {
        let mut line = self.outcome.to_json();
        line["workload"] = workload.into();
        line["round"] = self.round.into();
        line["peer"] = self.peer.as_str().into();
        line["seconds"] = json!(self.seconds);
        line["cpu_us"] = json!(self.cpu_micros());
        line["user_us"] = json!(self.user_micros());
        line["system_us"] = json!(self.system_micros());
        line["utilisation"] = json!(self.utilisation());
        line["disturbance"] = json!(self.disturbance);
        line["pss_kib"] = self.pss_kib.into();
        line
    }

    /// Not a number when nothing was answered.
    fn per_request(&self, seconds: f64) -> f64 {
        if self.outcome.requests == 0 { f64::NAN } else { seconds * 1e6 / self.outcome.requests as f64 }
    }
}

/// All turns of one workload.
#[derive(Debug, Default)]
pub struct Turns(Vec<Turn>);

impl Turns {
    pub fn push(&mut self, turn: Turn) {
        self.0.push(turn);
    }

    pub fn all(&self) -> &[Turn] {
        &self.0
    }

    /// Over the rounds of `peer`.
    pub fn figures(&self, peer: &str, figure: impl Fn(&Turn) -> f64) -> Distribution {
        self.of(peer).map(figure).filter(|value| !value.is_nan()).collect()
    }

    /// CPU per request of `peer` over that of `reference`, for every round that has both.
    pub fn ratios(&self, peer: &str, reference: &str) -> Distribution {
        let in_round = |round| self.of(reference).find(|turn| turn.round == round);
        let ratios = self.of(peer).filter_map(|turn| {
            let ratio = turn.cpu_micros() / in_round(turn.round)?.cpu_micros();
            (!ratio.is_nan()).then_some(ratio)
        });
        ratios.collect()
    }

    pub fn errors(&self, peer: &str) -> u64 {
        self.of(peer).map(|turn| turn.outcome.errors).sum()
    }

    fn of<'a>(&'a self, peer: &'a str) -> impl Iterator<Item = &'a Turn> {
        self.0.iter().filter(move |turn| turn.peer == peer)
    }
}

/// The order of turns in this round: every round begins with another peer, since the first turn after a pause
/// differs from the others.
pub fn order(peers: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..peers).map(move |place| (place + round) % peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(round: usize, peer: &str, requests: u64, cpu_seconds: f64) -> Turn {
        Turn {
            round,
            peer: peer.to_owned(),
            outcome: Outcome { requests, errors: 1, p50_ms: None, p99_ms: None },
            seconds: 2.0,
            cpu_seconds,
            user_seconds: 0.0,
            system_seconds: cpu_seconds,
            disturbance: 0.0,
            pss_kib: 0,
        }
    }

    #[test]
    fn cpu_is_counted_per_request() {
        let turn = turn(0, "nginx", 100_000, 1.5);
        assert_eq!((turn.cpu_micros(), turn.system_micros(), turn.user_micros()), (15.0, 15.0, 0.0));
        assert_eq!((turn.requests_per_second(), turn.utilisation()), (50_000.0, 0.75));
        assert_eq!(turn.to_json("h2")["cpu_us"], 15.0);
    }

    #[test]
    fn only_figures_of_one_round_are_compared() {
        let mut turns = Turns::default();
        // The machine became slower from round to round, for both alike.
        for (round, slowness) in [1.0, 2.0, 4.0].into_iter().enumerate() {
            turns.push(turn(round, "nginx", 1000, slowness));
            turns.push(turn(round, "sluice", 1000, slowness * 0.5));
        }
        turns.push(turn(3, "sluice", 1000, 100.0));
        let ratios = turns.ratios("sluice", "nginx");
        assert_eq!((ratios.len(), ratios.quantile(0.0), ratios.median(), ratios.max()), (3, 0.5, 0.5, 0.5));
        assert!(turns.ratios("sluice", "haproxy").is_empty());
        assert_eq!(turns.errors("sluice"), 4);
        assert_eq!(turns.figures("nginx", Turn::cpu_micros).median(), 2000.0);
    }

    #[test]
    fn a_turn_without_an_answer_has_no_figure() {
        let mut turns = Turns::default();
        turns.push(turn(0, "nginx", 0, 1.0));
        turns.push(turn(0, "sluice", 1000, 1.0));
        assert!(turns.figures("nginx", Turn::cpu_micros).is_empty());
        assert!(turns.ratios("sluice", "nginx").is_empty());
        assert!(turns.all()[0].to_json("h2")["cpu_us"].is_null());
    }

    #[test]
    fn every_peer_comes_first_in_some_round() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(3, round).collect()).collect();
        assert_eq!(rounds, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1], vec![0, 1, 2]]);
    }
}
