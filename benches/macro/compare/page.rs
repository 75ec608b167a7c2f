//! The page of a comparison.

use benches::distribution::Distribution;
use benches::machine::QUIET_CORES;
use benches::record::Record;
use benches::rounds::{Turn, Turns};
use serde_json::json;

use super::peers::Contender;
use super::workload::{ACCESS_LOG, Workload};

const NOTHING: &str = "–";

pub struct Page {
    record: Record,
    names: Vec<String>,
    /// Rows of the second table, which is told last.
    details: Vec<String>,
    access_log: Vec<String>,
    remarks: Vec<String>,
    errors: u64,
}

impl Page {
    /// Begins the table of ratios.
    pub fn open(mut record: Record, contenders: &[Contender], rounds: usize, seconds: u64) -> Self {
        let names: Vec<_> = contenders.iter().map(|contender| contender.name.clone()).collect();
        record.say(&format!(
            "CPU time of the proxy's process tree per request, median of {rounds} rounds of {seconds} s. `x` is the \
             ratio to {} in the same round: median (least to greatest). One worker, alone on its core.\n",
            names[0]
        ));
        let columns: String = names.iter().skip(1).map(|name| format!(" {name} µs | {name} x |")).collect();
        record.say(&format!("| workload | {} µs |{columns} goal |", names[0]));
        record.say(&format!("| --- | --- |{} --- |", " --- | --- |".repeat(names.len() - 1)));
        Self { record, names, details: Vec::new(), access_log: Vec::new(), remarks: Vec::new(), errors: 0 }
    }

    /// Keeps a raw value.
    pub fn line(&mut self, workload: &Workload, turn: &Turn) {
        self.record.line("turn", turn.to_json(workload.name));
    }

    pub fn left_out(&mut self, contender: &Contender, workload: &Workload, why: &str) {
        self.remarks.push(format!("{} is left out of {}: {why}.", contender.name, workload.name));
    }

    pub fn failed(&mut self, peer: &str, workload: &Workload, error: &anyhow::Error) {
        self.errors += 1;
        self.remarks.push(format!("FAILED: {peer} in {}: {error:#}", workload.name));
        self.record
            .line("failure", json!({"workload": workload.name, "peer": peer, "error": format!("{error:#}")}));
    }

    /// The figures of a workload that is over.
    pub fn tell(&mut self, workload: &Workload, turns: &Turns) {
        let names: Vec<String> = if workload.name == ACCESS_LOG {
            self.tell_access_log(workload, turns);
            self.names.iter().flat_map(|name| [log_name(name, false), log_name(name, true)]).collect()
        } else {
            self.tell_ratios(workload, turns);
            self.names.clone()
        };
        for name in &names {
            self.errors += turns.errors(name);
            if !turns.figures(name, Turn::utilisation).is_empty() {
                self.details.push(detail(workload.name, name, turns));
            }
        }
        let disturbances: Distribution = turns.all().iter().map(|turn| turn.disturbance).collect();
        if disturbances.max() > QUIET_CORES {
            let noisy = turns.all().iter().filter(|turn| turn.disturbance > QUIET_CORES).count();
            self.remarks.push(format!(
                "{}: others used up to {:.0} % of the proxy's core in {noisy} of {} turns.",
                workload.name,
                disturbances.max() * 100.0,
                disturbances.len()
            ));
        }
    }

    fn tell_ratios(&mut self, workload: &Workload, turns: &Turns) {
        let mut row = format!("| {} |", workload.title);
        for (place, name) in self.names.iter().enumerate() {
            row.push_str(&format!(" {} |", number(turns.figures(name, Turn::cpu_micros).median())));
            if place > 0 {
                row.push_str(&format!(" {} |", range(&turns.ratios(name, &self.names[0]))));
            }
        }
        // Ratios to anybody else have no goal.
        let goal = if self.names[0] == "nginx" { goal(workload) } else { NOTHING.to_owned() };
        self.record.say(&format!("{row} {goal} |"));
    }

    fn tell_access_log(&mut self, workload: &Workload, turns: &Turns) {
        for name in &self.names {
            let (off, on) = (log_name(name, false), log_name(name, true));
            let figure = |name: &str| number(turns.figures(name, Turn::cpu_micros).median());
            let ratios = turns.ratios(&on, &off);
            if !ratios.is_empty() {
                self.access_log.push(format!(
                    "| {name} | {} | {} | {} | {} |",
                    figure(&off),
                    figure(&on),
                    range(&ratios),
                    goal(workload)
                ));
            }
        }
    }

    /// Everything has ended: the rest is told, and kept unless it is to be discarded.
    pub fn finish(mut self, discard: bool) -> anyhow::Result<()> {
        self.table(
            "Access log (HTTP/1.1 keepalive, 64 connections)",
            "| peer | without µs | with µs | with / without | goal |\n| --- | --- | --- | --- | --- |",
            &self.access_log.clone(),
        );
        self.table(
            "Every peer",
            "| workload | peer | requests/s | share of its core | user µs | system µs | p50 ms | p99 ms | Pss MiB | errors |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            &self.details.clone(),
        );
        if !self.remarks.is_empty() {
            self.record.say("");
        }
        for remark in &self.remarks {
            self.record.say(&format!("- {remark}"));
        }
        if !discard {
            self.record.finish()?;
        }
        anyhow::ensure!(self.errors == 0, "{} requests or turns failed", self.errors);
        Ok(())
    }

    fn table(&mut self, title: &str, head: &str, rows: &[String]) {
        if !rows.is_empty() {
            self.record.say(&format!("\n## {title}\n\n{head}\n{}", rows.join("\n")));
        }
    }
}

/// Under which an instance for the access log's turns is kept.
pub fn log_name(peer: &str, is_on: bool) -> String {
    format!("{peer} {}", if is_on { "with log" } else { "without log" })
}

fn detail(workload: &str, peer: &str, turns: &Turns) -> String {
    let median = |figure: fn(&Turn) -> f64| turns.figures(peer, figure).median();
    let latency = |figure: fn(&Turn) -> Option<f64>| {
        number(turns.figures(peer, |turn| figure(turn).unwrap_or(f64::NAN)).median())
    };
    format!(
        "| {workload} | {peer} | {:.0} | {:.2} | {} | {} | {} | {} | {:.1} | {} |",
        median(Turn::requests_per_second),
        median(Turn::utilisation),
        number(median(Turn::user_micros)),
        number(median(Turn::system_micros)),
        latency(|turn| turn.outcome.p50_ms),
        latency(|turn| turn.outcome.p99_ms),
        median(|turn| turn.pss_kib as f64 / 1024.0),
        turns.errors(peer)
    )
}

fn number(value: f64) -> String {
    if value.is_nan() { NOTHING.to_owned() } else { format!("{value:.2}") }
}

fn range(ratios: &Distribution) -> String {
    if ratios.is_empty() {
        return NOTHING.to_owned();
    }
    format!("**{:.2}** ({:.2} to {:.2})", ratios.median(), ratios.quantile(0.0), ratios.max())
}

fn goal(workload: &Workload) -> String {
    workload.goal.map_or_else(|| NOTHING.to_owned(), |goal| format!("{goal:.2}"))
}
