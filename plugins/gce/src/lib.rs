//! The gce backend: Google Cloud's own network carries the packets, by a route for each node's subnet whose next hop is the node's
//! instance. Each node looks after its own route, and after nobody else's.

mod api;
mod operation;
mod place;
mod refusal;
mod route;

use std::time::Duration;

use flannel_backend::cloud::{Provider, RequiredOperation};
use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Retire, clock, log};

use api::Project;
use operation::{Action, Operation, Outcome};
use place::Place;
use refusal::Refusal;
use route::Route;

/// How often everything is looked at.
const INTERVAL: Duration = Duration::from_mins(1);
/// How soon an operation is asked for again.
const SOON: Duration = Duration::from_secs(1);
/// Reads may show what was before for a while. So long after the end of an operation, what contradicts it is read again instead of
/// acted upon.
const SETTLING: Duration = Duration::from_secs(20);
/// How often in a row the cloud may say that a route is there, or not ready, while it cannot be read, before the operator is told.
const CONTRADICTIONS: u32 = 20;

/// The policy.
struct GcePolicy {
    external: Option<std::net::Ipv4Addr>,
    network: Ipv4Net,
    subnet: Option<Ipv4Net>,
    /// What this machine is to the cloud, once that is known and as it should be.
    place: Option<Place>,
    /// Why the last operation failed, until that has been told.
    failed: Option<String>,
    /// What was done last, and when that was over.
    done: Option<(Action, Duration)>,
    contradictions: u32,
}

impl Policy for GcePolicy {
    const NAME: &'static str = "gce";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["gce"];

    fn register(node: &Node, _config: &Config) -> Result<(Self, Registration), String> {
        let Some(network) = node.ipv4_network.filter(|_| node.ipv6_network.is_none()) else {
            return Err("gce makes routes for IPv4 alone: right would be a network config with \"Network\", and without \
                        \"EnableIPv6\""
                .to_owned());
        };
        let policy = Self {
            external: node.external.ipv4,
            network,
            subnet: None,
            place: None,
            failed: None,
            done: None,
            contradictions: 0,
        };
        Ok((policy, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnet = own.ipv4_subnet.ok_or("the lease has no IPv4 subnet")?;
        self.subnet = Some(subnet);
        Ok(())
    }

    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        // A peer sees to its own route.
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        let Some(subnet) = self.subnet else { return Ok(Some(SOON)) };
        if let Some(pending) = Operation::stored()? {
            return self.look_at(&pending).map(Some);
        }
        let place = self.place()?;
        let own = match self.failed.take() {
            Some(failure) => Err(failure),
            None => self.own_route(&place, subnet),
        };
        if let Ok(Some(wait)) = own {
            return Ok(Some(wait));
        }
        // Also where the own route cannot be made: removing a stale one may be what makes room for it.
        match (self.remove_stale(&place, Some(subnet)), own) {
            (Ok(Some(wait)), _) => Ok(Some(wait)),
            (_, Err(own)) => Err(own),
            (Err(stale), _) => Err(stale),
            (Ok(None), Ok(_)) => Ok(Some(INTERVAL)),
        }
    }
}

impl Retire for GcePolicy {
    /// Removes this node's routes, one after the other.
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        if let Some(pending) = Operation::stored()? {
            return self.look_at(&pending).map(Some);
        }
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        let place = self.place()?;
        self.remove_stale(&place, None)
    }
}

