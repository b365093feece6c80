//! The task that puts the rules in place and keeps them there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::error::FirewallError;
use super::iptables::{self, ChainRules};
use super::nftables::{self, rules::Table};
use super::ownership::OwnNetworks;
use super::rules::{Mode, Owner, Owners, Purpose, Rules};
use super::tool::Tools;
use super::watch::Watch;
use super::{Command, FirewallStatus};
use flannel_base::{Backoff, Family};

/// How often rules are put in place and looked at again before it is given up for the time being.
const ATTEMPTS: usize = 4;
/// For how long after a repair notifications wait: two daemons that undo each other's work shall not fill the CPU with it.
const REPAIR_COOLDOWN: Duration = Duration::from_secs(1);

/// Waits before it is looked again where kubelet's rules are: it may be started after this daemon.
const KUBELET: Backoff = Backoff { min: Duration::from_secs(5), max: Duration::from_mins(1) };

/// Rules that are looked at and replaced as a whole.
enum Set {
    Chain(ChainRules),
    /// `leave`: a table with rules for other networks than these is left to whoever made it.
    Table {
        table: Table,
        masquerades: bool,
        leave: Option<OwnNetworks>,
    },
}

impl Set {
    fn masquerades(&self) -> bool {
        match self {
            Self::Chain(chain) => chain.purpose == Purpose::Masquerade,
            Self::Table { masquerades, .. } => *masquerades,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Chain(chain) => format!("{} rules for {} in iptables", chain.purpose, chain.family),
            Self::Table { table, .. } => format!("rules for {} in nftables", table.family),
        }
    }

    async fn expected(&self, tools: &Tools) -> Result<View, FirewallError> {
        Ok(match self {
            Self::Chain(chain) => View::Lines(chain.expected(tools).await?),
            Self::Table { table, .. } => View::Objects(table.expected()),
        })
    }

    async fn look(&self, tools: &Tools) -> Result<View, FirewallError> {
        Ok(match self {
            Self::Chain(chain) => View::Lines(chain.look(tools).await?),
            Self::Table { table, leave, .. } => {
                let there = table.look(tools).await?;
                if leave.as_ref().is_some_and(|own| nftables::has_foreign_rule(&there, own)) {
                    return Err(FirewallError::Taken { family: table.family });
                }
                View::Objects(there)
            }
        })
    }

    async fn install(&self, tools: &Tools, there: &View) -> Result<(), FirewallError> {
        match (self, there) {
            (Self::Chain(chain), View::Lines(lines)) => chain.install(tools, lines).await,
            (Self::Chain(chain), View::Objects(_)) => chain.install(tools, &[]).await,
            (Self::Table { table, .. }, _) => table.install(tools).await,
        }
    }
}

/// What there is of a set, or should be.
#[derive(Clone, Debug, PartialEq)]
enum View {
    Lines(Vec<String>),
    Objects(Vec<Value>),
}

impl View {
    fn len(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.len(),
            Self::Objects(objects) => objects.len(),
        }
    }
}

/// A set that is wanted.
struct WantedSet {
    set: Set,
    /// How the installed program shows the set, if it is not how we say it.
    spelling: Option<View>,
}

impl WantedSet {
    /// Puts the set in place if it is not. Returns whether it was not.
    async fn ensure(&mut self, tools: &Tools) -> Result<bool, FirewallError> {
        let expected = self.set.expected(tools).await?;
        let mut before: Option<View> = None;
        let mut failure = None;
        for attempt in 0..ATTEMPTS {
            let there = self.set.look(tools).await?;
            if there == expected || self.spelling.as_ref() == Some(&there) {
                return Ok(attempt > 0);
            }
            // Put in place twice, and twice it looks the same, with nothing missing and nothing added.
            if attempt > 1 && before.as_ref() == Some(&there) && there.len() == expected.len() {
                info!(
                    "the {} are printed in another form than they were written (normalised by the kernel or the tool): that form is expected from now on",
                    self.set.name()
                );
                debug!(?there, ?expected, "rule text normalised");
                self.spelling = Some(there);
                return Ok(true);
            }
            // It fails when another program has just removed what was to be deleted: then a second look helps.
            match self.set.install(tools, &there).await {
                Err(error) if failure.is_some() => return Err(error),
                Err(error) => failure = Some(error),
                Ok(()) => before = Some(there).filter(|_| attempt > 0),
            }
        }
        Err(failure.unwrap_or_else(|| FirewallError::Contended { what: self.set.name() }))
    }
}

/// Rules that are not wanted.
#[derive(Clone, Debug)]
pub(super) enum Cleaning {
    Chains(Family, Vec<Purpose>, Owners, OwnNetworks),
    Table(Family, Owners, OwnNetworks),
}

impl Cleaning {
    /// Everything that a mode can have.
    pub(crate) fn all_of(mode: Mode, owners: &Owners, own: &OwnNetworks) -> Vec<Self> {
        let cleaning = |family| match mode {
            Mode::Iptables => Self::Chains(family, Purpose::ALL.to_vec(), owners.clone(), own.clone()),
            Mode::Nftables => Self::Table(family, owners.clone(), own.clone()),
        };
        Family::ALL.into_iter().map(cleaning).collect()
    }

