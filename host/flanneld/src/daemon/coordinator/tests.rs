//! What the coordinator decides, without root and without a clock.

use std::collections::VecDeque;
use std::sync::Arc;

use flannel_lease_store::{Change, Event as StoreEvent, Renewed, StoreError};
use flannel_model::lease::{Generation, Subnets};
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{Cause as PluginCause, PluginError};
use flannel_telemetry::control::{SwapOrder, attend};
use tokio::sync::oneshot;

use super::own_lease::RENEWAL_RETRY;
use super::plugin_health::RETRY;
use super::*;
use crate::daemon::DaemonError;

const RENEWAL: Duration = Duration::from_hours(23);

fn lease(subnet: &str, address: u8) -> Lease {
    let subnets = Subnets { v4: Some(subnet.parse().expect("prefix")), v6: None };
    Lease { subnets, attributes: attributes(address), expires: None }
}

fn attributes(address: u8) -> Attributes {
    let public_ip = Some([192, 168, 0, address].into());
    Attributes { public_ip, backend_type: "vxlan".to_owned(), ..Attributes::default() }
}

fn external(address: u8) -> External {
    External::with_address([192, 168, 0, address])
}

fn config() -> Arc<NetworkConfig> {
    let text = r#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#;
    Arc::new(NetworkConfig::parse(text).expect("config"))
}

fn gate(external: &External) -> LeaseGate {
    let config = config();
    LeaseGate::new(&config, Vec::new(), external)
}

fn plugin_error() -> PluginError {
    let cause = PluginCause::Answered("not today".to_owned());
    PluginError { plugin: "vxlan".to_owned(), function: "apply", cause }
}

fn away() -> StoreError {
    StoreError::Unavailable { place: "etcd".to_owned(), reason: "does not answer".to_owned() }
}

fn put(subnet: &str, address: u8) -> Event {
    Event::Store(StoreEvent::Changes(vec![Change::Put(Arc::new(lease(subnet, address)))]))
}

/// A node with 10.5.1.0/24 at 192.168.0.1, whose surroundings answer at once, but for what hangs.
#[allow(clippy::struct_excessive_bools, reason = "what hangs and what fails is anything, in any combination")]
struct Node {
    coordinator: Coordinator,
    now: Instant,
    /// What is to be done and has not been.
    todo: Vec<Effect>,
    policy_hangs: bool,
    store_hangs: bool,
    /// The policy fails when it is told of its own lease, or of peers.
    lease_fails: bool,
    peers_fail: bool,
    /// It traps in its next tick.
    tick_traps: bool,
    /// The next call about peers takes a fresh instance.
    restarts: bool,
    /// Those who wait for swaps.
    attendance: Vec<flannel_telemetry::control::Attendance>,
    /// What calls take.
    effort: Effort,
    file_fails: bool,
    /// What the policy was called for, in its order.
    calls: Vec<String>,
    /// What was done otherwise, in its order.
    done: Vec<String>,
    ready: BTreeSet<&'static str>,
    /// What it is ready without.
    lacks: Option<String>,
    /// The peers that may send into tunnels; `None`: nothing was said.
    admitted: Option<BTreeSet<PeerId>>,
    /// The last byte of the address that the external interface has; none while it has none.
    address: Option<u8>,
    /// Peers that do not answer probes, and how often they were probed.
    silent: HashMap<PeerId, u32>,
    /// What was asked for a change of the backend, in its order.
    changes: Vec<String>,
    /// How often the policy beside was asked about peers.
    applies: u32,
    /// How often it had a tick.
    beside_ticks: u32,
    /// It does not answer, or refuses all of them.
    beside_hangs: bool,
    beside_rejects: bool,
    /// The policy that serves can serve no peer that it is asked about.
    rejects: bool,
    /// The policy beside runs commands, which fail where the former's entries are, and so often without them.
    by_commands: bool,
    in_the_way: u32,
    /// What it was told, in its order.
    told_beside: Vec<String>,
}

impl Node {
    fn new() -> Self {
        Self::with(None, external(1), attributes(1))
    }

    fn with(view: Option<ClusterView>, external: External, published: Attributes) -> Self {
        Self::resumed(view, external, published, None)
    }

    /// `resumed`: what it said of its generations, and what is in the network config now.
    fn resumed(
        view: Option<ClusterView>,
        external: External,
        published: Attributes,
        resumed: Option<(Attributes, Arc<NetworkConfig>)>,
    ) -> Self {
        let now = Instant::now();
        let plugin = CurrentPlugin {
            reference: "/plugins/vxlan.wasm".parse().ok(),
            is_named: true,
            digest: "old".to_owned(),
            store: "vxlan@file:old".to_owned(),
            runs_commands: false,
        };
        let first_failure_is_fatal = view.is_none();
        let own = lease("10.5.1.0/24", 1);
        let (resumed, target) = match resumed {
            Some((resumed, target)) => (Some(resumed), target),
            None => (None, config()),
        };
        let beginning = Beginning {
            own,
            published,
            serving: config(),
            config: target,
            resumed,
            mtu: 1450,
            renewal: Some(RENEWAL),
            view,
            gate: gate(&external),
            plugin,
            external,
            avoid: Vec::new(),
        };
        let settings = Settings {
            upkeep: Duration::from_hours(1000),
            blackhole: false,
            first_failure_is_fatal,
            patience: None,
        };
        Self {
            coordinator: Coordinator::new(settings, beginning, now),
            now,
            todo: Vec::new(),
            policy_hangs: false,
            store_hangs: false,
            lease_fails: false,
            peers_fail: false,
            tick_traps: false,
            restarts: false,
            attendance: Vec::new(),
            effort: Effort::default(),
            file_fails: false,
            calls: Vec::new(),
            done: Vec::new(),
            ready: BTreeSet::new(),
            lacks: None,
            admitted: None,
            address: Some(1),
            silent: HashMap::new(),
            changes: Vec::new(),
            applies: 0,
            beside_ticks: 0,
            beside_hangs: false,
            beside_rejects: false,
            rejects: false,
            by_commands: false,
            in_the_way: 0,
            told_beside: Vec::new(),
        }
    }

    /// In operation, with these peers: `(subnet, address)`.
    fn serving(peers: &[(&str, u8)]) -> Self {
        let mut node = Self::new();
        node.hear(Event::Time);
        let mut leases = vec![Arc::new(lease("10.5.1.0/24", 1))];
        leases.extend(peers.iter().map(|(subnet, address)| Arc::new(lease(subnet, *address))));
        node.hear(Event::Store(StoreEvent::Snapshot(leases)));
        assert_eq!(node.ready.len(), 3, "{:?}", node.ready);
        node.calls.clear();
        node.done.clear();
        node
    }

    /// Something happens, and all that does not hang is done.
    fn hear(&mut self, event: Event) {
        self.todo.extend(self.coordinator.on(event, self.now));
        self.go_on();
    }

    fn go_on(&mut self) {
        let mut todo = VecDeque::from(std::mem::take(&mut self.todo));
        while let Some(effect) = todo.pop_front() {
            match self.carry_out(effect) {
                Ok(Some(event)) => todo.extend(self.coordinator.on(event, self.now)),
                Ok(None) => {}
                Err(effect) => self.todo.push(*effect),
            }
        }
    }

