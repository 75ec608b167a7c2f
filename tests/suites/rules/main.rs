//! What design.md promises whatever happens, where no other suite does: docs/rules.md has the whole table.

#![expect(clippy::unwrap_used, reason = "every function here is a part of a test")]

mod clock;
mod cut;
mod health;
mod restarts;
mod store;
mod storms;
mod table;
mod went_back;
