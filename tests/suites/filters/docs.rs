//! What `sluice check` finds in files that filters name. The page's examples are checked with all others, in the
//! suite `operate`.

use tests::{Config, DEADLINE, finish, sluice};

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