    /// Time passes, whatever hangs.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while self.coordinator.deadline() <= end {
            self.now = self.now.max(self.coordinator.deadline());
            self.hear(Event::Time);
            turns += 1;
            assert!(turns < 10_000, "something is due for ever");
        }
        self.now = end;
    }

    fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, Box<Effect>> {
        match effect {
            Effect::Policy(_) if self.policy_hangs => Err(Box::new(effect)),
            Effect::Store(_) if self.store_hangs => Err(Box::new(effect)),
            Effect::Change(ChangeCall::Policy(PolicyCall::Apply(..))) if self.beside_hangs => {
                Err(Box::new(effect))
            }
            // Tests of swaps say themselves what comes of them.
            Effect::Change(call) => Ok(self.change(call)),
            Effect::Trial(_) | Effect::Answer(..) | Effect::Restart(_) | Effect::Fail(_) => {
                Err(Box::new(effect))
            }
            Effect::Policy(call) => Ok(Some(self.call(call))),
            Effect::Datapath(call) => Ok(match call {
                DatapathCall::Commit(_, cause) => {
                    Some(Event::Committed { report: Report::default(), cause, took: Duration::ZERO })
                }
                DatapathCall::Settle => self.did("settled", Event::Adopted(Report::default())),
                DatapathCall::Adopt => self.did("adopted", Event::Adopted(Report::default())),
                DatapathCall::Report => None,
            }),
            Effect::Store(StoreCall::Renew(_, attributes)) => {
                let address = attributes.public_ip.map(|address| address.to_string()).unwrap_or_default();
                self.done.push(format!("renewed as {address}"));
                Ok(Some(Event::Renewed(Ok((Renewed::Until(None), Some(RENEWAL))))))
            }
            Effect::Store(StoreCall::Acquire(attributes)) => {
                let acquired = Lease { attributes, ..lease("10.5.9.0/24", 1) };
                self.done.push("acquired 10.5.9.0/24".to_owned());
                Ok(Some(Event::Acquired(Ok((acquired, Some(RENEWAL))))))
            }
            Effect::Rules(subnets) => Ok(self.did(&format!("rules {subnets}"), Event::Rules(Ok(())))),
            Effect::Admit(peers) => {
                self.admitted = Some(BTreeSet::new());
                self.admit(&peers);
                Ok(None)
            }
            Effect::AdmitAlso(peers) => {
                self.admit(&peers);
                Ok(None)
            }
            Effect::SubnetFile(subnets, mtu) => {
                let outcome = if self.file_fails { Err("disk full".to_owned()) } else { Ok(()) };
                Ok(self.did(&format!("file {subnets} {mtu}"), Event::SubnetFile(outcome)))
            }
            Effect::LookAtExternal { afresh } => {
                let seen = self.address.map(external).ok_or_else(|| "no address".to_owned());
                Ok(Some(Event::External(seen, afresh)))
            }
            Effect::Tell(News::Step(step, done)) => {
                let name = step.missing();
                let _ = if done { self.ready.insert(name) } else { self.ready.remove(name) };
                Ok(None)
            }
            Effect::Tell(News::Lacks(Lack::Peers, why)) => {
                self.lacks = why;
                Ok(None)
            }
            Effect::Tell(News::PluginSuspended(suspended)) => {
                if self.done.last().is_none_or(|last| *last != format!("suspended {suspended}")) {
                    self.done.push(format!("suspended {suspended}"));
                }
                Ok(None)
            }
            Effect::Tell(_) => Ok(None),
        }
    }

    fn change(&mut self, call: ChangeCall) -> Option<Event> {
        match call {
            ChangeCall::Start { config, .. } => {
                self.changes.push(format!("start {}", config.backend_type));
                let published = Attributes { backend_type: config.backend_type.clone(), ..attributes(1) };
                let (name, version) = (config.backend_type.clone(), "1".to_owned());
                let (digest, store) = ("new".to_owned(), "host-gw@built-in".to_owned());
                let runs_commands = self.by_commands;
                let plugin = CurrentPlugin { reference: None, is_named: false, digest, store, runs_commands };
                Some(Event::BesideStarted(Ok(BesideFacts { name, version, plugin, published, mtu: 1500 })))
            }
            ChangeCall::Policy(PolicyCall::Tick) => {
                self.beside_ticks += 1;
                let ticked = Event::Ticked(Ok((Transaction::default(), None)), Effort::default());
                Some(Event::Beside(Box::new(ticked)))
            }
            ChangeCall::Policy(call) => {
                self.applies += 1;
                let mut outcome = ApplyOutcome::default();
                if let PolicyCall::Apply(changes, _) | PolicyCall::Refresh(changes, _) = call {
                    self.told_beside.extend(changes.iter().map(told));
                    let is_moved = self.changes.last().is_some_and(|change| change.ends_with("by Beside"));
                    let in_the_way = self.by_commands && (!is_moved || self.in_the_way > 0);
                    self.in_the_way = self.in_the_way.saturating_sub(u32::from(is_moved));
                    if self.beside_rejects || in_the_way {
                        outcome.rejected =
                            changes.iter().map(|change| (change.id(), "no".to_owned())).collect();
                    }
                }
                let applied = Event::Applied(outcome, Duration::ZERO, self.effort);
                Some(Event::Beside(Box::new(applied)))
            }
            ChangeCall::Commit(..) => Some(Event::BesideCommitted),
            ChangeCall::Use(uses) => {
                self.changes.extend(uses.iter().map(|(peer, slot, _)| format!("{peer} by {slot:?}")));
                Some(Event::BesideCommitted)
            }
            ChangeCall::SetTarget(slot) => {
                self.changes.push(format!("to {slot:?}"));
                None
            }
            ChangeCall::Probe(orders, slot) => {
                let order = orders.first().expect("a probe is of somebody");
                let silent = self.silent.get_mut(&order.peer).map(|probes| *probes += 1);
                let answer = silent.map_or(Ok(()), |()| Err("no answer".to_owned()));
                Some(Event::Probed(order.peer, slot, answer))
            }
            ChangeCall::Record => Some(Event::ChangeRecorded),
            ChangeCall::End(slot) => {
                self.changes.push(format!("only {slot:?}"));
                Some(Event::ChangeEnded)
            }
            ChangeCall::TakeOver | ChangeCall::Forget => None,
        }
    }

    /// Its status, as far as a change goes on.
    fn phase(&self) -> Option<String> {
        self.coordinator.change_status().map(|change| change.phase)
    }

    #[allow(clippy::unnecessary_wraps, reason = "what every arm answers")]
    fn did(&mut self, what: &str, event: Event) -> Option<Event> {
        self.done.push(what.to_owned());
        Some(event)
    }

    fn admit(&mut self, peers: &[PeerChange]) {
        let admitted = self.admitted.as_mut().expect("all are told of first");
        for peer in peers {
            match peer {
                PeerChange::Put(id, _) => admitted.insert(*id),
                PeerChange::Removed(id) => admitted.remove(id),
            };
        }
    }

    fn call(&mut self, call: PolicyCall) -> Event {
        match call {
            PolicyCall::LeaseAcquired(lease) => {
                self.calls.push(format!("lease {}", lease.subnets));
                let failed = self.lease_fails;
                Event::LeaseTaken(if failed { Err(plugin_error()) } else { Ok(Transaction::default()) })
            }
            PolicyCall::Apply(changes, _) | PolicyCall::Refresh(changes, _) => {
                self.calls.extend(changes.iter().map(told));
                let applied = if self.peers_fail {
                    let deferred = changes.into_iter().filter(|change| matches!(change, PeerChange::Put(..)));
                    ApplyOutcome {
                        failures: vec![plugin_error()],
                        deferred: deferred.collect(),
                        ..ApplyOutcome::default()
                    }
                } else if self.rejects {
                    let rejected = changes.iter().map(|change| (change.id(), "no".to_owned())).collect();
                    ApplyOutcome { rejected, ..ApplyOutcome::default() }
                } else {
                    ApplyOutcome { restarted: std::mem::take(&mut self.restarts), ..ApplyOutcome::default() }
                };
                Event::Applied(applied, Duration::ZERO, self.effort)
            }
            PolicyCall::Tick => {
                self.calls.push("tick".to_owned());
                if std::mem::take(&mut self.tick_traps) {
                    let cause = PluginCause::Trapped("unreachable".to_owned());
                    return Event::Ticked(Err(PluginError { cause, ..plugin_error() }), self.effort);
                }
                Event::Ticked(Ok((Transaction::default(), Some(Duration::from_mins(5)))), self.effort)
            }
        }
    }

    /// The external interface has another address, and that stays so.
    fn moves_to(&mut self, address: u8) {
        self.address = Some(address);
        self.hear(Event::RoutingChanged);
        self.pass(ADDRESS_GRACE + Duration::from_secs(1));
    }

    /// A tick begins, and does not end.
    fn begin_tick_that_hangs(&mut self) {
        self.policy_hangs = true;
        self.pass(Duration::from_mins(5));
        assert!(matches!(self.todo[..], [Effect::Policy(PolicyCall::Tick)]), "{:?}", self.todo);
    }

    fn end_tick(&mut self) {
        self.policy_hangs = false;
        self.go_on();
    }

    /// The one thing that is still to be done.
    #[track_caller]
    fn only(&mut self) -> Effect {
        assert_eq!(self.todo.len(), 1, "{:?}", self.todo);
        self.todo.remove(0)
    }

    /// An operator asks for a swap.
    fn ask_for_swap(
        &mut self,
        plugin: &str,
    ) -> oneshot::Receiver<Result<flannel_telemetry::control::Swapped, String>> {
        self.order_swap(SwapOrder { plugin: plugin.to_owned(), take_state: false })
    }

    fn order_swap(
        &mut self,
        order: SwapOrder,
    ) -> oneshot::Receiver<Result<flannel_telemetry::control::Swapped, String>> {
        let (answer, answered) = oneshot::channel();
        let asker = Asker { uid: 0, pid: None };
        let (here, attended) = attend();
        self.attendance.push(here);
        self.hear(Event::SwapAsked(order, asker, answer, attended));
        answered
    }

    /// The kernel has taken what the candidate wants.
    #[track_caller]
    fn swap_succeeds(&mut self) {
        let replace = self.only();
        assert!(matches!(replace, Effect::Trial(TrialCall::Replace { .. })), "{replace:?}");
        self.hear(Event::Replaced(Ok((10, 2))));
        let took_over =
            matches!(self.todo[..], [Effect::Trial(TrialCall::TakeOver), Effect::Answer(_, Ok(_))]);
        assert!(took_over, "{:?}", self.todo);
        self.todo.clear();
    }
}

fn candidate() -> Candidate {
    let (name, version, digest) = ("vxlan".to_owned(), "2".to_owned(), "new".to_owned());
    let store = "vxlan@file:new".to_owned();
    Candidate { name, version, digest, store, published: attributes(1), mtu: 1450, rejected: Vec::new() }
}

