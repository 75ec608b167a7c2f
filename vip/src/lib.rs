//! What a virtual IP needs to know of its gateway: whether it serves.
