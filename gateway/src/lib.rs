//! How a request travels, and the composition root: the sluice binary.
