//! How instances are started and registered.
