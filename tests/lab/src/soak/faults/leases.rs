//! Leases: hostile ones, those of peers that come and go, and the nodes' own.

use anyhow::Result;

use super::{Area, Fault, Kind, name};
use crate::hostile_lease::{self, own_prefix};
use crate::soak::StoreKind;
use crate::soak::scene::Scene;
use crate::store::StoredLease;
use crate::{Backend, Cluster};

pub const KINDS: &[Kind] = &[
    Kind::new("hostile leases", Area::Leases, hostile),
    Kind::new("64 bad leases", Area::Leases, many_bad),
    Kind::new("many peers", Area::Leases, many_peers),
    Kind::new("huge lease", Area::Leases, huge),
    Kind::new("deep lease", Area::Leases, deep),
    Kind::new("another's data", Area::Leases, anothers_data),
    Kind::new("overlapping lease", Area::Leases, overlapping),
    Kind::new("peers come and go", Area::Leases, peers_come_and_go),
    Kind::new("subnet changes hands", Area::Leases, changes_hands),
    Kind::new("own lease removed", Area::Leases, own_removed).costing_packets(),
    Kind::new("own lease rubbish", Area::Control, own_rubbish).costing_packets(),
    Kind::new("own lease a stranger's", Area::Leases, own_strangers).costing_packets(),
];

/// What etcdctl takes of a value: an argument of a program is not longer than 128 KiB.
const ETCD_VALUE: usize = 100_000;
/// What a directory takes.
const FILE_VALUE: usize = 4 << 20;

/// Writes leases, and removes them again; but none that a node has.
fn written(scene: &Scene, told: String, leases: Vec<StoredLease>) -> Result<Fault> {
    let there = scene.cluster.store().leases()?;
    let mut keys = Vec::new();
    for lease in leases {
        if there.iter().all(|other| other.key != lease.key) {
            scene.cluster.store().put(&lease)?;
            keys.push(lease.key);
        }
    }
    Ok(Fault::new(told, move |scene| remove(&scene.cluster, &keys)))
}

/// Removes those that are still there.
fn remove(cluster: &Cluster, keys: &[String]) -> Result<()> {
    for lease in cluster.store().leases()?.iter().filter(|lease| keys.contains(&lease.key)) {
        cluster.store().remove(lease)?;
    }
    Ok(())
}

/// A lease of a node that there is not, with a subnet that no node of a soak is likely to have.
fn invented(scene: &Scene, number: u8) -> StoredLease {
    let backend = scene.setting.backend;
    if backend == Backend::Vxlan {
        return StoredLease::invented(number);
    }
    let address = match backend {
        // Only a node on the same link can be served.
        Backend::HostGw => format!("192.168.77.{number}"),
        _ => format!("192.168.78.{number}"),
    };
    hostile_lease::lease(&format!("10.5.{number}.0-24"), &address, backend)
}

fn number(scene: &mut Scene, from: u8) -> u8 {
    from + u8::try_from(scene.random.below(20)).unwrap_or_default()
}

fn hostile(scene: &mut Scene, node: usize) -> Result<Fault> {
    let own = own_prefix(&scene.subnets[node]);
    let count = 1 + scene.random.below(8);
    let leases: Vec<_> = (0..count).map(|_| hostile_lease::any(&mut scene.random, &own)).collect();
    let keys: Vec<&str> = leases.iter().map(|lease| lease.key.as_str()).collect();
    let told = format!("{}: {count}, such as {}", name(node), keys[0]);
    written(scene, told, leases)
}

fn many_bad(scene: &mut Scene, _: usize) -> Result<Fault> {
    let bad = |n| StoredLease { key: format!("10.5.{n}.9-24"), ..StoredLease::invented(n) };
    written(scene, "64 with host bits".to_owned(), (100..164).map(bad).collect())
}

fn many_peers(scene: &mut Scene, _: usize) -> Result<Fault> {
    let count = 50 + scene.random.below(100);
    let leases = (0..count).map(|at| invented(scene, u8::try_from(100 + at).unwrap_or(u8::MAX))).collect();
    written(scene, format!("{count} at once"), leases)
}

