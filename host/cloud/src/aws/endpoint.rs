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

/// What the name of a host says of the requests that are sent there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The service, as signatures name it.
    pub(crate) service: String,
    /// The region; that of services which are the same everywhere is `us-east-1`.
    pub(crate) region: String,
}

/// The service and the region that Amazon's names of hosts have in them: `ID.execute-api.eu-central-1.amazonaws.com`,
/// `s3.dualstack.eu-central-1.amazonaws.com`, `vpce-1-2.ec2.eu-central-1.vpce.amazonaws.com`, `ec2.eu-central-1.api.aws`. None: it is none
/// of Amazon's.
pub(crate) fn place(host: &str) -> Option<Place> {
    const OTHERS: [&str; 4] = ["amazonaws.com", "api.aws", "api.amazonwebservices.com.cn", "on.aws"];
    // Words that are neither service nor region.
    const BETWEEN: [&str; 2] = ["dualstack", "vpce"];
    let domains = PARTITIONS.iter().map(|(_, domain)| *domain).chain(OTHERS);
    let names = domains.into_iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'))?;
    let mut labels: Vec<&str> = names.split('.').filter(|label| !BETWEEN.contains(label)).collect();
    let region = labels.pop_if(|label| is_region(label));
    let service = labels.pop().filter(|label| !label.is_empty())?;
    let service = service.strip_suffix("-fips").unwrap_or(service);
    // Where the two differ.
    let service = if service == "lambda-url" { "lambda" } else { service };
    Some(Place { service: service.to_owned(), region: region.unwrap_or("us-east-1").to_owned() })
}

/// `eu-central-1`, `us-gov-west-1`
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts.as_slice() {
        [words @ .., number] if words.len() >= 2 => {
            words.iter().all(is_word)
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_tell_service_and_region() {
        for (host, service, region) in [
            ("ec2.eu-central-1.amazonaws.com", "ec2", "eu-central-1"),
            ("abc123.execute-api.eu-west-3.amazonaws.com", "execute-api", "eu-west-3"),
            ("vpce-1-2.execute-api.us-east-1.vpce.amazonaws.com", "execute-api", "us-east-1"),
            ("my.bucket.s3.eu-central-1.amazonaws.com", "s3", "eu-central-1"),
            ("b.s3.dualstack.us-gov-west-1.amazonaws.com", "s3", "us-gov-west-1"),
            ("s3-fips.us-gov-west-1.amazonaws.com", "s3", "us-gov-west-1"),
            ("ec2.cn-north-1.amazonaws.com.cn", "ec2", "cn-north-1"),
            ("ec2.eu-central-1.api.aws", "ec2", "eu-central-1"),
            ("abc.lambda-url.eu-central-1.on.aws", "lambda", "eu-central-1"),
            ("iam.amazonaws.com", "iam", "us-east-1"),
            ("s3.amazonaws.com", "s3", "us-east-1"),
        ] {
            let said = Place { service: service.to_owned(), region: region.to_owned() };
            assert_eq!(place(host), Some(said), "{host}");
        }
        for host in [
            "amazonaws.com",
            "s3.example.com",
            "evil-amazonaws.com",
            "10.0.0.1",
            "eu-central-1.amazonaws.com",
        ] {
            assert_eq!(place(host), None, "{host}");
        }
    }
}
