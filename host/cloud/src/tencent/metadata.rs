//! The instance's metadata service: <https://www.tencentcloud.com/document/product/213/4934>.

use std::net::IpAddr;

use flannel_model::entry::Mac;

use crate::http::Url;
use crate::imds::{INTERFACES, Imds, Session};
use crate::options::CloudOptions;
use crate::request::{Failure, Instance, NetworkInterface, Provider};

/// The same for every instance; the VPC's own resolvers know it.
const HOST: &str = "metadata.tencentyun.com";
/// What `--cloud-endpoint` calls it, for nodes whose resolver is another one.
const SERVICE: &str = "metadata";

/// Where it is, unless the operator says otherwise.
pub(super) fn service(options: &CloudOptions) -> Imds {
    let usual = || Url { secure: false, host: HOST.to_owned(), port: 80, path: "/".to_owned() };
    let said = options.endpoint(Provider::Tencent, SERVICE, &[]);
    Imds::without_tokens(said.map(|said| said.unwrap_or_else(usual)).map_err(|error| error.to_string()))
}

/// This machine's region.
pub(super) async fn region(session: &Session<'_>) -> Result<String, Failure> {
    session.region("placement/region").await
}

/// All that it says of this machine.
pub(super) async fn instance(session: &Session<'_>) -> Result<Instance, Failure> {
    Ok(Instance {
        id: session.required("instance-id").await?,
        name: String::new(),
        region: region(session).await?,
        zone: session.name("placement/zone").await?,
        account: session.name("app-id").await?,
        interfaces: interfaces(session).await?,
    })
}

async fn interfaces(session: &Session<'_>) -> Result<Vec<NetworkInterface>, Failure> {
    let primary = session.mac().await?;
    let mut interfaces = Vec::new();
    // Folders there have the address in capitals, or however it is written.
    for folder in session.lines("network/interfaces/macs/").await?.into_iter().take(INTERFACES) {
        let mac = folder.trim_end_matches('/');
        let Ok(address) = mac.parse::<Mac>() else { continue };
        let below = |name: &str| format!("network/interfaces/macs/{mac}/{name}");
        // The one that is the interface's own comes first.
        let mut addresses = addresses(&session.lines(&below("primary-local-ipv4")).await?);
        for more in self::addresses(&session.lines(&below("local-ipv4s/")).await?) {
            if !addresses.contains(&more) {
                addresses.push(more);
            }
        }
        interfaces.push(NetworkInterface {
            // It names none.
            id: String::new(),
            mac: Some(address),
            addresses,
            subnet: session.name(&below("subnet-id")).await?,
            network: session.name(&below("vpc-id")).await?,
        });
    }
    interfaces.sort_by_key(|interface| interface.mac != primary);
    Ok(interfaces)
}

/// Addresses, which come one in a line, and in a list of folders with a slash at the end.
fn addresses(lines: &[String]) -> Vec<IpAddr> {
    lines.iter().filter_map(|line| line.trim_end_matches('/').parse().ok()).collect()
}
