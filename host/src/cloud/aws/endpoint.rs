//! Where a service of a region is.

use crate::http::Url;

/// Partitions whose domain is not `amazonaws.com`, by how their regions begin. Of AWS's own list, `partitions.json` in botocore.
const DOMAINS: [(&str, &str); 5] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
];

/// The endpoint. Service and region are of `a-z`, `0-9`, `-`.
pub(super) fn of(service: &str, region: &str) -> Url {
    let found = DOMAINS.iter().find(|(begin, _)| region.starts_with(begin));
    let domain = found.map_or("amazonaws.com", |(_, domain)| domain);
    let host = format!("{service}.{region}.{domain}");
    Url { secure: true, host, port: 443, path: "/".to_owned() }
}