#[test]
fn a_node_takes_up_its_lease_and_then_its_peers_and_is_ready() {
    let mut node = Node::new();
    node.hear(Event::Time);
    assert_eq!(node.calls, ["lease 10.5.1.0/24"]);
    assert_eq!(node.done, ["rules 10.5.1.0/24", "file 10.5.1.0/24 1450"]);
    let leases = vec![Arc::new(lease("10.5.1.0/24", 1)), Arc::new(lease("10.5.2.0/24", 2))];
    node.hear(Event::Store(StoreEvent::Snapshot(leases)));
    assert_eq!(node.calls[1..], ["put 10.5.2.0/24", "tick"]);
    assert_eq!(node.done[2..], ["suspended false", "adopted"]);
    assert!(!node.coordinator.is_starting() && node.ready.len() == 3, "{:?}", node.ready);
}

/// A node that waits for the first peers for half a minute.
fn patient() -> Node {
    let mut node = Node::new();
    node.coordinator.settings.patience = Some(Duration::from_secs(30));
    node.coordinator.first_peers = FirstPeers::Until(node.now + Duration::from_secs(30));
    node.hear(Event::Time);
    node
}

fn is_ready(node: &Node) -> bool {
    node.ready.contains(Step::Snapshot.missing())
}

#[test]
fn pods_are_let_in_without_peers_when_the_store_tells_of_none_for_long() {
    let mut node = patient();
    node.pass(Duration::from_secs(29));
    assert!(!is_ready(&node) && node.lacks.is_none());
    node.pass(Duration::from_secs(2));
    assert!(
        is_ready(&node) && node.lacks.as_ref().is_some_and(|why| why.contains("the store")),
        "{:?}",
        node.lacks
    );
    assert!(node.coordinator.is_starting() && node.admitted.is_none(), "nobody is a stranger yet");
    let leases = vec![Arc::new(lease("10.5.1.0/24", 1)), Arc::new(lease("10.5.2.0/24", 2))];
    node.hear(Event::Store(StoreEvent::Snapshot(leases)));
    assert_eq!(node.calls[1..], ["put 10.5.2.0/24", "tick"], "all goes on when they come");
    assert!(is_ready(&node) && node.lacks.is_none() && !node.coordinator.is_starting());
}

#[test]
fn pods_are_let_in_without_peers_when_the_plugin_takes_long_for_them() {
    let mut node = patient();
    node.policy_hangs = true;
    let leases = vec![Arc::new(lease("10.5.1.0/24", 1)), Arc::new(lease("10.5.2.0/24", 2))];
    node.hear(Event::Store(StoreEvent::Snapshot(leases)));
    node.pass(Duration::from_secs(31));
    assert!(
        is_ready(&node) && node.lacks.as_ref().is_some_and(|why| why.contains("kernel")),
        "{:?}",
        node.lacks
    );
    node.policy_hangs = false;
    node.go_on();
    assert!(is_ready(&node) && node.lacks.is_none());
}

#[test]
fn who_has_his_peers_in_time_lacks_nothing() {
    let mut node = patient();
    node.hear(Event::Store(StoreEvent::Snapshot(vec![Arc::new(lease("10.5.1.0/24", 1))])));
    node.pass(Duration::from_mins(5));
    assert!(is_ready(&node) && node.lacks.is_none());
}

#[test]
fn who_is_to_start_over_does_so_when_the_policy_is_free() {
    let mut node = Node::serving(&[]);
    node.begin_tick_that_hangs();
    node.hear(Event::StartOver);
    assert!(node.coordinator.restart.is_some());
    node.policy_hangs = false;
    node.go_on();
    assert!(node.coordinator.restart.is_none() && node.coordinator.ended);
}

#[test]
fn who_may_send_into_tunnels_is_said_with_the_first_leases_and_waits_for_no_plugin() {
    let mut node = Node::new();
    node.hear(Event::Time);
    assert_eq!(node.admitted, None, "nobody is a stranger yet");
    node.hear(Event::Store(StoreEvent::Snapshot(vec![Arc::new(lease("10.5.1.0/24", 1))])));
    node.begin_tick_that_hangs();
    assert_eq!(node.admitted, Some(BTreeSet::new()), "a node that is alone knows all strangers");
    node.hear(put("10.5.2.0/24", 2));
    node.hear(put("10.5.3.0/24", 3));
    assert_eq!(node.admitted.as_ref().map(BTreeSet::len), Some(2));
    let gone = lease("10.5.2.0/24", 2).subnets;
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Removed(gone)])));
    assert_eq!(node.admitted.as_ref().map(BTreeSet::len), Some(1));
}

#[test]
fn a_plugin_that_keeps_failing_is_suspended_and_resumed() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.peers_fail = true;
    node.hear(put("10.5.3.0/24", 3));
    node.pass(Duration::from_mins(20));
    let attempts = node.calls.iter().filter(|call| *call == "put 10.5.3.0/24").count();
    assert_eq!(attempts, SUSPEND_AFTER_FAILURES as usize);
    assert_eq!(node.done, ["suspended false", "suspended true"]);
    // Nothing changes by time alone; the operator's word is a reason to try again.
    node.peers_fail = false;
    node.calls.clear();
    node.hear(Event::Reload(None));
    node.hear(put("10.5.4.0/24", 4));
    node.pass(RETRY.min * 2);
    assert!(node.calls.contains(&"put 10.5.3.0/24".to_owned()), "{:?}", node.calls);
    assert_eq!(node.done.last().map(String::as_str), Some("suspended false"));
}

#[test]
fn what_earlier_runs_left_stays_until_the_policy_has_answered_for_all_peers() {
    let mut node = Node::new();
    node.peers_fail = true;
    node.hear(Event::Time);
    let leases = vec![Arc::new(lease("10.5.1.0/24", 1)), Arc::new(lease("10.5.2.0/24", 2))];
    node.hear(Event::Store(StoreEvent::Snapshot(leases)));
    assert!(node.done.contains(&"settled".to_owned()) && !node.done.contains(&"adopted".to_owned()));
    node.peers_fail = false;
    node.pass(RETRY.min * 2);
    assert_eq!(node.done.iter().filter(|what| *what == "adopted").count(), 1);
}

#[test]
fn a_lease_that_is_lost_during_a_tick_is_acquired_again_meanwhile_and_taken_up_after_it() {
    let mut node = Node::serving(&[]);
    node.begin_tick_that_hangs();
    node.store_hangs = true;
    node.hear(put("10.5.1.0/24", 9));
    assert!(matches!(node.todo.pop(), Some(Effect::Store(StoreCall::Renew(..)))));
    node.store_hangs = false;
    node.hear(Event::Renewed(Ok((Renewed::Lost, None))));
    assert_eq!(node.done, ["acquired 10.5.9.0/24"], "beside the tick");
    assert!(node.calls.is_empty(), "{:?}", node.calls);
    assert_eq!(node.ready.len(), 2, "not ready before the new subnet is in force");
    node.end_tick();
    // Who has our former subnet is a peer now.
    assert_eq!(node.calls, ["tick", "lease 10.5.9.0/24", "put 10.5.1.0/24"]);
    assert_eq!(node.done[1..], ["rules 10.5.9.0/24", "file 10.5.9.0/24 1450", "suspended false"]);
    assert_eq!(node.ready.len(), 4, "{:?}", node.ready);
}

#[test]
fn lease_changes_during_a_tick_arrive_in_order_after_it() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.begin_tick_that_hangs();
    node.hear(put("10.5.3.0/24", 3));
    let gone = lease("10.5.2.0/24", 2).subnets;
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Removed(gone)])));
    node.hear(put("10.5.2.0/24", 4));
    assert!(node.calls.is_empty());
    node.end_tick();
    assert_eq!(node.calls, ["tick", "put 10.5.3.0/24", "removed #1", "put 10.5.2.0/24"]);
}

#[test]
fn a_store_that_is_slower_to_be_followed_than_it_tells_has_to_wait() {
    let mut node = Node::serving(&[]);
    node.policy_hangs = true;
    let peers = (0..20_000_u32).map(|n| format!("10.{}.{}.0/24", 64 + n / 256, n % 256));
    for subnet in peers {
        if !node.coordinator.takes_leases() {
            break;
        }
        node.hear(put(&subnet, 9));
    }
    assert!(!node.coordinator.takes_leases());
    node.policy_hangs = false;
    node.go_on();
    assert!(node.coordinator.takes_leases());
}

#[test]
fn a_store_that_hangs_while_a_renewal_is_due_holds_nothing_up_and_the_lease_is_renewed_when_it_is_back() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.store_hangs = true;
    node.pass(RENEWAL);
    let renewal = node.todo.iter().filter(|effect| matches!(effect, Effect::Store(_))).count();
    assert_eq!(renewal, 1, "one question at a time: {:?}", node.todo);
    node.pass(Duration::from_mins(1));
    // Peers that are known come and go, and whoever asks is answered.
    node.hear(put("10.5.2.0/24", 22));
    assert_eq!(node.calls.last().map(String::as_str), Some("put 10.5.2.0/24"));
    assert_eq!(node.coordinator.peers(&HashMap::new()).len(), 1);
    node.store_hangs = false;
    node.go_on();
    assert_eq!(node.done.iter().filter(|what| *what == "renewed as 192.168.0.1").count(), 1);
    assert!(node.todo.is_empty(), "{:?}", node.todo);
}

