//! Whose a lease is, and in which order.

use flannel_model::lease::Attributes;
use flannel_model::network_config::NetworkConfig;

use ipnet::Ipv4Net;

use super::*;
use crate::node::external::External;

fn subnets(text: &str) -> Subnets {
    Subnets { v4: Some(text.parse().expect("prefix")), v6: None }
}

fn lease(subnet: &str, last: u8) -> Arc<Lease> {
    let attributes = Attributes { public_ip: Some([192, 168, 0, last].into()), ..Attributes::default() };
    Arc::new(Lease { subnets: subnets(subnet), attributes, expires: None })
}

/// The same of a node with a VTEP that has this address.
fn vxlan_lease(subnet: &str, last: u8, mac: u8) -> Arc<Lease> {
    let data = format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:00:{mac:02x}"}}"#);
    with_data(subnet, last, "vxlan", data)
}

fn with_data(subnet: &str, last: u8, backend: &str, data: String) -> Arc<Lease> {
    let mut lease = lease(subnet, last);
    let attributes = &mut Arc::make_mut(&mut lease).attributes;
    attributes.backend_type = backend.to_owned();
    attributes.backend_data = serde_json::value::RawValue::from_string(data).ok();
    lease
}

fn gate() -> LeaseGate {
    let config = NetworkConfig::parse(r#"{"Network":"10.5.0.0/16"}"#).expect("config");
    LeaseGate::new(&config, Vec::new(), &External::with_address([192, 168, 0, 1]))
}

/// Of the node with 192.168.0.1 and 10.5.1.0/24.
struct View(ClusterView);

impl View {
    fn new() -> Self {
        Self(ClusterView::new(&lease("10.5.1.0/24", 1), gate()))
    }

    fn take(&mut self, event: Event) -> Delta {
        self.0.take(event, Instant::now())
    }

    /// The snapshot's changes. Our own lease is in each.
    fn snapshot(&mut self, mut leases: Vec<Arc<Lease>>) -> Vec<PeerChange> {
        leases.push(lease("10.5.1.0/24", 1));
        let delta = self.take(Event::Snapshot(leases));
        assert!(!delta.own_lost);
        delta.peers
    }

    fn put(&mut self, lease: Arc<Lease>) -> Delta {
        self.take(Event::Changes(vec![Change::Put(lease)]))
    }

    /// The leases of all peers, by their subnets.
    fn peers(&self) -> Vec<Arc<Lease>> {
        let lease = |change| match change {
            PeerChange::Put(_, lease) => lease,
            PeerChange::Removed(id) => panic!("{id} is gone"),
        };
        let mut leases: Vec<Arc<Lease>> = self.0.all().into_iter().map(lease).collect();
        leases.sort_by_key(|lease| lease.subnets);
        leases
    }
}

#[test]
fn a_snapshot_brings_the_new_the_changed_and_the_gone() {
    let mut view = View::new();
    let first = vec![lease("10.5.2.0/24", 2), lease("10.5.3.0/24", 3), lease("10.5.4.0/24", 4)];
    assert_eq!(view.snapshot(first).len(), 3, "our own lease is no peer");
    let changes = view.snapshot(vec![lease("10.5.2.0/24", 2), lease("10.5.3.0/24", 33)]);
    assert!(matches!(changes[0], PeerChange::Removed(_)), "the peer that is gone");
    let [_, PeerChange::Put(_, changed)] = &changes[..] else { panic!("{}", changes.len()) };
    assert_eq!(changed.attributes.public_ip, Some([192, 168, 0, 33].into()));
}

#[test]
fn what_a_store_has_lost_is_held_until_its_node_writes_again_or_somebody_has_its_subnet() {
    let mut view = View::new();
    view.snapshot((2..=5).map(|n| lease(&format!("10.5.{n}.0/24"), n)).collect());
    let bereft = view.take(Event::StoreReset(Vec::new()));
    assert!(bereft.peers.is_empty() && bereft.own_lost);
    assert!(view.snapshot(vec![lease("10.5.2.0/24", 2)]).is_empty(), "the same as before");
    let other_subnet = view.put(lease("10.5.33.0/24", 3)).peers;
    assert!(
        matches!(other_subnet[..], [PeerChange::Removed(_), PeerChange::Put(..)]),
        "{}",
        other_subnet.len()
    );
    let other_node = view.put(lease("10.5.4.0/25", 44)).peers;
    assert!(matches!(other_node[..], [PeerChange::Removed(_), PeerChange::Put(..)]), "{}", other_node.len());
    let now = Instant::now();
    assert!(view.0.expire(now).peers.is_empty());
    let over = view.0.expire(now + LEASE_TTL).peers;
    assert!(matches!(over[..], [PeerChange::Removed(_)]), "the one that never came");
    assert!(matches!(view.snapshot(Vec::new())[..], [_, _, _]), "those that wrote are held no more");
}

#[test]
fn a_renewal_is_no_change() {
    let mut view = View::new();
    view.snapshot(vec![lease("10.5.2.0/24", 2)]);
    let expires = Some(std::time::SystemTime::now());
    let renewed = Lease { expires, ..Lease::clone(&lease("10.5.2.0/24", 2)) };
    assert!(view.put(Arc::new(renewed)).peers.is_empty());
}

#[test]
fn a_subnet_that_is_leased_again_is_another_peer() {
    let mut view = View::new();
    let PeerChange::Put(first, _) = view.snapshot(vec![lease("10.5.2.0/24", 2)]).remove(0) else {
        panic!("a peer came");
    };
    view.take(Event::Changes(vec![Change::Removed(subnets("10.5.2.0/24"))]));
    let changes = view.put(lease("10.5.2.0/24", 2)).peers;
    assert!(matches!(changes[0], PeerChange::Put(id, _) if id != first));
}

#[test]
fn who_takes_our_subnet_is_a_peer_once_we_have_another_one() {
    let mut view = View::new();
    let usurped = view.put(lease("10.5.1.0/24", 9));
    assert!(usurped.own_lost && usurped.peers.is_empty());
    let changes = view.0.set_own(&lease("10.5.7.0/24", 1)).peers;
    assert!(matches!(&changes[..], [PeerChange::Put(_, peer)] if peer.subnets == subnets("10.5.1.0/24")));
    assert_eq!(view.peers(), [lease("10.5.1.0/24", 9)]);
}

#[test]
fn who_gives_our_subnet_back_before_we_have_another_one_is_no_peer() {
    let mut view = View::new();
    assert!(view.put(lease("10.5.1.0/24", 9)).own_lost);
    assert!(view.take(Event::Changes(vec![Change::Removed(subnets("10.5.1.0/24"))])).own_lost);
    assert!(view.0.set_own(&lease("10.5.7.0/24", 1)).peers.is_empty());
}

#[test]
fn a_lease_of_ours_that_is_lost_and_back_within_one_event_is_not_lost() {
    let mut view = View::new();
    let changes = vec![Change::Put(lease("10.5.1.0/24", 9)), Change::Put(lease("10.5.1.0/24", 1))];
    assert!(!view.take(Event::Changes(changes)).own_lost);
}

#[test]
fn a_subnet_that_we_get_is_its_former_nodes_no_longer() {
    let mut view = View::new();
    view.snapshot(vec![lease("10.5.7.0/24", 7)]);
    assert!(matches!(view.0.set_own(&lease("10.5.7.0/24", 1)).peers[..], [PeerChange::Removed(_)]));
    assert!(view.peers().is_empty());
}

/// Leases, the oldest first.
#[derive(Default)]
struct Store(Vec<Arc<Lease>>);

impl Store {
    fn has(&self, subnets: &Subnets) -> bool {
        self.0.iter().any(|lease| lease.subnets == *subnets)
    }

    fn put(&mut self, lease: &Arc<Lease>) {
        match self.0.iter_mut().find(|there| there.subnets == lease.subnets) {
            Some(there) => *there = Arc::clone(lease),
            None => self.0.push(Arc::clone(lease)),
        }
    }

    fn remove(&mut self, subnets: &Subnets) {
        self.0.retain(|lease| lease.subnets != *subnets);
    }
}

/// Random histories, of which the end alone counts.
#[test]
fn the_view_is_what_a_fresh_start_would_see() {
    for seed in 0..500_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: u8| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u8::try_from(state % u64::from(below)).unwrap_or_default()
        };
        let mut view = View::new();
        let (mut own, mut store) = (vxlan_lease("10.5.0.0/24", 1, 1), Store::default());
        view.0 = ClusterView::new(&own, gate());
        store.put(&own);
        view.take(Event::Snapshot(store.0.clone()));
        // Changes may come one by one, or several at once.
        let mut together = Vec::new();
        for _ in 0..40 {
            // Some overlap, and some have an address that no host has.
            let length = 22 + random(4);
            let net: Ipv4Net = format!("10.5.{}.0/{length}", random(5)).parse().expect("prefix");
            let address = 1 + random(4);
            let mut written = match random(3) {
                0 => lease(&net.trunc().to_string(), address),
                _ => vxlan_lease(&net.trunc().to_string(), address, 1 + random(3)),
            };
            if random(5) == 0 {
                Arc::make_mut(&mut written).attributes.public_ip = Some([127, 0, 0, 1].into());
            }
            let event = match random(4) {
                // Missed news, as after a reconnection.
                0 if together.is_empty() => {
                    store.put(&written);
                    Event::Snapshot(store.0.clone())
                }
                1 => {
                    store.remove(&written.subnets);
                    together.push(Change::Removed(written.subnets));
                    Event::Changes(Vec::new())
                }
                _ => {
                    store.put(&written);
                    together.push(Change::Put(written));
                    Event::Changes(Vec::new())
                }
            };
            let event = match event {
                Event::Changes(_) if random(3) == 0 => continue,
                Event::Changes(_) => Event::Changes(std::mem::take(&mut together)),
                snapshot => snapshot,
            };
            let lost = view.take(event).own_lost;
            if lost && random(2) == 0 {
                // We get another one: one that is free, or our own again.
                let free = (0..6).map(|n| vxlan_lease(&format!("10.5.{n}.0/24"), 1, 1));
                let mut free = free.filter(|free| !store.has(&free.subnets));
                if let Some(next) = free.next() {
                    store.put(&next);
                    view.0.set_own(&next);
                    own = next;
                }
            }
        }
        view.take(Event::Changes(together));
        let mut fresh = View(ClusterView::new(&own, gate()));
        fresh.take(Event::Snapshot(store.0.clone()));
        assert_eq!(view.peers(), fresh.peers(), "seed {seed}");
    }
}

