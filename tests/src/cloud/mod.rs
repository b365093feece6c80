//! Clouds to test against: their APIs and metadata services, at their real addresses inside the lab.

pub mod gce;
pub mod alibaba;
pub mod python;
pub mod server;
