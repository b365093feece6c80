//! How the daemon tells about itself: to probes and Prometheus ([`health`], [`metrics`]), to the operator ([`status`], over
//! the [`control`] socket) and to systemd ([`systemd`]).
//!
//! Nothing in here knows the daemon's other crates, and nothing in here can hold them up: every answer has a time limit, and clients
//! that are slow or many are cut off.

#![warn(unreachable_pub)]

mod attendance;
mod connections;
pub mod control;
mod display;
mod error;
mod fdstore;
pub mod health;
mod kubernetes;
pub mod metrics;
mod policy;
mod probe;
mod process;
pub mod status;
pub mod systemd;
mod tunnel;

pub use error::ObserveError;
pub use fdstore::FdStore;
pub use health::{HealthServer, Lack, Readiness, Step};
pub use metrics::{CallOutcome, CloudOutcome, Metrics};
pub use status::Status;
pub use systemd::Systemd;
