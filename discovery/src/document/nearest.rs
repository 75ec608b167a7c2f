//! What a misspelt word was meant to be.

/// Longer words are no misspelling of ours, and the comparison is quadratic.
const MAX_WORD_BYTES: usize = 64;

/// The word of `known` that `given` was probably meant to be: at most one edit in three letters away.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if given.len() > MAX_WORD_BYTES {
        return None;
    }
    let given = given.to_lowercase();
    let distance = |word: &str| strsim::osa_distance(&given, word);
    let close = |word: &str| distance(word) <= (word.len().max(given.len()) / 3).max(1);
    known.into_iter().filter(|word| close(word)).min_by_key(|word| distance(word))
}

/// The tail of a message: `; did you mean "…"?`, or nothing.
pub(super) fn suggestion<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(given, known).map_or_else(String::new, |word| format!("; did you mean {word:?}?"))
}
