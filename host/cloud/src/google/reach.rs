//! What REST calls reach: the places in their paths, and of Compute Engine what routes are to and lead to.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use crate::names::folded;
use crate::reach::{Reach, Rule, Target, destinations};
use crate::request::{Answer, Failure, Instance, Method, Request};

const SERVICE: &str = "compute";
/// What the names of flannel's routes begin with, before their destination.
const PREFIX: &str = "flannel-";

/// A route that leads to an instance. Gateways, tunnels, addresses and balancers are none.
const ROUTE: Rule = Rule {
    versions: &["v1", "beta", "alpha"],
    destinations: &["destRange"],
    nodes: &["nextHopInstance"],
    networks: &["network"],
    plain: Some(&["kind", "name", "description", "priority", "tags"]),
    ..Rule::EMPTY
};

/// What a call reaches.
pub(crate) fn reaches(
    request: &Request,
    method: Method,
    path: &str,
    query: &[(String, String)],
) -> Result<Vec<Reach>, Failure> {
    let segments: Vec<&str> = path.split('/').collect();
    let mut all = places(&segments);
    all.extend(query.iter().filter_map(|(name, value)| {
        let target = place(name)?;
        Some(Reach { name: name.clone(), value: value.clone(), target, segment: None })
    }));
    let members = request.members()?;
    if method == Method::Get {
        return Ok(all);
    }
    let what = format!("{} {path}", method.name());
    // In whatever case: who takes it for a path to routes would change them.
    let lower = path.to_ascii_lowercase();
    let words: Vec<&str> = lower.split('/').collect();
    match (request.service.as_str(), &words[..]) {
        (SERVICE, ["projects", project, "global", "routes", rest @ ..]) => {
            ROUTE.check_version(&what, &request.version)?;
            if let Some(route) = rest.first() {
                all.push(Reach {
                    name: "routes".to_owned(),
                    value: format!("{project}/{route}"),
                    target: Target::Route(named(route)),
                    segment: Some(4),
                });
            }
            if rest.is_empty() || !members.is_empty() {
                all.extend(ROUTE.apply(&what, &members)?);
            }
        }
        _ => all.extend(destinations(&what, &members)?),
    }
    Ok(all)
}

/// What a collection or a parameter of this name has.
fn place(name: &str) -> Option<Target> {
    match &*folded(name) {
        "projects" | "project" | "projectid" => Some(Target::Project),
        "zones" | "zone" => Some(Target::Zone),
        "regions" | "region" | "locations" | "location" => Some(Target::Region),
        _ => None,
    }
}

/// The places in a path: `projects/p/zones/z/…`.
fn places(segments: &[&str]) -> Vec<Reach> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let [name, value, ..] = &segments[at..] {
        let collection = place(name).filter(|_| name.ends_with('s'));
        at += if collection.is_some() { 2 } else { 1 };
        let Some(target) = collection else { continue };
        if *name == "locations" && *value == "global" {
            continue;
        }
        all.push(Reach {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            target,
            segment: Some(at - 1),
        });
    }
    all
}

/// What a route with a name of flannel's is to: `flannel-10-5-3-0-24`.
fn named(route: &str) -> Option<IpNet> {
    let parts: Vec<u8> =
        route.strip_prefix(PREFIX)?.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, length] = parts[..] else { return None };
    let network = Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length).ok()?;
    let written = format!("{PREFIX}{}", network.to_string().replace(['.', '/'], "-"));
    (written == route && network.trunc() == network).then_some(IpNet::V4(network))
}

/// The routes that an answer shows or lists: names and numbers, with their destinations.
pub(crate) fn routes(
    request: &Request,
    method: Method,
    path: &str,
    answer: &Answer,
) -> Vec<(String, String)> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Route {
        name: String,
        id: String,
        dest_range: String,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct List {
        items: Vec<Route>,
    }
    let segments: Vec<&str> = path.split('/').collect();
    let ["projects", project, "global", "routes", rest @ ..] = &segments[..] else { return Vec::new() };
    if method != Method::Get || request.service != SERVICE || rest.len() > 1 {
        return Vec::new();
    }
    let read: Vec<Route> = if rest.is_empty() {
        serde_json::from_str::<List>(&answer.body).unwrap_or_default().items
    } else {
        serde_json::from_str(&answer.body).ok().into_iter().collect()
    };
    // Names are the project's.
    let keys = |route: Route| [(route.name, route.dest_range.clone()), (route.id, route.dest_range)];
    let known = read.into_iter().flat_map(keys).filter(|(key, _)| !key.is_empty());
    known.map(|(key, network)| (format!("{project}/{key}"), network)).collect()
}

