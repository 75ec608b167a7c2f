//! What the scenarios share: a load that never hides a wait, what load generators of others print, the
//! machine that they ran on, and the record that is kept of every run.
//!
//! It knows the gateway only as a client does. Nothing here judges: scenarios print figures, and beside
//! them the goals where there are some.

pub mod chaos;
pub mod clock;
pub mod cores;
pub mod distribution;
pub mod generator;
pub mod load;
pub mod machine;
pub mod record;
pub mod rounds;
pub mod soak;
pub mod usage;
pub mod witness;
