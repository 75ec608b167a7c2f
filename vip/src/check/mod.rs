//! The model check: the machines that run in production, in a world that does to them what the real one can.
//!
//! `world.rs` is continuous time with chance: clocks that drift, networks that lose, delay, reorder and repeat, writes whose
//! outcome nobody learns, freezes in the middle of a turn, restarts. `faults.rs` makes a script of faults from a seed and
//! shortens one that fails. `exhaustive.rs` takes every order of few events in coarse time. `mutations.rs` removes one
//! condition at a time and demands that two holders are found.
//!
//! `VIP_CHECK_SEEDS=100000 cargo test -p vip --release check -- --ignored --nocapture` looks longer;
//! `VIP_CHECK_SEED=17` tells what happens in one run.

mod exhaustive;
mod faults;
mod mutations;
mod node;
mod random;
mod world;
