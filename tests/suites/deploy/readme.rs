//! The README's tour of deploying, as it stands there: every command is run, and what it says is what the README has.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::{Config, Finished, Gateway, comes_true, finish, ports, sluice};

use crate::stage::{PATIENCE, Stage};

const HEADING: &str = "## Deploying an app\n";
/// Of the configuration that is shipped; a test has others.
const WEB: &str = "127.0.0.1:8080";
const DEPLOY: &str = "127.0.0.1:9900";
const ADMIN: &str = "127.0.0.1:9901";

/// A command, and what the README says that it prints.
struct Step {
    command: String,
    output: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn steps() -> Vec<Step> {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("it is there");
    let (_, section) = readme.split_once(HEADING).expect("it has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            None => steps.last_mut().expect("a block begins with a command").output.push(line.to_owned()),
        }
    }
    steps
}

/// What differs from run to run: names of instances, ports, processes, times.
fn masked(line: &str) -> String {
    let mask = |word: &str| {
        let bare = word.trim_end_matches([':', ',']);
        let is_id = bare.len() == 16 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_time = bare.len() >= 20 && bare.ends_with('Z') && bare.contains('T');
        let is_address = bare.starts_with("127.0.0.1:");
        let is_number = bare.len() >= 4 && bare.bytes().all(|byte| byte.is_ascii_digit());
        if is_id || is_time || is_address || is_number { "*".to_owned() } else { word.to_owned() }
    };
    let mut words: Vec<String> = line.split_whitespace().map(mask).collect();
    // Why an instance failed is what was seen first of its death.
    if words.len() > 2 && words[..2] == ["*", "*"] {
        words.truncate(2);
    }
    words.join(" ")
}

/// Whether a command said what is written. How far a rollout is while somebody waits depends on the machine: of these the
/// first line and the last count.
fn is_as_written(step: &Step, said: &Finished) -> bool {
    let said = said.text();
    let wanted: Vec<String> = step.output.iter().map(|line| masked(line)).collect();
    let found: Vec<String> = said.lines().map(masked).collect();
    let ends = |lines: &[String]| (lines.first().cloned(), lines.last().cloned());
    let sorted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    match step.command.contains("--wait") {
        true => ends(&wanted) == ends(&found),
        // Instances have names by lot, and stand in their order.
        false => sorted(&wanted) == sorted(&found),
    }
}

/// A copy of what the README names, so that what runs leaves nothing in the repository.
fn copied() -> TempDir {
    let place = TempDir::with_prefix("sluice-tour-").expect("a temporary folder can be made");
    let conf = place.path().join("conf");
    std::fs::create_dir(&conf).expect("the folder is ours");
    let copied = Command::new("cp").arg("-r").arg(repository().join("conf/tour")).arg(&conf).status();
    assert!(copied.is_ok_and(|status| status.success()), "conf/tour cannot be copied");
    place
}

#[test]
fn the_tour_of_deploying_goes_as_the_readme_says() {
    let shipped = std::fs::read_to_string(repository().join("conf/tour/sluice.toml")).expect("it is there");
    for address in [WEB, DEPLOY, ADMIN] {
        assert!(shipped.contains(address), "{address}");
    }
    let app = std::fs::read_to_string(repository().join("conf/tour/shop/sluice.toml")).expect("it is there");
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("it is there");
    assert!(readme.contains(&app), "the README shows another app than conf/tour has");
    let own = shipped.replace(":8080", ":0").replace(":9900", ":0").replace(":9901", ":0");
    let own = own.replace("[deploy]\n", &format!("[deploy]\nstate = \"instances\"\nports = {:?}\n", ports()));
    let stage = Stage::around(Gateway::start(&Config::verbatim(&own)));
    let place = copied();
    let program = sluice();
    let bin = Path::new(program.get_program()).parent().expect("a program is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let run = |step: &Step| {
        let command = step.command.replace(WEB, &stage.gateway.web().to_string());
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(place.path());
        shell.env("PATH", format!("{}:{path}", bin.display()));
        shell.env("SLUICE_DEPLOY", format!("http://{}", stage.gateway.deploy()));
        finish(&mut shell, "", PATIENCE)
    };
    let steps = steps();
    assert!(steps.len() >= 12, "{} commands were found", steps.len());
    for step in &steps {
        let mut said = run(step);
        let changes = ["deploy ", "scale ", "promote ", "undo ", "kill "];
        // Who reads this has asked the app more often than the test.
        let is_of_logs = step.command.contains("logs ");
        let only_asks = !changes.iter().any(|word| step.command.contains(word));
        // What is asked for shows itself in a moment.
        let is_right = is_as_written(step, &said)
            || only_asks
                && comes_true(PATIENCE, || {
                    if is_of_logs {
                        stage.gateway.get("shop.localhost", "/");
                    }
                    said = run(step);
                    is_as_written(step, &said)
                });
        assert!(
            is_right,
            "$ {}\nthe README has:\n{}\nit says:\n{}",
            step.command,
            step.output.join("\n"),
            said.text()
        );
    }
    for word in ["deploy ", "curl ", "promote ", "undo ", "scale ", "kill ", "logs "] {
        assert!(steps.iter().any(|step| step.command.contains(word)), "the tour lacks {word}");
    }
}
