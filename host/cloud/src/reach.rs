//! What a request reaches, as far as the host knows its operation: where routes lead, and whose things it is about. What may be reached
//! is for those to say who know the node and its grants.

use std::collections::BTreeMap;
use std::net::IpAddr;

use flannel_base::text::excerpt;
use ipnet::IpNet;

use super::names::folded;
use super::request::{Answer, Failure, Instance, Operation, Provider, Request};
use super::{alibaba, aws, google, tencent};

/// What a value stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The network that a route is to.
    Destination(IpNet),
    /// A route by its identifier or name, which says by itself what it is to, or does not.
    Route(Option<IpNet>),
    /// A region.
    Region,
    /// A zone.
    Zone,
    /// Google's project.
    Project,
    /// The machine that a route leads to, or that is changed: an instance or one of its network interfaces.
    Node,
    /// A network of the cloud.
    Network,
    /// A route table.
    Table,
    /// Something that an operation on routes does not need for routes to nodes: another kind of next hop.
    Other,
}

/// Something that a request reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The parameter, or the member of the body; for a part of a path the one before it, such as `projects`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What that is.
    pub target: Target,
    /// Which segment of the path it is, from 0; none: it is in none.
    pub segment: Option<usize>,
}

/// What the host knows of an operation on routes or interfaces. Names are as the cloud writes them.
pub(crate) struct Rule {
    /// The versions of the API in which names mean this.
    pub versions: &'static [&'static str],
    /// Parameters with the network that a route is to. Where there are any, one is needed, or one of `routes`.
    pub destinations: &'static [&'static str],
    /// Parameters with the identifier of a route.
    pub routes: &'static [&'static str],
    /// Parameters with instances or their interfaces.
    pub nodes: &'static [&'static str],
    /// Parameters with networks.
    pub networks: &'static [&'static str],
    /// Parameters with route tables.
    pub tables: &'static [&'static str],
    /// Parameters that reach nothing; none: all others do not.
    pub plain: Option<&'static [&'static str]>,
}

impl Rule {
    pub(crate) const EMPTY: Self = Self {
        versions: &[],
        destinations: &[],
        routes: &[],
        nodes: &[],
        networks: &[],
        tables: &[],
        plain: None,
    };

    /// What parameters reach. The error is for those that say too little, or in a way that the cloud might read otherwise.
    pub(crate) fn apply(&self, what: &str, given: &[(String, String)]) -> Result<Vec<Reach>, Failure> {
        let mut all = Vec::new();
        for (name, value) in given {
            if let Some(target) = self.target(what, name, value)? {
                all.push(Reach { name: name.clone(), value: value.clone(), target, segment: None });
            }
        }
        let says = |reach: &Reach| matches!(reach.target, Target::Destination(_) | Target::Route(_));
        let needed: Vec<&str> = self.destinations.iter().chain(self.routes).copied().collect();
        if !needed.is_empty() && !all.iter().any(says) {
            return Err(Failure::Denied(format!("{what} without {}", needed.join(" or "))));
        }
        Ok(all)
    }

    fn target(&self, what: &str, name: &str, value: &str) -> Result<Option<Target>, Failure> {
        if self.destinations.contains(&name) {
            return destination(name, value).map(Some);
        }
        let lists = [
            (self.routes, Target::Route(None)),
            (self.nodes, Target::Node),
            (self.networks, Target::Network),
            (self.tables, Target::Table),
        ];
        if let Some((_, target)) = lists.iter().find(|(names, _)| names.contains(&name)) {
            return Ok(Some(*target));
        }
        let first = name.split('.').next().unwrap_or_default();
        let known = lists.iter().flat_map(|(names, _)| *names).chain(self.destinations);
        if let Some(right) = known.copied().find(|known| folded(known) == folded(first)) {
            return Err(Failure::Denied(format!(
                "{what} with {:?}: right would be {right:?}",
                excerpt(name)
            )));
        }
        if is_prefix_list(name) {
            return Err(prefix_list(what, name));
        }
        let is_plain = self.plain.is_none_or(|plain| plain.contains(&first));
        Ok((!is_plain).then_some(Target::Other))
    }

    /// Refuses versions of the API in which names may mean something else.
    pub(crate) fn check_version(&self, what: &str, version: &str) -> Result<(), Failure> {
        if self.versions.contains(&version) {
            return Ok(());
        }
        let known = self.versions.join(", ");
        Err(Failure::Denied(format!("{what} in version {version}: what it reaches is known for {known}")))
    }
}

type Parameters = Vec<(String, String)>;

/// What the parameters of an operation on several routes reach: those of each, which have a name and a number in front
/// (`Routes.0.GatewayId`), and those beside them. `first`: the first number, for the error where there is none.
pub(crate) fn apply_to_each(
    what: &str,
    list: &str,
    first: u32,
    (beside, each): (&Rule, &Rule),
    given: &[(String, String)],
) -> Result<Vec<Reach>, Failure> {
    let (entries, others) = entries(list, given);
    let mut all = beside.apply(what, &others)?;
    if entries.is_empty() {
        return Err(Failure::Denied(format!("{what} without {list}.{first}")));
    }
    for (number, entry) in entries {
        let place = format!("{list}.{number}");
        let reached = each.apply(&format!("{what}, {place}"), &entry)?;
        all.extend(
            reached.into_iter().map(|reach| Reach { name: format!("{place}.{}", reach.name), ..reach }),
        );
    }
    Ok(all)
}

