//! A policy in operation: started, called, and after a trap started afresh. Knows nothing of the store and of the kernel.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Transaction};
use serde_json::value::RawValue;
use tracing::{debug, info, warn};

use super::artifact::Artifact;
use super::bindings::exports::flannel::backend::policy as wit;
use super::budget::processor_time;
use super::call::{Call, Function, Wishes};
use super::capability::{CloudRecord, EntryCount, HostState};
use super::convert::{self, shown};
use super::error::{Cause, PluginError};
use super::facts::Environment;
use super::grants::GrantRequest;
use super::imports;
use super::instance::{CallRecord, Instance, LinkedComponent};
use super::limits::Limits;
use super::log_rate::LogRate;
use super::needs::{self, Need};
use super::nodes::Nodes;
use super::origin::Origin;
use super::probing::{ProbeTarget, Probing};
use super::published::{PublishedData, Unfit};
use super::series::PluginSeries;
use super::signature::Provenance;
use super::state::DirState;

/// A batch of changes that fails is halved until the peer that it fails for is found; so often at the most.
const SPLITS: u32 = 64;
/// Milliseconds that a policy has to leave between two ticks.
const SHORTEST_TICK: u64 = 100;
/// The interface that says what is known of the node.
const NODE_INFO: &str = "node-info";
/// Characters of names and types.
const LONGEST_NAME: usize = 64;

/// A change of a peer's lease, as the policy is told of it.
#[derive(Clone, Debug)]
pub enum PeerChange {
    /// The peer has this lease now.
    Put(PeerId, Arc<Lease>),
    /// The peer is gone.
    Removed(PeerId),
}

impl PeerChange {
    /// Which peer.
    pub fn id(&self) -> PeerId {
        match self {
            Self::Put(id, _) | Self::Removed(id) => *id,
        }
    }
}

/// What the plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Values of `Backend.Type` that it is for.
    pub backend_types: Vec<String>,
}

impl Description {
    fn shown(description: &wit::Description, longest: usize) -> Self {
        let wit::Description { name, version, backend_types } = description;
        let shown = |text: &String| shown(text, longest);
        Self {
            name: shown(name),
            version: shown(version),
            backend_types: backend_types.iter().map(shown).collect(),
        }
    }
}

/// What the plugin said in `register`.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The plugin's name.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// `BackendType` for the lease; empty: left out.
    pub backend_type: String,
    /// `BackendData` for the lease.
    pub backend_data: Option<Box<RawValue>>,
    /// `BackendV6Data` for the lease.
    pub backend_v6_data: Option<Box<RawValue>>,
    /// Bytes of the largest IP packet of a pod.
    pub mtu: u32,
    /// The devices.
    pub transaction: Transaction,
}

impl Registration {
    /// Whether another start of the same plugin can go on in the place of this one: with other data to publish, maybe, but not as another
    /// backend, and with the same devices. The error says what is different.
    pub fn is_succeeded_by(&self, other: &Self) -> Result<(), String> {
        let differ = |what, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
            Err(format!("it registers otherwise than at first: {what} {other:?}, and before {one:?}"))
        };
        if self.name != other.name {
            return differ("the name", &self.name, &other.name);
        }
        if self.backend_type != other.backend_type {
            return differ("the type", &self.backend_type, &other.backend_type);
        }
        let devices = |of: &Self| of.transaction.devices.keys().cloned().collect::<Vec<_>>();
        if devices(self) != devices(other) {
            return differ("the devices", &devices(self), &devices(other));
        }
        Ok(())
    }

    /// Whether another start of the same plugin came to the same.
    pub fn agrees(&self, other: &Self) -> bool {
        let text = |data: &Option<Box<RawValue>>| data.as_ref().map(|data| data.get().to_owned());
        self.name == other.name
            && self.backend_type == other.backend_type
            && text(&self.backend_data) == text(&other.backend_data)
            && text(&self.backend_v6_data) == text(&other.backend_v6_data)
            && self.mtu == other.mtu
            && self.transaction == other.transaction
    }
}

