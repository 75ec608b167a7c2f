//! What sets some of an app's requests apart from the others, and what becomes of those.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{PathMatch, Split, VersionId};

/// One `[[match]]` of an app. The first one whose conditions all hold takes the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMatch {
    /// Unlike those of the app's other ones: it is a log field and a metric label.
    pub name: Arc<str>,
    /// Never empty; all of them must hold. Ordered by what they cost to look at.
    pub conditions: Vec<Condition>,
    pub effect: MatchEffect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// One of these, as they are spelled: methods are case-sensitive (RFC 9110 section 9.1).
    Method(Vec<Arc<str>>),
    /// Below one of these.
    Path(Vec<PathMatch>),
    /// The client's address is in one of these.
    Client(Vec<IpNet>),
    /// A field; its name in lower case.
    Header(Named),
    Cookie(Named),
    /// A parameter of the query, name and value without percent-encoding.
    Query(Named),
    User(UserCondition),
}

/// Something that a request may have under a name, several times too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: Arc<str>,
    pub value: ValueMatch,
}

/// Of several values under one name, one that fits is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    Equals(Arc<str>),
    Prefix(Arc<str>),
    Present,
    Absent,
}

/// Which users, told by an id that the request has once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCondition {
    pub id: UserId,
    pub group: UserGroup,
}

/// Where a request says who its user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserId {
    /// A field; its name in lower case.
    Header(Arc<str>),
    Cookie(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserGroup {
    /// Ids that are decimal numbers, from the first to the last.
    Range(u64, u64),
    /// This share of all ids, 1 to 100: the same ids on every gateway and for every value that is as large
    /// or larger.
    Percent(u8),
}

/// What becomes of a request that a match takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatchEffect {
    /// What becomes of the requests that no match takes.
    Default,
    /// It goes to this version. `strict`: and to no other one, even while this one has nothing healthy.
    Version { version: VersionId, strict: bool },
    /// It goes where this split says. `strict`: and to no other version.
    Split { split: Split, strict: bool },
    /// It goes nowhere.
    Refuse,
}

/// As `[[match]]` has it.
impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(names) => list(formatter, "method", names.iter()),
            Self::Path(paths) => list(formatter, "path", paths.iter()),
            Self::Client(networks) => list(formatter, "client", networks.iter()),
            Self::Header(named) => write!(formatter, "header = {named}"),
            Self::Cookie(named) => write!(formatter, "cookie = {named}"),
            Self::Query(named) => write!(formatter, "query = {named}"),
            Self::User(UserCondition { id, group }) => {
                match id {
                    UserId::Header(name) => write!(formatter, "user = {{ header = {}, ", Quoted(name))?,
                    UserId::Cookie(name) => write!(formatter, "user = {{ cookie = {}, ", Quoted(name))?,
                }
                match group {
                    UserGroup::Range(first, last) => write!(formatter, "range = [{first}, {last}] }}"),
                    UserGroup::Percent(percent) => write!(formatter, "percent = {percent} }}"),
                }
            }
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{{ name = {}, ", Quoted(&self.name))?;
        match &self.value {
            ValueMatch::Equals(text) => write!(formatter, "equals = {} }}", Quoted(text)),
            ValueMatch::Prefix(text) => write!(formatter, "prefix = {} }}", Quoted(text)),
            ValueMatch::Present => formatter.write_str("present = true }"),
            ValueMatch::Absent => formatter.write_str("present = false }"),
        }
    }
}

/// As `[[match]]` has it, on one line; empty for the default.
impl fmt::Display for MatchEffect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strict = match self {
            Self::Default => return Ok(()),
            Self::Refuse => return formatter.write_str("refuse = true"),
            Self::Version { version, strict } => {
                write!(formatter, "version = {}", Quoted(version.as_str()))?;
                strict
            }
            Self::Split { split, strict } => {
                let share =
                    |(version, share): &(VersionId, u16)| format!("{} = {share}", Quoted(version.as_str()));
                let shares: Vec<_> = split.shares().iter().map(share).collect();
                write!(formatter, "split = {{ {} }}", shares.join(", "))?;
                strict
            }
        };
        formatter.write_str(if *strict { ", strict = true" } else { "" })
    }
}

fn list<T: fmt::Display>(
    formatter: &mut fmt::Formatter<'_>,
    key: &str,
    items: impl Iterator<Item = T>,
) -> fmt::Result {
    let items: Vec<_> = items.map(|item| Quoted(&item.to_string()).to_string()).collect();
    write!(formatter, "{key} = [{}]", items.join(", "))
}

/// A string as TOML and JSON both write it.
struct Quoted<'t>(&'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(formatter, "\\{letter}")?,
                '\0'..='\x1f' | '\x7f' => write!(formatter, "\\u{:04x}", u32::from(letter))?,
                _ => write!(formatter, "{letter}")?,
            }
        }
        formatter.write_str("\"")
    }
}
