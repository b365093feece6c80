//! The instance's metadata service:
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>. Version 2, in which a token is fetched
//! first, comes first; version 1 is for machines that have no version 2.

use std::net::IpAddr;

use hyper::header::HeaderName;
use serde::Deserialize;

use super::keys;
use crate::access_key::AccessKey;
use crate::http::Url;
use crate::imds::{Dialect, Imds, Session, is_name};
use crate::options::Variables;
use crate::request::{Failure, Instance, NetworkInterface};

const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const V1_DISABLED: &str = "AWS_EC2_METADATA_V1_DISABLED";
const REGION: &str = "placement/region";
/// The same for every instance.
const ADDRESS: &str = "169.254.169.254";
const ADDRESS_V6: &str = "fd00:ec2::254";

/// Where it is by the operator's variables, or where it is everywhere.
pub(super) fn service(variables: &Variables) -> Imds {
    let is = |name, wanted: &str| variables.get(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    let at = |host: &str| Url { secure: false, host: host.to_owned(), port: 80, path: "/".to_owned() };
    let base = if is(DISABLED, "true") {
        Err(format!("{DISABLED} says not to ask the metadata service"))
    } else if let Some(text) = variables.get(ENDPOINT) {
        Url::parse(&text).ok_or_else(|| format!("{ENDPOINT}: {text:?} is no URL"))
    } else if is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6") {
        Ok(at(ADDRESS_V6))
    } else {
        Ok(at(ADDRESS))
    };
    let dialect = Dialect {
        lifetime: HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds"),
        token: HeaderName::from_static("x-aws-ec2-metadata-token"),
        strict: V1_DISABLED,
        // Any other refusal would be somebody's way to make us do without.
        tokenless: &[404, 405],
    };
    Imds::new(dialect, base, !is(V1_DISABLED, "true"))
}

/// This machine's region.
pub(super) async fn region(session: &Session<'_>) -> Result<String, Failure> {
    session.region(REGION).await
}

/// All that it says of this machine.
pub(super) async fn instance(session: &Session<'_>) -> Result<Instance, Failure> {
    Ok(Instance {
        id: session.required("instance-id").await?,
        name: String::new(),
        region: region(session).await?,
        zone: session.name("placement/availability-zone").await?,
        account: account(session).await?,
        interfaces: interfaces(session).await?,
    })
}

async fn account(session: &Session<'_>) -> Result<String, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        account_id: String,
    }
    let text = session.text("dynamic/instance-identity/document").await?;
    let read = text.and_then(|text| serde_json::from_str::<Document>(text.reveal()).ok());
    Ok(read.map(|document| document.account_id).filter(|id| is_name(id)).unwrap_or_default())
}

async fn interfaces(session: &Session<'_>) -> Result<Vec<NetworkInterface>, Failure> {
    let mut interfaces = Vec::new();
    for mac in session.macs().await? {
        let below = |name: &str| format!("network/interfaces/macs/{mac}/{name}");
        let mut addresses: Vec<IpAddr> = Vec::new();
        for family in ["local-ipv4s", "ipv6s"] {
            let lines = session.lines(&below(family)).await?;
            addresses.extend(lines.iter().filter_map(|line| line.parse::<IpAddr>().ok()));
        }
        interfaces.push(NetworkInterface {
            id: session.name(&below("interface-id")).await?,
            mac: Some(mac),
            addresses,
            subnet: session.name(&below("subnet-id")).await?,
            network: session.name(&below("vpc-id")).await?,
        });
    }
    Ok(interfaces)
}

/// The keys of the instance's role. The inner error says what there is none of.
pub(super) async fn keys(session: &Session<'_>) -> Result<Result<AccessKey, String>, Failure> {
    let listed = session.lines("iam/security-credentials/").await?;
    let Some(role) = listed.first() else {
        return Ok(Err("the metadata service knows no role of this instance".to_owned()));
    };
    if !is_name(role) {
        return Ok(Err("the role's name has characters that it may not have".to_owned()));
    }
    let text = session.text(&format!("meta-data/iam/security-credentials/{role}")).await?;
    let given = text.as_ref().and_then(keys::of_json);
    Ok(given.ok_or_else(|| format!("the metadata service has no keys of the role {role}")))
}
