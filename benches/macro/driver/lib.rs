//! What the scenarios share: a load that never hides a wait, the machine that they ran on, and the
//! record that is kept of every run.
//!
//! It knows the gateway only as a client does. Nothing here is compared with a goal: scenarios print
//! figures, and people judge them.

pub mod clock;
pub mod distribution;
pub mod load;
pub mod machine;
pub mod record;
pub mod witness;
