//! Runs the micro benches and keeps their figures: criterion's own folder lies among build results.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context;
use benches::record::Record;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// For criterion: a filter, --quick, --sample-size 20 …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    criterion: Vec<String>,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    // Cargo's own flag comes after ours.
    let arguments: Vec<_> = settings.criterion.iter().filter(|argument| *argument != "--bench").collect();
    let mut record = Record::start("micro", &json!({"criterion": arguments}));
    let began = SystemTime::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(["bench", "--package", "benches", "--bench", "micro", "--"])
        .args(&arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    anyhow::ensure!(status.success(), "the micro benches ended with {status}");
    record.say("| bench | median | 95 % confidence |");
    record.say("| --- | --- | --- |");
    let mut figures = figures(&criterion_folder()?, began)?;
    figures.sort_by_key(|figure| figure["bench"].to_string());
    for figure in figures {
        let cell = |key: &str| time(figure[key].as_f64().unwrap_or(f64::NAN));
        let name = figure["bench"].as_str().unwrap_or_default();
        record.say(&format!(
            "| {name} | {} | {} to {} |",
            cell("median_ns"),
            cell("low_ns"),
            cell("high_ns")
        ));
        record.line("figure", figure);
    }
    record.finish()
}

/// `target/criterion`, from our own `target/release/deps/scenarios-{hash}`.
fn criterion_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("cargo keeps benches three folders deep")?;
    Ok(target.join("criterion"))
}

/// What criterion wrote below `folder` since `began`.
fn figures(folder: &Path, began: SystemTime) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let estimates = path.join("estimates.json");
        if path.ends_with("new") && estimates.is_file() {
            if fs::metadata(&estimates)?.modified()? >= began {
                found.push(figure(&path)?);
            }
        } else if path.is_dir() {
            found.extend(figures(&path, began)?);
        }
    }
    Ok(found)
}

fn figure(folder: &Path) -> anyhow::Result<Value> {
    let read = |name: &str| -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(folder.join(name))?)?)
    };
    let (bench, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let median = &estimates["median"];
    Ok(json!({
        "bench": bench["full_id"],
        "median_ns": median["point_estimate"],
        "low_ns": median["confidence_interval"]["lower_bound"],
        "high_ns": median["confidence_interval"]["upper_bound"],
        "throughput": bench["throughput"],
    }))
}

fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.1} ns"),
        ..1e6 => format!("{:.2} µs", nanos / 1e3),
        _ => format!("{:.2} ms", nanos / 1e6),
    }
}
