//! A change of the backend, as far as the kernel has to do with it: two generations side by side, and one of them at the end.

use std::collections::BTreeSet;
use std::time::Instant;

use flannel_model::entry::DeviceSpec;
use flannel_model::generations::{Generations, Names, renamed};
use flannel_model::ledger::{Ledger, PeerId, Slot, Transaction};
use ipnet::IpNet;
use tracing::{info, warn};

use super::{OWED, Reconciler};
use crate::kinds;
use crate::links;
use crate::netlink::NetlinkError;
use crate::report::Report;
use crate::trial::{self, LoosePaths, Trial};

impl Reconciler {
    /// What the policy that serves has declared, as it is to be committed.
    pub(super) fn of_serving(&mut self, transaction: Transaction) -> Transaction {
        let transaction = renamed(transaction, &self.names);
        match &mut self.change {
            Some((generations, _)) => generations.commit(Slot::Serving, transaction),
            None => transaction,
        }
    }

    /// Begins a change. The error says why it cannot be; then all is as it was.
    pub(crate) fn begin_change(
        &mut self,
        registered: Transaction,
        addresses: BTreeSet<IpNet>,
        usual: Slot,
    ) -> Result<u32, String> {
        if self.change.is_some() {
            return Err("another change is going on".to_owned());
        }
        let loose = self.loose_paths();
        let begun = Trial::begin(&mut self.requests, self.owner.in_force(), addresses, loose);
        let trial = begun.map_err(|(reason, loose)| {
            self.owed = trial::put_back(&mut self.requests, self.owner.in_force(), loose);
            reason
        })?;
        let mark = trial.mark();
        self.kernel.trial_table = Some(trial.number());
        let refused_before = self.refused();
        let gateways =
            links::gateways(&mut self.requests, self.kernel.external.as_ref().map(|link| link.index));
        let (generations, begun) = Generations::begin(&self.ledger, registered, usual, gateways);
        let before = self.ledger.clone();
        self.change = Some((generations, trial));
        let changed = self.ledger.commit(begun);
        self.figures.commits += 1;
        self.ingest_notifications();
        self.apply_changes(&changed);
        // The ground has to be there, whatever has changed.
        let ground = self.ground();
        let refused = self.refused().into_iter().find(|refused| !refused_before.contains(refused));
        let reason = ground.err().or(refused.map(|(what, reason)| format!("{what}: {reason}")));
        let Some(reason) = reason else { return Ok(mark) };
        let made = std::mem::replace(&mut self.ledger, before);
        if let Some((_, trial)) = self.change.take() {
            self.leave_change(&made, trial);
        }
        Err(reason)
    }

    /// Makes what the generation beside wants part of what should be.
    pub(crate) fn commit_beside(
        &mut self,
        transaction: Transaction,
        subnets: Vec<(PeerId, Vec<IpNet>)>,
    ) -> Report {
        self.during_change(|generations| {
            generations.know(subnets);
            generations.commit(Slot::Beside, transaction)
        })
    }

    /// By which generation peers are reached.
    pub(crate) fn use_for(&mut self, peers: Vec<(PeerId, Slot, Vec<IpNet>)>) -> Report {
        self.during_change(|generations| generations.use_for(peers))
    }

    /// Which generation's routes are on trial.
    pub(crate) fn set_target(&mut self, target: Slot) -> Report {
        self.during_change(|generations| generations.set_target(target))
    }

    fn during_change(&mut self, declare: impl FnOnce(&mut Generations) -> Transaction) -> Report {
        if let Some((generations, _)) = &mut self.change {
            let transaction = declare(generations);
            let changed = self.ledger.commit(transaction);
            self.figures.commits += 1;
            self.ingest_notifications();
            self.apply_changes(&changed);
        }
        self.report()
    }

