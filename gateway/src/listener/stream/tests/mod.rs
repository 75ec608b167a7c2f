//! Our stream against rustls as everybody uses it, in both roles and both versions.

mod both_roles;
mod cut;
mod ends;
mod peers;
mod pressure;
