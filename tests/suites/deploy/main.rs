//! `sluice deploy` and what it speaks to, on the process runtime: real processes behind a real gateway.

mod api;
mod crashes;
mod failures;
mod health;
mod operations;
mod resources;
mod rolling;
mod secrets;
mod stage;
mod tour;
