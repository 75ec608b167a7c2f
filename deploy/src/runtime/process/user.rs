//! Users and groups, by name or number.

use std::fs;

/// Files of this size describe tens of thousands of users; larger ones are somebody else's business.
const MAX_DATABASE_BYTES: u64 = 4 << 20;

/// `user`, `user:group`, each a name or a number. A user without a group has the one that the system
/// gives it, or, as a number that the system does not know, the group of the same number.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parse(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let known = find("/etc/passwd", user);
    let id = known.as_ref().and_then(|entry| entry.get(2)?.parse().ok()).or_else(|| user.parse().ok());
    let id: u32 = id.ok_or_else(|| format!("this machine has no user `{user}`"))?;
    let group = match group {
        None => known.and_then(|entry| entry.get(3)?.parse().ok()).unwrap_or(id),
        Some(group) => find("/etc/group", group)
            .and_then(|entry| entry.get(2)?.parse().ok())
            .or_else(|| group.parse().ok())
            .ok_or_else(|| format!("this machine has no group `{group}`"))?,
    };
    Ok((id, group))
}

/// The fields of an entry, by its name or its number.
fn find(database: &str, wanted: &str) -> Option<Vec<String>> {
    if fs::metadata(database).ok()?.len() > MAX_DATABASE_BYTES {
        return None;
    }
    let text = fs::read_to_string(database).ok()?;
    let mut entries = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    entries.find(|entry| {
        entry.first().is_some_and(|name| name == wanted) || entry.get(2).is_some_and(|id| id == wanted)
    })
}
