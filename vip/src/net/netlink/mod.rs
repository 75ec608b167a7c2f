//! Netlink: requests to the kernel and its answers, for routes and for netfilter alike.
//!
//! The fence needs nf_tables, which no kept crate of a usable licence encodes without C libraries; the few
//! messages that addresses and links take are then not worth a second stack. See docs/decisions/0027.
//!
//! The kernel handles a request within `send`, so its answer is there when `send` returns. Nothing here waits
//! for long, and nothing needs a runtime: the guard has none to spare.

mod message;
mod socket;

pub(super) use message::{Attributes, Message, Requests, be64, ne32, text};
pub(super) use socket::{Rejection, Socket};
