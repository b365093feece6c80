//! One plugin in another's place, while packets flow: as a whole, or not at all.

use flannel_plugin_host::PluginReference;
use flannel_telemetry::control::{Answerer, Swapped};
use tokio::task::spawn_blocking;
use tokio::time::Instant as At;
use tracing::{error, info};

use super::DaemonError;
use super::policy::PolicyRunner;
use super::rehearsal::{Candidate, Outcome, Reason, Rehearsal, Stage};
use super::serve::{Daemon, Timers};
use super::start;

impl Daemon<'_> {
    /// Begins a swap that an operator has asked for.
    pub(super) fn swap_to(&mut self, plugin: &str, answer: Answerer<Swapped>) {
        // Whoever asked may have gone.
        if let Some(running) = &self.rehearsal {
            let other = &running.plugin;
            let _ = answer.send(Err(format!("a swap to {other} is under way: wait for its end")));
            return;
        }
        match plugin.parse() {
            Ok(plugin) => self.rehearse(plugin, Reason::Asked(answer)),
            Err(error) => drop(answer.send(Err(format!("{plugin:?}: {error}")))),
        }
    }

    /// Looks whether the file given with `--plugin` is another one by now. Another look is taken after a swap that is under way.
    pub(super) fn look_at_plugin_file(&mut self) {
        let Some(plugin) = self.options.plugin.clone() else { return };
        if self.rehearsal.is_some() {
            self.look_again = true;
        } else {
            self.rehearse(plugin, Reason::FileChanged);
        }
    }

    fn rehearse(&mut self, plugin: PluginReference, reason: Reason) {
        let Some(policy) = self.policy.get() else { return };
        let unless = matches!(reason, Reason::FileChanged).then(|| self.digest.clone());
        let stage = Stage {
            environment: policy.environment().clone(),
            limits: policy.limits().clone(),
            state: std::sync::Arc::clone(policy.state()),
            own: self.own.clone(),
            peers: self.peers.again(),
            unless,
        };
        self.rehearsal = Some(Rehearsal::start(plugin, reason, stage, self.options.cache_dir.clone()));
    }

    /// A rehearsal has ended: the plugin takes over, or is forgotten.
    pub(super) async fn rehearsed(
        &mut self,
        outcome: Outcome,
        timers: &mut Timers,
    ) -> Result<(), DaemonError> {
        let Some(rehearsal) = self.rehearsal.take() else { return Ok(()) };
        let Rehearsal { reason, plugin, since, started, .. } = rehearsal;
        let outcome = match outcome {
            Ok(None) => None,
            Ok(Some(mut candidate)) => {
                let caught_up = {
                    let own = self.own.clone();
                    spawn_blocking(move || {
                        let heard = if since.is_empty() && candidate.own == own {
                            Ok(())
                        } else {
                            candidate.hear(&own, &since)
                        };
                        heard.map(|()| candidate)
                    })
                };
                match caught_up.await.map_err(|_| DaemonError::PolicyThread)? {
                    Ok(candidate) => Some(self.install(*candidate, &plugin, timers).await?),
                    Err(reason) => Some(Err(reason)),
                }
            }
            Err(reason) => Some(Err(reason)),
        };
        if let Some(outcome) = outcome {
            let took_us = flannel_base::micros(started.elapsed());
            let outcome = outcome.map(|swapped| Swapped { took_us, ..swapped });
            self.report_swap(&plugin, &outcome);
            if let Reason::Asked(answer) = reason {
                // Whoever asked may have gone.
                let _ = answer.send(outcome);
            }
        }
        if std::mem::take(&mut self.look_again) {
            self.look_at_plugin_file();
        }
        Ok(())
    }

    fn report_swap(&mut self, plugin: &PluginReference, outcome: &Result<Swapped, String>) {
        let source = plugin;
        match outcome {
            Ok(swapped) => {
                let Swapped { name, version, digest, messages, took_us, .. } = swapped;
                info!(name, version, digest, %source, netlink_messages = messages, took_us, "plugin swapped");
            }
            Err(reason) => error!(reason, %source, "the plugin is not swapped: the one before goes on"),
        }
        self.observer.swapped(outcome);
    }

    /// Makes a candidate the policy that serves. The inner error says why it cannot be; then nothing has changed.
    async fn install(
        &mut self,
        candidate: Candidate,
        plugin: &PluginReference,
        timers: &mut Timers,
    ) -> Result<Result<Swapped, String>, DaemonError> {
        if let Err(reason) = self.is_fit(&candidate) {
            return Ok(Err(reason));
        }
        let Candidate { artifact, policy, registered, whole, rejected, .. } = candidate;
        let before = self.datapath.report().await?.figures.messages;
        let report = match self.datapath.replace(whole).await? {
            Ok(report) => report,
            Err(reason) => return Ok(Err(format!("the kernel refuses what it declares: {reason}"))),
        };
        // Not before the kernel has taken it: a plugin that stays may be of the same name, and has the same store.
        if let Err(error) = policy.state().settle() {
            error!(%error, "what the plugin wants to remember cannot be written: it is lost with the next restart");
        }
        self.policy = PolicyRunner::new(policy);
        artifact.digest().clone_into(&mut self.digest);
        let mut options = (*self.options).clone();
        options.plugin = Some(plugin.clone());
        self.options = std::sync::Arc::new(options);
        self.trouble.healed(rejected);
        timers.retry = super::serve::never();
        self.observer.artifact(&artifact);
        self.observer.registered(&registered);
        self.observer.suspended(false);
        self.observer.datapath(&report);
        self.observer.peers(self.peers.len(), self.trouble.rejected.len(), 0);
        self.publish(&registered, timers);
        self.tick(timers)?;
        Ok(Ok(Swapped {
            name: registered.name,
            version: registered.version,
            digest: artifact.digest().to_owned(),
            entries: report.entries,
            messages: report.figures.messages.saturating_sub(before),
            took_us: 0,
        }))
    }

    /// Whether a candidate can take over.
    fn is_fit(&self, candidate: &Candidate) -> Result<(), String> {
        let (ours, its) = (&self.wanted.attributes.backend_type, &candidate.registered.backend_type);
        if ours != its {
            return Err(format!(
                "it publishes BackendType {its:?}, and this node's lease has {ours:?}: to other nodes that is another backend; change the network config's Backend.Type, and restart"
            ));
        }
        let served = |id| !self.trouble.rejected.contains_key(id) && !self.trouble.deferred.contains(id);
        if let Some((id, reason)) = candidate.rejected.iter().find(|(id, _)| served(id)) {
            let peer = self.peers.subnets(*id).map(|subnets| subnets.to_string()).unwrap_or_default();
            return Err(format!(
                "it cannot serve the peer with {peer}, which the plugin that runs can: {reason}"
            ));
        }
        Ok(())
    }

    /// Has the lease and the subnet file say what the new plugin wants to be known.
    fn publish(&mut self, registered: &flannel_plugin_host::Registered, timers: &mut Timers) {
        let attributes = start::attributes(&self.external, registered);
        if attributes != self.wanted.attributes {
            self.wanted.attributes = attributes;
            timers.renewal = At::now();
        }
        if registered.mtu != self.wanted.mtu {
            self.wanted.mtu = registered.mtu;
            self.wanted.write_subnet_file(&self.own);
        }
        self.observer.lease(&self.own, self.wanted.mtu);
    }
}
