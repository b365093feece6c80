//! Whether a request is one that the plugin is granted: its operation and parameters by the grants, where routes go by the cluster's
//! networks, and whose things it is about by what the cloud says of this machine.

use std::collections::HashMap;
use std::fmt::Display;

use flannel_cloud::{Answer, Failure, Instance, Provider, Reach, Request, Target, routes_in};
use ipnet::IpNet;

use super::HostState;
use crate::conditions::Place;
use crate::convert;
use crate::needs::Pattern;

/// Routes that are remembered; twice as many as tables of the largest clusters have.
const MOST_ROUTES: usize = 16 << 10;
/// Bytes of their identifiers.
const ROUTE_ID: usize = 256;
/// The option of the network config with the route tables of the cluster, one or a list.
const TABLES: &str = "RouteTableID";

/// What routes are to that the cloud has shown: they are removed by identifiers that say nothing of it.
#[derive(Default)]
pub(crate) struct SeenRoutes(HashMap<(Provider, String), IpNet>);

impl SeenRoutes {
    /// Takes note of what an answer shows.
    pub(super) fn learn(&mut self, request: &Request, answer: &Answer) {
        for (id, network) in routes_in(request, answer) {
            if self.0.len() >= MOST_ROUTES {
                // They are shown again before they are needed.
                self.0.clear();
            }
            if id.len() <= ROUTE_ID {
                self.0.insert((request.provider, id), network);
            }
        }
    }
}

/// One request, while it is compared.
struct Scope<'a> {
    request: &'a Request,
    given: Vec<(String, String)>,
    reached: Vec<Reach>,
}

impl Scope<'_> {
    fn denied(&self, reason: impl Display) -> Failure {
        Failure::Denied(format!("{}: {reason}", self.request.operation))
    }
}

/// Whether a parameter is granted that is of no use for routes to machines.
fn is_named(name: &str, pattern: &Pattern, scope: &Scope) -> Result<(), Failure> {
    if pattern.conditions().names(name) {
        return Ok(());
    }
    let name = convert::shown(name, 80);
    Err(scope.denied(format!(
        "{name}: routes lead to this machine, and other parameters than for that have to be granted by name: ?{name}"
    )))
}

impl HostState {
    /// By which of its grants the plugin may ask for this: the operation as that has it, a name with few values, for figures.
    pub(super) fn is_granted(&mut self, request: &Request) -> Result<String, Failure> {
        let patterns: Vec<Pattern> =
            self.operations.iter().filter(|pattern| pattern.names(request)).cloned().collect();
        if patterns.is_empty() {
            let Request { provider, service, operation, .. } = request;
            return Err(Failure::Denied(format!(
                "{operation} is not granted; the grant for it would be \"cloud:{provider}:{service}:{operation}\", in the file of --plugin-grants or with --allow"
            )));
        }
        let (given, reached) = (request.given()?, request.reaches()?);
        let scope = Scope { request, given, reached };
        let mut refusal = None;
        for pattern in patterns {
            match self.is_within(&pattern, &scope) {
                Ok(()) => return Ok(pattern.operation().to_owned()),
                Err(Failure::Denied(reason)) => {
                    refusal
                        .get_or_insert(Failure::Denied(format!("{reason}; it is granted as \"{pattern}\"")));
                }
                Err(other) => return Err(other),
            }
        }
        Err(refusal.unwrap_or_else(|| Failure::Denied(request.operation.to_string())))
    }

    fn is_within(&mut self, pattern: &Pattern, scope: &Scope) -> Result<(), Failure> {
        let conditions = pattern.conditions();
        conditions.check(&scope.given, &scope.reached).map_err(|reason| scope.denied(reason))?;
        scope.reached.iter().try_for_each(|reach| self.may_reach(reach, pattern, scope))
    }