impl GcePolicy {
    /// What this machine is. It cannot change while it runs, so it is asked for once.
    fn place(&mut self) -> Result<Place, String> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        let place = Place::find(self.external)?;
        Ok(self.place.insert(place).clone())
    }

    /// Looks at what is being done. Answers when to come again.
    fn look_at(&mut self, pending: &Operation) -> Result<Duration, String> {
        match pending.outcome()? {
            Outcome::Unfinished => return Ok(SOON),
            Outcome::Forgotten => {}
            Outcome::Done => {
                log::info("done in Google Cloud", &[("action", &pending.to_string())]);
                self.done = Some((pending.action.clone(), clock::monotonic()));
            }
            // An error would leave the operation where it is: it is told the next time.
            Outcome::Failed(refusal) => {
                let room = self.room(&refusal);
                self.failed = Some(refusal.text(&pending.to_string(), &room));
            }
        }
        Operation::forget()?;
        Ok(Duration::from_millis(100))
    }

    /// Sees to the route to the own subnet. Answers when to come again; none: it is as it should be.
    fn own_route(&mut self, place: &Place, subnet: Ipv4Net) -> Result<Option<Duration>, String> {
        let project = Project::new(&place.project);
        let name = route::name(subnet);
        let there = project.route(&name)?;
        let Some(there) = there else {
            if self.has_just(|done| matches!(done, Action::Insert { route } if *route == name)) {
                return Ok(Some(SOON));
            }
            log::info("making the route in Google Cloud", &[("route", &name), ("instance", &place.name)]);
            let action = Action::Insert { route: name };
            let outcome = project.insert(&Route::to(place, subnet), &action);
            return self.begun(place, action, outcome);
        };
        there.must_be_ours(place, subnet)?;
        if there.leads_to(place) {
            self.contradictions = 0;
            return Ok(None);
        }
        log::warn(
            "replacing a route in Google Cloud that leads elsewhere",
            &[("route", &name), ("next hop", there.hop())],
        );
        self.delete(place, &there)
    }

    /// Removes one route that led here for a subnet that is not this one. Answers when to come again; none: there is none.
    fn remove_stale(&mut self, place: &Place, own: Option<Ipv4Net>) -> Result<Option<Duration>, String> {
        let routes = Project::new(&place.project).routes_to(place)?;
        let is_stale = |route: &&Route| {
            route.is_flannels(place, self.network) && !own.is_some_and(|own| route.is_for(own))
        };
        let Some(stale) = routes.iter().find(is_stale) else { return Ok(None) };
        log::info("removing a stale route in Google Cloud", &[("route", &stale.name)]);
        self.delete(place, stale)
    }

    /// Removes a route by its number: a new one that has its name by now stays.
    fn delete(&mut self, place: &Place, route: &Route) -> Result<Option<Duration>, String> {
        if self.has_just(|done| matches!(done, Action::Delete { id, .. } if *id == route.id)) {
            return Ok(Some(SOON));
        }
        let action = Action::Delete { route: route.name.clone(), id: route.id.clone() };
        let outcome = Project::new(&place.project).delete(&route.id, &action);
        self.begun(place, action, outcome)
    }

    /// Whether something was done a moment ago, which reads may not show yet.
    fn has_just(&self, is_it: impl Fn(&Action) -> bool) -> bool {
        let moment = |at: Duration| clock::monotonic().saturating_sub(at) < SETTLING;
        self.done.as_ref().is_some_and(|(action, at)| is_it(action) && moment(*at))
    }

    /// What has become of a request to change something.
    fn begun(
        &mut self,
        place: &Place,
        action: Action,
        outcome: Result<String, Refusal>,
    ) -> Result<Option<Duration>, String> {
        match outcome {
            Ok(operation) => {
                Operation { project: place.project.clone(), name: operation, action }.store()?;
                Ok(Some(SOON))
            }
            // Somebody was faster, or reads are behind: read again.
            Err(refusal) if is_overtaken(&action, &refusal) && self.contradictions < CONTRADICTIONS => {
                self.contradictions += 1;
                Ok(Some(SOON))
            }
            Err(refusal) => {
                let room = self.room(&refusal);
                let operation = Operation { project: place.project.clone(), name: String::new(), action };
                Err(refusal.text(&operation.to_string(), &room))
            }
        }
    }

    /// How full it is, where that is what is wrong; else nothing.
    fn room(&mut self, refusal: &Refusal) -> String {
        if !refusal.is_about_room() {
            return String::new();
        }
        // Only to explain: an error in here would hide the one that matters.
        let Ok(place) = self.place() else { return String::new() };
        Project::new(&place.project).count(&place).unwrap_or_default()
    }
}

fn is_overtaken(action: &Action, refusal: &Refusal) -> bool {
    refusal.is_overtaken() || (matches!(action, Action::Delete { .. }) && refusal.is_not_found())
}

flannel_backend::export!(GcePolicy);
flannel_backend::retirement!(GcePolicy);
flannel_backend::cloud_permissions!(&[
    need("GET projects/*/zones/*/instances/*", &["compute.instances.get"]),
    need("GET projects/*/global/routes/*", &["compute.routes.get"]),
    need("GET projects/*/global/routes?filter&pageToken", &["compute.routes.list"]),
    need(
        "POST projects/*/global/routes?name&priority&requestId&tags",
        &["compute.routes.create", "compute.networks.updatePolicy", "compute.instances.use"],
    ),
    need(
        "DELETE projects/*/global/routes/*?requestId",
        &["compute.routes.delete", "compute.networks.updatePolicy"],
    ),
    need("GET projects/*/global/operations/*", &["compute.globalOperations.get"]),
]);

const fn need(operation: &'static str, permissions: &'static [&'static str]) -> RequiredOperation {
    RequiredOperation { provider: Provider::Google, service: "compute", operation, permissions }
}

#[cfg(test)]
mod tests;
