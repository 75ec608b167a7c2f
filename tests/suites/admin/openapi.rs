//! The description is what is served, and the server keeps to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::{Config, Gateway, finish};

use crate::api::Api;

/// Of each operation and phase. A thousand requests in all.
const EXAMPLES: &str = "25";
/// So that a failure can be had again.
const SEED: &str = "20261126";
/// For all of it, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where `scripts/install-test-deps` puts it.
fn schemathesis() -> PathBuf {
    let place = std::env::var_os("SLUICE_SCHEMATHESIS").map(PathBuf::from);
    place.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-deps/schemathesis/bin/schemathesis")
    })
}

#[test]
fn the_copy_in_the_docs_is_what_a_gateway_serves() {
    let gateway = Gateway::start(&Config::new());
    let copy =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json")).unwrap();
    assert_eq!(Api::of(&gateway).get("/v1/openapi.json").expect(200).text, copy);
}

#[test]
fn generated_requests_find_no_answer_that_is_not_described() {
    let program = schemathesis();
    assert!(program.is_file(), "no {}: run scripts/install-test-deps", program.display());
    let gateway = Gateway::start(&Config::new());
    let mut command = Command::new(program);
    command
        .current_dir(gateway.folder())
        .args(["run", &format!("http://{}/v1/openapi.json", gateway.admin())])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-shrink", "--workers", "1"])
        .args(["--request-timeout", "10", "--suppress-health-check", "all", "--warnings", "off"])
        // What an app's spec may say is more than its schema says: what is no spec is refused with 422.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--continue-on-failure"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let report = finish(&mut command, "", PATIENCE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    assert_eq!(gateway.admin_get("/ready").status, 200);
}
