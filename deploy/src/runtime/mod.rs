//! What runs instances.

pub mod process;
