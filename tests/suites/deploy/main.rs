//! `sluice deploy` and what it speaks to, on the process runtime: real processes behind a real gateway.

mod attacks;
mod crashes;
mod docker;
mod failures;
mod left;
mod readme;
mod rolling;
mod stage;
mod tour;
mod two_apis;