    /// Returns what was removed.
    pub(crate) async fn run(&self, tools: &Tools) -> Result<Vec<String>, FirewallError> {
        match self {
            Self::Chains(family, purposes, owners, own) => {
                iptables::remove(tools, *family, purposes, owners, own).await
            }
            Self::Table(family, owners, own) => nftables::remove(tools, *family, owners, own).await,
        }
    }
}

fn other(mode: Mode) -> Mode {
    match mode {
        Mode::Iptables => Mode::Nftables,
        Mode::Nftables => Mode::Iptables,
    }
}

/// What is to be kept, and what is to be removed.
fn plan(mode: Mode, rules: &Rules, networks_of_ours: &OwnNetworks) -> (Vec<WantedSet>, Vec<Cleaning>) {
    let (mut sets, mut cleanings) = (Vec::new(), Vec::new());
    let own = || Owners::These(vec![rules.owner.clone()]);
    let ours = || networks_of_ours.clone();
    for family in Family::ALL {
        let networks = rules.family(family);
        let (wanted, unwanted): (Vec<Purpose>, Vec<Purpose>) =
            Purpose::ALL.into_iter().partition(|purpose| networks.is_some() && rules.wants(*purpose));
        match (mode, networks) {
            (Mode::Iptables, Some(networks)) => {
                sets.extend(wanted.iter().map(|purpose| {
                    let owner: Owner = rules.owner.clone();
                    let random_fully = rules.random_fully;
                    Set::Chain(ChainRules::new(family, *purpose, owner, *networks, random_fully, ours()))
                }));
                if !unwanted.is_empty() {
                    cleanings.push(Cleaning::Chains(family, unwanted, own(), ours()));
                }
            }
            (Mode::Iptables, None) => {
                cleanings.push(Cleaning::Chains(family, unwanted, own(), ours()));
            }
            (Mode::Nftables, Some(networks)) if !wanted.is_empty() => {
                let table = Table::new(rules.owner.clone(), networks, &wanted, rules.random_fully);
                let leave = rules.beside.is_some().then(ours);
                sets.push(Set::Table { table, masquerades: rules.masquerade, leave });
            }
            (Mode::Nftables, _) => cleanings.push(Cleaning::Table(family, own(), ours())),
        }
    }
    cleanings.extend(Cleaning::all_of(other(mode), &own(), networks_of_ours));
    if !rules.former.is_empty() {
        let former = Owners::These(rules.former.clone());
        let both = [mode, other(mode)].into_iter();
        cleanings.extend(both.flat_map(|mode| Cleaning::all_of(mode, &former, networks_of_ours)));
    }
    (sets.into_iter().map(|set| WantedSet { set, spelling: None }).collect(), cleanings)
}

/// Whether a change to the rules is asked for, or undoes what somebody else did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Request,
    Check,
}

/// The state of the task.
pub(super) struct FirewallReconciler {
    tools: Tools,
    mode: Mode,
    resync: Duration,
    status: Arc<Mutex<FirewallStatus>>,
    kept: Vec<WantedSet>,
    /// What is wanted, and the networks that it was for so far.
    wanted: Rules,
    own: OwnNetworks,
    /// Another daemon has the tables of upstream's names.
    displaced: bool,
    /// What remains to be removed.
    cleanings: Vec<Cleaning>,
    watch: Option<Watch>,
    /// When it is looked for kubelet's rules; none: they have been found, or do not matter.
    kubelet: Option<Instant>,
    looks: u32,
    /// With which programs rules were made before it was known where kubelet's are.
    left: Option<Tools>,
    /// Failures that have been logged: they are not logged again before they have changed.
    said: Vec<String>,
}

impl FirewallReconciler {
    pub(crate) fn new(
        tools: Tools,
        mode: Mode,
        resync: Duration,
        status: Arc<Mutex<FirewallStatus>>,
    ) -> Self {
        let watch = Watch::open()
            .inspect_err(
                |error| debug!(%error, "nf_tables cannot be watched: rules are looked at from time to time"),
            )
            .ok();
        let (kept, cleanings, said) = (Vec::new(), Vec::new(), Vec::new());
        let (wanted, own, displaced) = (Rules::default(), OwnNetworks::default(), false);
        let (kubelet, looks, left) = (Some(Instant::now()), 0, None);
        Self {
            tools,
            mode,
            resync,
            status,
            kept,
            wanted,
            own,
            displaced,
            cleanings,
            watch,
            kubelet,
            looks,
            left,
            said,
        }
    }

    /// Puts other rules in place. Fails if there is no masquerading although it is wanted.
    pub(crate) async fn set(&mut self, rules: &Rules) -> Result<(), FirewallError> {
        let clusters = rules.families.iter().map(|family| family.cluster);
        clusters.chain(rules.former_networks.iter().copied()).for_each(|network| self.own.add(network));
        self.wanted = rules.clone();
        self.plan();
        self.work(Trigger::Request).await.map(drop)
    }

