//! The page that operators copy from.

use tests::{Config, DEADLINE, finish, sluice};

const PAGE: &str = include_str!("../../../docs/filters.md");

/// The page's TOML examples.
fn examples() -> Vec<&'static str> {
    PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_example_of_the_page_is_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::create_dir(folder.path().join("apps")).expect("the folder is ours");
    let put =
        |path: &str, text: &str| std::fs::write(folder.path().join(path), text).expect("the folder is ours");
    let mut sections = String::new();
    let mut apps = 0;
    for example in examples() {
        if example.contains("[[gateway.") || example.contains("[gateway") {
            sections.push_str(example);
        } else {
            apps += 1;
            put(&format!("apps/app-{apps}.toml"), &format!("id = \"app-{apps}\"\n{example}"));
        }
    }
    assert!(apps >= 5 && !sections.is_empty(), "the page has examples");
    put("apps/blocked.txt", "203.0.113.0/24\n");
    put("apps/keys.txt", &format!("bob {}\n", "0".repeat(64)));
    put("apps/users.htpasswd", "bob:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n");
    put("sluice.toml", &format!("{}\n{sections}", Config::new().toml()));
    let config = folder.path().join("sluice.toml");
    let report = finish(sluice().args(["check", "--config"]).arg(config), "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
}

#[test]
fn a_file_that_is_missing_or_wrong_is_found_before_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::create_dir(folder.path().join("apps")).expect("the folder is ours");
    let put =
        |path: &str, text: &str| std::fs::write(folder.path().join(path), text).expect("the folder is ours");
    put("sluice.toml", &Config::new().toml());
    put(
        "apps/a.toml",
        "id = \"a\"\n[filters.addresses]\ndeny_file = \"list.txt\"\nallow_file = \"none.txt\"\n",
    );
    put("apps/list.txt", "10.0.0.0/8\n10.0.0.0/99\n");
    let config = folder.path().join("sluice.toml");
    let report = finish(sluice().args(["check", "--config"]).arg(config), "", DEADLINE);
    assert_eq!(report.code, Some(1));
    let text = report.text();
    assert!(text.contains("list.txt: line 2: \"10.0.0.0/99\" is no network"), "{text}");
    assert!(text.contains("none.txt: cannot be read"), "{text}");
}
