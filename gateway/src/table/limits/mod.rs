//! How much of what is limited is in use: counts that all workers share, since a limit holds for the whole
//! gateway.
//!
//! They exist where a limit is set, requests under way also where an app balances by them, and nowhere else. A count is one atomic that a request changes twice;
//! that is what exactness costs. Shares per worker would cost nothing and be wrong whenever the kernel
//! gives one worker more connections than another.

mod gate;
mod meter;
mod tenants;

pub use gate::{Gate, Load};
pub use meter::{Meter, Want};
pub use tenants::{Tenant, TenantLimits, Tenants};
