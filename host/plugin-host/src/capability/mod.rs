//! What a plugin can ask of the host: one file for each interface of the contract. Every argument is checked here (a plugin
//! is trusted with nothing), and every refusal dooms the call.

mod belongs;
mod clock;
mod cloud;
mod cloud_scope;
mod commands;
mod encapsulation;
mod entries;
mod http;
mod ipsec;
mod links;
mod log;
mod metrics;
mod node_info;
mod own_lease;
mod peers;
mod policy_routing;
mod probe;
mod state;
mod tunnel;
mod tunnel_links;
mod wireguard;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::entry::{Device, DeviceSpec};
use flannel_model::lease::Subnets;
use flannel_model::ledger::PeerId;
use ipnet::IpNet;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Trap, UpdateDeadline};
use wasmtime_wasi::WasiCtx;

use super::bindings::Backend;
use super::bindings::flannel::backend::types as wit;
use super::budget::Budget;
use super::call::{Call, Function};
use super::facts::Environment;
use super::grants::EndpointGrants;
use super::limits::Limits;
use super::log_rate::LogRate;
use super::needs::Pattern;
use super::outline::TABLE_ELEMENT;
use super::probing::Probing;
use super::series::PluginSeries;
use super::state::DirState;
use super::wasi::Console;
use super::watchdog::Pauser;

pub use cloud::CloudRecord;
pub use commands::commands;

/// A link as a plugin holds it.
#[expect(unreachable_pub, reason = "what wasmtime makes of the contract exports it")]
pub struct LinkHandle {
    device: Device,
}

/// What belongs to one instance, on the host's side.
pub(crate) struct HostState {
    /// The plugin's name, for the log.
    pub plugin: String,
    /// Its place in the durable store, once its name is known.
    pub store: String,
    /// What it may use.
    pub limits: Limits,
    /// Whom to ask.
    pub environment: Environment,
    /// The call that is going on, or the last one.
    pub call: Call,
    /// The node's own subnets, once it has a lease.
    pub own: Option<Subnets>,
    /// Devices declared by calls that succeeded, and by the one that is going on.
    pub devices: BTreeMap<Arc<str>, DeviceSpec>,
    /// Networks that were declared for devices last.
    networks: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    /// Addresses that were declared for devices last.
    addresses: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    /// How many entries each peer has by calls that succeeded.
    pub entries: EntryCount,
    /// The durable store.
    pub state: Arc<DirState>,
    /// Bytes of memory that it wanted when it was over the limit.
    pub wanted_memory: Option<usize>,
    /// How much it may write into the log.
    pub log_rate: LogRate,
    /// Figures of the plugin's own.
    pub series: PluginSeries,
    /// What it has probed.
    pub probing: Probing,
    /// What it writes to standard output and standard error, if it imports WASI.
    pub console: Console,
    /// When the call that is going on has to have ended.
    pub deadline: Instant,
    /// The time of that call.
    pub budget: Budget,
    /// Stops the clock of the call while others are waited for.
    pub pauser: Pauser,
    /// The operations of clouds that the plugin is granted.
    pub operations: Arc<[Pattern]>,
    /// The endpoints that the plugin is granted.
    pub endpoints: EndpointGrants,
    /// Routes that clouds have shown to it.
    pub routes_seen: cloud_scope::SeenRoutes,
    /// Requests to clouds and endpoints that have ended.
    pub cloud_records: Vec<CloudRecord>,
    /// The labels that the node had when this was made.
    pub labels: Vec<(String, String)>,
    /// The rest of WASI; made when it is used first.
    pub wasi: Option<WasiCtx>,
    /// What its handles stand for.
    pub table: ResourceTable,
    memory: usize,
    table_elements: usize,
}

/// Entries in all, counted by peer.
#[derive(Default)]
pub(crate) struct EntryCount {
    peers: HashMap<PeerId, u32, BuildHasherDefault<Spread>>,
    total: usize,
}

/// Spreads numbers that the host itself gives out one after the other: there is nobody to guard against, and this is looked up for
/// every lease.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table takes its place from the upper and the lower bits; the factor is 2^64 by the golden ratio.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

impl EntryCount {
    /// Sets how many a peer has.
    pub(crate) fn set(&mut self, peer: PeerId, count: usize) {
        // A call's entries are limited to less.
        let new = u32::try_from(count).unwrap_or(u32::MAX);
        let before = if count == 0 { self.peers.remove(&peer) } else { self.peers.insert(peer, new) };
        self.total = self.total + new as usize - before.unwrap_or(0) as usize;
    }

