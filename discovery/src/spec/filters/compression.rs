//! `filters.compression`.

use topology::filters::{Coding, Compression, CompressionLevel, MediaPattern};

use crate::document::{Table, pick};

/// Each once.
const MAX_CODINGS: usize = Coding::ALL.len();
/// More than anybody has kinds of text.
const MAX_TYPES: usize = 64;
/// A body above it is worth any coding.
const MAX_MIN_BYTES: u64 = 1 << 30;

pub(super) fn read_compression(filters: &Table<'_>) -> Option<Compression> {
    let table = filters.table("compression")?;
    let known = Coding::ALL.map(|coding| (coding.as_str(), coding));
    let codings = table.list("codings", MAX_CODINGS, |given| pick(given, &known));
    table.refuse_empty("codings", "write [\"zstd\", \"br\", \"gzip\"], or leave it out");
    if let Some(codings) = &codings
        && (1..codings.len()).any(|at| codings[..at].contains(&codings[at]))
    {
        table.mistake("codings", "names a coding twice; keep the first");
    }
    let types = table.list("types", MAX_TYPES, MediaPattern::parse);
    table.refuse_empty("types", "write [\"text/*\"], or leave it out for the usual ones");
    let min_bytes = table.integer("min_bytes", 0..=MAX_MIN_BYTES);
    let levels = [CompressionLevel::Fast, CompressionLevel::Balanced, CompressionLevel::Small];
    let level = table.choice("level", &levels.map(|level| (level.as_str(), level)));
    table.finish();
    Some(Compression {
        codings: codings.unwrap_or_else(|| Compression::DEFAULT_CODINGS.to_vec()),
        types: types.unwrap_or_else(default_types),
        min_bytes: min_bytes.unwrap_or(Compression::DEFAULT_MIN_BYTES),
        level: level.unwrap_or_default(),
    })
}

fn default_types() -> Vec<MediaPattern> {
    Compression::DEFAULT_TYPES.iter().filter_map(|text| MediaPattern::parse(text).ok()).collect()
}