/// Something else that a plugin wants to be published than before.
#[derive(Clone, Debug)]
pub struct PublishedAnew {
    /// What it has registered, with what it publishes now.
    pub registration: Registration,
    /// It is what a fresh instance has registered; else the one that runs publishes it.
    pub fresh: bool,
}

/// What became of lease changes.
#[derive(Debug, Default)]
pub struct ApplyOutcome {
    /// What was declared; peers that the policy was not asked about successfully are not in it.
    pub transaction: Transaction,
    /// Calls that failed.
    pub failures: Vec<PluginError>,
    /// Peers that the policy cannot serve, and why.
    pub rejected: Vec<(PeerId, String)>,
    /// Changes that calls failed for: what these peers had stays, and they have to be asked about again.
    pub deferred: Vec<PeerChange>,
    /// A fresh instance was made, which has not been told of the other peers.
    pub restarted: bool,
    /// The first call that failed and was made again in parts. Whether these failed, too, is in `failures`.
    pub split: Option<PluginError>,
}

impl ApplyOutcome {
    /// A peer that is gone takes its entries with it, whatever the plugin thinks of it.
    fn take_along(&mut self, changes: &[PeerChange]) {
        let gone = changes.iter().filter(|change| matches!(change, PeerChange::Removed(_)));
        self.transaction.peers.extend(gone.map(|change| (change.id(), None)));
    }
}

/// A running policy.
pub struct Policy {
    name: String,
    origin: Origin,
    /// SHA-256 of the component, who has signed it, and the interfaces that it imports.
    digest: String,
    provenance: Provenance,
    imports: Vec<String>,
    component: LinkedComponent,
    environment: Environment,
    limits: Limits,
    state: Arc<DirState>,
    instance: Option<Instance>,
    /// What its instance has registered.
    registered: Option<Registration>,
    /// What it has published since in place of that.
    published: Option<PublishedData>,
    /// Which state of what is known of the node the instance has begun with.
    known_about: u64,
    /// Something else is to be published than before, and nobody has asked for it yet.
    published_anew: Option<PublishedAnew>,
    /// Peers that it wants to declare for anew, and nobody has asked for yet.
    refresh: BTreeSet<PeerId>,
    /// The nodes of the cluster, for segments.
    nodes: Nodes,
    /// How much its instances may write into the log.
    log_rate: LogRate,
    /// Figures of its own, which its instances share.
    series: PluginSeries,
    /// What it has probed, which its instances share.
    probing: Probing,
    /// Why the last instance ended, as long as there is no other.
    end: Option<String>,
    own: Option<Arc<Lease>>,
    /// Kept here while there is no instance.
    entries: EntryCount,
}

impl Policy {
    /// Starts a plugin: makes an instance and registers it.
    pub fn start(
        artifact: &Artifact,
        environment: Environment,
        limits: Limits,
        state: Arc<DirState>,
    ) -> Result<(Self, Registration), PluginError> {
        let mut policy = Self::link(artifact, environment, limits, state)?;
        policy.known_about = policy.environment.about.version();
        let (instance, registered) = policy.register()?;
        policy.name.clone_from(&registered.name);
        policy.instance = Some(instance);
        policy.registered = Some(registered.clone());
        Ok((policy, registered))
    }

    /// Asks a plugin who it is and what it needs of clouds, and nothing else.
    pub fn describe(
        artifact: &Artifact,
        environment: Environment,
        limits: Limits,
        state: Arc<DirState>,
    ) -> Result<(Description, Vec<Need>), PluginError> {
        let longest = limits.text;
        let policy = Self::link(artifact, environment, limits, state)?;
        let (_, description) = policy.ask_description()?;
        Ok((Description::shown(&description, longest), policy.ask_needs()?))
    }

    /// Asks the running plugin who it is; none: there is no instance to ask.
    pub fn describe_again(&mut self) -> Result<Option<Description>, PluginError> {
        let Some(instance) = self.instance.as_mut().filter(|instance| instance.usable()) else {
            return Ok(None);
        };
        let answer = instance.call(
            &self.component,
            Call::new(Function::Describe),
            self.limits.call_time,
            |guest, store| guest.call_describe(store),
        );
        let (description, _) = answer.map_err(|cause| self.failed(Function::Describe, cause))?;
        Ok(Some(Description::shown(&description, self.limits.text)))
    }