    /// How many there are in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

impl HostState {
    /// For a new instance.
    pub(crate) fn new(
        plugin: String,
        limits: Limits,
        environment: Environment,
        state: Arc<DirState>,
        pauser: Pauser,
        log_rate: LogRate,
        series: PluginSeries,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            console: Console::new(&limits, log_rate.clone()),
            log_rate,
            series,
            probing: Probing::default(),
            deadline: Instant::now(),
            budget: Budget::new(Duration::ZERO),
            pauser,
            operations: Arc::default(),
            endpoints: EndpointGrants::default(),
            routes_seen: cloud_scope::SeenRoutes::default(),
            cloud_records: Vec::new(),
            labels: environment.about.labels(),
            wasi: None,
            plugin,
            store: String::new(),
            limits,
            environment,
            call: Call::new(Function::Describe),
            own: None,
            devices: BTreeMap::new(),
            networks: BTreeMap::new(),
            addresses: BTreeMap::new(),
            entries: EntryCount::default(),
            state,
            wanted_memory: None,
            memory: 0,
            table_elements: 0,
            table,
        }
    }

    /// Bytes of the host's own records of the instance, which is going to be made.
    pub(crate) fn reserve(&mut self, records: usize) {
        self.memory = self.memory.saturating_add(records);
    }

    /// Bytes that the process pays for the instance: its memories, its tables, and the host's records of it.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The call that is in [`HostState::call`] begins, and has so much time. Answers when that is over on the clock.
    pub(crate) fn begin(&mut self, time: Duration) -> Instant {
        self.deadline = Instant::now() + time;
        self.budget = Budget::new(time);
        self.console.begin(&self.plugin, self.call.function);
        self.deadline
    }

    /// The time of the call is over on the clock: it ends, or it goes on until the next tick.
    pub(crate) fn time_is_over(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.budget.is_left(self.deadline) {
            Ok(UpdateDeadline::Continue(1))
        } else {
            Err(Trap::Interrupt.into())
        }
    }

    /// Waits for others, outside of the plugin's own time.
    fn outside<T>(&mut self, wait: impl FnOnce(&Self) -> T) -> T {
        let left = self.pauser.pause();
        let outcome = wait(self);
        if let Some(left) = left {
            self.deadline = Instant::now() + left;
            self.pauser.resume(self.deadline);
        }
        outcome
    }

    /// Capability calls in `describe` and `cloud-permissions.required` trap: they say what the plugin is, and nothing else.
    fn enter(&self, capability: &str) -> wasmtime::Result<()> {
        if let Function::Describe | Function::Required = self.call.function {
            let function = self.call.function.name();
            wasmtime::bail!("{capability} was called in {function}, where no capability may be called");
        }
        Ok(())
    }

    /// Takes the outcome of a capability call: a refusal is kept, since it dooms the plugin's call.
    fn outcome<T>(&mut self, capability: &str, outcome: Result<T, wit::Error>) -> Result<T, wit::Error> {
        if let Err(error) = &outcome
            && self.call.refused.is_none()
        {
            self.call.refused = Some(format!("{capability}: {}", text(error)));
        }
        outcome
    }

    fn device(&self, handle: &Resource<LinkHandle>) -> wasmtime::Result<Device> {
        Ok(self.table.get(handle)?.device.clone())
    }
}

fn text(error: &wit::Error) -> &str {
    match error {
        wit::Error::InvalidArgument(text)
        | wit::Error::Denied(text)
        | wit::Error::LimitExceeded(text)
        | wit::Error::Unavailable(text) => text,
    }
}

/// All capabilities, for the linker; a component gets those that it imports.
pub(crate) fn link_all(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    Backend::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl wit::Host for HostState {}

impl HostState {
    /// Counts bytes that the process pays for the instance.
    fn grow(&mut self, from: usize, to: usize) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(from).saturating_add(to);
        if total > self.limits.memory {
            self.wanted_memory = Some(total);
            wasmtime::bail!("out of memory");
        }
        self.memory = total;
        Ok(true)
    }
}

impl ResourceLimiter for HostState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.table_elements.saturating_sub(current).saturating_add(desired);
        if elements > self.limits.table_elements {
            // Refused, and no trap: a language may have another way.
            return Ok(false);
        }
        self.table_elements = elements;
        self.grow(current.saturating_mul(TABLE_ELEMENT), desired.saturating_mul(TABLE_ELEMENT))
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}
