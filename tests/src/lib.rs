//! End-to-end: drives the built binary against real registries and clients.
