//! What is wrong with a document, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Mistakes kept per document. Who sees fifty mends the first before reading the last, and a document
/// of 1 MiB could hold 100,000.
pub const MAX_REPORTED: usize = 50;

/// One thing that must be written differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// A file's path or a registry key.
    pub source: Arc<str>,
    /// Counted from 1; `None` in JSON, and for what concerns the whole document.
    pub line: Option<u32>,
    /// Dotted, elements of lists counted from 0: `gateway.listener[1].protocol`. Empty for what concerns
    /// the whole document.
    pub key: String,
    /// What is wrong, and what to write.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        formatter.write_str(": ")?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

/// All that is wrong with one or more documents; displays one mistake per line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mistakes {
    list: Vec<Mistake>,
    /// Mistakes beyond [`MAX_REPORTED`] of a document.
    omitted: usize,
}

impl Mistakes {
    /// A single mistake that concerns the whole of `source`, or a line of it.
    pub fn one(source: &Arc<str>, line: Option<u32>, message: impl Into<String>) -> Self {
        let mistake =
            Mistake { source: Arc::clone(source), line, key: String::new(), message: message.into() };
        Self { list: vec![mistake], omitted: 0 }
    }

    /// In the order of their lines, document by document.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are, with those that [`Mistakes::iter`] leaves out.
    pub fn count(&self) -> usize {
        self.list.len() + self.omitted
    }

    /// Adds one more mistake, of whatever document.
    pub fn push(&mut self, mistake: Mistake) {
        self.list.push(mistake);
    }

    /// Adds the mistakes of another document behind those known.
    pub fn append(&mut self, other: Self) {
        self.list.extend(other.list);
        self.omitted += other.omitted;
    }

    /// `value`, when nothing is wrong.
    ///
    /// # Errors
    /// Itself, when something is.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.list.iter().enumerate() {
            let line_break = if at == 0 { "" } else { "\n" };
            write!(formatter, "{line_break}{mistake}")?;
        }
        if self.omitted > 0 {
            write!(formatter, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Collects the mistakes of one document while it is read.
pub(super) struct Log {
    source: Arc<str>,
    found: RefCell<Mistakes>,
}

impl Log {
    pub(super) fn new(source: Arc<str>) -> Self {
        Self { source, found: RefCell::default() }
    }

    pub(super) fn add(&self, line: Option<u32>, key: String, message: String) {
        if self.is_full() {
            self.count_one();
        } else {
            let mistake = Mistake { source: Arc::clone(&self.source), line, key, message };
            self.found.borrow_mut().list.push(mistake);
        }
    }

    /// Whether a further mistake would only be counted, so that its message is not worth making.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().list.len() >= MAX_REPORTED
    }

    pub(super) fn count_one(&self) {
        self.found.borrow_mut().omitted += 1;
    }

    pub(super) fn into_mistakes(self) -> Mistakes {
        let mut found = self.found.into_inner();
        found.list.sort_by_key(|mistake| mistake.line);
        found
    }

    pub(super) fn conclude<T>(self, read: Option<T>) -> Result<T, Mistakes> {
        let source = Arc::clone(&self.source);
        match (self.into_mistakes(), read) {
            (mistakes, Some(value)) => mistakes.or(value),
            (mistakes, None) if mistakes.is_empty() => Err(Mistakes::one(&source, None, "cannot be used")),
            (mistakes, None) => Err(mistakes),
        }
    }
}