#[test]
fn a_renewal_that_fails_is_tried_again_after_a_minute() {
    let mut node = Node::serving(&[]);
    node.store_hangs = true;
    node.pass(RENEWAL);
    assert!(matches!(node.only(), Effect::Store(StoreCall::Renew(..))));
    node.hear(Event::Renewed(Err(away())));
    node.pass(Duration::from_secs(59));
    assert!(node.todo.is_empty(), "{:?}", node.todo);
    node.pass(Duration::from_secs(1));
    assert!(matches!(node.only(), Effect::Store(StoreCall::Renew(..))));
}

#[test]
fn a_node_whose_address_changes_while_the_store_is_away_serves_its_peers_and_says_so_when_the_store_is_back()
{
    let mut before = Node::serving(&[("10.5.2.0/24", 2)]);
    before.moves_to(7);
    let Effect::Restart(now) = before.only() else { panic!("no restart") };
    assert_eq!(now, external(7));
    let Preserved { own, view, .. } = before.coordinator.preserve();
    assert_eq!(own, lease("10.5.1.0/24", 1), "as the store has it");

    let mut node = Node::with(view, external(7), attributes(7));
    node.store_hangs = true;
    node.hear(Event::Time);
    assert_eq!(node.calls, ["lease 10.5.1.0/24", "put 10.5.2.0/24", "tick"]);
    assert!(matches!(node.todo[..], [Effect::Store(StoreCall::Renew(..))]), "{:?}", node.todo);
    assert!(!node.ready.contains(Step::Lease.missing()));
    node.todo.clear();
    node.hear(Event::Renewed(Err(away())));
    node.store_hangs = false;
    // Others do not find it: this is not left for a minute.
    node.pass(Duration::from_secs(1));
    assert!(node.done.contains(&"renewed as 192.168.0.7".to_owned()), "{:?}", node.done);
    assert!(node.ready.contains(Step::Lease.missing()));
    // The store's own word of it is no news.
    node.hear(put("10.5.1.0/24", 7));
    assert!(node.todo.is_empty() && node.done.iter().filter(|what| what.starts_with("renewed")).count() == 1);
}

#[test]
fn an_address_that_is_away_for_a_moment_makes_no_other_node() {
    for meanwhile in [Some(7), None] {
        let mut node = Node::serving(&[]);
        node.address = meanwhile;
        node.hear(Event::RoutingChanged);
        node.pass(ADDRESS_GRACE.mul_f32(0.7));
        assert!(node.todo.is_empty(), "{:?}", node.todo);
        assert!(!node.ready.contains(Step::Interface.missing()), "others do not reach it");
        node.address = Some(1);
        node.hear(Event::RoutingChanged);
        node.pass(ADDRESS_GRACE);
        assert!(node.todo.is_empty(), "{:?}", node.todo);
        assert!(node.ready.contains(Step::Interface.missing()));
    }
}

#[test]
fn a_subnet_file_that_is_lost_is_written_again_and_the_node_is_not_ready_without_it() {
    let mut node = Node::serving(&[]);
    node.file_fails = true;
    node.hear(Event::SubnetFileLost);
    node.pass(Duration::from_secs(3));
    assert!(!node.ready.contains(Step::SubnetFile.missing()));
    assert_eq!(node.done.iter().filter(|what| what.starts_with("file")).count(), 4, "{:?}", node.done);
    node.file_fails = false;
    node.pass(Duration::from_secs(1));
    assert!(node.ready.contains(Step::SubnetFile.missing()));
}

#[test]
fn a_lease_that_somebody_else_writes_too_is_said_and_written_again_and_is_the_nodes_alone_when_he_stops() {
    let mut node = Node::serving(&[]);
    let contested =
        || Event::Store(StoreEvent::Changes(vec![Change::Contested(lease("10.5.1.0/24", 1).subnets)]));
    node.ready.insert(Step::OwnLeaseAlone.missing());
    node.hear(contested());
    assert!(!node.ready.contains(Step::OwnLeaseAlone.missing()));
    node.pass(Duration::from_mins(1));
    assert_eq!(node.done, ["renewed as 192.168.0.1"], "so that he notices, too");
    node.hear(contested());
    node.pass(Duration::from_secs(179));
    assert!(!node.ready.contains(Step::OwnLeaseAlone.missing()));
    node.pass(Duration::from_secs(1));
    assert!(node.ready.contains(Step::OwnLeaseAlone.missing()));
    assert_eq!(node.done.len(), 2, "{:?}", node.done);
}

#[test]
fn a_lease_that_another_node_takes_over_is_lost_to_it_and_not_shared() {
    for taken in
        [Change::Put(Arc::new(lease("10.5.1.0/24", 7))), Change::Removed(lease("10.5.1.0/24", 1).subnets)]
    {
        let mut node = Node::serving(&[]);
        node.ready.insert(Step::OwnLeaseAlone.missing());
        node.store_hangs = true;
        node.hear(Event::Store(StoreEvent::Changes(vec![taken])));
        node.hear(Event::Store(StoreEvent::Changes(vec![Change::Contested(
            lease("10.5.1.0/24", 1).subnets,
        )])));
        assert!(node.ready.contains(Step::OwnLeaseAlone.missing()));
    }
}

#[test]
fn a_lease_that_is_overwritten_with_rubbish_is_written_again_at_once() {
    let mut node = Node::serving(&[]);
    node.ready.insert(Step::OwnLeaseAlone.missing());
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Spoiled(lease("10.5.2.0/24", 2).subnets)])));
    assert!(node.done.is_empty(), "somebody else's");
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Spoiled(lease("10.5.1.0/24", 1).subnets)])));
    assert_eq!(node.done, ["renewed as 192.168.0.1"]);
    assert!(node.ready.contains(Step::OwnLeaseAlone.missing()));
}

#[test]
fn a_node_that_gets_another_subnet_shares_that_one_with_nobody() {
    let mut node = Node::serving(&[]);
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Contested(lease("10.5.1.0/24", 1).subnets)])));
    node.store_hangs = true;
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Put(Arc::new(lease("10.5.1.0/24", 7)))])));
    node.hear(Event::Renewed(Ok((Renewed::Lost, None))));
    node.store_hangs = false;
    node.go_on();
    assert!(node.done.contains(&"acquired 10.5.9.0/24".to_owned()), "{:?}", node.done);
    assert!(node.ready.contains(Step::OwnLeaseAlone.missing()));
}

#[test]
fn a_clone_of_another_node_starts_over_with_another_key_and_once() {
    let data = |lease: Lease| {
        let data = serde_json::value::RawValue::from_string(r#"{"VtepMAC":"02:00:00:00:00:09"}"#.to_owned());
        Lease { attributes: Attributes { backend_data: data.ok(), ..lease.attributes }, ..lease }
    };
    let mut node = Node::new();
    node.hear(Event::Time);
    let own = data(lease("10.5.1.0/24", 1));
    node.coordinator.view.set_own(&own);
    let both = vec![Arc::new(data(lease("10.5.2.0/24", 2))), Arc::new(own)];
    node.hear(Event::Store(StoreEvent::Snapshot(both.clone())));
    node.hear(Event::Store(StoreEvent::Snapshot(both)));
    assert!(matches!(node.only(), Effect::Restart(_)));
    let avoid = node.coordinator.preserve().avoid;
    assert_eq!(avoid.iter().map(ToString::to_string).collect::<Vec<_>>(), ["VTEP MAC 02:00:00:00:00:09"]);
}

#[test]
fn an_operator_who_wants_the_interface_chosen_anew_does_not_wait() {
    let mut node = Node::serving(&[]);
    node.address = Some(7);
    node.hear(Event::Reload(None));
    assert!(node.todo.iter().any(|effect| matches!(effect, Effect::Restart(_))), "{:?}", node.todo);
}

#[test]
fn an_address_that_changes_while_the_store_has_not_told_of_leases_yet_is_followed() {
    let mut node = Node::new();
    node.hear(Event::Time);
    node.moves_to(7);
    assert!(matches!(node.only(), Effect::Restart(_)));
}

#[test]
fn an_address_that_changes_while_the_first_peers_come_is_followed_afterwards() {
    let mut node = Node::new();
    node.hear(Event::Time);
    node.policy_hangs = true;
    node.hear(Event::Store(StoreEvent::Snapshot(vec![
        Arc::new(lease("10.5.1.0/24", 1)),
        Arc::new(lease("10.5.2.0/24", 2)),
    ])));
    node.moves_to(7);
    node.policy_hangs = false;
    node.go_on();
    node.pass(ADDRESS_GRACE);
    assert!(matches!(node.only(), Effect::Restart(_)));
}

#[test]
fn a_restart_waits_for_the_policy() {
    let mut node = Node::serving(&[]);
    node.begin_tick_that_hangs();
    node.moves_to(7);
    node.hear(put("10.5.2.0/24", 2));
    assert!(matches!(node.todo[..], [Effect::Policy(PolicyCall::Tick)]), "{:?}", node.todo);
    node.end_tick();
    assert!(matches!(node.only(), Effect::Restart(_)));
}

#[test]
fn while_the_plugin_fails_for_a_new_subnet_firewall_and_subnet_file_are_for_the_old_one_and_the_node_is_not_ready()
 {
    let mut node = Node::serving(&[]);
    node.lease_fails = true;
    node.store_hangs = true;
    node.hear(put("10.5.1.0/24", 9));
    node.todo.clear();
    node.store_hangs = false;
    node.hear(Event::Renewed(Ok((Renewed::Lost, None))));
    assert_eq!(node.calls[0], "lease 10.5.9.0/24");
    assert_eq!(node.done[0], "acquired 10.5.9.0/24");
    assert!(
        !node.done.iter().any(|what| what.starts_with("rules") || what.starts_with("file")),
        "{:?}",
        node.done
    );
    assert!(!node.ready.contains(Step::Rules.missing()) && !node.ready.contains(Step::SubnetFile.missing()));
    node.lease_fails = false;
    node.pass(RENEWAL_RETRY);
    assert!(node.done.contains(&"file 10.5.9.0/24 1450".to_owned()), "{:?}", node.done);
    assert!(node.ready.contains(Step::Rules.missing()) && node.ready.contains(Step::SubnetFile.missing()));
}

#[test]
fn at_the_very_start_a_plugin_that_fails_for_the_lease_ends_the_daemon() {
    let mut node = Node::new();
    node.lease_fails = true;
    node.hear(Event::Time);
    assert!(matches!(node.only(), Effect::Fail(DaemonError::Plugin(_))));
}

#[test]
fn a_swap_that_is_asked_for_during_a_tick_takes_place_after_it() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.begin_tick_that_hangs();
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    let Some(Effect::Trial(TrialCall::Start { peers, .. })) = node.todo.pop() else {
        panic!("it is tried beside the tick: {:?}", node.todo);
    };
    assert_eq!(peers.len(), 1);
    node.hear(Event::Tried(Ok(Some(candidate()))));
    assert!(matches!(node.todo[..], [Effect::Policy(PolicyCall::Tick)]), "{:?}", node.todo);
    node.end_tick();
    node.swap_succeeds();
    assert_eq!(node.calls, ["tick", "tick"], "the new one's first tick, too");
    assert_eq!(node.coordinator.plugin.digest, "new");
}

