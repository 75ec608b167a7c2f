//! What was asked of an app through the API: so that asking again is known for what it is, and that it can be waited for.

use aws_lc_rs::digest::{Context, SHA256};
use discovery::registry::Key;
use serde::{Deserialize, Serialize};

use super::{Millis, Unreadable, stored};

/// Of one app: some ten kilobytes, and more than anybody asks of an app in an hour.
const MAX_KEPT: usize = 64;
/// A client that does not know whether it was heard asks again within minutes; people look the next day.
const KEPT_FOR: Millis = 86_400_000;

/// The last that was asked of an app, oldest first. Written in the same transaction as what was asked for: either both are there
/// or neither is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Operations {
    pub list: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Sixteen hexadecimal digits, of no other operation of the app.
    pub id: String,
    pub kind: OperationKind,
    pub at: Millis,
    /// Who asked.
    pub by: String,
    /// Where the client named a key, so that it may ask again.
    pub repeat: Option<Repeat>,
    /// [`fingerprint`] of what is wanted of the app since then; `None`: nothing.
    pub wanted: Option<String>,
    /// `None`: it is not over.
    pub outcome: Option<Outcome>,
}

/// How a request is known again. Neither tells what was sent: the first is a hash of the client's key and name, the second of
/// that key and the request, which may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    pub key: String,
    pub request: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    Deploy,
    Remove,
    Scale,
    Configure,
    Pause,
    Resume,
    Promote,
    Undo,
    Retry,
}

impl OperationKind {
    pub const ALL: [Self; 9] = [
        Self::Deploy,
        Self::Remove,
        Self::Scale,
        Self::Configure,
        Self::Pause,
        Self::Resume,
        Self::Promote,
        Self::Undo,
        Self::Retry,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Remove => "remove",
            Self::Scale => "scale",
            Self::Configure => "configure",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Undo => "undo",
            Self::Retry => "retry",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub result: OperationResult,
    /// Why, where it is not what was asked for.
    pub reason: Option<String>,
    pub at: Millis,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// It became what was asked for.
    Done,
    /// It was given up.
    Failed,
    /// Somebody has asked for something else before it was either.
    Overtaken,
}

impl OperationResult {
    pub const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Overtaken];

    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Overtaken => "overtaken",
        }
    }
}

impl Operations {
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(key: &Key, value: &[u8]) -> Result<Self, Unreadable> {
        stored::read(key, value)
    }

    pub fn to_value(&self) -> bytes::Bytes {
        stored::write(self)
    }

    pub fn find(&self, id: &str) -> Option<&Operation> {
        self.list.iter().find(|operation| operation.id == id)
    }

    /// What was asked for with the same key, where that is known still.
    pub fn repeated(&self, repeat: &Repeat, now: Millis) -> Option<&Operation> {
        let same = |operation: &&Operation| operation.repeat.as_ref().is_some_and(|it| it.key == repeat.key);
        self.list.iter().rev().filter(|operation| !operation.is_old(now)).find(same)
    }

    /// Adds one, and forgets those that are old or too many.
    pub fn push(&mut self, operation: Operation) {
        let now = operation.at;
        self.list.retain(|operation| !operation.is_old(now));
        let over = (self.list.len() + 1).saturating_sub(MAX_KEPT);
        self.list.drain(..over);
        self.list.push(operation);
    }

    /// Those that are not over.
    pub fn pending(&self) -> impl Iterator<Item = &Operation> {
        self.list.iter().filter(|operation| operation.outcome.is_none())
    }

    /// Whether nothing of it is to be known any more.
    pub fn is_old(&self, now: Millis) -> bool {
        self.list.iter().all(|operation| operation.is_old(now))
    }
}

impl Operation {
    fn is_old(&self, now: Millis) -> bool {
        now.saturating_sub(self.at) >= KEPT_FOR
    }
}

/// SHA-256 of these pieces, which cannot be mistaken for others that read the same in a row.
pub fn fingerprint(pieces: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_be_bytes());
        context.update(piece);
    }
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: &str, at: Millis, key: &str) -> Operation {
        let repeat = Repeat { key: key.to_owned(), request: "r".to_owned() };
        Operation {
            id: id.to_owned(),
            kind: OperationKind::Scale,
            at,
            by: "ada".to_owned(),
            repeat: Some(repeat),
            wanted: None,
            outcome: None,
        }
    }

    #[test]
    fn no_more_are_kept_than_a_day_and_their_number_allow() {
        let mut all = Operations::default();
        for at in 0..100 {
            all.push(operation(&at.to_string(), at, "k"));
        }
        assert_eq!((all.list.len(), &*all.list[0].id), (MAX_KEPT, "36"));
        all.push(operation("next", 60 + KEPT_FOR, "other"));
        assert_eq!((all.list.len(), &*all.list[0].id), (40, "61"));
        let key = |key: &str| Repeat { key: key.to_owned(), request: String::new() };
        assert_eq!(all.repeated(&key("k"), 61).map(|found| &*found.id), Some("99"), "the last of them");
        assert_eq!(all.repeated(&key("k"), 99 + KEPT_FOR), None);
        assert!(all.repeated(&key("other"), 99 + KEPT_FOR).is_some());
        assert!(!all.is_old(99 + KEPT_FOR) && all.is_old(60 + 2 * KEPT_FOR));
        let text = all.to_value();
        assert_eq!(Operations::parse(&Key::parse("operation/shop").unwrap(), &text).unwrap(), all);
    }

    #[test]
    fn pieces_are_told_apart() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab"]).len(), 32);
    }
}