    /// A policy without an instance.
    fn link(
        artifact: &Artifact,
        environment: Environment,
        limits: Limits,
        state: Arc<DirState>,
    ) -> Result<Self, PluginError> {
        let name = artifact.source().to_string();
        let component = LinkedComponent::new(artifact).map_err(|reason| PluginError {
            plugin: name.clone(),
            function: "linking",
            cause: Cause::BadAnswer(reason),
        })?;
        Ok(Self {
            name,
            origin: artifact.origin.clone(),
            digest: artifact.digest().to_owned(),
            provenance: artifact.provenance().clone(),
            imports: artifact.imports(),
            component,
            environment,
            limits,
            state,
            instance: None,
            registered: None,
            known_about: 0,
            published: None,
            published_anew: None,
            refresh: BTreeSet::new(),
            nodes: Nodes::default(),
            log_rate: LogRate::new(Instant::now()),
            series: PluginSeries::default(),
            probing: Probing::default(),
            end: None,
            own: None,
            entries: EntryCount::default(),
        })
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the durable store.
    pub fn store(&self) -> String {
        self.origin.store(&self.name)
    }

    /// Lines that the plugin wanted to write into the log and that were suppressed since this was asked last.
    pub fn take_suppressed_lines(&self) -> u64 {
        self.log_rate.tell(&self.name, Instant::now());
        self.log_rate.take_suppressed()
    }

    /// Figures of its own.
    pub fn series(&self) -> &PluginSeries {
        &self.series
    }

    /// The calls that have ended since this was asked last.
    pub fn take_records(&self) -> Vec<CallRecord> {
        self.component.take_records()
    }

    /// The requests to clouds that have ended since this was asked last.
    pub fn take_cloud_records(&mut self) -> Vec<CloudRecord> {
        let taken = |instance: &mut Instance| std::mem::take(&mut instance.state().cloud_records);
        self.instance.as_mut().map(taken).unwrap_or_default()
    }

    /// Bytes of linear memory that the plugin has.
    pub fn memory(&mut self) -> usize {
        self.instance.as_mut().map_or(0, |instance| instance.state().memory())
    }

    /// Handles that the plugin has of what the host keeps for it: of links, and of WASI's.
    pub fn handles(&mut self) -> usize {
        self.instance.as_mut().map_or(0, |instance| instance.state().table.iter_mut().count())
    }

    fn is_usable(&self) -> bool {
        self.instance.as_ref().is_some_and(Instance::usable)
    }

    /// Tells the policy of the node's own lease.
    pub fn lease_acquired(&mut self, own: &Lease) -> Result<Transaction, PluginError> {
        self.own = Some(Arc::new(own.clone()));
        let followed = self.follow_node();
        if let Some(transaction) =
            followed.map_or_else(|| self.ensure_instance(), |followed| Ok(Some(followed)))?
        {
            // A fresh instance has been told already.
            return Ok(transaction);
        }
        let Some(instance) = self.instance.as_mut() else { return Ok(Transaction::default()) };
        let (transaction, wishes) = call_lease_acquired(&self.component, instance, own)
            .map_err(|cause| self.failed(Function::LeaseAcquired, cause))?;
        self.take_wishes(wishes);
        Ok(transaction)
    }

    /// Tells a fresh policy of the node's lease and of peers, as a rehearsal: the first call that fails ends it.
    pub fn rehearse(&mut self, own: &Lease, changes: &[PeerChange]) -> Result<ApplyOutcome, PluginError> {
        let mut applied = ApplyOutcome { transaction: self.lease_acquired(own)?, ..ApplyOutcome::default() };
        let changes = last_of_each(changes);
        self.nodes.learn(&changes);
        for batch in changes.chunks(self.limits.batch) {
            self.apply_batch(batch, &mut applied).map_err(|cause| self.failed(Function::Apply, cause))?;
        }
        applied.take_along(&changes);
        self.probing.take_along(&changes);
        self.nodes.note(&applied.transaction);
        Ok(applied)
    }

    /// What surrounds the policy.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its durable store.
    pub fn state(&self) -> &Arc<DirState> {
        &self.state
    }

    /// Tells the policy of lease changes.
    pub fn apply(&mut self, changes: &[PeerChange]) -> ApplyOutcome {
        self.apply_within(changes, None)
    }

    /// The same with another number of fresh instances that it may cost than the limits say.
    pub fn apply_within(&mut self, changes: &[PeerChange], restarts: Option<u32>) -> ApplyOutcome {
        let transaction = self.follow_node().unwrap_or_default();
        let mut applied = ApplyOutcome { transaction, ..ApplyOutcome::default() };
        let allowed = restarts.unwrap_or(self.limits.restarts);
        let (mut splits, mut restarts) = (SPLITS, allowed);
        let begun = processor_time();
        let changes = last_of_each(changes);
        self.nodes.learn(&changes);
        let mut work: Vec<Vec<PeerChange>> =
            changes.chunks(self.limits.batch).rev().map(<[_]>::to_vec).collect();
        while let Some(mut batch) = work.pop() {
            let spent = processor_time().saturating_sub(begun);
            if (restarts == 0 || spent > self.limits.restart_time) && !self.is_usable() {
                let (made, ms) = (allowed - restarts, spent.as_millis());
                let reason = format!(
                    "it has failed too often for these changes: {made} fresh instances, {ms} ms of the processor"
                );
                applied.failures.push(self.failed(Function::Apply, Cause::Down(reason)));
                work.push(batch);
                break;
            }
            match self.ensure_instance() {
                Ok(None) => {}
                Ok(Some(transaction)) => {
                    restarts -= 1;
                    applied.restarted = true;
                    applied.transaction.merge(transaction);
                }
                Err(error) => {
                    applied.failures.push(error);
                    work.push(batch);
                    break;
                }
            }
            let Err(cause) = self.apply_batch(&batch, &mut applied) else { continue };
            let error = self.failed(Function::Apply, cause);
            if batch.len() > 1 && splits > 0 {
                debug!(%error, changes = batch.len(), "looking for the peer that it fails for");
                splits -= 1;
                applied.split.get_or_insert(error);
                let second = batch.split_off(batch.len() / 2);
                work.extend([second, batch]);
            } else {
                applied.failures.push(error);
                applied.deferred.extend(batch);
            }
        }
        applied.deferred.extend(work.into_iter().rev().flatten());
        applied.deferred.retain(|change| matches!(change, PeerChange::Put(..)));
        applied.take_along(&changes);
        self.probing.put_off(&applied.deferred);
        self.probing.take_along(&changes);
        self.cut_segments(&mut applied.transaction);
        applied
    }

    /// Packets go through nodes of the cluster alone, whatever is said of peers that this call was not about, or failed for.
    fn cut_segments(&mut self, transaction: &mut Transaction) {
        self.nodes.note(transaction);
        for (peer, left) in self.nodes.cut() {
            transaction.peers.insert(peer, Some(left));
            self.refresh.insert(peer);
        }
    }

    /// Gives the policy a chance to look after state outside of the kernel; answers after what time it wants the next.
    pub fn tick(&mut self) -> Result<(Transaction, Option<Duration>), PluginError> {
        let mut transaction = self.follow_node().unwrap_or_default();
        transaction.merge(self.ensure_instance()?.unwrap_or_default());
        let Some(instance) = self.instance.as_mut() else { return Ok((transaction, None)) };
        let outcome = instance.transact(
            &self.component,
            Call::new(Function::Tick),
            self.limits.call_time,
            |guest, store| guest.call_tick(store),
        );
        let (next, mut call) = outcome.map_err(|cause| self.failed(Function::Tick, cause))?;
        let next = next.map(|next| self.next_call(next, Function::Tick)).transpose()?;
        self.take_wishes(std::mem::take(&mut call.wishes));
        transaction.merge(call.into_transaction());
        Ok((transaction, next))
    }

    /// Whether it has something to do when its backend has left the node.
    pub fn retires(&self) -> bool {
        self.component.retires()
    }

    /// Has the policy remove what it has outside of the kernel; answers after what time it wants to go on, or none: nothing is left.
    pub fn retire(&mut self) -> Result<Option<Duration>, PluginError> {
        // What a fresh instance declares is for nobody any more.
        self.ensure_instance()?;
        let Some(instance) = self.instance.as_mut() else { return Ok(None) };
        let Some(outcome) = instance.retire(&self.component, self.limits.call_time) else { return Ok(None) };
        let next = outcome.map_err(|cause| self.failed(Function::Retire, cause))?;
        next.map(|next| self.next_call(next, Function::Retire)).transpose()
    }

    /// When a policy wants to be called again.
    fn next_call(&self, next: u64, function: Function) -> Result<Duration, PluginError> {
        if next < SHORTEST_TICK {
            let name = function.name();
            let reason = format!("another {name} after {next} ms; at least {SHORTEST_TICK}");
            return Err(self.failed(function, Cause::BadAnswer(reason)));
        }
        Ok(Duration::from_millis(next))
    }

    fn apply_batch(&mut self, batch: &[PeerChange], applied: &mut ApplyOutcome) -> Result<(), Cause> {
        let instance =
            self.instance.as_mut().ok_or_else(|| Cause::Down("there is no instance".to_owned()))?;
        let mut call = Call::new(Function::Apply);
        call.nodes = self.nodes.addresses();
        let mut changes = Vec::with_capacity(batch.len());
        for change in batch {
            match change {
                PeerChange::Put(id, lease) => {
                    call.peers.push(*id, Arc::clone(lease));
                    changes.push(wit::Change::Put((id.0, convert::lease(lease))));
                }
                PeerChange::Removed(id) => changes.push(wit::Change::Removed(id.0)),
            }
        }
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let budget = self.limits.call_time + self.limits.change_time * count;
        let (rejections, mut call) = instance
            .transact(&self.component, call, budget, |guest, store| guest.call_apply(store, &changes))?;
        for wit::Rejection { peer, reason } in rejections {
            let id = PeerId(peer);
            let Some(known) = call.peers.get_mut(id) else {
                return Err(Cause::BadAnswer(format!("a rejection of peer {id}, which is not in the batch")));
            };
            known.entries.clear();
            applied.rejected.push((id, shown(&reason, self.limits.text)));
        }
        let counted = &mut instance.state().entries;
        for change in batch {
            counted.set(change.id(), call.peers.get_mut(change.id()).map_or(0, |peer| peer.entries.len()));
        }
        let wishes = std::mem::take(&mut call.wishes);
        applied.transaction.merge(call.into_transaction());
        if self.probes() {
            self.probing.told(batch);
        }
        self.take_wishes(wishes);
        Ok(())
    }

    /// Makes a fresh instance if there is none that can be called; answers what it declared.
    fn ensure_instance(&mut self) -> Result<Option<Transaction>, PluginError> {
        if self.is_usable() {
            return Ok(None);
        }
        self.known_about = self.environment.about.version();
        if let Some(mut dead) = self.instance.take() {
            self.entries = std::mem::take(&mut dead.state().entries);
            self.end = dead.take_end();
        }
        let (mut instance, registered, transaction, wishes) =
            self.start_afresh().map_err(|error| self.with_first_cause(error))?;
        instance.state().entries = std::mem::take(&mut self.entries);
        let because = self.end.take();
        let said = because.as_ref().map_or(0, String::len);
        if self.log_rate.admits(&self.name, said, Instant::now()) {
            warn!(plugin = self.name, because, "plugin started afresh");
        }
        self.instance = Some(instance);
        self.take_registered(registered, wishes);
        Ok(Some(transaction))
    }

    /// Whether it runs commands, which change what is outside of its transactions.
    pub fn runs_commands(&self) -> bool {
        self.imports.iter().any(|import| import == imports::COMMANDS)
    }

    /// Whether a change of what is known of the node is a new beginning for it.
    pub fn follows_node(&self) -> bool {
        self.imports.iter().any(|import| import == NODE_INFO)
    }

    /// Makes a fresh instance if more is known of the node, or something else, than when the last one began; answers what it declared. One
    /// that does not get on with that changes nothing.
    fn follow_node(&mut self) -> Option<Transaction> {
        let version = self.environment.about.version();
        if version == self.known_about || !self.follows_node() || !self.is_usable() {
            return None;
        }
        self.known_about = version;
        match self.start_afresh() {
            Ok((mut instance, registered, transaction, wishes)) => {
                let before = self.instance.take();
                let entries = before.map(|mut before| std::mem::take(&mut before.state().entries));
                instance.state().entries = entries.unwrap_or_default();
                info!(
                    plugin = self.name,
                    "the node's labels have changed: the plugin has begun anew with them"
                );
                self.instance = Some(instance);
                self.take_registered(registered, wishes);
                Some(transaction)
            }
            Err(error) => {
                warn!(plugin = self.name, %error, "the node's labels have changed, and the plugin does not begin with them: it goes on with those that it had");
                None
            }
        }
    }

    /// A fresh instance has registered with this, and has asked for that since.
    fn take_registered(&mut self, registered: Registration, wishes: Wishes) {
        let before = self.in_force();
        let is_other = self.registered.as_ref().is_some_and(|before| !before.agrees(&registered));
        if is_other && self.log_rate.admits(&self.name, 0, Instant::now()) {
            warn!(plugin = self.name, "it registers with something else than before: that is published");
        }
        let Wishes { published, refresh, probes } = wishes;
        // It knows of nobody that one before has asked for, and is told of all.
        self.refresh = refresh;
        self.probing.begin_instance();
        if let Some(probes) = probes {
            self.probing.declare(probes);
        }
        (self.registered, self.published) = (Some(registered), published);
        self.publish_if_other(before, true);
    }

    /// A call has gone well that has asked for this.
    fn take_wishes(&mut self, wishes: Wishes) {
        let Wishes { published, refresh, probes } = wishes;
        self.refresh.extend(refresh);
        if let Some(probes) = probes {
            self.probing.declare(probes);
        }
        if let Some(published) = published {
            let before = self.in_force();
            self.published = Some(published);
            self.publish_if_other(before, false);
        }
    }

    fn publish_if_other(&mut self, before: Option<Registration>, fresh: bool) {
        let (Some(before), Some(registration)) = (before, self.in_force()) else { return };
        if !before.agrees(&registration) {
            let fresh = fresh || self.published_anew.as_ref().is_some_and(|anew| anew.fresh);
            self.published_anew = Some(PublishedAnew { registration, fresh });
        }
    }

    /// What it has registered, with what it has published since.
    fn in_force(&self) -> Option<Registration> {
        let registered = self.registered.clone()?;
        Some(match self.published.clone() {
            Some(PublishedData { data, v6_data }) => {
                Registration { backend_data: data, backend_v6_data: v6_data, ..registered }
            }
            None => registered,
        })
    }

    /// Makes an instance that can go on in the place of the last one; answers what it registered, all that it declared, and what it asks
    /// for besides.
    fn start_afresh(&mut self) -> Result<(Instance, Registration, Transaction, Wishes), PluginError> {
        let (mut instance, registered) = self.register()?;
        if let Some(before) = &self.registered {
            before
                .is_succeeded_by(&registered)
                .map_err(|reason| self.failed(Function::Register, Cause::Down(reason)))?;
        }
        let mut transaction = registered.transaction.clone();
        let mut wishes = Wishes::default();
        if let Some(own) = &self.own {
            let leased = call_lease_acquired(&self.component, &mut instance, own);
            let leased = leased.map_err(|cause| self.failed(Function::LeaseAcquired, cause))?;
            transaction.merge(leased.0);
            wishes = leased.1;
        }
        Ok((instance, registered, transaction, wishes))
    }

    /// What cannot be started afresh is down because of what ended it before.
    fn with_first_cause(&self, error: PluginError) -> PluginError {
        let Some(first) = self.end.clone() else { return error };
        PluginError { cause: Cause::StartedAfresh { first, then: Box::new(error.cause) }, ..error }
    }

    /// What is to be published, if that is something else than before, and this was not asked yet.
    pub fn take_published_anew(&mut self) -> Option<PublishedAnew> {
        self.published_anew.take()
    }

    /// The peers that the policy wants to declare for anew, and that were not asked for yet.
    pub fn take_refreshes(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.refresh)
    }

