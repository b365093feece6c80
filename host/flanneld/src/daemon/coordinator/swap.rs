//! One plugin in another's place, while packets flow: as a whole, or not at all.

use std::time::Instant;

use flannel_base::micros;
use flannel_model::lease::{Attributes, Lease};
use flannel_plugin_host::{PeerChange, PluginReference};
use flannel_telemetry::control::{Asker, Attended, Responder, SwapOrder, Swapped};
use tracing::{error, info, warn};

use super::refreshes::Refreshes;
use super::ticks::Ticks;
use super::{Candidate, Coordinator, Effect, News, Phase, TrialCall, Wish};

/// Swaps that are wanted, and the one that is under way.
#[derive(Default)]
pub(super) struct Swap {
    running: Option<Running>,
    /// Asked for by operators, and not looked at yet.
    asked: Vec<(SwapOrder, Asker, Responder<Swapped>, Attended)>,
    /// The plugin's file may have changed while a swap was under way: what has said so.
    look_again: Option<Trigger>,
}

/// Why a swap is begun.
#[derive(Clone, Copy)]
pub(super) enum Trigger {
    /// An operator wants it, by the control socket.
    Asked(Asker),
    /// The plugin's file may be another one: SIGHUP, maybe with a sender.
    Signal(Option<Asker>),
    /// The plugin's file is another one: `--watch-plugin`.
    FileWatch,
}

impl Trigger {
    /// For the log.
    fn name(self) -> &'static str {
        match self {
            Self::Asked(_) => "control socket",
            Self::Signal(_) => "SIGHUP",
            Self::FileWatch => "file watch",
        }
    }

    fn asker(self) -> Option<Asker> {
        match self {
            Self::Asked(asker) => Some(asker),
            Self::Signal(sender) => sender,
            Self::FileWatch => None,
        }
    }
}

struct Running {
    plugin: PluginReference,
    trigger: Trigger,
    /// Who waits for the end.
    answer: Option<Responder<Swapped>>,
    started: Instant,
    stage: Stage,
    /// The lease that the candidate has been told of.
    told: Lease,
    /// Lease changes that it has not been told of.
    since: Vec<PeerChange>,
    /// The surroundings have changed since it was told of the peers.
    replay: bool,
}

enum Stage {
    /// It is loaded and started beside the policy that serves.
    Trying,
    /// It could take over as soon as the policy is free. No call of the policy begins from here on.
    Passed(Candidate),
    /// It hears of what has changed meanwhile. So many of the changes that wait for the policy are known to it then.
    CatchingUp { covered: usize },
    /// What it wants is being brought into the kernel.
    Replacing { candidate: Candidate, covered: usize },
}

impl Swap {
    /// An operator wants a swap.
    pub(super) fn asked(
        &mut self,
        order: SwapOrder,
        asker: Asker,
        answer: Responder<Swapped>,
        attended: Attended,
    ) {
        self.asked.push((order, asker, answer, attended));
    }

    /// Changes of the cluster that the candidate has to know, too.
    pub(super) fn record(&mut self, changes: &[PeerChange]) {
        if let Some(running) = &mut self.running {
            running.since.extend(changes.iter().cloned());
        }
    }

    /// All peers are asked about again, because the surroundings have changed: a candidate has to be, too.
    pub(super) fn record_replay(&mut self) {
        if let Some(running) = &mut self.running {
            running.replay = true;
        }
    }

    /// Whether a swap is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the policy is not to be called, because another one is about to take its place.
    pub(super) fn holds_policy(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !matches!(running.stage, Stage::Trying))
    }
}