#[test]
fn of_two_leases_that_overlap_the_one_that_was_known_first_is_served_until_it_goes() {
    let mut view = View::new();
    view.put(lease("10.5.2.0/24", 2));
    let delta = view.put(lease("10.5.2.128/25", 3));
    assert!(delta.peers.is_empty(), "{delta:?}");
    let [(refused, reason)] = &delta.refused[..] else { panic!("{delta:?}") };
    assert_eq!(
        (refused.to_string().as_str(), reason.contains("10.5.2.0/24")),
        ("10.5.2.128/25", true),
        "{reason}"
    );
    assert!(view.put(lease("10.5.2.128/25", 3)).refused.is_empty(), "it is said once");
    let gone = view.take(Event::Changes(vec![Change::Removed(subnets("10.5.2.0/24"))]));
    assert!(matches!(gone.peers[..], [PeerChange::Removed(_), PeerChange::Put(..)]), "{gone:?}");
    assert_eq!(view.peers(), [lease("10.5.2.128/25", 3)]);
    assert_eq!(view.0.refused(), 0);
}

#[test]
fn a_peer_whose_lease_is_believed_no_longer_is_no_peer() {
    let mut view = View::new();
    view.put(lease("10.5.2.0/24", 2));
    let bad = Lease {
        attributes: Attributes { public_ip: Some([127, 0, 0, 1].into()), ..Attributes::default() },
        ..Lease::clone(&lease("10.5.2.0/24", 2))
    };
    let delta = view.put(Arc::new(bad));
    assert!(matches!(delta.peers[..], [PeerChange::Removed(_)]) && delta.refused.len() == 1, "{delta:?}");
    let delta = view.put(lease("10.5.2.0/24", 2));
    assert!(matches!(delta.peers[..], [PeerChange::Put(..)]), "{delta:?}");
}

