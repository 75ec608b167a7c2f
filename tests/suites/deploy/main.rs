//! `sluice deploy` and what it speaks to, on the process runtime: real processes behind a real gateway.

mod api;
mod attacks;
mod crashes;
mod docker;
mod failures;
mod health;
mod left;
mod operations;
mod readme;
mod resources;
mod rolling;
mod secrets;
mod stage;
mod tour;
mod two_apis;
