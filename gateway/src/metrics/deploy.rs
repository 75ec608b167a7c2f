//! What this process's deploy API has seen and done. What is of an app or a host goes with it.

use deploy::engine::{AppCounts, Counts, Meter, Spread};
use deploy::model::{OperationKind, OperationResult};
use prometheus::proto::MetricFamily;

use super::families::Family;

pub fn collect(meter: &Meter, families: &mut Vec<MetricFamily>) {
    let counts = meter.read();
    apps(&counts, families);
    hosts(&counts, families);
    totals(&counts, families);
    let mut phases = Family::histogram(
        "sluice_deploy_phase_seconds",
        "How long instances were in a phase that they have left; counted by the deploy API that wrote it.",
    );
    for (phase, spread) in &counts.phases {
        distribution(&mut phases, &[("phase", phase)], spread);
    }
    let mut passes = Family::histogram(
        "sluice_deploy_pass_seconds",
        "How long one look at everything took, with all that was decided.",
    );
    distribution(&mut passes, &[], &counts.passes);
    families.extend([phases, passes].into_iter().filter_map(Family::finish));
}

fn distribution(family: &mut Family, labels: &[(&str, &str)], spread: &Spread) {
    if !spread.counts.is_empty() {
        family.counts(labels, spread.bounds, &spread.counts, spread.sum);
    }
}

fn apps(counts: &Counts, families: &mut Vec<MetricFamily>) {
    let mut wanted = Family::gauge("sluice_deploy_wanted", "Instances that are wanted of an app.");
    let mut instances = Family::gauge("sluice_deploy_instances", "Instances of an app, by phase.");
    let mut withheld = Family::gauge(
        "sluice_deploy_withheld",
        "Instances that policy has stopped after their probes failed, and that are not replaced.",
    );
    let mut standing = Family::gauge(
        "sluice_deploy_standing",
        "Always 1; whether the app is what is wanted is in the label.",
    );
    let mut progressed = Family::gauge(
        "sluice_deploy_rollout_progressed_timestamp_seconds",
        "When the rollout that is under way took its last step.",
    );
    let mut failures = Family::counter(
        "sluice_deploy_failures_total",
        "Instances that ended although they were wanted, and why; counted by the deploy API that found it.",
    );
    for (
        app,
        AppCounts { wanted: number, phases, withheld: away, standing: is, progressed: at, failures: by },
    ) in &counts.apps
    {
        let app = ("app", app.as_str());
        wanted.sample(&[app], f64::from(*number));
        withheld.sample(&[app], f64::from(*away));
        for (phase, number) in phases {
            instances.sample(&[app, ("phase", phase)], f64::from(*number));
        }
        if !phases.contains_key("serving") {
            instances.sample(&[app, ("phase", "serving")], 0.0);
        }
        if let Some(is) = is {
            standing.sample(&[app, ("standing", is.name())], 1.0);
        }
        if let Some(at) = at {
            progressed.sample(&[app], *at as f64 / 1000.0);
        }
        for (cause, number) in by {
            failures.sample(&[app, ("cause", cause.name())], *number as f64);
        }
    }
    let all = [wanted, instances, withheld, standing, progressed, failures];
    families.extend(all.into_iter().filter_map(Family::finish));
}

fn hosts(counts: &Counts, families: &mut Vec<MetricFamily>) {
    let mut state = Family::gauge(
        "sluice_deploy_host_state",
        "Whether a host is in this state (1) or not (0), as this deploy API sees it.",
    );
    let mut memory =
        Family::gauge("sluice_deploy_host_memory_bytes", "Memory of a host: given out, and in all.");
    let mut cpu =
        Family::gauge("sluice_deploy_host_processors", "Processors of a host: given out, and in all.");
    for (host, of) in &counts.hosts {
        let host = ("host", host.as_str());
        for each in ["up", "unreachable", "lost"] {
            state.sample(&[host, ("state", each)], f64::from(u8::from(of.state == each)));
        }
        memory.sample(&[host, ("of", "given")], of.memory.0 as f64);
        memory.sample(&[host, ("of", "all")], of.memory.1 as f64);
        cpu.sample(&[host, ("of", "given")], f64::from(of.cpu.0) / 1000.0);
        cpu.sample(&[host, ("of", "all")], f64::from(of.cpu.1) / 1000.0);
    }
    families.extend([state, memory, cpu].into_iter().filter_map(Family::finish));
}

fn totals(counts: &Counts, families: &mut Vec<MetricFamily>) {
    let mut rollouts = Family::counter(
        "sluice_deploy_rollouts_total",
        "Rollouts that have ended, by kind and how; counted by the deploy API that ended them.",
    );
    for ((kind, outcome), number) in &counts.rollouts {
        rollouts.sample(&[("kind", kind), ("outcome", outcome)], *number as f64);
    }
    let mut refusals = Family::counter(
        "sluice_deploy_refusals_total",
        "Hosts that would not do for an instance, by reason; counted when what is in the way changes.",
    );
    for (reason, number) in &counts.refusals {
        refusals.sample(&[("reason", reason)], *number as f64);
    }
    let mut asked =
        Family::counter("sluice_deploy_requests_total", "Changes that were asked of this deploy API.");
    let mut ended = Family::counter(
        "sluice_deploy_operations_total",
        "Operations that this deploy API has seen the end of, and how they ended.",
    );
    for kind in OperationKind::ALL {
        let number = counts.asked.get(&kind).copied().unwrap_or(0);
        asked.sample(&[("kind", kind.name())], number as f64);
        for result in OperationResult::ALL {
            let number = counts.ended.get(&(kind, result)).copied().unwrap_or(0);
            ended.sample(&[("kind", kind.name()), ("result", result.name())], number as f64);
        }
    }
    families.extend([rollouts, refusals, asked, ended].into_iter().filter_map(Family::finish));
}
