//! The page of a soak, its raw lines, and whether it was passed.

use std::collections::BTreeMap;

use benches::record::Record;
use benches::soak::journal::Kind;
use benches::soak::purpose::purpose;
use benches::soak::trend::{Held, held, median};
use serde_json::json;

use super::Seen;

/// Enough to see a pattern, few enough to read; the raw lines have all.
const SHOWN: usize = 20;
/// What the long generation may gain over the second half of its service, and late generations over early ones: less than
/// what the load itself makes memory go up and down by.
const FLAT_SHARE: f64 = 0.10;
const FLAT_KIB: f64 = 4_096.0;
/// Of files: sockets come and go with attackers and endpoints.
const FLAT_FILES: f64 = 40.0;
/// A process that served for less has only begun to show what it holds.
const LEAST_SECONDS: f64 = 180.0;

/// Writes down everything.
///
/// # Errors
/// What was not as it must be.
pub fn tell(record: &mut Record, seen: &Seen) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    load(record, seen);
    failures(record, seen, &mut wrong);
    disturbances(record, seen, &mut wrong);
    processes(record, seen, &mut wrong);
    reasons(record, seen);
    let verdict = if wrong.is_empty() { "passed".to_owned() } else { wrong.join("; ") };
    record.say(&format!("\n**Verdict: {verdict}.**"));
    record.line("verdict", json!({"wrong": wrong}));
    anyhow::ensure!(wrong.is_empty(), "{verdict}");
    Ok(())
}

fn load(record: &mut Record, seen: &Seen) {
    let serving: Vec<_> = seen.samples.iter().filter(|sample| sample.serves).collect();
    let cores = median(serving.iter().map(|sample| sample.cores)).unwrap_or(f64::NAN);
    let idle = median(serving.iter().map(|sample| sample.idle)).unwrap_or(f64::NAN);
    let busy = median(serving.iter().map(|sample| sample.busy_workers)).unwrap_or(f64::NAN);
    let seconds = seen.plan.total.as_secs_f64();
    record.say(&format!(
        "{} right answers in {seconds:.0} s ({:.0} a second, {:.1} MB of content a second). The serving process used \
         {cores:.2} cores; {busy:.2} of its 2 workers were at work or waited for a core, and {idle:.2} cores were \
         idle (medians). Clients and endpoints run on the same cores.\n",
        seen.journal.total(),
        seen.journal.total() as f64 / seconds,
        seen.journal.bytes() as f64 / seconds / 1e6,
    ));
    record.say("| clients | right answers |\n| --- | --- |");
    for kind in Kind::ALL {
        record.say(&format!("| {} | {} |", kind.name(), seen.journal.count(kind)));
        record.line("load", json!({"clients": kind.name(), "right": seen.journal.count(kind)}));
    }
    seen.samples.iter().for_each(|sample| record.line("sample", sample.to_json()));
}

fn failures(record: &mut Record, seen: &Seen, wrong: &mut Vec<String>) {
    let deaths = seen.journal.deaths();
    let mut on_purpose: BTreeMap<&str, u64> = BTreeMap::new();
    let mut others = Vec::new();
    for failure in seen.journal.failures() {
        let why = purpose(&failure, &deaths);
        record.line(
            "failure",
            json!({
                "since": failure.since.as_secs_f64(), "second": failure.at.as_secs_f64(),
                "clients": failure.kind.name(), "app": failure.app, "what": format!("{:?}", failure.what),
                "on_purpose": why,
            }),
        );
        match why {
            Some(why) => *on_purpose.entry(why).or_default() += 1,
            None => others.push(failure),
        }
    }
    record.say("\n| on purpose | times |\n| --- | --- |");
    on_purpose.iter().for_each(|(why, count)| record.say(&format!("| {why} | {count} |")));
    record.say(&format!("\nOther failures: {}.", others.len()));
    for failure in others.iter().take(SHOWN) {
        let at = failure.at.as_secs_f64();
        record.say(&format!("- {at:.1} s, {} of {}: {:?}", failure.kind.name(), failure.app, failure.what));
    }
    if !others.is_empty() {
        wrong.push(format!("{} failures that nobody meant", others.len()));
    }
}

fn disturbances(record: &mut Record, seen: &Seen, wrong: &mut Vec<String>) {
    record.say("\n| disturbance | times |\n| --- | --- |");
    for (what, count) in seen.journal.events() {
        record.say(&format!("| {what} | {count} |"));
        record.line("disturbance", json!({"what": what, "count": count}));
    }
    for death in seen.journal.deaths() {
        let (from, to) = (death.from.as_secs_f64(), death.to.as_secs_f64());
        record.line("death", json!({"app": death.app, "instance": death.instance, "from": from, "to": to}));
    }
    let broken = seen.journal.all_broken();
    for one in &broken {
        record.line("broken", json!({"second": one.at.as_secs_f64(), "what": one.what}));
    }
    if !broken.is_empty() {
        record.say("");
        broken
            .iter()
            .take(SHOWN)
            .for_each(|one| record.say(&format!("- {:.1} s: {}", one.at.as_secs_f64(), one.what)));
        wrong.push(format!("{} expectations of the disturbance not met", broken.len()));
    }
}

