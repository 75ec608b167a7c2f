//! `filters.error_pages` and `filters.maintenance`.

use std::sync::Arc;
use std::time::Duration;

use topology::filters::{ErrorPages, Maintenance};

use super::network;
use crate::document::Table;

/// A heading.
const MAX_TITLE_BYTES: usize = 100;
/// A paragraph. Whole pages belong to the app.
const MAX_TEXT_BYTES: usize = 2_000;
const MAX_TEXTS: usize = 32;
/// As the app's own networks in a match.
const MAX_NETWORKS: usize = 64;
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longer ones are no maintenance.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn read_error_pages(filters: &Table<'_>) -> Option<ErrorPages> {
    let table = filters.table("error_pages")?;
    let title = table.parsed("title", |text| plain(text, MAX_TITLE_BYTES));
    let text = table.parsed("text", |text| plain(text, MAX_TEXT_BYTES));
    let texts = read_texts(&table);
    table.finish();
    Some(ErrorPages { title, text, texts })
}

fn read_texts(pages: &Table<'_>) -> Vec<(u16, Arc<str>)> {
    let Some(table) = pages.table("texts") else { return Vec::new() };
    if table.names().len() > MAX_TEXTS {
        pages.mistake("texts", format!("has {} texts; the limit is {MAX_TEXTS}", table.names().len()));
    }
    let mut texts = Vec::new();
    for name in table.names() {
        let text = table.parsed(name, |text| plain(text, MAX_TEXT_BYTES));
        match name.parse() {
            Ok(status @ 400..=599) => texts.extend(text.map(|text| (status, text))),
            _ => table.mistake(name, "is no status of an error; write one from 400 to 599, such as 503"),
        }
    }
    texts.sort();
    texts
}

pub(super) fn read_maintenance(filters: &Table<'_>) -> Option<Maintenance> {
    let table = filters.table("maintenance")?;
    let enabled = table.boolean("enabled").unwrap_or(true);
    let allow = table.list("allow", MAX_NETWORKS, network).unwrap_or_default();
    let retry_after = table.duration("retry_after", MIN_RETRY_AFTER..=MAX_RETRY_AFTER);
    let text = table.parsed("text", |text| plain(text, MAX_TEXT_BYTES));
    table.finish();
    let retry_after = retry_after.unwrap_or(Maintenance::DEFAULT_RETRY_AFTER);
    Some(Maintenance { enabled, allow, retry_after, text })
}

/// Text that people read; what has a meaning in HTML has none here.
fn plain(text: &str, most: usize) -> Result<Arc<str>, String> {
    if !(1..=most).contains(&text.len()) {
        return Err(format!("has {} bytes; write 1 to {most}", text.len()));
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err("has control characters; write plain text".to_owned());
    }
    Ok(text.into())
}