impl Coordinator {
    /// Begins swaps that were asked for, once all peers are known; goes on with the one under way, once the policy is free.
    pub(super) fn proceed_with_swap(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Ready { .. }) {
            for (order, asker, answer, attended) in std::mem::take(&mut self.swap.asked) {
                if attended.is_over() {
                    info!(
                        plugin = order.plugin,
                        uid = asker.uid,
                        pid = asker.pid,
                        "a swap was asked for, and who asked does not wait any more"
                    );
                } else {
                    self.swap_to(&order, asker, (answer, attended), now);
                }
            }
        }
        if self.job.is_some() {
            return;
        }
        let Some(running) = &mut self.swap.running else { return };
        let Stage::Passed(candidate) = &running.stage else { return };
        let covered = self.pending.len();
        if running.since.is_empty() && running.told.subnets == self.own.lease.subnets {
            let candidate = candidate.clone();
            self.replace_with(candidate, covered, now);
        } else {
            let since = std::mem::take(&mut running.since);
            running.told = self.own.lease.clone();
            running.stage = Stage::CatchingUp { covered };
            let own = self.own.lease.clone();
            self.effects.push(Effect::Trial(TrialCall::CatchUp { own, since }));
        }
    }

    fn swap_to(
        &mut self,
        order: &SwapOrder,
        asker: Asker,
        answer: (Responder<Swapped>, Attended),
        now: Instant,
    ) {
        let SwapOrder { plugin, take_state } = order;
        let refusal = match (&self.swap.running, plugin.parse()) {
            _ if self.change_status().is_some() => {
                "the backend is being changed: wait for its end (`flanneld status` tells how far it is), or put the former one back into the network config".to_owned()
            }
            (Some(running), _) => {
                let by = running.trigger.asker().and_then(|asker| asker.pid);
                let by =
                    by.map(|pid| format!(", or end process {pid}, which asked for it")).unwrap_or_default();
                format!("a swap to {} is under way: wait for its end{by}", running.plugin)
            }
            (None, Ok(plugin)) => {
                info!(%plugin, uid = asker.uid, pid = asker.pid, "a swap is asked for");
                return self.try_plugin(plugin, *take_state, Trigger::Asked(asker), Some(answer), now);
            }
            (None, Err(error)) => format!("{plugin:?}: {error}"),
        };
        warn!(reason = refusal, uid = asker.uid, pid = asker.pid, "a swap that is not even begun");
        self.effects.push(Effect::Answer(answer.0, Err(refusal)));
    }

    /// Looks whether the file given with `--plugin` is another one by now. Another look is taken after a swap that is under way.
    pub(super) fn look_at_plugin_file(&mut self, trigger: Trigger, now: Instant) {
        // Nothing is swapped before all peers are known; what is loaded until then is looked at afterwards.
        if self.swap.running.is_some() || self.is_starting() || self.change_status().is_some() {
            self.swap.look_again = Some(trigger);
        } else if let Some(plugin) = self.plugin.reference.clone().filter(|_| self.plugin.is_named) {
            self.try_plugin(plugin, false, trigger, None, now);
        }
    }

    fn try_plugin(
        &mut self,
        plugin: PluginReference,
        take_state: bool,
        trigger: Trigger,
        answer: Option<(Responder<Swapped>, Attended)>,
        now: Instant,
    ) {
        let (own, peers) = (self.own.lease.clone(), self.for_serving(self.view.all()));
        // Who asks for the same again gets it anew.
        let unless = answer.is_none().then(|| self.plugin.digest.clone());
        let take_state = take_state.then(|| self.plugin.store.clone());
        let (answer, attended) = answer.unzip();
        let call = TrialCall::Start {
            plugin: plugin.clone(),
            unless,
            take_state,
            own: own.clone(),
            peers,
            attended,
        };
        self.effects.push(Effect::Trial(call));
        let (stage, since) = (Stage::Trying, Vec::new());
        let replay = false;
        self.swap.running =
            Some(Running { plugin, trigger, answer, started: now, stage, told: own, since, replay });
    }

    pub(super) fn tried(&mut self, outcome: Result<Option<Candidate>, String>, now: Instant) {
        let Some(running) = &mut self.swap.running else { return };
        match outcome {
            Ok(Some(candidate)) => running.stage = Stage::Passed(candidate),
            Ok(None) => {
                self.swap.running = None;
                self.look_again_if_wanted(now);
            }
            Err(reason) => self.end_swap(Err(reason), now),
        }
    }

    pub(super) fn caught_up(&mut self, outcome: Result<Candidate, String>, now: Instant) {
        let Some(Running { stage: Stage::CatchingUp { covered }, .. }) = self.swap.running else { return };
        match outcome {
            Ok(candidate) => self.replace_with(candidate, covered, now),
            Err(reason) => self.end_swap(Err(reason), now),
        }
    }

    /// Has the candidate's whole desired state brought into the kernel, if it is fit to take over.
    fn replace_with(&mut self, candidate: Candidate, covered: usize, now: Instant) {
        match (self.is_fit(&candidate), &mut self.swap.running) {
            (Ok(()), Some(running)) => {
                running.stage = Stage::Replacing { candidate, covered };
                let told = running.told.subnets;
                let blackholes = self.blackholes(&told);
                self.effects.push(Effect::Trial(TrialCall::Replace { blackholes }));
            }
            (Ok(()), None) => {}
            (Err(reason), _) => {
                self.effects.push(Effect::Trial(TrialCall::Forget));
                self.end_swap(Err(reason), now);
            }
        }
    }

    fn is_fit(&self, candidate: &Candidate) -> Result<(), String> {
        let (ours, its) = (&self.change.base.backend_type, &candidate.published.backend_type);
        if ours != its {
            return Err(format!(
                "it publishes BackendType {its:?}, and this node's lease has {ours:?}: to other nodes that is another backend; change the network config's Backend.Type, and restart"
            ));
        }
        if let Some((id, reason)) = candidate.rejected.iter().find(|(id, _)| self.health.serves(*id)) {
            let peer = self.view.subnets(*id).map(|subnets| subnets.to_string()).unwrap_or_default();
            return Err(format!(
                "it cannot serve the peer with {peer}, which the plugin that runs can: {reason}"
            ));
        }
        Ok(())
    }

    pub(super) fn replaced(&mut self, outcome: Result<(usize, u64), String>, now: Instant) {
        let Some(running) = self.swap.running.take() else { return };
        let Running { stage: Stage::Replacing { candidate, covered }, plugin, told, replay, .. } = &running
        else {
            return;
        };
        let outcome = match outcome {
            Ok((entries, messages)) => {
                self.effects.push(Effect::Trial(TrialCall::TakeOver));
                // What comes after these it has not heard of.
                self.pending.drain(..*covered);
                let told = told.clone();
                let swapped = Swapped {
                    name: candidate.name.clone(),
                    version: candidate.version.clone(),
                    digest: candidate.digest.clone(),
                    entries,
                    messages,
                    took_us: 0,
                };
                (self.plugin.reference, self.plugin.is_named) = (Some(plugin.clone()), true);
                self.take_over(candidate.clone(), &told, now);
                if *replay {
                    self.replay(now);
                }
                Ok(swapped)
            }
            Err(reason) => {
                self.effects.push(Effect::Trial(TrialCall::Forget));
                Err(format!("the kernel refuses what it declares: {reason}"))
            }
        };
        self.swap.running = Some(running);
        self.end_swap(outcome, now);
    }

    /// The candidate is the policy that serves, and knows this lease.
    fn take_over(&mut self, candidate: Candidate, told: &Lease, now: Instant) {
        (self.plugin.digest, self.plugin.store) = (candidate.digest, candidate.store);
        self.health.reset(candidate.rejected);
        (self.retry, self.rest) = (None, None);
        self.refreshes = Refreshes::default();
        self.ticks = Ticks::at(now);
        self.tell_of_peers();
        self.change.base = candidate.published;
        self.publish_generations(now);
        self.set_mtu(candidate.mtu);
        self.has_taken_up(told, now);
        self.tell(News::Lease(self.own.lease.clone(), self.own.mtu));
    }

    pub(super) fn set_mtu(&mut self, mtu: u32) {
        if mtu != self.own.mtu {
            self.own.mtu = mtu;
            self.write_subnet_file();
        }
    }

    /// The plugin that serves publishes something else than before.
    pub(super) fn published_anew(&mut self, published: Attributes, mtu: u32, wish: Wish, now: Instant) {
        self.change.base = published;
        self.publish_wish(wish, now);
        self.set_mtu(mtu);
        self.tell(News::Lease(self.own.lease.clone(), self.own.mtu));
    }

    fn end_swap(&mut self, outcome: Result<Swapped, String>, now: Instant) {
        let Some(Running { plugin: source, trigger, answer, started, .. }) = self.swap.running.take() else {
            return;
        };
        let by = trigger.name();
        let (uid, pid) =
            (trigger.asker().map(|asker| asker.uid), trigger.asker().and_then(|asker| asker.pid));
        let outcome = outcome
            .map(|swapped| Swapped { took_us: micros(now.saturating_duration_since(started)), ..swapped });
        match &outcome {
            Ok(Swapped { name, version, digest, messages, took_us, .. }) => {
                info!(name, version, digest, %source, by, uid, pid, netlink_messages = messages, took_us, "plugin swapped");
            }
            Err(reason) => {
                error!(reason, %source, by, uid, pid, "the plugin is not swapped: the one before goes on");
            }
        }
        self.tell(News::Swapped(outcome.clone()));
        if let Some(answer) = answer {
            self.effects.push(Effect::Answer(answer, outcome));
        }
        self.look_again_if_wanted(now);
    }

    pub(super) fn look_again_if_wanted(&mut self, now: Instant) {
        if let Some(trigger) = self.swap.look_again.take() {
            self.look_at_plugin_file(trigger, now);
        }
    }
}
