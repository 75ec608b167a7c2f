//! The file with a registry's last good entries.

use discovery::saved::{SavedError, read, write};

/// What is read is read again as it was written.
///
/// # Panics
/// Where that does not hold.
pub fn saved(input: &[u8]) {
    let saved = match read(&mut &*input, "r") {
        Ok(saved) => saved,
        Err(SavedError::Malformed { why, .. }) => return assert!(why.len() < 2_000, "{why}"),
        Err(_) => return,
    };
    let mut first = Vec::new();
    write(&mut first, "r", saved.revision, &saved.entries).expect("memory takes everything");
    let again = read(&mut &*first, "r").expect("what we write can be read");
    assert_eq!(again.revision, saved.revision);
    for (key, entry) in &again.entries {
        assert_eq!(saved.entries.get(key), Some(entry), "{key}");
    }
    let mut second = Vec::new();
    write(&mut second, "r", again.revision, &again.entries).expect("memory takes everything");
    assert_eq!(first, second);
}
