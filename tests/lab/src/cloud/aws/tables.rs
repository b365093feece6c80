//! Route tables in EC2's XML, and what moto says less of than the real cloud: a row that leads to an instance names the instance and its
//! interface, whichever of the two it was made with, and is a `blackhole` while the instance does not run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::state::{Machine, State};

/// A row: its elements, which the real cloud sorts by name, too.
pub(super) type Route = BTreeMap<String, String>;
/// Rows by the identifiers of their tables.
pub(super) type Tables = BTreeMap<String, Vec<Route>>;

#[expect(clippy::expect_used, reason = "these expressions are constant")]
static ROUTES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?s)<routeTableId>([^<]*)</routeTableId><routeSet(?:/>|>(.*?)</routeSet>)").expect("regular")
});
#[expect(clippy::expect_used, reason = "these expressions are constant")]
static ITEM: LazyLock<Regex> = LazyLock::new(|| Regex::new("(?s)<item>(.*?)</item>").expect("regular"));
#[expect(clippy::expect_used, reason = "these expressions are constant")]
static ELEMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new("<(\\w+)>([^<]*)</").expect("regular"));
#[expect(clippy::expect_used, reason = "these expressions are constant")]
static CHECK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?s)<networkInterfaceId>([^<]*)</.*?<sourceDestCheck>(\\w+)</").expect("regular")
});

/// The tables of an answer to `DescribeRouteTables`.
pub(super) fn read(xml: &str, state: &State) -> Tables {
    let of = |found: Captures<'_>| {
        let items = found.get(2).map_or("", |routes| routes.as_str());
        let routes = ITEM.captures_iter(items).map(|item| {
            let elements = ELEMENT.captures_iter(&item[1]);
            complete(elements.map(|pair| (pair[1].to_owned(), pair[2].to_owned())).collect(), state)
        });
        (found[1].to_owned(), routes.collect())
    };
    ROUTES.captures_iter(xml).map(of).collect()
}

/// The same answer with other rows in it. Tables that are not among them stay as they are.
pub(super) fn rewritten(xml: &str, tables: &Tables) -> String {
    let replace = |found: &Captures<'_>| {
        let Some(routes) = tables.get(&found[1]) else { return found[0].to_owned() };
        let mut text = format!("<routeTableId>{}</routeTableId><routeSet>", &found[1]);
        for route in routes {
            text.push_str("<item>");
            for (name, value) in route {
                // Writing into a string does not fail.
                let _ = write!(text, "<{name}>{value}</{name}>");
            }
            text.push_str("</item>");
        }
        text + "</routeSet>"
    };
    ROUTES.replace_all(xml, replace).into_owned()
}

/// Whether interfaces check that packets are theirs, in an answer to `DescribeNetworkInterfaces`.
pub(super) fn checks(xml: &str) -> BTreeMap<String, bool> {
    CHECK.captures_iter(xml).map(|found| (found[1].to_owned(), &found[2] == "true")).collect()
}

/// A row's destination.
pub(super) fn destination(route: &Route) -> &str {
    let of = |name: &str| route.get(name).map(String::as_str);
    of("destinationCidrBlock").or_else(|| of("destinationIpv6CidrBlock")).unwrap_or_default()
}

/// The machine that a row leads to.
pub(super) fn machine<'a>(route: &Route, machines: &'a [Machine]) -> Option<&'a Machine> {
    let is = |name: &str, value: &str| route.get(name).is_some_and(|said| said == value);
    machines
        .iter()
        .find(|machine| is("networkInterfaceId", &machine.interface) || is("instanceId", &machine.instance))
}

fn complete(mut route: Route, state: &State) -> Route {
    if let Some(machine) = machine(&route, &state.machines) {
        let condition = if machine.running { "active" } else { "blackhole" };
        for (name, value) in [
            ("instanceId", machine.instance.as_str()),
            ("instanceOwnerId", &state.site.account),
            ("networkInterfaceId", &machine.interface),
            ("state", condition),
        ] {
            route.insert(name.to_owned(), value.to_owned());
        }
    }
    route
}
