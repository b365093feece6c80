//! Carries out what the coordinator decides about a change of the backend: the generation beside the one that serves, with a policy of its
//! own, its probes, and the end of one of both.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use flannel_datapath::Datapath;
use flannel_model::lease::{Lease, Subnets};
use flannel_model::ledger::Slot;
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{Artifact, PluginError, Policy, Registration};
use flannel_telemetry::status;
use futures::FutureExt as _;
use ipnet::IpNet;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::error;

use crate::node::backend_secrets;
use crate::node::external::External;

use super::clouds::CloudClientGuard;
use super::confined;
use super::coordinator::{BesideFacts, ChangeCall, CurrentPlugin, Event, ProbeOrder};
use super::former_backend;
use super::policy::{Place, PolicyThread};
use super::prober::Prober;
use super::rehearsal::Surroundings;
use super::retirement::Retirement;
use super::serve::{Operation, Outcome};
use super::start::{self, Node};
use super::tunnel_sources::Devices;

/// A generation beside the one that serves.
pub(super) struct BesideGeneration {
    config: Arc<NetworkConfig>,
    artifact: Artifact,
    registered: Registration,
    plugin: CurrentPlugin,
    pub(super) policy: PolicyThread,
    place: Place,
    surroundings: Surroundings,
    clouds: CloudClientGuard,
    prober: Arc<Prober>,
}

impl BesideGeneration {
    /// Starts it: its policy, its devices, and the ground for trials. The error says why it cannot be; then nothing is left of it.
    async fn start(
        node: Node,
        config: Arc<NetworkConfig>,
        own: Lease,
        usual: Slot,
        surroundings: Surroundings,
        datapath: Arc<Datapath>,
        outcomes: UnboundedSender<Outcome>,
    ) -> Result<Box<Self>, String> {
        let (artifact, is_named) =
            start::artifact_for(&node, &config).await.map_err(|error| error.to_string())?;
        if artifact.runs_commands() {
            // Before the first of them is run: half of a backend is worse than none.
            node.permission.take_up(&config)?;
        }
        let (environment, clouds) =
            start::environment(&node, &config, Arc::clone(&surroundings.environment.links))
                .map_err(|error| error.to_string())?;
        let state = Arc::new(surroundings.state.shadow(None));
        let surroundings = Surroundings { environment, state, ..surroundings };
        node.probes.open_for(&artifact);
        let started = {
            let Surroundings { environment, limits, state, .. } = surroundings.clone();
            let own = own.clone();
            confined::run("registration", move || {
                let (mut policy, registered) = Policy::start(&artifact, environment, limits, state)?;
                let taken = policy.lease_acquired(&own)?;
                let anew = policy.take_published_anew();
                let registered = anew.map_or(registered, |anew| anew.registration);
                Ok::<_, PluginError>((artifact, policy, registered, taken))
            })
        };
        let started = started.await.map_err(|error| error.to_string())?;
        let (artifact, policy, registered, taken) = started.map_err(|error| error.to_string())?;
        let digest = artifact.digest().to_owned();
        let (store, runs_commands) = (policy.store(), policy.runs_commands());
        let plugin = CurrentPlugin { reference: None, is_named, digest, store, runs_commands };
        let mut declared = registered.transaction.clone();
        declared.merge(taken);
        let begun = datapath.begin_change(declared, addresses(&own.subnets), usual).await;
        let mark = begun.map_err(|error| error.to_string())??;
        let sources: Vec<IpAddr> = own.subnets.iter().map(|subnet| subnet.network()).collect();
        let place = Place::beside();
        let parts = Prober::open(mark, sources).and_then(|prober| {
            Ok((prober, PolicyThread::start(Box::new(policy), place.clone(), &node.probes, outcomes)?))
        });
        let (prober, policy) = match parts {
            Ok(parts) => parts,
            Err(error) => {
                // Whether or not it can be undone, this is what has to be known.
                let _ = datapath.end_change(Slot::Serving).await;
                return Err(format!("peers cannot be probed: {error} (CAP_NET_RAW is needed for it)"));
            }
        };
        let prober = Arc::new(prober);
        Ok(Box::new(Self {
            config,
            artifact,
            registered,
            plugin,
            policy,
            place,
            surroundings,
            clouds,
            prober,
        }))
    }

