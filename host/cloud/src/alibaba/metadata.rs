//! The instance's metadata service: <https://help.aliyun.com/document_detail/49122.html>. Its hardened mode, in which a token is fetched
//! first, is used where it is there.

use std::net::IpAddr;

use flannel_model::entry::Mac;
use hyper::header::HeaderName;

use crate::http::Url;
use crate::imds::{Dialect, Imds, Session};
use crate::options::Variables;
use crate::request::{Failure, Instance, NetworkInterface};

/// The same for every instance.
const ADDRESS: &str = "100.100.100.200";
const V1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";

/// Where it is everywhere.
pub(super) fn service(variables: &Variables) -> Imds {
    let disabled = variables.get(V1_DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    at(Url { secure: false, host: ADDRESS.to_owned(), port: 80, path: "/".to_owned() }, !disabled)
}

pub(super) fn at(base: Url, plain: bool) -> Imds {
    let dialect = Dialect {
        lifetime: HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds"),
        token: HeaderName::from_static("x-aliyun-ecs-metadata-token"),
        strict: V1_DISABLED,
        // Older systems answer this and that.
        tokenless: &[],
    };
    Imds::new(dialect, Ok(base), plain)
}

/// This machine's region.
pub(super) async fn region(session: &Session<'_>) -> Result<String, Failure> {
    session.region("region-id").await
}

/// All that it says of this machine.
pub(super) async fn instance(session: &Session<'_>) -> Result<Instance, Failure> {
    Ok(Instance {
        id: session.required("instance-id").await?,
        name: String::new(),
        region: region(session).await?,
        zone: session.name("zone-id").await?,
        account: session.name("owner-account-id").await?,
        interfaces: interfaces(session).await?,
    })
}

async fn interfaces(session: &Session<'_>) -> Result<Vec<NetworkInterface>, Failure> {
    let macs = session.macs().await?;
    if macs.is_empty() {
        return Ok(vec![only_interface(session, session.mac().await?).await?]);
    }
    let mut interfaces = Vec::new();
    for mac in macs {
        let below = |name: &str| format!("network/interfaces/macs/{mac}/{name}");
        let mut addresses = list(&session.lines(&below("private-ipv4s")).await?);
        addresses.extend(list(&session.lines(&below("ipv6s")).await?));
        // The one that is the interface's own comes first.
        let own = list(&session.lines(&below("primary-ip-address")).await?);
        addresses.sort_by_key(|address| !own.contains(address));
        interfaces.push(NetworkInterface {
            id: session.name(&below("network-interface-id")).await?,
            mac: Some(mac),
            addresses,
            subnet: session.name(&below("vswitch-id")).await?,
            network: session.name(&below("vpc-id")).await?,
        });
    }
    Ok(interfaces)
}

/// Where interfaces are not listed, of the primary one there is as much as is said of the instance.
async fn only_interface(session: &Session<'_>, mac: Option<Mac>) -> Result<NetworkInterface, Failure> {
    Ok(NetworkInterface {
        id: String::new(),
        mac,
        addresses: list(&session.lines("private-ipv4").await?),
        subnet: session.name("vswitch-id").await?,
        network: session.name("vpc-id").await?,
    })
}

/// Addresses, which come as `["192.0.2.1","192.0.2.2"]`, as `[2001:db8::1,2001:db8::2]` and with nothing around them.
fn list(lines: &[String]) -> Vec<IpAddr> {
    let parts = lines.iter().flat_map(|line| line.split(|letter: char| "[]\", ".contains(letter)));
    parts.filter_map(|part| part.parse().ok()).collect()
}