#[test]
fn what_changes_while_a_plugin_is_tried_is_known_to_it_before_it_takes_over() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    node.todo.clear();
    node.hear(put("10.5.3.0/24", 3));
    assert_eq!(node.calls, ["put 10.5.3.0/24"], "the one that serves goes on");
    node.hear(Event::Tried(Ok(Some(candidate()))));
    let Effect::Trial(TrialCall::CatchUp { since, .. }) = node.only() else {
        panic!("nothing to catch up with")
    };
    assert!(
        matches!(&since[..], [PeerChange::Put(_, peer)] if peer.subnets == lease("10.5.3.0/24", 3).subnets)
    );
    // What comes from now on is for the one that will serve then.
    node.hear(put("10.5.4.0/24", 4));
    assert_eq!(node.calls, ["put 10.5.3.0/24"]);
    node.hear(Event::CaughtUp(Ok(candidate())));
    node.swap_succeeds();
    assert_eq!(node.calls[1..], ["put 10.5.4.0/24", "tick"]);
}

#[test]
fn a_swap_that_the_kernel_refuses_leaves_the_plugin_that_serves_with_all_that_came_meanwhile() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    node.todo.clear();
    node.hear(Event::Tried(Ok(Some(candidate()))));
    node.todo.clear();
    node.hear(put("10.5.3.0/24", 3));
    node.hear(Event::Replaced(Err("no such device".to_owned())));
    assert_eq!(node.calls, ["put 10.5.3.0/24"]);
    let Some(Effect::Answer(_, Err(reason))) = node.todo.pop() else { panic!("{:?}", node.todo) };
    assert_eq!(reason, "the kernel refuses what it declares: no such device");
    assert_eq!(node.coordinator.plugin.digest, "old");
}

#[test]
fn the_store_of_the_plugin_that_serves_is_handed_over_where_the_operator_says_so() {
    let mut node = Node::serving(&[]);
    let order = SwapOrder { plugin: "/plugins/next.wasm".to_owned(), take_state: true };
    for store in ["vxlan@file:old", "vxlan@file:new"] {
        let _answered = node.order_swap(order.clone());
        let call = node.only();
        let Effect::Trial(TrialCall::Start { take_state, .. }) = call else { panic!("{call:?}") };
        assert_eq!(take_state.as_deref(), Some(store));
        node.hear(Event::Tried(Ok(Some(candidate()))));
        node.swap_succeeds();
    }
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    assert!(matches!(node.only(), Effect::Trial(TrialCall::Start { take_state: None, .. })));
}

#[test]
fn two_swaps_at_once_are_one_and_a_refusal() {
    let mut node = Node::serving(&[]);
    let _first = node.ask_for_swap("/plugins/next.wasm");
    assert!(matches!(node.only(), Effect::Trial(TrialCall::Start { .. })));
    let _second = node.ask_for_swap("/plugins/other.wasm");
    let Effect::Answer(_, Err(reason)) = node.only() else { panic!("no answer") };
    assert!(reason.contains("a swap to /plugins/next.wasm is under way"), "{reason}");
}

#[test]
fn a_swap_that_is_asked_for_before_all_peers_are_known_waits_for_them() {
    let mut node = Node::new();
    node.hear(Event::Time);
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    assert!(node.todo.is_empty(), "{:?}", node.todo);
    node.hear(Event::Store(StoreEvent::Snapshot(vec![Arc::new(lease("10.5.1.0/24", 1))])));
    assert!(matches!(node.only(), Effect::Trial(TrialCall::Start { .. })));
}

#[test]
fn a_swap_that_nobody_waits_for_any_more_when_all_peers_are_known_is_not_begun() {
    let mut node = Node::new();
    node.hear(Event::Time);
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    node.attendance.clear();
    node.hear(Event::Store(StoreEvent::Snapshot(vec![Arc::new(lease("10.5.1.0/24", 1))])));
    assert!(node.todo.is_empty(), "{:?}", node.todo);
}

#[test]
fn a_plugin_that_takes_over_with_another_mtu_and_other_data_is_published() {
    let mut node = Node::serving(&[]);
    let _answered = node.ask_for_swap("/plugins/next.wasm");
    node.todo.clear();
    let data = serde_json::value::RawValue::from_string("{\"VNI\":7}".to_owned()).ok();
    let published = Attributes { backend_data: data, ..attributes(1) };
    node.hear(Event::Tried(Ok(Some(Candidate { published: published.clone(), mtu: 1400, ..candidate() }))));
    node.swap_succeeds();
    assert!(node.done.contains(&"file 10.5.1.0/24 1400".to_owned()), "{:?}", node.done);
    assert!(node.done.contains(&"renewed as 192.168.0.1".to_owned()), "{:?}", node.done);
    assert_eq!(node.coordinator.own.lease.attributes, published);
}

#[test]
fn a_plugin_file_that_changes_during_a_swap_is_looked_at_afterwards() {
    let mut node = Node::serving(&[]);
    node.hear(Event::PluginFileChanged);
    assert!(matches!(node.only(), Effect::Trial(TrialCall::Start { unless: Some(_), .. })));
    node.hear(Event::PluginFileChanged);
    assert!(node.todo.is_empty());
    node.hear(Event::Tried(Ok(None)));
    assert!(matches!(node.only(), Effect::Trial(TrialCall::Start { unless: Some(_), .. })));
}

#[test]
fn changes_of_routing_come_in_bursts_and_the_policy_is_asked_once() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    for _ in 0..5 {
        node.hear(Event::RoutingChanged);
        node.pass(DEBOUNCE / 2);
    }
    assert!(node.calls.is_empty());
    node.pass(DEBOUNCE);
    assert_eq!(node.calls, ["put 10.5.2.0/24"]);
}

#[test]
fn a_policy_that_uses_up_its_time_again_and_again_is_asked_about_all_that_has_changed_after_a_rest() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.effort = Effort { processor: Duration::from_secs(1), exhausted: true };
    node.calls.clear();
    let before = (3..11)
        .map(|n| {
            node.hear(put("10.5.2.0/24", n));
            node.calls.len()
        })
        .collect::<Vec<_>>();
    assert_eq!(before[2], before[7], "it is left alone after the third: {before:?}");
    node.pass(RETRY.min);
    assert_eq!(node.calls.len(), 8, "all at once: {:?}", node.calls);
    // The operator wants it at once.
    node.hear(put("10.5.2.0/24", 20));
    assert_eq!(node.calls.len(), 8);
    node.hear(Event::Reload(None));
    assert!(node.calls.len() > 8, "{:?}", node.calls);
}

#[test]
fn what_fresh_instances_want_to_be_known_by_is_published_at_once_and_then_now_and_then() {
    let mut node = Node::serving(&[]);
    node.done.clear();
    let publish = |node: &mut Node, address, after| {
        node.pass(Duration::from_secs(after));
        let (published, wish) = (attributes(address), Wish::Fresh);
        node.hear(Event::PublishedAnew { published, mtu: 1450, wish });
        node.coordinator.own.lease.attributes.public_ip
    };
    let is = |address| attributes(address).public_ip;
    assert_eq!(publish(&mut node, 7, 0), is(7));
    assert_eq!((publish(&mut node, 8, 1), publish(&mut node, 9, 8)), (is(7), is(7)));
    node.pass(Duration::from_secs(1));
    assert_eq!(node.coordinator.own.lease.attributes.public_ip, is(9));
    assert_eq!(publish(&mut node, 10, 5), is(9));
}

