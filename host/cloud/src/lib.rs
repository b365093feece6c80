//! The API of the cloud that the node runs in: finds the endpoint, adds credentials, signs, sends and repeats; and asks the metadata
//! service what this machine is. Everything secret stays in this crate: it comes out of neither answers nor errors.
//!
//! What clouds have in common is here; a folder for each has what is its own, behind [`Vendor`]. Other APIs over HTTP, of which nothing is
//! known here but what the operator says, are in `endpoints/`.

#![warn(unreachable_pub)]

mod access_key;
mod access_token;
mod alibaba;
mod aws;
mod client;
mod endpoints;
mod exchange;
mod given;
mod google;
pub mod http;
mod imds;
mod json;
mod names;
mod nested;
mod options;
mod reach;
mod redact;
mod request;
mod tencent;
mod vendor;

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

pub use client::Client;
pub use endpoints::{EndpointClient, EndpointRequest, Endpoints, EndpointsError};
pub use names::{is_parameter, is_reserved};
pub use options::{CloudOptions, Endpoint, EndpointError, Variables};
pub use reach::{Reach, Target, routes_in};
pub use request::{Answer, Failure, Instance, Method, NetworkInterface, Operation, Provider, Request};
pub use vendor::{Prepared, ResponseClass, Vendor};

/// All clouds that there are.
fn vendors(options: &CloudOptions) -> BTreeMap<Provider, Arc<dyn Vendor>> {
    let mut all: BTreeMap<Provider, Arc<dyn Vendor>> = BTreeMap::new();
    all.insert(Provider::Aws, Arc::new(aws::Aws::new(options.clone())));
    all.insert(Provider::Google, Arc::new(google::Google::new(options.clone())));
    all.insert(Provider::Alibaba, Arc::new(alibaba::Alibaba::new(options.clone())));
    all.insert(Provider::Tencent, Arc::new(tencent::Tencent::new(options.clone())));
    all
}

/// Whether a text is a service's or a region's name: it becomes part of a host's name.
pub fn is_label(text: &str) -> bool {
    let proper = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(proper)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A text that nobody gets to see.
pub type Secret = flannel_base::Secret<String>;

/// Percent-encoded (RFC 3986, 2.1): all but its unreserved characters (2.3), as all signatures want it.
pub fn percent(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, ENCODED).to_string()
}

/// What a percent-encoded text says; none: it is not well encoded.
pub fn unpercent(text: &str) -> Option<String> {
    let is_coded = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    text.split('%').skip(1).all(is_coded).then(|| decoded.into_owned())
}