fn huge(scene: &mut Scene, _: usize) -> Result<Fault> {
    let most = if scene.setting.store == StoreKind::Etcd { ETCD_VALUE } else { FILE_VALUE };
    let bytes = 1 + scene.random.below(most);
    let key = format!("10.5.{}.0-24", number(scene, 200));
    let value = format!(r#"{{"PublicIP":"192.168.78.9","BackendType":"{}"}}"#, "x".repeat(bytes));
    let told = format!("{key} with {} bytes", value.len());
    written(scene, told, vec![StoredLease { key, value }])
}

fn deep(scene: &mut Scene, _: usize) -> Result<Fault> {
    let depth = 1 + scene.random.below(ETCD_VALUE / 2 - 1);
    let key = format!("10.5.{}.0-24", number(scene, 200));
    let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let value = format!(r#"{{"PublicIP":"192.168.78.9","BackendType":"vxlan","BackendData":{data}}}"#);
    written(scene, format!("{key}, {depth} brackets deep"), vec![StoredLease { key, value }])
}

/// What a node has published, with another subnet, or with another address, too.
fn anothers_data(scene: &mut Scene, node: usize) -> Result<Fault> {
    let mut lease = scene.cluster.store().lease_of(&scene.subnets[node])?;
    let v6 = if scene.setting.ipv6 { "&fc00:5:0:250::-64" } else { "" };
    lease.key = format!("10.5.250.0-24{v6}");
    let from = scene.cluster.node(node).address().to_string();
    lease.value = lease.value.replace(&format!(r#""{from}""#), r#""192.168.77.99""#);
    written(scene, format!("{} has a double at 192.168.77.99", name(node)), vec![lease])
}

fn overlapping(scene: &mut Scene, node: usize) -> Result<Fault> {
    let own = own_prefix(&scene.subnets[node]);
    let (length, backend) = (17 + scene.random.below(12), scene.setting.backend);
    let address =
        own.split('.').map(|part| part.parse().unwrap_or(0u32)).fold(0, |all, part| all << 8 | part) << 8;
    let start = std::net::Ipv4Addr::from(address & (u32::MAX << (32 - length)));
    let lease = hostile_lease::lease(&format!("{start}-{length}"), "192.168.77.99", backend);
    let told = format!("{} with {start}/{length}", name(node));
    written(scene, told, vec![lease])
}

/// Peers that there are not come; some change, and some go before the rest.
fn peers_come_and_go(scene: &mut Scene, _: usize) -> Result<Fault> {
    let mut keys = Vec::new();
    let count = 4 + scene.random.below(20);
    for _ in 0..count {
        let lease = invented_at_random(scene);
        if scene.leases.iter().any(|own| own.subnets().first() == lease.subnets().first()) {
            continue;
        }
        if keys.contains(&lease.key) && scene.random.below(2) == 0 {
            keys.retain(|key| *key != lease.key);
            scene.cluster.store().remove(&lease)?;
        } else {
            scene.cluster.store().put(&lease)?;
            if !keys.contains(&lease.key) {
                keys.push(lease.key);
            }
        }
    }
    Ok(Fault::new(format!("{count} changes"), move |scene| remove(&scene.cluster, &keys)))
}

fn invented_at_random(scene: &mut Scene) -> StoredLease {
    let number = number(scene, 200);
    let lease = invented(scene, number);
    let (usual, moved) = (format!(".{number}\""), format!(".{}\"", number - 100));
    let moves = scene.random.below(3) == 0;
    StoredLease { value: if moves { lease.value.replace(&usual, &moved) } else { lease.value }, ..lease }
}

/// A peer's subnet becomes another peer's, without a moment in between.
fn changes_hands(scene: &mut Scene, _: usize) -> Result<Fault> {
    let number = number(scene, 200);
    let (first, second) = (invented(scene, number), invented(scene, number - 100));
    let second = StoredLease { key: first.key.clone(), ..second };
    if scene.leases.iter().any(|own| own.subnets().first() == first.subnets().first()) {
        return Ok(Fault::left_alone("no subnet is free"));
    }
    scene.cluster.store().put(&first)?;
    scene.cluster.store().put(&second)?;
    let keys = [first.key];
    Ok(Fault::new(format!("{} twice", keys[0]), move |scene| remove(&scene.cluster, &keys)))
}

fn own_removed(scene: &mut Scene, node: usize) -> Result<Fault> {
    let lease = scene.cluster.store().lease_of(&scene.subnets[node])?;
    scene.cluster.store().remove(&lease)?;
    Ok(Fault::left_alone(format!("{}: {}", name(node), lease.key)))
}

/// The node keeps its subnet, and writes its lease anew; a daemon that is away cannot, and takes another subnet when it comes.
fn own_rubbish(scene: &mut Scene, node: usize) -> Result<Fault> {
    let lease = scene.cluster.store().lease_of(&scene.subnets[node])?;
    let value = (*scene.random.one_of(&["", "{", "null", "[]", r#"{"PublicIP":7}"#])).to_owned();
    let told = format!("{}: {value:?}", name(node));
    scene.cluster.store().put(&StoredLease { value, ..lease })?;
    Ok(Fault::left_alone(told))
}

/// Somebody else has the node's subnet now; the node takes another one. The stranger goes at the end.
fn own_strangers(scene: &mut Scene, node: usize) -> Result<Fault> {
    let lease = scene.cluster.store().lease_of(&scene.subnets[node])?;
    let number = number(scene, 200);
    let stranger = StoredLease { key: lease.key, ..invented(scene, number) };
    scene.cluster.store().put(&stranger)?;
    let told = format!("{}: {}", name(node), stranger.key);
    Ok(Fault::new(told, move |scene| remove_as_written(scene, &stranger)))
}

/// Removes a lease; but the node may have made it its own again.
fn remove_as_written(scene: &Scene, written: &StoredLease) -> Result<()> {
    let leases = scene.cluster.store().leases()?;
    leases.iter().filter(|lease| *lease == written).try_for_each(|lease| scene.cluster.store().remove(lease))
}