#[test]
fn many_leases_that_are_not_believed_cost_the_good_ones_nothing() {
    let mut view = View::new();
    let bad = (0..255_u8).map(|n| lease(&format!("10.5.{n}.9/24"), 2));
    let good = (2..200_u8).map(|n| lease(&format!("10.5.{n}.0/24"), n));
    let delta = view.take(Event::Snapshot(bad.chain(good).collect()));
    assert_eq!((delta.peers.len(), delta.refused.len()), (198, 255));
}

#[test]
fn who_was_refused_for_our_former_subnet_is_served_when_we_have_another_one() {
    let mut view = View::new();
    assert_eq!(view.put(lease("10.5.1.128/25", 3)).refused.len(), 1);
    let delta = view.0.set_own(&lease("10.5.7.0/24", 1));
    assert!(matches!(delta.peers[..], [PeerChange::Put(..)]), "{delta:?}");
}

#[test]
fn however_many_go_at_once_all_are_looked_at_once() {
    let mut view = View::new();
    let good: Vec<_> = (2..250_u8).map(|n| lease(&format!("10.5.{n}.0/24"), n)).collect();
    view.take(Event::Snapshot(good.clone()));
    // It waits for the last of them.
    assert_eq!(view.put(lease("10.5.248.0/23", 251)).refused.len(), 1);
    let gone = good.iter().map(|lease| Change::Removed(lease.subnets)).collect();
    let delta = view.take(Event::Changes(gone));
    let [removed @ .., PeerChange::Put(..)] = &delta.peers[..] else { panic!("{delta:?}") };
    assert_eq!(removed.len(), good.len());
    assert!(delta.refused.is_empty(), "nobody is judged in between: {:?}", delta.refused);
}