    /// Ends the change with one of the generations.
    pub(crate) fn end_change(&mut self, kept: Slot) -> Report {
        let Some((generations, trial)) = self.change.take() else { return self.report() };
        let (whole, names) = generations.end(kept);
        let mut ledger = Ledger::default();
        ledger.commit(Transaction { blackholes: Some(self.ledger.blackholes().clone()), ..whole.clone() });
        let made = std::mem::replace(&mut self.ledger, ledger);
        self.figures.commits += 1;
        self.leave_change(&made, trial);
        if kept == Slot::Beside {
            self.names = Names::new();
            self.give_names(whole, names);
        }
        self.report()
    }

    /// What was there for two generations, and is not in the ledger any more, goes.
    fn leave_change(&mut self, made: &Ledger, trial: Trial) {
        let keys = made.difference(&self.ledger).keys;
        self.forget_failures(&keys);
        self.reconcile_keys(&keys);
        // A tunnel is closed before its device goes.
        let wanted: BTreeSet<&str> = self.ledger.devices().map(|device| &**device.name()).collect();
        self.tunnels.retain(|name| wanted.contains(name));
        self.ipsec.retain(|name| wanted.contains(name));
        self.remove_devices(made);
        self.kernel.trial_table = None;
        self.owed = trial.end(&mut self.requests);
        self.next_owed = Instant::now() + OWED;
        self.resync_or_complain();
    }

    /// What was made loose before and is so still, as far as that is known.
    pub(super) fn loose_paths(&mut self) -> LoosePaths {
        self.owed.take().unwrap_or_else(|| LoosePaths::open(self.trial_record.clone()))
    }

    /// Puts back what waits for another daemon's change.
    pub(super) fn put_back_what_is_owed(&mut self) {
        if self.next_owed > Instant::now() {
            return;
        }
        if let Some(loose) = self.owed.take() {
            self.owed = trial::put_back(&mut self.requests, self.owner.in_force(), loose);
            self.next_owed = Instant::now() + OWED;
        }
    }

    /// Devices that had to have another name for a time get their own. Where the kernel does not rename what is up, at the next start.
    fn give_names(&mut self, whole: Transaction, names: Names) {
        let (mut back, mut kept) = (Names::new(), Names::new());
        for (own, temporary) in names {
            let index = self.kernel.links.get(&temporary).map(|link| link.index);
            let renamed = match index {
                Some(index) => links::rename(&mut self.requests, index, &own),
                None => Err(NetlinkError::Socket("it is not there".to_owned())),
            };
            match renamed {
                Ok(()) => {
                    info!(device = %own, before = %temporary, "device has its own name");
                    if let Some(link) = self.kernel.links.remove(&temporary) {
                        self.kernel.links.insert(own.clone(), link);
                    }
                    self.tunnels.rename(&temporary, &own);
                    self.ipsec.rename(&temporary, &own);
                    back.insert(temporary, own);
                }
                Err(error) => {
                    warn!(device = %temporary, %error, "device cannot get its own name, {own}, before the next start");
                    kept.insert(own, temporary);
                }
            }
        }
        if !back.is_empty() {
            let mut ledger = Ledger::default();
            let blackholes = Some(self.ledger.blackholes().clone());
            ledger.commit(Transaction { blackholes, ..renamed(whole, &back) });
            self.ledger = ledger;
            self.resync_or_complain();
        }
        self.names = kept;
    }

    /// Keeps the ground for trials as it should be.
    pub(super) fn ensure_trial(&mut self) {
        if let Err(reason) = self.ground() {
            self.device_problem(&reason);
        }
    }

    fn ground(&mut self) -> Result<(), String> {
        let mut devices: Vec<String> =
            self.ledger.devices().map(DeviceSpec::name).map(ToString::to_string).collect();
        devices.push(self.external.to_string());
        devices.extend(self.kernel.uplinks.keys().map(ToString::to_string));
        match &mut self.change {
            Some((_, trial)) => trial.ensure(&mut self.requests, &devices),
            None => Ok(()),
        }
    }

    pub(super) fn observe_trial(&mut self, table: u32, ipv4: bool) -> Result<(), NetlinkError> {
        match self.observe(&kinds::trial_route::all_routes(table, ipv4)) {
            // A table that has no route yet is not there.
            Err(error) if error.is(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}