    /// Whether it can have peers probed.
    pub fn probes(&self) -> bool {
        self.imports.iter().any(|import| import == imports::PROBE)
    }

    /// What is to be probed from now on, if that may be something else than when this was asked last: what its policy has declared, of peers that
    /// are there.
    pub fn take_probes(&mut self) -> Option<Vec<ProbeTarget>> {
        self.probing.take()
    }

    /// What a new instance has on the host's side.
    fn host_state(&self) -> HostState {
        let (limits, environment) = (self.limits.clone(), self.environment.clone());
        let state = Arc::clone(&self.state);
        let (pauser, log_rate) = (self.component.pauser(), self.log_rate.clone());
        let series = self.series.clone();
        let mut host =
            HostState::new(self.name.clone(), limits, environment, state, pauser, log_rate, series);
        host.probing = self.probing.clone();
        host
    }

    /// What the plugin asks for of clouds.
    fn ask_needs(&self) -> Result<Vec<Need>, PluginError> {
        let declared = self.component.needs(self.host_state());
        let checked = declared.and_then(|needs| needs::check(needs).map_err(Cause::BadAnswer));
        checked.map_err(|cause| self.failed(Function::Required, cause))
    }

    /// Makes an instance, and asks it who it is.
    fn ask_description(&self) -> Result<(Instance, wit::Description), PluginError> {
        let time = self.limits.call_time;
        let state = self.host_state();
        let describing = |cause| self.failed(Function::Describe, cause);
        let mut instance = self.component.instantiate(state).map_err(describing)?;
        let (description, _) = instance
            .call(&self.component, Call::new(Function::Describe), time, |guest, store| {
                guest.call_describe(store)
            })
            .map_err(describing)?;
        Ok((instance, description))
    }