const HOST_GW: &str = r#"{"Type":"host-gw"}"#;
const VXLAN: &str = r#"{"Type":"vxlan"}"#;

fn backend(backend: &str) -> Event {
    Event::Config(Ok(Arc::new(config().with_backend(backend).expect("a backend"))))
}

/// A peer serves both; `complete`: it uses the one that is moved to for everybody, which is its main one then.
fn put_both(subnet: &str, address: u8, complete: bool) -> Event {
    let generation = |backend: &str, main, complete| Generation {
        backend: backend.to_owned(),
        main,
        complete,
        backend_type: "host-gw".to_owned(),
        ..Generation::default()
    };
    let generations = vec![generation(VXLAN, true, false), generation(HOST_GW, false, complete)];
    let mut lease = lease(subnet, address);
    lease.attributes.generations = generations;
    Event::Store(StoreEvent::Changes(vec![Change::Put(Arc::new(lease))]))
}

/// What the node publishes: the type, and the generations with whether each is the main one and complete.
fn published(node: &Node) -> (String, Vec<(bool, bool)>) {
    let attributes = &node.coordinator.own.lease.attributes;
    let generations = attributes.generations.iter().map(|one| (one.main, one.complete)).collect();
    (attributes.backend_type.clone(), generations)
}

#[test]
fn a_peer_that_answers_moves_and_the_former_backend_goes_when_all_are_done() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    assert_eq!(node.changes, ["start host-gw"]);
    assert_eq!(published(&node), ("vxlan".to_owned(), vec![(true, false), (false, false)]));
    node.hear(put_both("10.5.2.0/24", 2, false));
    node.pass(Duration::from_secs(1));
    assert_eq!(node.changes[1..], ["#1 by Beside"]);
    assert_eq!(published(&node).1, [(true, false), (false, false)], "others may be about to serve it");
    node.pass(Duration::from_secs(3));
    assert_eq!(
        (published(&node).1, node.phase().as_deref()),
        (vec![(true, false), (false, true)], Some("moved"))
    );
    node.pass(Duration::from_mins(10));
    assert_eq!(node.changes.len(), 2, "the peer still needs the former");
    node.hear(put_both("10.5.2.0/24", 2, true));
    node.pass(Duration::from_secs(1));
    assert_eq!(published(&node), ("host-gw".to_owned(), vec![(false, false), (true, true)]));
    node.pass(Duration::from_secs(6));
    assert_eq!(node.changes[2..], ["only Beside"]);
    assert_eq!((published(&node), node.phase()), (("host-gw".to_owned(), Vec::new()), None));
    // The file of --plugin is for the backend before: another one there is nobody's concern now.
    node.hear(Event::PluginFileChanged);
    assert!(node.todo.is_empty(), "{:?}", node.todo);
}

#[test]
fn a_secret_of_a_backend_is_neither_published_nor_written_down_nor_shown() {
    let mut node = Node::serving(&[]);
    let told = |node: &Node| {
        let coordinator = &node.coordinator;
        let lease = flannel_model::codec::encode(&coordinator.own.lease.attributes);
        (lease, format!("{:?}", coordinator.backend_record()), format!("{:?}", coordinator.change_status()))
    };
    node.hear(backend(r#"{"Type":"wireguard","PSK":"made-up"}"#));
    let (lease, record, status) = told(&node);
    assert!(lease.contains(r#""PSK":"sha256:"#), "{lease}");
    assert!(
        ![&lease, &record, &status].iter().any(|text| text.contains("made-up")),
        "{lease} {record} {status}"
    );
    node.pass(Duration::from_secs(20));
    let (lease, record, _) = told(&node);
    assert!(record.contains("sha256:") && !record.contains("made-up"), "{record}");
    assert!(!lease.contains("PSK"), "{lease}");
}

#[test]
fn a_peer_that_does_not_answer_stays_and_is_tried_more_and_more_seldom() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 3)]);
    node.silent.insert(PeerId(1), 0);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.2.0/24", 2, true));
    node.hear(put_both("10.5.3.0/24", 3, true));
    node.pass(Duration::from_mins(2));
    assert_eq!(node.changes[1..], ["#2 by Beside"]);
    let probes = node.silent[&PeerId(1)];
    assert!((5..12).contains(&probes), "{probes} probes in two minutes");
    assert_eq!(node.phase().as_deref(), Some("moving"));
    let waits = node.coordinator.change_status().expect("a change").waits_for;
    assert!(
        waits.len() == 1 && waits[0].contains("10.5.2.0/24") && waits[0].contains("no answer"),
        "{waits:?}"
    );
    node.silent.clear();
    node.pass(Duration::from_secs(40));
    assert_eq!(node.changes[2..], ["#1 by Beside", "only Beside"]);
}

#[test]
fn turned_round_all_go_back_before_the_new_backend_goes() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.2.0/24", 2, false));
    node.pass(Duration::from_secs(1));
    node.hear(backend(VXLAN));
    node.pass(Duration::from_secs(1));
    assert_eq!(node.changes[2..], ["to Serving", "#1 by Serving"]);
    // The peer is done with it, too.
    node.hear(put("10.5.2.0/24", 2));
    node.pass(Duration::from_secs(10));
    assert_eq!(node.changes[4..], ["only Serving"]);
    assert_eq!((published(&node), node.phase()), (("vxlan".to_owned(), Vec::new()), None));
}

/// All is done but for the end: the node has said that it has the new backend only, and has the former one still.
fn about_to_end() -> Node {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.2.0/24", 2, true));
    while !published(&node).1.is_empty() {
        node.pass(Duration::from_millis(100));
    }
    node
}

#[test]
fn before_a_backend_goes_the_others_have_heard_of_it() {
    let mut node = about_to_end();
    assert_eq!(node.changes, ["start host-gw", "#1 by Beside"]);
    assert_eq!((published(&node).0.as_str(), node.phase().as_deref()), ("host-gw", Some("retiring")));
    node.pass(Duration::from_millis(1_500));
    assert_eq!((&node.changes[2..], node.phase()), (&["only Beside".to_owned()][..], None));
}

#[test]
fn turned_round_at_the_last_moment_a_node_has_both_again() {
    let mut node = about_to_end();
    node.hear(backend(VXLAN));
    assert_eq!(published(&node), ("host-gw".to_owned(), vec![(false, false), (true, false)]));
    node.pass(Duration::from_secs(1));
    assert_eq!(node.changes[2..], ["to Serving", "#1 by Serving"]);
    node.hear(put("10.5.2.0/24", 2));
    node.pass(Duration::from_secs(10));
    assert_eq!(node.changes[4..], ["only Serving"]);
}

#[test]
fn whoever_needs_the_former_backend_at_the_last_moment_has_it() {
    let mut node = about_to_end();
    node.hear(put_both("10.5.3.0/24", 3, false));
    node.pass(Duration::from_secs(3));
    assert_eq!(published(&node).1, [(false, false), (true, true)]);
    assert_eq!(node.changes[2..], ["#2 by Beside"]);
}

#[test]
fn turned_round_nobody_moves_back_to_who_has_said_that_he_is_done() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 3)]);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.3.0/24", 3, false));
    let mut settled = lease("10.5.2.0/24", 2);
    let generation = |backend: &str, main| Generation {
        backend: backend.to_owned(),
        main,
        complete: main,
        ..Generation::default()
    };
    settled.attributes.generations = vec![generation(VXLAN, false), generation(HOST_GW, true)];
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Put(Arc::new(settled))])));
    node.pass(Duration::from_secs(1));
    assert_eq!(node.changes[1..], ["#2 by Beside", "#1 by Beside"]);
    // By its type it might be with the former one.
    node.hear(put("10.5.2.0/24", 2));
    node.hear(backend(VXLAN));
    node.pass(Duration::from_secs(2));
    assert_eq!(node.changes[3..], ["to Serving", "#2 by Serving"]);
}

#[test]
fn a_node_that_nobody_else_is_with_changes_alone() {
    let mut node = Node::serving(&[]);
    node.hear(backend(HOST_GW));
    node.pass(Duration::from_secs(15));
    assert_eq!((published(&node), node.phase()), (("host-gw".to_owned(), Vec::new()), None));
}

/// What a policy is told of a peer, in short.
fn told(change: &PeerChange) -> String {
    match change {
        PeerChange::Put(_, lease) => format!("put {}", lease.subnets),
        PeerChange::Removed(id) => format!("removed {id}"),
    }
}

