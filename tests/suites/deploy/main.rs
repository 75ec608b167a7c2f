//! `sluice deploy` and what it speaks to, on the process runtime: real processes behind a real gateway.

mod api;
mod crashes;
mod failures;
mod health;
mod operations;
mod rolling;
mod stage;
mod tour;