/// Whether a link is to this instance.
pub(crate) fn is_instance(me: &Instance, link: &str) -> bool {
    let Instance { account, zone, name, .. } = me;
    let is_known = ![account, zone, name].into_iter().any(String::is_empty);
    is_known && path(link) == Some(&format!("projects/{account}/zones/{zone}/instances/{name}"))
}

/// Whether a link is to a network of this instance. The metadata service has the project's number for it, and others its name.
pub(crate) fn is_network(me: &Instance, link: &str) -> bool {
    let Some(["projects", project, "global", "networks", network]) = path(link)
        .map(|path| path.split('/').collect::<Vec<_>>())
        .as_deref()
        .and_then(|all| <[&str; 5]>::try_from(all).ok())
    else {
        return false;
    };
    me.interfaces.iter().any(|interface| match interface.network.split('/').collect::<Vec<_>>()[..] {
        ["projects", number, "networks", name] => {
            name == network && (project == me.account || project == number) && !project.is_empty()
        }
        _ => false,
    })
}

/// What a link leads to, `projects/…`, whether it is whole or begins there.
fn path(link: &str) -> Option<&str> {
    let at = link.find("projects/")?;
    let (begin, path) = link.split_at(at);
    let proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".:/-".contains(&byte);
    let is_api = begin.starts_with("https://") && begin.ends_with('/') && begin.bytes().all(proper);
    (begin.is_empty() || is_api).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::NetworkInterface;

    #[test]
    fn a_link_is_to_this_instance_whole_or_in_part_and_to_nothing_else() {
        let me = Instance {
            name: "node-1".to_owned(),
            zone: "europe-west3-a".to_owned(),
            account: "p".to_owned(),
            interfaces: vec![NetworkInterface {
                network: "projects/12/networks/n".to_owned(),
                ..NetworkInterface::default()
            }],
            ..Instance::default()
        };
        for link in [
            "projects/p/zones/europe-west3-a/instances/node-1",
            "https://www.googleapis.com/compute/v1/projects/p/zones/europe-west3-a/instances/node-1",
        ] {
            assert!(is_instance(&me, link), "{link}");
        }
        for link in [
            "",
            "node-1",
            "projects/q/zones/europe-west3-a/instances/node-1",
            "projects/p/zones/europe-west3-b/instances/node-1",
            "projects/p/zones/europe-west3-a/instances/node-2",
            "projects/p/zones/europe-west3-a/instances/node-1/../node-2",
            "projects/q/projects/p/zones/europe-west3-a/instances/node-1",
            "https://x/?projects/p/zones/europe-west3-a/instances/node-1",
        ] {
            assert!(!is_instance(&me, link), "{link}");
        }
        assert!(!is_instance(&Instance::default(), "projects//zones//instances/"));
        for link in [
            "projects/p/global/networks/n",
            "https://compute.googleapis.com/compute/v1/projects/12/global/networks/n",
        ] {
            assert!(is_network(&me, link), "{link}");
        }
        for link in [
            "projects/q/global/networks/n",
            "projects/p/global/networks/m",
            "projects/p/networks/n",
            "global/networks/n",
        ] {
            assert!(!is_network(&me, link), "{link}");
        }
    }

    #[test]
    fn names_of_flannels_routes_say_what_they_are_to() {
        assert_eq!(named("flannel-10-5-3-0-24"), "10.5.3.0/24".parse().ok());
        for other in [
            "default-route-1",
            "flannel-10-5-3-0",
            "flannel-10-5-3-7-24",
            "flannel-010-5-3-0-24",
            "flannel-+10-5-3-0-24",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
