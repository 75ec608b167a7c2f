//! The tree that every format becomes.

use std::fmt;

/// Deeper than any shape that we read, and shallow enough for every walk over the tree to recurse.
pub(super) const MAX_DEPTH: usize = 32;

pub(super) const TOO_DEEP: &str = "is nested too deeply";

/// A value and the line that it starts on, where the format tells.
#[derive(Debug)]
pub(super) struct Node {
    pub line: Option<u32>,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    /// Not whole, or beyond [`Value::Integer`].
    Number(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Vec<Field>),
    /// What nobody asks for, such as a date: described for the mistake that it will be.
    Other(String),
}

/// A named value; a table's names are distinct.
#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub line: Option<u32>,
    pub node: Node,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "the string {}", quote(text)),
            Self::Integer(number) => write!(formatter, "the integer {number}"),
            Self::Number(number) => write!(formatter, "the number {number}"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::List(_) => formatter.write_str("a list"),
            Self::Table(_) => formatter.write_str("a table"),
            Self::Other(description) => formatter.write_str(description),
        }
    }
}

/// Longer excerpts would bury the message, and somebody else wrote them.
const MAX_SHOWN_CHARS: usize = 80;

/// `text` in quotes with control characters escaped, cut after [`MAX_SHOWN_CHARS`].
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