    /// Makes an instance, asks it who it is, and registers it.
    fn register(&self) -> Result<(Instance, Registration), PluginError> {
        let time = self.limits.call_time;
        let (mut instance, description) = self.ask_description()?;
        let describing = |cause| self.failed(Function::Describe, cause);
        self.check_description(&description).map_err(describing)?;
        // Until here no capability could be called.
        let needs = self.ask_needs()?;
        let asker = GrantRequest {
            digest: &self.digest,
            name: &description.name,
            provenance: &self.provenance,
            imports: &self.imports,
            needs: &needs,
        };
        let there = self.environment.endpoints.names();
        let granted = self.environment.grants.check(&asker);
        let granted = granted.and_then(|granted| granted.endpoints.check(&there).map(|()| granted));
        let granted = granted.map_err(|error| PluginError {
            plugin: description.name.clone(),
            function: "loading",
            cause: Cause::NotGranted(Box::new(error)),
        })?;
        if self.registered.is_none() {
            for doubt in self.environment.grants.doubts(&asker) {
                warn!(plugin = description.name, "{doubt}");
            }
        }
        instance.state().operations = granted.operations.into();
        instance.state().endpoints = granted.endpoints;
        instance.state().plugin.clone_from(&description.name);
        instance.state().store = self.begin_store(&description.name)?;
        let registering = |cause| PluginError {
            plugin: description.name.clone(),
            function: Function::Register.name(),
            cause,
        };
        let node = convert::node(&self.environment.node);
        let (registration, call) = instance
            .transact(&self.component, Call::new(Function::Register), time, |guest, store| {
                guest.call_register(store, &node, &self.environment.config)
            })
            .map_err(registering)?;
        let wit::Registration { backend_type, backend_data, backend_v6_data, mtu } = registration;
        if !is_name(&backend_type) && !backend_type.is_empty() {
            return Err(registering(bad_name("backend-type", &backend_type)));
        }
        if !(68..=65535).contains(&mtu) {
            return Err(registering(Cause::BadAnswer(format!("an MTU of {mtu}; 68 to 65535 are possible"))));
        }
        let published = PublishedData::check(backend_data, backend_v6_data, self.limits.backend_data)
            .map_err(|unfit: Unfit| registering(Cause::BadAnswer(unfit.into_text())))?;
        let registered = Registration {
            backend_type,
            backend_data: published.data,
            backend_v6_data: published.v6_data,
            mtu,
            transaction: call.into_transaction(),
            version: shown(&description.version, LONGEST_NAME),
            name: description.name.clone(),
        };
        Ok((instance, registered))
    }