    /// What the coordinator has to know of it.
    pub(super) fn facts(&self, external: &External) -> BesideFacts {
        BesideFacts {
            name: self.registered.name.clone(),
            version: self.registered.version.clone(),
            plugin: self.plugin.clone(),
            published: start::published(external, &self.registered),
            mtu: self.registered.mtu,
        }
    }

    /// Its devices, under names that are nobody else's.
    fn devices(&self) -> Devices {
        let other = |name: &str| Arc::from(format!("{name} beside"));
        let devices = self.registered.transaction.devices.iter();
        devices.map(|(name, device)| (other(name), device.clone())).collect()
    }
}

/// The node's own addresses that probes are sent from and answered by.
fn addresses(subnets: &Subnets) -> BTreeSet<IpNet> {
    subnets.iter().map(|subnet| IpNet::from(subnet.network())).collect()
}

impl Operation {
    /// It is there.
    pub(super) fn have_beside(&mut self, generation: Box<BesideGeneration>) {
        self.firewall.set_tunnels(&self.node.config, &self.devices_with(&generation.devices()));
        self.beside = Some(generation);
    }

    pub(super) fn go_on_with_change(&mut self, call: ChangeCall) {
        match call {
            ChangeCall::Start { serving, config, own, usual } => {
                self.start_beside(&serving, config, own, usual);
            }
            ChangeCall::Policy(call) => {
                if let Some(beside) = &self.beside {
                    beside.policy.call(call);
                }
            }
            ChangeCall::Commit(transaction, subnets) => {
                let datapath = Arc::clone(&self.datapath);
                self.report_commit(
                    async move { datapath.commit_beside(transaction, subnets).await.map(drop) },
                );
            }
            ChangeCall::Use(uses) => {
                let datapath = Arc::clone(&self.datapath);
                self.report_commit(async move { datapath.use_for(uses).await.map(drop) });
            }
            ChangeCall::SetTarget(slot) => {
                let (datapath, outcomes) = (Arc::clone(&self.datapath), self.outcomes.clone());
                self.datapath_work.push(async move {
                    if let Err(error) = datapath.set_target(slot).await {
                        let _ = outcomes.send(Outcome::Failed(error.into()));
                    }
                });
            }
            ChangeCall::Probe(orders, by) => self.probe(orders, by),
            ChangeCall::Record => self.record_change(),
            ChangeCall::End(kept) => {
                let (datapath, outcomes) = (Arc::clone(&self.datapath), self.outcomes.clone());
                self.datapath_work.push(async move {
                    let ended = datapath.end_change(kept).await;
                    let outcome = ended.map(|_| Event::ChangeEnded.into());
                    let _ = outcomes.send(outcome.unwrap_or_else(|error| Outcome::Failed(error.into())));
                });
            }
            ChangeCall::TakeOver => self.take_over_beside(),
            ChangeCall::Forget => {
                if let Some(beside) = self.beside.take() {
                    let BesideGeneration { config, policy, clouds, .. } = *beside;
                    let kept = self.node.config.backend_type.clone();
                    self.retire(policy, &config.backend_type, &kept, clouds);
                }
                self.firewall.set_tunnels(&self.node.config, &self.devices);
            }
        }
    }

    fn start_beside(
        &mut self,
        serving: &Arc<NetworkConfig>,
        config: Arc<NetworkConfig>,
        own: Lease,
        usual: Slot,
    ) {
        let (node, surroundings) = (self.node.clone(), self.surroundings.clone());
        let (datapath, outcomes) = (Arc::clone(&self.datapath), self.outcomes.clone());
        if former_backend::takes_a_restart(serving, &config) {
            let reason = "another PSK takes a restart of all nodes: one device cannot have both".to_owned();
            let _ = outcomes.send(Outcome::BesideStarted(Err(reason)));
            return;
        }
        let returns = |retirement: &mut Retirement| retirement.is_of(&config.backend_type);
        let retirements: Vec<Retirement> = self.retirements.extract_if(.., returns).collect();
        let secrets = self.write_secrets([Arc::clone(serving), Arc::clone(&config)]);
        tokio::spawn(async move {
            // What it removes must not be what the new one makes.
            for retirement in retirements {
                retirement.end().await;
            }
            // As soon as leases speak of both, a daemon that is killed has to come back with the one that the network config has no more.
            secrets.await;
            let calls = outcomes.clone();
            let started = BesideGeneration::start(node, config, own, usual, surroundings, datapath, calls);
            let _ = outcomes.send(Outcome::BesideStarted(started.await));
        });
    }