fn processes(record: &mut Record, seen: &Seen, wrong: &mut Vec<String>) {
    let all = held(&seen.samples, seen.plan.period.mul_f64(0.7));
    record.say(
        "\nMemory (Pss) and open files of each process while it served: the median of the second half of that time, \
         what it gained per minute then (Theil and Sen), and the memory at the age that all have reached.\n",
    );
    record.say("| process | served s | drained s | MiB | MiB per minute | MiB when young | files | files per minute |");
    record.say("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let generations = seen.generations.all();
    for one in &all {
        let generation = &generations[one.generation - 1];
        let drained = generation.to.zip(generation.ended).map(|(to, (at, _))| (at - to).as_secs_f64());
        row(record, one, drained);
    }
    let (fresh, left) = (seen.fresh, seen.left);
    record.say(&format!(
        "\nBefore its first client the first process had {} files and {:.1} MiB, without a client the last one {} and \
         {:.1} MiB.",
        fresh.files,
        mib(fresh.pss_kib as f64),
        left.files,
        mib(left.pss_kib as f64)
    ));
    record.line("rest", json!({
        "fresh_files": fresh.files, "fresh_pss_kib": fresh.pss_kib, "left_files": left.files, "left_pss_kib": left.pss_kib,
    }));
    flat(record, &all, wrong);
}

fn row(record: &mut Record, one: &Held, drained: Option<f64>) {
    record.say(&format!(
        "| {} | {:.0} | {} | {:.1} | {:+.2} | {:.1} | {:.0} | {:+.1} |",
        one.generation,
        one.seconds,
        drained.map_or("-".to_owned(), |seconds| format!("{seconds:.0}")),
        mib(one.pss_kib),
        mib(one.pss_kib_per_minute),
        mib(one.young_pss_kib),
        one.files,
        one.files_per_minute,
    ));
    record.line("process", json!({
        "generation": one.generation, "served": one.seconds, "drained": drained, "pss_kib": one.pss_kib,
        "pss_kib_per_minute": one.pss_kib_per_minute, "young_pss_kib": one.young_pss_kib, "files": one.files,
        "files_per_minute": one.files_per_minute,
    }));
}

/// Within the generation that served longest, and from the first ones to the last ones.
fn flat(record: &mut Record, all: &[Held], wrong: &mut Vec<String>) {
    let Some(longest) = all.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)) else {
        return wrong.push("no process was watched".to_owned());
    };
    if longest.seconds < LEAST_SECONDS {
        return record.say("\nNo process served for long enough to tell whether it grows.");
    }
    let half = longest.seconds / 2.0 / 60.0;
    let gained = longest.pss_kib_per_minute * half;
    if gained > FLAT_KIB.max(longest.pss_kib * FLAT_SHARE) {
        wrong.push(format!(
            "process {} gained {:.1} MiB in its second half",
            longest.generation,
            mib(gained)
        ));
    }
    if longest.files_per_minute * half > FLAT_FILES {
        let gained = longest.files_per_minute * half;
        wrong.push(format!("process {} gained {gained:.0} files in its second half", longest.generation));
    }
    let third = (all.len() / 3).max(1);
    let of = |some: &[Held], value: fn(&Held) -> f64| median(some.iter().map(value)).unwrap_or(0.0);
    let (first, last) = (&all[..third], &all[all.len() - third..]);
    let memory = |some| of(some, |held| held.young_pss_kib);
    if memory(last) > memory(first) + FLAT_KIB.max(memory(first) * FLAT_SHARE) {
        wrong.push(format!(
            "from {:.1} to {:.1} MiB over the processes",
            mib(memory(first)),
            mib(memory(last))
        ));
    }
    let files = |some| of(some, |held| held.files);
    if files(last) > files(first) + FLAT_FILES.max(files(first) * FLAT_SHARE) {
        wrong.push(format!("from {:.0} to {:.0} files over the processes", files(first), files(last)));
    }
}

fn mib(kib: f64) -> f64 {
    kib / 1024.0
}

/// What the gateway itself has counted, up to each hand-over.
fn reasons(record: &mut Record, seen: &Seen) {
    record.say("\nWhat the processes counted until they handed over, by app and reason:\n");
    record.say("| app and reason | requests |\n| --- | --- |");
    for (name, count) in seen.generations.reasons() {
        record.say(&format!("| {name} | {count} |"));
        record.line("counted", json!({"what": name, "count": count}));
    }
}
