//! Routes of the cloud's network.

use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::serde_json::{Value, json};

use super::place::Place;

/// What the names of all of flannel's routes begin with.
pub const PREFIX: &str = "flannel-";
/// Of routes to the same destination the one with the lowest number counts; this is the cloud's and upstream's default.
const PRIORITY: u32 = 1000;

/// A route that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, which no other route of the project has at the same time.
    pub name: String,
    /// Its number, which no other route will ever have.
    pub id: String,
    destination: String,
    network: String,
    /// Where it leads to, by the kind of next hop that it has.
    hop: (String, String),
}

/// The name of the route to a subnet: `flannel-10-5-3-0-24`, as upstream has it.
pub fn name(subnet: Ipv4Net) -> String {
    format!("{PREFIX}{}", subnet.to_string().replace(['.', '/'], "-"))
}

/// What a link leads to: `projects/p/…`. Links to the same thing may begin differently.
pub fn path(link: &str) -> &str {
    link.find("projects/").map_or(link, |begin| &link[begin..])
}

impl Route {
    /// What is sent to make the route to a subnet.
    pub fn to(place: &Place, subnet: Ipv4Net) -> Value {
        json!({
            "name": name(subnet),
            "destRange": subnet.to_string(),
            "network": place.network,
            "nextHopInstance": place.instance,
            "priority": PRIORITY,
            "tags": [],
        })
    }

    /// Reads a route; none: it is none.
    pub fn read(value: &Value) -> Option<Self> {
        let text = |member: &str| value[member].as_str().map(ToOwned::to_owned);
        let hops = value.as_object()?.iter().filter(|(member, _)| member.starts_with("nextHop"));
        let mut hops = hops.filter_map(|(member, value)| Some((member.clone(), value.as_str()?.to_owned())));
        Some(Self {
            name: text("name")?,
            id: text("id")?,
            destination: text("destRange")?,
            network: text("network")?,
            hop: hops.next().unwrap_or_default(),
        })
    }

    /// Where it leads to.
    pub fn hop(&self) -> &str {
        path(&self.hop.1)
    }

    /// Whether its next hop is this instance.
    pub fn leads_to(&self, place: &Place) -> bool {
        self.hop.0 == "nextHopInstance" && path(&self.hop.1) == path(&place.instance)
    }

    /// Whether it is to this subnet.
    pub fn is_for(&self, subnet: Ipv4Net) -> bool {
        self.destination.parse() == Ok(subnet)
    }

    /// A route that has the name of ours is replaced only where it is in our network and to our subnet. The error says whose it seems
    /// to be.
    pub fn must_be_ours(&self, place: &Place, subnet: Ipv4Net) -> Result<(), String> {
        let Self { name, destination, network, .. } = self;
        if path(network) != path(&place.network) {
            return Err(format!(
                "route {name} is there already, in network {}, and this node is in {}: names of routes are the project's, so two \
                 clusters in one project need different values of \"Network\", or if nobody needs it any more: gcloud compute \
                 routes delete {name}",
                path(network),
                path(&place.network)
            ));
        }
        if !self.is_for(subnet) {
            return Err(format!(
                "route {name} is there already, to {destination} instead of {subnet}, so it is not flannel's: whoever made it has \
                 to remove or rename it"
            ));
        }
        Ok(())
    }

    /// Whether flannel has made it for this instance, for a subnet of this cluster.
    pub fn is_flannels(&self, place: &Place, cluster: Ipv4Net) -> bool {
        let Ok(subnet) = self.destination.parse::<Ipv4Net>() else { return false };
        let is_ours = path(&self.network) == path(&place.network) && self.leads_to(place);
        is_ours && self.name == name(subnet) && cluster.contains(&subnet)
    }

    /// Whether it counts against the limit of static routes in the network of this instance.
    pub fn is_static_in(&self, place: &Place) -> bool {
        let by_itself = ["nextHopNetwork", "nextHopPeering", "nextHopHub"].contains(&self.hop.0.as_str());
        path(&self.network) == path(&place.network) && !by_itself
    }
}