    /// Answers the durable store of a plugin of this name, whose call is about to begin.
    fn begin_store(&self, name: &str) -> Result<String, PluginError> {
        let store = self.origin.store(name);
        if !self.imports.iter().any(|import| import == "state") {
            return Ok(store);
        }
        let others = self.state.begin(name, &store).map_err(|error| {
            let reason = format!("its durable store {store} cannot be read: {error}");
            PluginError { plugin: name.to_owned(), function: "loading", cause: Cause::Down(reason) }
        })?;
        if !others.is_empty() && self.registered.is_none() {
            warn!(
                plugin = name,
                store,
                others = others.join(", "),
                "the plugin's durable store is empty: those of plugins of its name that come from elsewhere are not its; `flanneld plugin swap --take-state` hands over the one of the plugin that serves"
            );
        }
        Ok(store)
    }

    fn check_description(&self, description: &wit::Description) -> Result<(), Cause> {
        if !is_name(&description.name) {
            return Err(bad_name("name", &description.name));
        }
        let wanted = &self.environment.backend_type;
        if description.backend_types.iter().any(|offered| offered == wanted) {
            return Ok(());
        }
        let offered = shown(&description.backend_types.join(", "), self.limits.text);
        Err(Cause::Answered(format!(
            "the network config's Backend.Type is {wanted:?}, and this plugin is for: {offered}"
        )))
    }

