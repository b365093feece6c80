//! Where a service of a region is: <https://docs.aws.amazon.com/general/latest/gr/rande.html>.

use crate::http::Url;

/// How regions outside of the usual partition begin, and what their names in the DNS end with: the partitions of botocore 1.44.8
/// (`data/partitions.json`).
const PARTITIONS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
];

/// The endpoint. Service and region are of `a-z`, `0-9`, `-`.
pub(super) fn of(service: &str, region: &str) -> Url {
    let partition = PARTITIONS.iter().find(|(begin, _)| region.starts_with(begin));
    let domain = partition.map_or("amazonaws.com", |(_, domain)| domain);
    let host = format!("{service}.{region}.{domain}");
    Url { secure: true, host, port: 443, path: "/".to_owned() }
}
