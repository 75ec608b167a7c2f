use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// A watch over `apps/*.toml` in a folder of its own.
struct Watched {
    top: tempfile::TempDir,
    source: FileSource,
    states: watch::Receiver<FileState>,
}

async fn watch_apps(prepare: impl FnOnce(&Path)) -> Watched {
    let top = tempfile::tempdir().unwrap();
    prepare(top.path());
    let pattern = FilePattern::parse(top.path(), "apps/*.toml").unwrap();
    let source = FileSource::start(vec![pattern]).await.unwrap();
    let states = source.watch();
    Watched { top, source, states }
}

fn with_folder(top: &Path) {
    fs::create_dir(top.join("apps")).unwrap();
}

impl Watched {
    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join("apps").join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn save(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn until(&mut self, wanted: impl FnMut(&FileState) -> bool) -> FileState {
        // Below the rescan interval, so that what passes was noticed.
        let found = tokio::time::timeout(Duration::from_secs(20), self.states.wait_for(wanted));
        found.await.expect("in time").unwrap().clone()
    }

    async fn until_apps(&mut self, ids: &[&str]) -> FileState {
        self.until(|state| names(state) == ids).await
    }
}

fn names(state: &FileState) -> Vec<&str> {
    state.apps.keys().map(|id| id.as_str()).collect()
}

fn host(state: &FileState, app: &str) -> String {
    state.apps.get(app).unwrap().app.spec.hosts[0].to_string()
}

fn app(id: &str, host: &str) -> String {
    format!("id = \"{id}\"\nhosts = [\"{host}\"]\n")
}

#[tokio::test]
async fn the_first_state_is_complete_when_start_returns() {
    let watched = watch_apps(|top| {
        with_folder(top);
        for n in 0..50 {
            fs::write(top.join(format!("apps/{n}.toml")), app(&format!("a{n}"), "a.de")).unwrap();
        }
        fs::write(top.join("apps/.hidden.toml"), app("hidden", "a.de")).unwrap();
        fs::write(top.join("apps/notes.txt"), "no app").unwrap();
        fs::create_dir(top.join("apps/folder.toml")).unwrap();
    });
    let watched = watched.await;
    let state = watched.states.borrow().clone();
    assert_eq!((state.apps.len(), state.rejections.len()), (50, 0));
}

#[tokio::test]
async fn saves_renames_and_deletions_are_followed() {
    let mut watched = watch_apps(with_folder).await;
    watched.save("a.toml", &app("a", "one.de"));
    watched.until_apps(&["a"]).await;
    watched.save(".staged", &app("a", "two.de"));
    fs::rename(watched.path(".staged"), watched.path("a.toml")).unwrap();
    watched.until(|state| host(state, "a") == "two.de").await;
    fs::rename(watched.path("a.toml"), watched.path("b.toml")).unwrap();
    let moved = watched.shown("b.toml");
    watched.until(|state| state.apps.get("a").is_some_and(|found| *found.path == *moved)).await;
    fs::remove_file(watched.path("b.toml")).unwrap();
    let state = watched.until_apps(&[]).await;
    assert!(state.rejections.is_empty());
}

#[tokio::test]
async fn a_broken_save_keeps_the_last_good_app() {
    let mut watched = watch_apps(with_folder).await;
    watched.save("a.toml", &app("a", "one.de"));
    watched.until_apps(&["a"]).await;
    watched.save("a.toml", "id = \"a\"\nhosts = 3");
    let state = watched.until(|state| !state.rejections.is_empty()).await;
    assert_eq!(host(&state, "a"), "one.de");
    let (path, rejection) = state.rejections.get_min().unwrap();
    assert_eq!(**path, watched.shown("a.toml"));
    assert_eq!(rejection.app.as_ref().unwrap().as_str(), "a");
    assert_eq!(*rejection.reason, format!("{path}:2: hosts: must be a list of strings, not the integer 3"));
    watched.save("a.toml", &app("a", "two.de"));
    let state = watched.until(|state| state.rejections.is_empty()).await;
    assert_eq!(host(&state, "a"), "two.de");
    watched.save("a.toml", "\u{0}");
    watched.until(|state| !state.rejections.is_empty()).await;
    fs::remove_file(watched.path("a.toml")).unwrap();
    watched.until(|state| state.apps.is_empty() && state.rejections.is_empty()).await;
}

#[tokio::test]
async fn what_is_no_text_is_rejected() {
    let mut watched = watch_apps(with_folder).await;
    fs::write(watched.path("a.toml"), b"id = \"\xff\"").unwrap();
    fs::write(watched.path("b.toml"), vec![b'#'; crate::document::MAX_FILE_BYTES + 1]).unwrap();
    let state = watched.until(|state| state.rejections.len() == 2).await;
    let reasons: Vec<_> = state.rejections.values().map(|rejection| rejection.reason.to_string()).collect();
    assert!(reasons[0].contains("a.toml: is no UTF-8: invalid utf-8 sequence"), "{reasons:?}");
    assert!(reasons[1].contains("b.toml: is larger than the limit of 1048576 bytes"), "{reasons:?}");
}

#[tokio::test]
async fn of_two_files_with_one_app_the_first_path_holds_it() {
    let mut watched = watch_apps(with_folder).await;
    watched.save("b.toml", &app("x", "b.de"));
    watched.until_apps(&["x"]).await;
    watched.save("c.toml", &app("x", "c.de"));
    watched.until(|state| state.rejections.len() == 1).await;
    watched.save("a.toml", &app("x", "a.de"));
    let state = watched.until(|state| state.rejections.len() == 2).await;
    assert_eq!(host(&state, "x"), "a.de");
    let (a, b) = (watched.shown("a.toml"), watched.shown("b.toml"));
    let reason = state.rejections.get(b.as_str()).unwrap().reason.to_string();
    assert_eq!(reason, format!("{b}: id: app \"x\" is in {a} already; keep one of the two"));
    fs::remove_file(watched.path("a.toml")).unwrap();
    let state = watched.until(|state| state.rejections.len() == 1).await;
    assert_eq!(host(&state, "x"), "b.de");
    watched.save("b.toml", &app("y", "b.de"));
    let state = watched.until_apps(&["x", "y"]).await;
    assert_eq!((host(&state, "x").as_str(), state.rejections.len()), ("c.de", 0));
}

#[tokio::test]
async fn an_editor_that_moves_the_old_file_away_interrupts_nothing() {
    let mut watched = watch_apps(with_folder).await;
    watched.save("a.toml", &app("a", "one.de"));
    watched.until_apps(&["a"]).await;
    let mut seen = watched.source.watch();
    let watcher = tokio::spawn(async move {
        loop {
            seen.changed().await.unwrap();
            let state = seen.borrow_and_update().clone();
            assert_eq!(names(&state), ["a"], "the app was gone for a moment");
            if host(&state, "a") == "two.de" {
                return;
            }
        }
    });
    fs::rename(watched.path("a.toml"), watched.path("a.toml~")).unwrap();
    watched.save("a.toml", &app("a", "two.de"));
    tokio::time::timeout(Duration::from_secs(20), watcher).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_is_not_read_before_its_writer_closes_it() {
    use std::io::Write;
    let mut watched = watch_apps(with_folder).await;
    let mut file = fs::File::create(watched.path("a.toml")).unwrap();
    file.write_all(b"id = \"a\"\nhosts = [").unwrap();
    file.flush().unwrap();
    watched.save("b.toml", &app("b", "b.de"));
    let state = watched.until_apps(&["b"]).await;
    assert!(state.rejections.is_empty(), "the half was not read: {:?}", state.rejections);
    file.write_all(b"\"a.de\"]").unwrap();
    drop(file);
    watched.until_apps(&["a", "b"]).await;
}

#[tokio::test]
async fn links_to_finished_files_are_followed() {
    let mut watched = watch_apps(with_folder).await;
    let outside = watched.top.path().join("outside");
    fs::write(&outside, app("a", "a.de")).unwrap();
    fs::hard_link(&outside, watched.path("hard.toml")).unwrap();
    watched.until_apps(&["a"]).await;
    let other = watched.top.path().join("other");
    fs::write(&other, app("b", "b.de")).unwrap();
    std::os::unix::fs::symlink(&other, watched.path("soft.toml")).unwrap();
    watched.until_apps(&["a", "b"]).await;
}

#[tokio::test]
async fn a_folder_that_appears_later_is_picked_up() {
    let mut watched = watch_apps(|_| {}).await;
    assert!(watched.states.borrow().apps.is_empty());
    fs::create_dir(watched.top.path().join("apps")).unwrap();
    watched.save("a.toml", &app("a", "a.de"));
    watched.until_apps(&["a"]).await;
    watched.save("b.toml", &app("b", "b.de"));
    watched.until_apps(&["a", "b"]).await;
}

#[tokio::test]
async fn a_replaced_folder_is_followed_without_a_gap() {
    let mut watched = watch_apps(with_folder).await;
    watched.save("a.toml", &app("a", "one.de"));
    watched.until_apps(&["a"]).await;
    let top = watched.top.path().to_owned();
    fs::create_dir(top.join("new")).unwrap();
    fs::write(top.join("new/a.toml"), app("a", "two.de")).unwrap();
    fs::write(top.join("new/b.toml"), app("b", "two.de")).unwrap();
    fs::rename(top.join("apps"), top.join("old")).unwrap();
    fs::rename(top.join("new"), top.join("apps")).unwrap();
    let state = watched.until_apps(&["a", "b"]).await;
    assert_eq!(host(&state, "a"), "two.de");
    fs::write(top.join("old/c.toml"), app("c", "old.de")).unwrap();
    watched.save("d.toml", &app("d", "d.de"));
    watched.until_apps(&["a", "b", "d"]).await;
    fs::remove_dir_all(top.join("apps")).unwrap();
    watched.until_apps(&[]).await;
    fs::create_dir(top.join("apps")).unwrap();
    watched.save("e.toml", &app("e", "e.de"));
    watched.until_apps(&["e"]).await;
}

/// As Kubernetes mounts a ConfigMap: every file is a link through one link that is replaced.
#[tokio::test]
async fn one_moved_link_changes_all_files_behind_it() {
    use std::os::unix::fs::symlink;
    let mut watched = watch_apps(|top| {
        with_folder(top);
        let apps = top.join("apps");
        for (version, host) in [("..1", "one.de"), ("..2", "two.de")] {
            fs::create_dir(apps.join(version)).unwrap();
            fs::write(apps.join(version).join("a.toml"), app("a", host)).unwrap();
        }
        symlink("..1", apps.join("..data")).unwrap();
        symlink("..data/a.toml", apps.join("a.toml")).unwrap();
    })
    .await;
    assert_eq!(host(&watched.states.borrow().clone(), "a"), "one.de");
    symlink("..2", watched.path("..data_tmp")).unwrap();
    fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
    watched.until(|state| host(state, "a") == "two.de").await;
}

#[tokio::test]
async fn reloading_what_has_not_changed_publishes_nothing() {
    let mut watched = watch_apps(with_folder).await;
    watched.save("a.toml", &app("a", "a.de"));
    let before = watched.until_apps(&["a"]).await;
    watched.states.mark_unchanged();
    watched.source.reloader().reload();
    // Handled after the reload, since work is taken in order of its noticing.
    watched.save("b.toml", &app("b", "b.de"));
    let after = watched.until_apps(&["a", "b"]).await;
    assert!(Arc::ptr_eq(&before.apps.get("a").unwrap().app, &after.apps.get("a").unwrap().app));
}

#[tokio::test]
async fn stopping_waits_for_the_thread() {
    let watched = watch_apps(with_folder).await;
    let mut states = watched.states;
    tokio::time::timeout(Duration::from_secs(10), watched.source.stop()).await.unwrap();
    assert!(states.changed().await.is_err(), "nobody publishes any more");
}
