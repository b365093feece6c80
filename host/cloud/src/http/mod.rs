//! HTTP as far as registries and clouds need it: one request on one connection, over TLS or, where that is allowed, without; with
//! limits of time and size.

mod client;
mod error;
mod url;

pub use client::{Answer, CleartextPolicy, Http, Timeouts};
pub use error::HttpError;
pub use url::{Url, is_link_local, is_loopback};
