//! By which routes a peer is tried: one for each destination.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::entry::Entry;

/// The routes on trial of a peer with these: to each destination the one that counts most. Of several next hops it is the first that is tried,
/// since an answer comes by one of them alone.
pub(super) fn of(routes: &[Entry]) -> Vec<Entry> {
    let mut best: BTreeMap<IpNet, ((bool, u32), Entry)> = BTreeMap::new();
    for (destination, rank, trial) in routes.iter().filter_map(on_trial) {
        if best.get(&destination).is_none_or(|(other, _)| rank < *other) {
            best.insert(destination, (rank, trial));
        }
    }
    best.into_values().map(|(_, trial)| trial).collect()
}

/// The destination, how much it counts (the main table before others, and the lower metric), and the route on trial.
fn on_trial(route: &Entry) -> Option<(IpNet, (bool, u32), Entry)> {
    match route {
        Entry::Route { destination, via, onlink, device } => {
            let (destination, device) = (*destination, device.clone());
            let (via, onlink) = (*via, *onlink);
            let trial = Entry::TrialRoute { destination, via, onlink, device, encapsulation: None };
            Some((destination, (false, 0), trial))
        }
        Entry::PolicyRoute(route) => {
            let hop = route.hops.first()?;
            let (destination, device) = (route.destination, hop.device.clone());
            let (via, onlink, encapsulation) = (hop.via, hop.onlink, hop.encapsulation.clone());
            let trial = Entry::TrialRoute { destination, via, onlink, device, encapsulation };
            Some((destination, (route.table.is_some(), route.metric), trial))
        }
        _ => None,
    }
}
