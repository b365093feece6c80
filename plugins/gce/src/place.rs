//! This machine, as the cloud's network sees it.

use std::net::Ipv4Addr;

use flannel_backend::cloud::{self, Provider};
use flannel_backend::serde_json::Value;

use super::api::Project;
use super::route::path;

/// The instance, and the network that routes to it belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The project's id.
    pub project: String,
    /// The zone.
    pub zone: String,
    /// The instance's name.
    pub name: String,
    /// The instance's link.
    pub instance: String,
    /// The network's link.
    pub network: String,
}

impl Place {
    /// Asks the cloud. The error says what is not as it has to be.
    pub fn find(external: Option<Ipv4Addr>) -> Result<Self, String> {
        let me = cloud::describe_instance(Provider::Google)?;
        let (project, zone, name) = (me.account, me.zone, me.name);
        let asked = Project::new(&project).instance(&zone, &name);
        let found = asked.map_err(|refusal| refusal.text(&format!("read instance {name}"), ""))?;
        let found = found.ok_or_else(|| {
            format!("project {project} has no instance {name} in zone {zone}, as the metadata service calls this one")
        })?;
        if found["canIpForward"] != true {
            return Err(format!(
                "instance {name} may not forward packets, so no pod would be reached: it has to be created with IP forwarding \
                 (canIpForward; gcloud compute instances create --can-ip-forward)"
            ));
        }
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let interfaces = found["networkInterfaces"].as_array().map_or(&[][..], Vec::as_slice);
        let address = external.map(|address| address.to_string());
        let by_address = |one: &&Value| one["networkIP"].as_str().map(ToOwned::to_owned) == address;
        let interface = interfaces.iter().find(by_address).or(interfaces.first());
        let network = interface.and_then(|interface| text(&interface["network"]));
        let (Some(instance), Some(network)) = (text(&found["selfLink"]), network) else {
            return Err(format!("instance {name}: the cloud names neither its link nor its network"));
        };
        let place = Self { project, zone, name, instance, network };
        if project_of(&place.network) != project_of(&place.instance) {
            return Err(format!(
                "instance {} is in network {}, which another project shares: a route in there cannot lead to an instance \
                 of this project, so a cluster with gce needs a network of its own project",
                place.name,
                path(&place.network),
            ));
        }
        Ok(place)
    }

    /// The network's name.
    pub fn network_name(&self) -> &str {
        self.network.rsplit('/').next().unwrap_or_default()
    }
}

fn project_of(link: &str) -> &str {
    path(link).split('/').nth(1).unwrap_or_default()
}
