//! APIs over HTTP that the operator has named: where each of them is, what plugins may ask it, and the credentials that the host adds.
//! It is all in one file (`--http-endpoints`); nothing in here knows whose API it is.

mod client;
mod credentials;
mod file;
mod judge;
mod oauth;
mod pattern;
mod request;

pub use client::EndpointClient;
pub use file::{Endpoints, EndpointsError};
pub use request::EndpointRequest;

#[cfg(test)]
mod tests;
