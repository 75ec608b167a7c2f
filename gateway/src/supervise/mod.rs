//! The service manager that started us, where there is one: what it passes to a process, and what it wants
//! to hear from it. The protocols are systemd's (sd_notify(3), sd_listen_fds(3)); none of it is needed to run.

pub mod activation;
mod notify;
mod watchdog;

pub use notify::ServiceManager;
pub use watchdog::watch_workers;