    fn may_reach(&mut self, reach: &Reach, pattern: &Pattern, scope: &Scope) -> Result<(), Failure> {
        let Reach { name, value, target, segment } = reach;
        let conditions = pattern.conditions();
        let is_for_all = matches!(target, Target::Destination(_) | Target::Route(_) | Target::Other);
        if !is_for_all && segment.is_none() && conditions.frees(name, value) {
            return Ok(());
        }
        let place = match target {
            Target::Destination(network) => return self.leads_into_cluster(name, *network, scope),
            Target::Route(named) => return self.is_route_of_cluster(value, *named, scope),
            Target::Table => return self.is_configured_table(name, value, scope),
            Target::Other => return is_named(name, pattern, scope),
            Target::Node | Target::Network => None,
            Target::Region => Some(Place::Region),
            Target::Zone => Some(Place::Zone),
            Target::Project => Some(Place::Project),
        };
        // A path with the name of a place in it is a grant of that, too.
        let is_literal = segment.is_some_and(|at| pattern.has_segment(at, value));
        if place.is_some_and(|place| conditions.frees_place(place, value)) || is_literal {
            return Ok(());
        }
        if self.is_own(*target, value, scope)? {
            return Ok(());
        }
        let shown = convert::shown(value, 200);
        Err(scope.denied(match place {
            Some(place) => format!(
                "{name} {shown:?} is not this machine's, and another has to be granted: ?{}={shown}",
                place.name()
            ),
            None => format!(
                "{name}={shown:?} is none of this machine's, and another has to be granted: ?{name}={shown} or ?{name}=*"
            ),
        }))
    }

    /// Whether a place or a thing of the cloud's is this machine's.
    fn is_own(&mut self, target: Target, value: &str, scope: &Scope) -> Result<bool, Failure> {
        let provider = scope.request.provider;
        if target == Target::Region && provider != Provider::Google {
            return Ok(!value.is_empty() && self.own_region(provider)? == value);
        }
        let me = self.own_instance(provider)?;
        let is = |own: &str| !value.is_empty() && own == value;
        Ok(match target {
            // Services have locations of either kind.
            Target::Region => is(&me.region) || is(&me.zone),
            Target::Zone => is(&me.zone),
            Target::Project => is(&me.account),
            Target::Node => me.is_node(provider, value),
            Target::Network => me.is_network(provider, value),
            _ => false,
        })
    }

    /// Asked once in a call, whatever comes of it.
    fn own_region(&mut self, provider: Provider) -> Result<String, Failure> {
        if let Some(said) = self.call.cloud_regions.get(&provider) {
            return said.clone();
        }
        let said = self.aside(|host, deadline| host.environment.clouds.region(provider, deadline))?;
        self.call.cloud_regions.insert(provider, said.clone());
        said
    }

    /// Asked once in a call, whatever comes of it.
    fn own_instance(&mut self, provider: Provider) -> Result<Instance, Failure> {
        if let Some(said) = self.call.cloud_self.get(&provider) {
            return said.clone();
        }
        let said = self.aside(|host, deadline| host.environment.clouds.instance(provider, deadline))?;
        self.call.cloud_self.insert(provider, said.clone());
        said
    }

    fn leads_into_cluster(&self, name: &str, network: IpNet, scope: &Scope) -> Result<(), Failure> {
        if self.is_in_cluster(&network) {
            return Ok(());
        }
        let (name, networks) = (convert::shown(name, 80), self.cluster_networks());
        Err(scope.denied(format!("{name}={network} is not in the cluster network, which is {networks}")))
    }

    /// A route that is named by an identifier is one that the cloud has shown; flannel's own names say what they are to.
    fn is_route_of_cluster(&self, id: &str, named: Option<IpNet>, scope: &Scope) -> Result<(), Failure> {
        let shown = convert::shown(id, 200);
        let seen = self.routes_seen.0.get(&(scope.request.provider, id.to_owned())).copied();
        match seen.or(named) {
            Some(network) if self.is_in_cluster(&network) => Ok(()),
            Some(network) => Err(scope.denied(format!(
                "the route {shown} is to {network}, which is not in the cluster network, {}",
                self.cluster_networks()
            ))),
            None => Err(scope.denied(format!(
                "it is not known what the route {shown} is to: it has to be in an answer to this plugin before"
            ))),
        }
    }

    /// Where the operator has named tables, it is one of them.
    fn is_configured_table(&self, name: &str, table: &str, scope: &Scope) -> Result<(), Failure> {
        let config: serde_json::Value = serde_json::from_str(&self.environment.config).unwrap_or_default();
        let named = match &config[TABLES] {
            serde_json::Value::Null => return Ok(()),
            serde_json::Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        };
        if named.iter().any(|one| one == table) {
            return Ok(());
        }
        let shown = convert::shown(table, 200);
        Err(scope.denied(format!(
            "{name}={shown:?} is none of the network config's {TABLES}, and another has to be granted: ?{name}={shown}"
        )))
    }

    fn cluster_networks(&self) -> String {
        let node = &self.environment.node;
        let networks = node.ipv4_network.map(IpNet::V4).into_iter().chain(node.ipv6_network.map(IpNet::V6));
        networks.map(|network| network.to_string()).collect::<Vec<_>>().join(" and ")
    }
}
