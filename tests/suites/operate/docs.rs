//! The pages that operators copy from.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::{DEADLINE, finish, sluice};

/// What examples need beside them.
const REGISTRY: &str =
    "[registry]\nkind = \"embedded\"\npath = \"registry\"\n[apps]\nfiles = [\"apps/*.toml\"]\n";
const LISTENER: &str =
    "[[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n";
/// As `tsig-keygen` prints it.
const TSIG_KEY: &str =
    "key \"transfer\" { algorithm hmac-sha256; secret \"rU5S0HgqPq8C0ry6Sx3zcV5Hx9bEbN7o6s7c4d3f2g0=\"; };\n";
const FILES: [(&str, &str); 7] = [
    ("transfer.key", TSIG_KEY),
    ("update.key", TSIG_KEY),
    ("sticky.key", "now BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"),
    ("peer.key", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934c\n"),
    ("apps/blocked.txt", "203.0.113.0/24\n"),
    ("apps/keys.txt", "bob 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n"),
    ("apps/users.htpasswd", "bob:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"),
];

/// Every page of docs/, and the TOML examples in it.
fn pages() -> Vec<(String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let entries = std::fs::read_dir(folder).expect("the pages are there");
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().expect("it is a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("the page can be read");
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        (name, blocks.map(str::to_owned).collect())
    };
    pages.map(read).collect()
}

fn has_line(text: &str, start: &str) -> bool {
    text.lines().any(|line| line.starts_with(start))
}

/// `sluice.toml` and an app's file: `example` is in one of them.
fn place(example: &str) -> (String, String) {
    let is_gateways = ["[gateway", "[[gateway.", "[admin", "[deploy", "[vip", "[dns"]
        .iter()
        .any(|start| has_line(example, start));
    let app = match (is_gateways, has_line(example, "id = ")) {
        (true, _) => String::new(),
        (false, true) => example.to_owned(),
        (false, false) => format!("id = \"example\"\n{example}"),
    };
    let own = if is_gateways { example } else { "" };
    let listener = if has_line(own, "[[gateway.listener]]") { "" } else { LISTENER };
    (format!("{REGISTRY}{own}\n{listener}"), app)
}

#[test]
fn every_example_of_every_page_is_accepted() {
    let mut count = 0;
    for (page, examples) in pages() {
        // Those of registries name files of their own; the suite's `check` has them.
        // What `sluice deploy` reads, the crate `deploy` has.
        let is_ours = |example: &String| !has_line(example, "[registry]") && !has_line(example, "[versions.");
        for example in examples.into_iter().filter(is_ours) {
            count += 1;
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            std::fs::create_dir(folder.path().join("apps")).expect("the folder is ours");
            let put = |path: &str, text: &str| {
                let path = folder.path().join(path);
                std::fs::write(&path, text).expect("the folder is ours");
                let owners = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(&path, owners).expect("the file is ours");
            };
            let (config, app) = place(&example);
            put("sluice.toml", &config);
            FILES.iter().for_each(|(path, text)| put(path, text));
            if !app.is_empty() {
                put("apps/example.toml", &app);
            }
            let config = folder.path().join("sluice.toml");
            let report = finish(sluice().args(["check", "--config"]).arg(config), "", DEADLINE);
            assert_eq!(report.code, Some(0), "{page}:\n{example}\n{}", report.text());
        }
    }
    assert!(count >= 25, "{count} examples were found");
}