/// Makes a lease of a subnet and the last byte of an address.
type LeaseOf<'a> = &'a dyn Fn(&str, u8) -> Arc<Lease>;

#[test]
fn of_two_nodes_with_one_key_the_older_stays_and_both_are_named() {
    let key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    let wireguard =
        |subnet: &str, last| with_data(subnet, last, "wireguard", format!(r#"{{"PublicKey":"{key}"}}"#));
    let v6 = |subnet: &str, last| {
        let mut lease = vxlan_lease(subnet, last, 9);
        let attributes = &mut Arc::make_mut(&mut lease).attributes;
        attributes.backend_v6_data = attributes.backend_data.take();
        lease
    };
    let cases: [(&str, LeaseOf<'_>); 3] = [
        ("VTEP MAC 02:00:00:00:00:09", &|subnet, last| vxlan_lease(subnet, last, 9)),
        ("VTEP MAC 02:00:00:00:00:09", &v6),
        (key, &wireguard),
    ];
    for (name, lease_of) in cases {
        let mut view = View::new();
        let first = view.snapshot(vec![lease_of("10.5.2.0/24", 2), lease_of("10.5.3.0/24", 3)]);
        assert_eq!(first.len(), 1);
        assert_eq!(view.peers()[0].subnets, subnets("10.5.2.0/24"));
        let delta = view.put(lease_of("10.5.4.0/24", 4));
        let [(refused, reason)] = &delta.refused[..] else { panic!("{delta:?}") };
        assert_eq!(*refused, subnets("10.5.4.0/24"));
        assert!(reason.contains(name) && reason.contains("10.5.2.0/24 of 192.168.0.2"), "{reason}");
        // A lease that gets the key later is as young as one that comes with it.
        view.put(lease("10.5.5.0/24", 5));
        let delta = view.put(lease_of("10.5.5.0/24", 5));
        assert!(matches!(delta.peers[..], [PeerChange::Removed(_)]), "{delta:?}");
        view.put(lease("10.5.5.0/24", 5));
        assert_eq!(view.peers().len(), 2);
        // And when the older one goes, or has another key, the next one has its turn.
        view.put(lease("10.5.2.0/24", 2));
        let served: Vec<Subnets> = view.peers().iter().map(|lease| lease.subnets).collect();
        assert_eq!(served, ["10.5.2.0/24", "10.5.3.0/24", "10.5.5.0/24"].map(subnets));
        view.take(Event::Changes(vec![Change::Removed(subnets("10.5.3.0/24"))]));
        assert!(view.peers().iter().any(|lease| lease.subnets == subnets("10.5.4.0/24")));
    }
}

#[test]
fn two_leases_of_one_node_may_have_its_key() {
    let mut view = View::new();
    view.snapshot(vec![vxlan_lease("10.5.2.0/24", 2, 9), vxlan_lease("10.5.3.0/24", 2, 9)]);
    assert_eq!(view.peers().len(), 2);
}

#[test]
fn a_node_whose_key_an_older_lease_has_is_a_clone_and_one_whose_lease_is_older_has_been_cloned() {
    let (own, other) = (vxlan_lease("10.5.1.0/24", 1, 9), vxlan_lease("10.5.2.0/24", 2, 9));
    let mut clone = View(ClusterView::new(&own, gate()));
    clone.take(Event::Snapshot(vec![Arc::clone(&other), Arc::clone(&own)]));
    let (key, holder) = clone.0.shared_key().expect("the other's key");
    assert_eq!((key.to_string().as_str(), holder), ("VTEP MAC 02:00:00:00:00:09", other.subnets));
    assert_eq!(clone.peers(), [Arc::clone(&other)], "the older one is served");
    clone.0.set_own(&vxlan_lease("10.5.1.0/24", 1, 8));
    assert_eq!(clone.0.shared_key(), None);

    let mut cloned = View(ClusterView::new(&own, gate()));
    cloned.take(Event::Snapshot(vec![own]));
    let delta = cloned.put(Arc::clone(&other));
    assert_eq!(cloned.0.shared_key(), None);
    assert!(delta.refused[0].1.contains("this node, whose lease is older"), "{delta:?}");
    // The clone has taken another one.
    cloned.put(vxlan_lease("10.5.2.0/24", 2, 7));
    assert_eq!(cloned.peers().len(), 1);
    // What this node had before is no other's.
    let mut moved = View(ClusterView::new(&vxlan_lease("10.5.1.0/24", 1, 9), gate()));
    moved.take(Event::Snapshot(vec![vxlan_lease("10.5.3.0/24", 1, 9), vxlan_lease("10.5.1.0/24", 1, 9)]));
    assert_eq!(moved.0.shared_key(), None);
}
