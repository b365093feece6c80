//! The tunnels that are at work in this process: for the reconciler they are like the kernel, something that is made as the ledger
//! says.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flannel_model::entry::TunnelDevice;
use flannel_udp_tunnel::{
    Addresses, Inherited, Meter, PeerChange, PeerCounters, Tunnel, TunnelCounters, TunnelError, TunnelPeer,
    TunnelSpec,
};
use ipnet::IpNet;
use tracing::info;

use super::report::TunnelReport;

/// What is to become of a peer's subnet.
#[derive(Clone, Debug)]
pub(crate) enum TunnelChange {
    /// Packets to it go there from now on.
    Put(IpNet, IpAddr),
    /// Nobody has it.
    Remove(IpNet),
}

/// A tunnel at work.
struct Open {
    device: TunnelDevice,
    tunnel: Tunnel,
    /// Under which number the tunnel knows each subnet, and where it is.
    subnets: HashMap<IpNet, (u64, IpAddr)>,
    next: u64,
}

/// Who keeps descriptors while this process is away.
pub trait DescriptorStore: Send + Sync {
    /// Gives back what was kept under a name.
    fn take(&self, name: &str) -> Vec<OwnedFd>;
    /// Keeps duplicates under a name, beside what is kept under it already.
    fn keep(&self, name: &str, descriptors: &[BorrowedFd<'_>]);
    /// Closes what is kept under a name.
    fn forget(&self, name: &str);
}

/// The counters of all tunnels, for other threads.
#[derive(Clone, Default)]
pub struct Meters(Arc<Mutex<BTreeMap<Arc<str>, Meter>>>);

impl Meters {
    /// What has passed through each tunnel so far, without peers.
    pub fn totals(&self) -> Vec<TunnelCounters> {
        self.lock().values().map(Meter::totals).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Meter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tunnels have to do with the rest of the daemon.
#[derive(Clone, Default)]
pub struct TunnelContext {
    /// Where their counters are found.
    pub meters: Meters,
    /// Who keeps their descriptors, if anybody does.
    pub keeper: Option<Arc<dyn DescriptorStore>>,
}

/// All of them, by the names of their devices.
#[derive(Default)]
pub(crate) struct Tunnels {
    open: BTreeMap<Arc<str>, Open>,
    context: TunnelContext,
}

impl Tunnels {
    /// None yet.
    pub(crate) fn new(context: TunnelContext) -> Self {
        Self { open: BTreeMap::new(), context }
    }

    /// Opens a tunnel, if it is not at work as it should be. `index`: that of the device of this name, if there is one.
    pub(crate) fn ensure(&mut self, device: &TunnelDevice, index: Option<u32>) -> Result<(), TunnelError> {
        if let Some(open) = self.open.get_mut(&device.name) {
            let same = TunnelDevice { mtu: device.mtu, ..open.device.clone() } == *device;
            if same && !open.tunnel.is_lost() && index == Some(open.tunnel.index()) {
                if open.device.mtu != device.mtu {
                    open.tunnel.set_mtu(device.mtu);
                    open.device.mtu = device.mtu;
                }
                return Ok(());
            }
            // Its sockets have the port.
            self.open.remove(&device.name);
            self.forget(&device.name);
        }
        let spec = TunnelSpec {
            name: device.name.to_string(),
            ipv4: device.ipv4.map(|address| SocketAddrV4::new(address, device.port)),
            ipv6: device.ipv6.map(|address| SocketAddrV6::new(address, device.port, 0, 0)),
            addresses: Addresses::default(),
            mtu: device.mtu,
            queues: None,
            offloads: device.offloads,
            // It outlives the daemon with its routes, so that the next one finds them.
            persist: true,
        };
        let tunnel = self.inherit_or_open(&spec)?;
        let offloads = tunnel.offloads();
        info!(
            device = %device.name, port = device.port, mtu = device.mtu,
            tso = offloads.tso, gso = offloads.gso, gro = offloads.gro, "tunnel opened"
        );
        self.context.meters.lock().insert(Arc::clone(&device.name), tunnel.meter());
        let open = Open { device: device.clone(), tunnel, subnets: HashMap::new(), next: 0 };
        self.open.insert(Arc::clone(&device.name), open);
        Ok(())
    }

    /// The index of a tunnel's device.
    pub(crate) fn index(&self, device: &str) -> Option<u32> {
        self.open.get(device).map(|open| open.tunnel.index())
    }

    /// Whether it may be us who have this device open: this process, or a service manager in its stead.
    pub(crate) fn may_have(&self, device: &str, index: Option<u32>) -> bool {
        self.context.keeper.is_some() || index.is_some() && self.index(device) == index
    }

    fn inherit_or_open(&self, spec: &TunnelSpec) -> Result<Tunnel, TunnelError> {
        let Some(keeper) = &self.context.keeper else { return Tunnel::open(spec) };
        let kept = keeper.take(&spec.name);
        if !kept.is_empty() {
            let count = kept.len();
            if let Some(inherited) = Inherited::sort(kept, spec) {
                info!(device = %spec.name, descriptors = count, "going on with the queues and sockets that were kept");
                return Tunnel::inherit(spec, inherited);
            }
            info!(device = %spec.name, descriptors = count, "the queues and sockets that were kept do not fit: new ones");
        }
        // There may be some of this very process, too. As long as somebody has them the port is taken, and the kernel puts packets
        // into queues that nobody reads.
        keeper.forget(&spec.name);
        let tunnel = Tunnel::open(spec)?;
        keeper.keep(&spec.name, &tunnel.descriptors());
        Ok(tunnel)
    }

    fn forget(&self, name: &str) {
        self.context.meters.lock().remove(name);
        if let Some(keeper) = &self.context.keeper {
            keeper.forget(name);
        }
    }

    /// A tunnel's device has another name.
    pub(crate) fn rename(&mut self, from: &Arc<str>, to: &Arc<str>) {
        let Some(mut open) = self.open.remove(from) else { return };
        let meter = self.context.meters.lock().remove(from);
        if let Some(keeper) = &self.context.keeper {
            keeper.forget(from);
            keeper.keep(to, &open.tunnel.descriptors());
        }
        open.device.name = Arc::clone(to);
        self.context.meters.lock().extend(meter.map(|meter| (Arc::clone(to), meter)));
        self.open.insert(Arc::clone(to), open);
    }

    /// Closes the tunnels of all other devices.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let unwanted: Vec<Arc<str>> = self.open.keys().filter(|name| !is_wanted(name)).cloned().collect();
        for name in unwanted {
            self.open.remove(&name);
            self.forget(&name);
        }
    }

    /// Sets the addresses that a tunnel answers from: those of its device.
    pub(crate) fn set_addresses(&self, device: &str, addresses: impl Iterator<Item = IpAddr>) {
        let Some(open) = self.open.get(device) else { return };
        let mut own = Addresses::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => own.v4 = Some(address),
                IpAddr::V6(address) => own.v6 = Some(address),
            }
        }
        open.tunnel.set_addresses(own);
    }

    /// Changes a tunnel's peers. A tunnel that is not there has none.
    pub(crate) fn change(&mut self, device: &str, changes: &[TunnelChange]) {
        let Some(open) = self.open.get_mut(device) else { return };
        let changes: Vec<PeerChange> = changes
            .iter()
            .filter_map(|change| match change {
                TunnelChange::Put(subnet, endpoint) => {
                    let (id, known) = open.subnets.entry(*subnet).or_insert_with(|| {
                        open.next += 1;
                        (open.next, *endpoint)
                    });
                    *known = *endpoint;
                    let peer = TunnelPeer { id: *id, subnets: vec![*subnet], endpoint: *endpoint };
                    Some(PeerChange::Set(peer))
                }
                TunnelChange::Remove(subnet) => {
                    open.subnets.remove(subnet).map(|(id, _)| PeerChange::Remove(id))
                }
            })
            .collect();
        open.tunnel.update(&changes);
    }

    /// All peers are known: who sends to nobody is told so from now on.
    pub(crate) fn start_forwarding(&self) {
        self.open.values().for_each(|open| open.tunnel.start_forwarding());
    }

    /// The subnets that a tunnel knows, and where they are.
    pub(crate) fn peers(&self, device: &str) -> impl Iterator<Item = (IpNet, IpAddr)> {
        let open = self.open.get(device);
        open.into_iter()
            .flat_map(|open| open.subnets.iter().map(|(subnet, (_, endpoint))| (*subnet, *endpoint)))
    }

    /// Each tunnel, with what has passed through it so far.
    pub(crate) fn reports(&self) -> Vec<TunnelReport> {
        let report = |(name, open): (&Arc<str>, &Open)| TunnelReport {
            device: Arc::clone(name),
            port: open.device.port,
            offloads: open.tunnel.offloads(),
            counters: open.tunnel.meter().totals(),
        };
        self.open.iter().map(report).collect()
    }

    /// What has passed to and from each subnet so far, by device and subnet.
    pub(crate) fn traffic(&self) -> HashMap<(Arc<str>, IpNet), PeerCounters> {
        let mut all = HashMap::new();
        for (name, open) in &self.open {
            let counters = open.tunnel.counters().peers;
            let by_id: HashMap<u64, PeerCounters> =
                counters.into_iter().map(|peer| (peer.id, peer)).collect();
            for (subnet, (id, _)) in &open.subnets {
                all.extend(by_id.get(id).map(|figures| ((Arc::clone(name), *subnet), *figures)));
            }
        }
        all
    }
}