#[test]
fn started_again_at_the_last_moment_a_node_goes_on_by_the_new_backend_whichever_policy_answers_first() {
    const OTHER: &str = r#"{"Type":"vxlan","Port":8473}"#;
    let target = Arc::new(config().with_backend(OTHER).expect("a backend"));
    let generation = |config: &NetworkConfig, main| Generation {
        backend: config.backend_key().to_owned(),
        main,
        complete: main,
        ..Generation::default()
    };
    let said = Attributes {
        generations: vec![generation(&config(), false), generation(&target, true)],
        ..attributes(1)
    };
    let mut node = Node::resumed(None, external(1), attributes(1), Some((said, target)));
    node.beside_hangs = true;
    node.hear(Event::Time);
    // The peer has the new one alone, of the same type, and says nothing of generations any more.
    let leases = vec![Arc::new(lease("10.5.1.0/24", 1)), Arc::new(lease("10.5.2.0/24", 2))];
    node.hear(Event::Store(StoreEvent::Snapshot(leases)));
    assert_eq!(node.calls.last().map(String::as_str), Some("put 10.5.2.0/24"), "it has answered");
    assert_eq!(node.changes, ["start vxlan"], "by what is usual");
    node.beside_hangs = false;
    node.hear(Event::Time);
    assert_eq!(node.changes, ["start vxlan", "#1 by Beside"]);
}

/// A peer that says nothing of generations, as upstream's: it has this backend now.
fn put_restarted(subnet: &str, address: u8, backend: &str) -> Event {
    let mut lease = lease(subnet, address);
    lease.attributes.backend_type = backend.to_owned();
    Event::Store(StoreEvent::Changes(vec![Change::Put(Arc::new(lease))]))
}

#[test]
fn what_leads_to_a_peer_that_was_restarted_with_the_new_backend_goes_when_it_is_reached_by_that() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.beside_hangs = true;
    node.hear(put_restarted("10.5.2.0/24", 2, "host-gw"));
    node.hear(Event::Reload(None));
    node.pass(Duration::from_secs(2));
    assert!(node.calls.iter().all(|call| call == "tick"), "{:?}", node.calls);
    node.beside_hangs = false;
    node.hear(Event::Time);
    assert_eq!(node.changes, ["start host-gw", "#1 by Beside"]);
    assert_eq!(node.calls.last().map(String::as_str), Some("put 10.5.2.0/24"));
}

#[test]
fn what_leads_to_a_peer_that_the_new_backend_cannot_serve_goes_as_soon_as_that_is_known() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.beside_rejects = true;
    node.hear(put_restarted("10.5.2.0/24", 2, "host-gw"));
    assert_eq!(node.changes, ["start host-gw"]);
    assert_eq!(node.calls, ["put 10.5.2.0/24"]);
}

/// A change to a backend of commands, which fail as long as the former's entries are there, and so often without them.
fn by_commands(in_the_way: u32) -> Node {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    (node.by_commands, node.in_the_way) = (true, in_the_way);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.2.0/24", 2, true));
    node
}

#[test]
fn a_peer_whose_commands_fail_beside_the_former_backend_is_tried_without_it() {
    let mut node = by_commands(0);
    node.pass(Duration::from_secs(1));
    assert_eq!(node.changes, ["start host-gw", "#1 by Beside"]);
    assert_eq!(node.told_beside, ["put 10.5.2.0/24", "put 10.5.2.0/24"]);
    node.pass(Duration::from_secs(20));
    assert_eq!(node.changes[2..], ["only Beside"]);
}

#[test]
fn a_peer_whose_commands_fail_without_the_former_backend_too_has_that_back_and_is_tried_more_and_more_seldom()
{
    let mut node = by_commands(u32::MAX);
    node.pass(Duration::from_mins(2));
    let tries = node.changes.iter().filter(|change| *change == "#1 by Beside").count();
    assert!((5..12).contains(&tries), "{:?}", node.changes);
    assert_eq!(node.changes.last().map(String::as_str), Some("#1 by Serving"));
    let waits = node.coordinator.change_status().expect("a change").waits_for;
    assert!(waits.len() == 1 && waits[0].contains("host-gw cannot serve it: no"), "{waits:?}");
    node.in_the_way = 0;
    node.pass(Duration::from_mins(1));
    assert_eq!(node.changes.last().map(String::as_str), Some("only Beside"));
}

#[test]
fn peers_that_a_policy_cannot_serve_are_handed_over_again_when_it_asks_for_them_and_not_else() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.rejects = true;
    node.hear(put("10.5.3.0/24", 3));
    node.pass(Duration::from_mins(6));
    assert_eq!(node.calls, ["put 10.5.3.0/24", "tick"]);
    node.hear(refresh(&[2]));
    assert_eq!(node.calls[2..], ["put 10.5.3.0/24"]);
    node.rejects = false;
    node.pass(Duration::from_secs(2));
    node.hear(refresh(&[2]));
    assert_eq!(node.calls[3..], ["put 10.5.3.0/24"]);
    node.pass(Duration::from_mins(4));
    assert_eq!(node.calls[4..], ["tick"]);
}

#[test]
fn a_peer_that_is_restarted_with_the_former_backend_again_is_reached_by_that_before_the_new_one_is_told() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.hear(put_restarted("10.5.2.0/24", 2, "host-gw"));
    let applies = node.applies;
    node.policy_hangs = true;
    node.hear(put_restarted("10.5.2.0/24", 2, "vxlan"));
    node.pass(Duration::from_secs(2));
    assert_eq!((node.changes.last().map(String::as_str), node.applies), (Some("#1 by Beside"), applies));
    node.policy_hangs = false;
    node.hear(Event::Time);
    assert_eq!((node.changes.last().map(String::as_str), node.applies), (Some("#1 by Serving"), applies + 1));
}

#[test]
fn a_peer_that_goes_while_its_move_is_awaited_is_gone_for_both() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.beside_hangs = true;
    node.hear(put_restarted("10.5.2.0/24", 2, "host-gw"));
    let gone = lease("10.5.2.0/24", 2).subnets;
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Removed(gone)])));
    assert_eq!(node.calls, ["removed #1"]);
}

#[test]
fn a_peer_that_goes_while_the_new_backend_is_asked_about_it_leaves_nothing_there() {
    let mut node = Node::serving(&[]);
    node.hear(backend(HOST_GW));
    node.beside_hangs = true;
    node.hear(put_restarted("10.5.2.0/24", 2, "host-gw"));
    let gone = lease("10.5.2.0/24", 2).subnets;
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Removed(gone)])));
    node.beside_hangs = false;
    node.hear(Event::Time);
    assert_eq!(node.told_beside, ["put 10.5.2.0/24", "removed #1"]);
}

#[test]
fn a_policy_beside_that_uses_up_its_time_has_to_rest_like_any_other() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(backend(HOST_GW));
    node.effort = Effort { processor: Duration::from_secs(1), exhausted: true };
    node.applies = 0;
    for n in 2..12 {
        node.hear(put_both("10.5.2.0/24", 2, n % 2 == 0));
    }
    let before = node.applies;
    assert_eq!(before, 3, "it is left alone after the third");
    node.pass(RETRY.min * 2);
    assert_eq!(node.applies, before + 1, "all at once");
}

/// The plugin publishes this in the middle of its work.
fn publishes(data: u32) -> Event {
    Event::PublishedAnew { published: with_data(data), mtu: 1450, wish: Wish::Running }
}

fn with_data(data: u32) -> Attributes {
    let data = serde_json::value::RawValue::from_string(data.to_string()).expect("JSON");
    Attributes { backend_data: Some(data), ..attributes(1) }
}

fn writes(node: &Node) -> usize {
    node.done.iter().filter(|done| done.starts_with("renewed")).count()
}

#[test]
fn a_thousand_publishes_in_a_second_are_few_writes_and_the_last_one_wins() {
    let mut node = Node::serving(&[]);
    for data in 1..=1000 {
        node.pass(Duration::from_millis(1));
        node.hear(publishes(data));
        let lease = Step::Lease.missing();
        assert!(node.ready.contains(lease), "it waits for its turn, and nothing is wrong");
    }
    node.pass(Duration::from_secs(1));
    assert_eq!(writes(&node), 2, "{:?}", node.done);
    assert_eq!(node.coordinator.own.lease.attributes, with_data(1000));
    // The same again, and what is there already, are not written.
    node.hear(publishes(1000));
    node.hear(publishes(1));
    node.hear(publishes(1000));
    node.pass(Duration::from_mins(5));
    assert_eq!(writes(&node), 2, "{:?}", node.done);
    // One that does it all the time has to be content with less.
    for data in 0..3000 {
        node.pass(Duration::from_millis(100));
        node.hear(publishes(data));
    }
    assert!(writes(&node) <= 2 + 10 + 31, "{:?}", node.done);
}

#[test]
fn what_is_published_while_the_store_is_away_is_written_when_it_is_back_and_nothing_older_after_it() {
    let mut node = Node::serving(&[]);
    node.store_hangs = true;
    node.hear(publishes(1));
    node.pass(Duration::from_secs(20));
    (2..5).for_each(|data| node.hear(publishes(data)));
    node.pass(Duration::from_secs(20));
    let Effect::Store(StoreCall::Renew(_, first)) = node.only() else { panic!("one question at a time") };
    assert_eq!(first, with_data(1));
    node.hear(Event::Renewed(Err(away())));
    node.pass(Duration::from_secs(1));
    let Effect::Store(StoreCall::Renew(_, second)) = node.only() else { panic!("it is tried again") };
    assert_eq!(second, with_data(4));
    // Before the store has answered there is something newer.
    node.hear(publishes(5));
    node.store_hangs = false;
    node.hear(Event::Renewed(Ok((Renewed::Until(None), Some(RENEWAL)))));
    node.pass(Duration::from_secs(10));
    assert_eq!(node.coordinator.own.lease.attributes, with_data(5));
    assert_eq!(writes(&node), 1, "{:?}", node.done);
    node.pass(Duration::from_mins(5));
    assert_eq!(writes(&node), 1, "{:?}", node.done);
}