    fn failed(&self, function: Function, cause: Cause) -> PluginError {
        PluginError { plugin: self.name.clone(), function: function.name(), cause }
    }
}

/// Of several changes of one peer the last counts; what was declared for an earlier one would be forgotten with it anyway.
fn last_of_each(changes: &[PeerChange]) -> Cow<'_, [PeerChange]> {
    // So they come in a snapshot.
    if changes.is_sorted_by(|one, next| one.id() < next.id()) {
        return Cow::Borrowed(changes);
    }
    let mut seen = HashSet::with_capacity(changes.len());
    let mut kept: Vec<PeerChange> =
        changes.iter().rev().filter(|change| seen.insert(change.id())).cloned().collect();
    kept.reverse();
    Cow::Owned(kept)
}

fn call_lease_acquired(
    component: &LinkedComponent,
    instance: &mut Instance,
    own: &Lease,
) -> Result<(Transaction, Wishes), Cause> {
    let time = instance.state().limits.call_time;
    instance.state().own = Some(own.subnets);
    let lease = convert::lease(own);
    let ((), mut call) =
        instance.transact(component, Call::new(Function::LeaseAcquired), time, |guest, store| {
            guest.call_lease_acquired(store, &lease)
        })?;
    let wishes = std::mem::take(&mut call.wishes);
    let mut transaction = call.into_transaction();
    instance.state().keep_own_subnet(&mut transaction);
    Ok((transaction, wishes))
}

/// Whether a text is a name as the contract has them.
pub fn is_name(text: &str) -> bool {
    let proper = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(proper)
}

fn bad_name(field: &str, text: &str) -> Cause {
    Cause::BadAnswer(format!(
        "the {field} {:?}; 1 to {LONGEST_NAME} of a-z, 0-9, `-` are possible",
        shown(text, 80)
    ))
}
