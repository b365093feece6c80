//! APIs over HTTP that the operator has named: where each of them is, what plugins may ask it, and the credentials that the host adds.
//! It is all in one file (`--http-endpoints`); nothing in here knows whose API it is.

mod address;
mod azure;
mod client;
mod credentials;
mod file;
mod judge;
mod keystone;
mod oauth;
mod outside;
mod pattern;
mod request;
mod sigv4;
mod written;
mod written_keystone;

pub use client::EndpointClient;
pub use file::{Endpoints, EndpointsError};
pub use request::EndpointRequest;

#[cfg(test)]
mod tests;