/// The parameters of each entry of a list by its number, and all others.
fn entries(list: &str, given: &[(String, String)]) -> (BTreeMap<String, Parameters>, Parameters) {
    let (mut entries, mut beside) = (BTreeMap::<String, Parameters>::new(), Parameters::new());
    for (name, value) in given {
        let inner = name.strip_prefix(list).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        match inner.split_once('.') {
            Some((number, inner)) => {
                entries.entry(number.to_owned()).or_default().push((inner.to_owned(), value.clone()));
            }
            None => beside.push((name.clone(), value.clone())),
        }
    }
    (entries, beside)
}

/// What parameters of an operation without a rule of its own reach: words for destinations are alike everywhere.
pub(crate) fn destinations(what: &str, given: &[(String, String)]) -> Result<Vec<Reach>, Failure> {
    const WORDS: [&str; 7] = [
        "destinationcidrblock",
        "destinationipv6cidrblock",
        "destinationcidr",
        "dstcidrblock",
        "destinationcidrblocks",
        "destrange",
        "destranges",
    ];
    let mut all = Vec::new();
    for (name, value) in given {
        if is_prefix_list(name) {
            return Err(prefix_list(what, name));
        }
        let is_destination = name.split('.').any(|word| WORDS.contains(&&*folded(word)));
        if is_destination {
            let target = destination(name, value)?;
            all.push(Reach { name: name.clone(), value: value.clone(), target, segment: None });
        }
    }
    Ok(all)
}

/// Parameters that name a region.
pub(crate) fn regions(given: &[(String, String)]) -> impl Iterator<Item = Reach> + '_ {
    let is_region = |name: &str| {
        let folded = folded(name.split('.').next().unwrap_or_default());
        folded.ends_with("region") || folded.ends_with("regionid")
    };
    given.iter().filter(move |(name, _)| is_region(name)).map(|(name, value)| Reach {
        name: name.clone(),
        value: value.clone(),
        target: Target::Region,
        segment: None,
    })
}

fn destination(name: &str, value: &str) -> Result<Target, Failure> {
    let network = value.parse::<IpNet>();
    network.map(Target::Destination).map_err(|_| {
        let (name, value) = (excerpt(name), excerpt(value));
        Failure::Denied(format!(
            "{name}={value:?} is no network, such as 10.5.3.0/24, so that it cannot be checked"
        ))
    })
}

/// Whether a route would be to whatever is in a list of the cloud's, now or later.
fn is_prefix_list(name: &str) -> bool {
    let folded = folded(name);
    folded.contains("prefixlist") && (folded.contains("destination") || folded.contains("dst"))
}

fn prefix_list(what: &str, name: &str) -> Failure {
    let name = excerpt(name);
    Failure::Denied(format!(
        "{what} with {name}: what is in a prefix list cannot be checked; right would be a network"
    ))
}

impl Request {
    /// All that it reaches, as far as the host knows. The error is for what cannot be told.
    pub fn reaches(&self) -> Result<Vec<Reach>, Failure> {
        let mut all = match &self.operation {
            Operation::Action { name, parameters } => match self.provider {
                Provider::Alibaba => alibaba::reaches(self, name, parameters)?,
                Provider::Tencent => tencent::reaches(self, name, parameters)?,
                _ => aws::reaches(self, name, parameters)?,
            },
            Operation::Rest { method, path, query, .. } => google::reaches(self, *method, path, query)?,
        };
        // Google's endpoints are everywhere.
        if let Some(region) = self.region.as_ref().filter(|_| self.provider != Provider::Google) {
            let name = "region".to_owned();
            all.push(Reach { name, value: region.clone(), target: Target::Region, segment: None });
        }
        Ok(all)
    }
}

/// The routes that an answer lists: by each of their identifiers and names, what they are to. What others than the cloud can write into
/// answers, such as descriptions, is none of it.
pub fn routes_in(request: &Request, answer: &Answer) -> Vec<(String, IpNet)> {
    if answer.status != 200 {
        return Vec::new();
    }
    let listed = match (&request.operation, request.provider) {
        (Operation::Action { name, .. }, Provider::Alibaba) => alibaba::routes(request, name, answer),
        (Operation::Action { name, .. }, Provider::Tencent) => tencent::routes(request, name, answer),
        (Operation::Rest { method, path, .. }, Provider::Google) => {
            google::routes(request, *method, path, answer)
        }
        _ => Vec::new(),
    };
    listed.into_iter().filter_map(|(id, network)| Some((id, network.parse().ok()?))).collect()
}

impl Instance {
    /// Whether requests mean this machine, or one of its network interfaces, by a text.
    pub fn is_node(&self, provider: Provider, text: &str) -> bool {
        if provider == Provider::Google {
            return google::is_instance(self, text);
        }
        if provider == Provider::Tencent && text.parse::<IpAddr>().is_ok_and(|address| self.has(address)) {
            // Next hops are private addresses there.
            return true;
        }
        let interfaces = self.interfaces.iter().map(|interface| &interface.id);
        !text.is_empty() && interfaces.chain([&self.id]).any(|id| id == text)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.addresses.contains(&address))
    }

    /// Whether requests mean a network that this machine is in by a text.
    pub fn is_network(&self, provider: Provider, text: &str) -> bool {
        if provider == Provider::Google {
            return google::is_network(self, text);
        }
        !text.is_empty() && self.interfaces.iter().any(|interface| interface.network == text)
    }
}