    /// Writes down what leases and the record do not have of these backends; answers what waits for it.
    fn write_secrets(&self, backends: [Arc<NetworkConfig>; 2]) -> impl Future<Output = ()> + Send + use<> {
        let (done, written) = oneshot::channel();
        let state_dir = self.node.options.state_dir.clone();
        // In its turn: what a change before has left is removed in its own.
        self.files_work.push(async move {
            let write =
                move || backend_secrets::write(&state_dir, &backends.each_ref().map(|config| &**config));
            let _ = spawn_blocking(write).await;
            let _ = done.send(());
        });
        written.map(drop)
    }

    fn report_commit(
        &self,
        work: impl Future<Output = Result<(), flannel_datapath::DatapathError>> + Send + 'static,
    ) {
        let outcomes = self.outcomes.clone();
        self.datapath_work.push(async move {
            let outcome = work.await.map(|()| Event::BesideCommitted.into());
            let _ = outcomes.send(outcome.unwrap_or_else(|error| Outcome::Failed(error.into())));
        });
    }

    fn probe(&self, orders: Vec<ProbeOrder>, by: Slot) {
        let Some(beside) = &self.beside else { return };
        for order in orders {
            let (prober, outcomes) = (Arc::clone(&beside.prober), self.outcomes.clone());
            tokio::spawn(async move {
                let peer = order.peer;
                let outcome = prober.probe(order).await;
                let _ = outcomes.send(Event::Probed(peer, by, outcome).into());
            });
        }
    }

    /// What was beside is what serves.
    fn take_over_beside(&mut self) {
        let Some(beside) = self.beside.take() else { return };
        let BesideGeneration { config, artifact, registered, policy, place, surroundings, clouds, .. } =
            *beside;
        place.take_over();
        if let Err(error) = surroundings.state.commit_pending() {
            error!(%error, "what the plugin wants to remember cannot be written: it is lost with the next restart");
        }
        let former = std::mem::replace(&mut self.policy, policy);
        let former_clouds = std::mem::replace(&mut self.clouds, clouds);
        self.surroundings = surroundings;
        let kept = config.backend_type.clone();
        let former_config = std::mem::replace(&mut self.node.config, config);
        self.retire(former, &former_config.backend_type, &kept, former_clouds);
        self.observer.artifact(&artifact);
        self.observer.registered(&registered);
        self.observer.serves(&registered.name, artifact.digest(), &self.policy.series);
        self.devices = registered.transaction.devices;
        self.firewall.set_tunnels(&self.node.config, &self.devices);
    }

    /// A backend has left the node. One of the type of the one that stays has what that one needs.
    fn retire(&mut self, policy: PolicyThread, backend_type: &str, kept: &str, clouds: CloudClientGuard) {
        self.retirements.retain_mut(|retirement| !retirement.is_over());
        if backend_type != kept {
            self.retirements.extend(Retirement::begin(policy, backend_type, clouds));
        }
    }

    /// How the change stands: for the status, and for the next start.
    pub(super) fn tell_of_change(&mut self, change: Option<status::Change>) {
        let (config, record) = {
            let coordinator = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
            (coordinator.config_status(), coordinator.backend_record())
        };
        self.observer.change(change, config);
        if self.recorded.as_ref() == Some(&record) {
            return;
        }
        self.recorded = Some(record.clone());
        let state_dir = self.node.options.state_dir.clone();
        self.files_work.push(async move {
            let write = move || {
                record.write(&state_dir);
                if !record.changing {
                    backend_secrets::remove(&state_dir);
                }
            };
            let _ = spawn_blocking(write).await;
        });
    }

    /// Says when all has been written down that the next start has to know.
    fn record_change(&self) {
        let outcomes = self.outcomes.clone();
        // Behind what is on its way there.
        self.files_work.push(async move {
            let _ = outcomes.send(Event::ChangeRecorded.into());
        });
    }
}