    /// Has rules of iptables go where kubelet's are. That may come later: then those that are there move.
    async fn follow_kubelet(&mut self) {
        let is_due = self.kubelet.is_some_and(|due| due <= Instant::now());
        if !is_due || !self.wanted.beside_kubelet || self.mode != Mode::Iptables {
            return;
        }
        let Some(variant) = iptables::kubelet::variant(&self.tools).await else {
            self.kubelet = Some(Instant::now() + KUBELET.after(self.looks));
            self.looks = self.looks.saturating_add(1);
            return;
        };
        self.kubelet = None;
        if iptables::kubelet::of_system(&self.tools).await == Some(variant) {
            return;
        }
        info!("kubelet's rules are in iptables{variant}: the node's go there, too");
        let there = Tools { variant, ..self.tools.clone() };
        self.left = Some(std::mem::replace(&mut self.tools, there));
        self.plan();
    }

    /// Rules that were made before that was known.
    async fn remove_left(&mut self) -> Result<(), FirewallError> {
        let Some(tools) = self.left.clone() else { return Ok(()) };
        let owners = std::iter::once(&self.wanted.owner).chain(&self.wanted.former).cloned().collect();
        for cleaning in Cleaning::all_of(Mode::Iptables, &Owners::These(owners), &self.own) {
            for what in cleaning.run(&tools).await? {
                info!("{what} removed: they are where kubelet's are now");
            }
        }
        self.left = None;
        Ok(())
    }

    fn plan(&mut self) {
        let mut rules = self.wanted.clone();
        if self.displaced
            && let Some(beside) = rules.beside.take()
        {
            rules.former.retain(|owner| *owner != beside);
            // What is not another daemon's of them.
            rules.former.push(std::mem::replace(&mut rules.owner, beside));
        }
        (self.kept, self.cleanings) = plan(self.mode, &rules, &self.own);
    }

    /// Keeps the rules until nobody wants them kept any more.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut truce = Instant::now();
        let mut due = Instant::now() + self.resync;
        loop {
            let noticed = async {
                sleep_until(truce).await;
                match &mut self.watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = inbox.recv() => match command {
                    // Who asked may have given up: then nobody needs the answer.
                    Some(Command { rules, answer }) => drop(answer.send(self.set(&rules).await)),
                    None => return,
                },
                noticed = noticed => {
                    if let Err(error) = noticed {
                        warn!(%error, "nf_tables cannot be watched any more: rules are looked at every {:?}", self.resync);
                        self.watch = None;
                    } else if let Ok(true) = self.work(Trigger::Check).await {
                        truce = Instant::now() + REPAIR_COOLDOWN;
                    }
                }
                () = sleep_until(due) => drop(self.work(Trigger::Check).await),
            }
            due = Instant::now() + self.resync;
        }
    }

    /// Looks at everything, and puts right what is not. Returns whether something was not; fails if it is masquerading that
    /// cannot be had.
    async fn work(&mut self, occasion: Trigger) -> Result<bool, FirewallError> {
        self.follow_kubelet().await;
        // Before the look: what changes after it is news.
        if let Some(watch) = &mut self.watch {
            watch.drain();
        }
        let (mut changed, mut fatal) = (0, None);
        let mut failures: Vec<String> = Vec::new();
        let mut next = 0;
        while let Some(kept) = self.kept.get_mut(next) {
            next += 1;
            match kept.ensure(&self.tools).await {
                Ok(false) => {}
                // Planned so, no table is left to others any more.
                Err(error @ FirewallError::Taken { .. }) => {
                    warn!("{error}: this one's get names of their own");
                    self.displaced = true;
                    self.plan();
                    next = 0;
                }
                Ok(true) => {
                    changed += 1;
                    match occasion {
                        Trigger::Request => debug!("{} put in place", kept.set.name()),
                        Trigger::Check => {
                            warn!("{} were changed by another program, and put back", kept.set.name());
                        }
                    }
                }
                Err(error) => {
                    failures.push(error.to_string());
                    if kept.set.masquerades() {
                        fatal = fatal.or(Some(error));
                    }
                }
            }
        }
        let ok = failures.is_empty();
        // Own rules first: until they are there, those of the other mode do.
        if ok {
            let mut remaining = Vec::new();
            for cleaning in std::mem::take(&mut self.cleanings) {
                match cleaning.run(&self.tools).await {
                    Ok(removed) => {
                        for what in removed {
                            info!("{what} removed: not wanted any more");
                        }
                    }
                    Err(error) => {
                        failures.push(format!("old rules cannot be removed: {error}"));
                        remaining.push(cleaning);
                    }
                }
            }
            self.cleanings = remaining;
            if let Err(error) = self.remove_left().await {
                failures.push(format!("old rules cannot be removed: {error}"));
            }
        }
        failures.dedup();
        for failure in failures.iter().filter(|failure| !self.said.contains(failure)) {
            warn!("{failure}; tried again every {:?}", self.resync);
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.ok = ok;
        status.last_error = failures.first().cloned();
        if occasion == Trigger::Check {
            status.repairs += changed;
        }
        self.said = failures;
        fatal.map_or(Ok(changed > 0), Err)
    }
}