#[test]
fn what_the_plugin_beside_publishes_is_its_own_generations_until_it_serves() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(publishes(1));
    node.hear(backend(HOST_GW));
    let data = |data| serde_json::value::RawValue::from_string(format!("{data}")).ok();
    let published = Attributes { backend_type: "host-gw".to_owned(), backend_data: data(7), ..attributes(1) };
    let wish = Wish::Running;
    node.hear(Event::Beside(Box::new(Event::PublishedAnew { published, mtu: 1500, wish })));
    node.hear(publishes(2));
    node.pass(Duration::from_secs(2));
    let Attributes { backend_type, backend_data, generations, .. } =
        node.coordinator.own.lease.attributes.clone();
    assert_eq!(
        (backend_type.as_str(), backend_data.map(|data| data.get().to_owned())),
        ("vxlan", Some("2".to_owned()))
    );
    let beside = generations.iter().find(|generation| !generation.main).expect("both");
    assert_eq!(
        (beside.backend_type.as_str(), beside.backend_data.as_ref().map(|data| data.get())),
        ("host-gw", Some("7"))
    );
}

/// The plugin wants to declare anew for these peers.
fn refresh(peers: &[u64]) -> Event {
    Event::Refresh(peers.iter().copied().map(PeerId).collect())
}

#[test]
fn a_policy_is_told_again_of_peers_that_it_asks_for_and_of_nobody_who_is_not_there() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 3)]);
    node.hear(refresh(&[1, 99]));
    assert_eq!(node.calls, ["put 10.5.2.0/24"]);
    node.hear(refresh(&[1, 2]));
    node.hear(refresh(&[1]));
    assert_eq!(node.calls.split_off(1), ["put 10.5.3.0/24"]);
    // One that goes while it waits for its turn is gone.
    node.hear(refresh(&[2]));
    let gone = lease("10.5.3.0/24", 3).subnets;
    node.hear(Event::Store(StoreEvent::Changes(vec![Change::Removed(gone)])));
    node.pass(Duration::from_secs(5));
    assert_eq!(node.calls.split_off(1), ["removed #2", "put 10.5.2.0/24"]);
}

#[test]
fn what_has_changed_and_a_tick_that_is_due_come_before_peers_that_are_asked_for() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 3)]);
    node.begin_tick_that_hangs();
    node.hear(refresh(&[1]));
    node.hear(put("10.5.3.0/24", 33));
    node.end_tick();
    assert_eq!(node.calls, ["tick", "put 10.5.3.0/24", "put 10.5.2.0/24"]);
}

#[test]
fn a_policy_that_asks_for_peers_whenever_it_is_told_of_them_is_told_once_a_second_and_ticks_go_on() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    let mut told = 0;
    for _ in 0..6000 {
        let before = node.calls.len();
        node.hear(refresh(&[1]));
        node.pass(Duration::from_millis(100));
        told += node.calls[before..].iter().filter(|call| call.starts_with("put")).count();
    }
    assert!((590..=601).contains(&told), "{told}");
    assert_eq!(node.calls.iter().filter(|call| *call == "tick").count(), 2);
    // What that takes of the processor it has to rest for.
    node.effort = Effort { processor: Duration::from_secs(1), exhausted: false };
    node.pass(Duration::from_secs(1));
    node.calls.clear();
    for _ in 0..100 {
        node.hear(refresh(&[1]));
        node.pass(Duration::from_millis(100));
    }
    assert!(node.calls.len() <= 4, "{:?}", node.calls);
}

#[test]
fn peers_that_wait_for_a_plugin_that_fails_are_not_asked_about_sooner() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.peers_fail = true;
    node.hear(put("10.5.2.0/24", 22));
    node.calls.clear();
    node.hear(refresh(&[1]));
    assert!(node.calls.is_empty(), "{:?}", node.calls);
    node.peers_fail = false;
    node.pass(RETRY.max * 2);
    assert_eq!(node.calls, ["put 10.5.2.0/24"]);
}

#[test]
fn what_a_plugin_has_asked_for_ends_with_it() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.hear(refresh(&[1]));
    node.hear(refresh(&[1]));
    let _answer = node.ask_for_swap("/plugins/other.wasm");
    let start = node.only();
    assert!(matches!(start, Effect::Trial(TrialCall::Start { .. })), "{start:?}");
    node.hear(Event::Tried(Ok(Some(candidate()))));
    node.swap_succeeds();
    node.calls.clear();
    node.pass(Duration::from_secs(5));
    assert!(!node.calls.iter().any(|call| call.starts_with("put")), "{:?}", node.calls);
}

#[test]
fn the_plugin_beside_is_told_again_of_peers_that_it_asks_for() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.silent.insert(PeerId(1), 0);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.2.0/24", 2, false));
    node.pass(Duration::from_secs(1));
    let before = node.told_beside.len();
    let ask = || Event::Beside(Box::new(refresh(&[1, 99])));
    node.hear(ask());
    node.hear(ask());
    assert_eq!(node.told_beside.split_off(before), ["put 10.5.2.0/24"]);
    node.pass(Duration::from_secs(2));
    assert_eq!(node.told_beside.split_off(before), ["put 10.5.2.0/24"]);
    node.pass(Duration::from_secs(10));
    assert_eq!(node.told_beside.len(), before);
}

#[test]
fn a_fresh_instance_is_told_of_all_peers_whatever_the_last_one_has_failed_in() {
    let peers = ["put 10.5.2.0/24", "put 10.5.3.0/24"];
    let mut node = Node::serving(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 3)]);
    // In a call about one of them.
    node.restarts = true;
    node.hear(put("10.5.3.0/24", 33));
    node.pass(RETRY.min * 2);
    assert_eq!(node.calls, ["put 10.5.3.0/24", peers[0], peers[1]]);
    // In a tick: before there is another.
    node.calls.clear();
    node.tick_traps = true;
    node.pass(Duration::from_mins(5));
    assert_eq!(node.calls[..3], ["tick", peers[0], peers[1]], "{:?}", node.calls);
    node.pass(RETRY.min);
    assert_eq!(node.calls[3..], ["tick"]);
    // An operator may want the same.
    node.calls.clear();
    node.hear(Event::Reload(None));
    node.pass(DEBOUNCE);
    assert!(peers.iter().all(|peer| node.calls.iter().any(|call| call == peer)), "{:?}", node.calls);
}

#[test]
fn a_target_that_is_lost_or_back_brings_a_tick_at_once() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.pass(Duration::from_secs(1));
    node.calls.clear();
    node.hear(Event::ProbesChanged);
    assert_eq!(node.calls, ["tick"]);
    node.pass(Duration::from_mins(4));
    assert_eq!(node.calls, ["tick"], "what the policy asked for is 5 minutes after that one");
    // Hundreds of them are ten a second.
    node.calls.clear();
    for _ in 0..100 {
        node.hear(Event::ProbesChanged);
        node.pass(Duration::from_millis(10));
    }
    assert!((9..=11).contains(&node.calls.len()), "{:?}", node.calls);
    // One after which the policy has to rest brings none.
    node.pass(Duration::from_secs(1));
    node.effort = Effort { processor: Duration::from_secs(1), exhausted: false };
    node.calls.clear();
    for _ in 0..95 {
        node.hear(Event::ProbesChanged);
        node.pass(Duration::from_millis(100));
    }
    assert_eq!(node.calls, ["tick"]);
    // During one it may have come too late for that: there is another.
    node.effort = Effort::default();
    node.pass(Duration::from_mins(1));
    node.begin_tick_that_hangs();
    node.calls.clear();
    node.hear(Event::ProbesChanged);
    node.end_tick();
    node.pass(Duration::from_secs(1));
    assert_eq!(node.calls.iter().filter(|call| *call == "tick").count(), 2, "{:?}", node.calls);
}

#[test]
fn before_the_first_snapshot_is_in_the_kernel_there_is_no_tick_for_probes() {
    let mut node = Node::new();
    node.hear(Event::ProbesChanged);
    node.pass(Duration::from_secs(5));
    assert!(!node.calls.iter().any(|call| call == "tick"), "{:?}", node.calls);
}

#[test]
fn the_plugin_beside_hears_of_its_own_probes() {
    let mut node = Node::serving(&[("10.5.2.0/24", 2)]);
    node.silent.insert(PeerId(1), 0);
    node.hear(backend(HOST_GW));
    node.hear(put_both("10.5.2.0/24", 2, false));
    node.pass(Duration::from_secs(1));
    node.calls.clear();
    let before = node.beside_ticks;
    node.hear(Event::Beside(Box::new(Event::ProbesChanged)));
    assert_eq!(node.beside_ticks, before + 1);
    assert!(!node.calls.iter().any(|call| call == "tick"), "{:?}", node.calls);
}
