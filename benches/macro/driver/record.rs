//! What is kept of a run: raw values as JSON lines, and a page to read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::machine::{self, QUIET_CORES, Watch};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");

/// A run under way. Nothing is written before it ends, so a broken run leaves no file.
pub struct Record {
    scenario: String,
    began: jiff::Timestamp,
    watch: Watch,
    lines: Vec<Value>,
    page: String,
}

impl Record {
    /// `settings` are what a repetition needs to know.
    pub fn start(scenario: &str, settings: &Value) -> Self {
        let began = jiff::Timestamp::now();
        let line = json!({
            "kind": "run",
            "scenario": scenario,
            "began": began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "settings": settings,
            "machine": machine::describe(),
        });
        let page = String::new();
        Self { scenario: scenario.to_owned(), began, watch: Watch::start(), lines: vec![line], page }
    }

    /// A raw line. `kind` says what it is.
    pub fn line(&mut self, kind: &str, mut value: Value) {
        value["kind"] = kind.into();
        self.lines.push(value);
    }

    /// Says it to the person who waits, and on the page.
    pub fn say(&mut self, text: &str) {
        println!("{text}");
        self.page.push_str(text);
        self.page.push('\n');
    }

    /// Writes both files. All processes that the scenario started must have ended.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let others = self.watch.cores_of_others();
        self.line("end", json!({"cores_of_others": others, "quiet": others <= QUIET_CORES}));
        let quiet = if others <= QUIET_CORES { "quiet" } else { "NOT quiet: repeat before you judge" };
        self.say(&format!("\nOthers used {others:.2} cores meanwhile ({quiet})."));
        let name = format!("{}-{}", self.began.strftime("%Y-%m-%dT%H%M%SZ"), self.scenario);
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        keep(&name, "jsonl", &lines)?;
        let page = format!("{}\n{}", self.title(&name), self.page);
        let kept = keep(&name, "md", &page)?;
        println!("\nkept: {}", kept.display());
        Ok(())
    }

    fn title(&self, name: &str) -> String {
        let machine = &self.lines[0]["machine"];
        let text = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
        format!(
            "# {}, {}\n\nsluice {} (built {}), {}, {} cores ({}), kernel {}. Raw values: `{name}.jsonl`.\n",
            self.scenario,
            self.began.strftime("%Y-%m-%d %H:%M UTC"),
            text("checkout"),
            text("sluice_built"),
            self.others().unwrap_or_else(|| format!("ZooKeeper {}", text("zookeeper"))),
            machine["cores"],
            text("cpu"),
            text("kernel"),
        )
    }

    /// The `versions` among the settings; `None` where a scenario names none, since its others are a ZooKeeper.
    fn others(&self) -> Option<String> {
        let versions = self.lines[0]["settings"]["versions"].as_object()?;
        let words =
            versions.iter().map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")));
        Some(words.collect::<Vec<_>>().join(", "))
    }
}

fn keep(name: &str, extension: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(RESULTS).join(format!("{name}.{extension}"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
