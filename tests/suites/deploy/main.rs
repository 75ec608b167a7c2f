//! `sluice deploy` and what it speaks to, on the process runtime: real processes behind a real gateway.

mod crashes;
mod failures;
mod rolling;
mod stage;
mod tour;
