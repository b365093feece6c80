//! What the servers, the lab and the passing of time share: the network, the account, and what goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::account::Account;
use super::fault::{self, Error, Fault};
use super::vpc::Vpc;
use super::{Call, actions, signature};
use crate::Namespace;
use crate::cloud::server::{Question, Reply};

/// How often what is due is looked for.
const STEP: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Shared {
    router: Namespace,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub vpc: Vpc,
    pub account: Account,
    pub hardened: bool,
    pub faults: BTreeMap<String, VecDeque<Fault>>,
    pub calls: Vec<Call>,
    routes: BTreeMap<IpNet, IpAddr>,
}

impl Shared {
    /// Nothing has happened yet.
    pub fn new(router: Namespace) -> Self {
        let inner = Inner {
            vpc: Vpc::new(),
            account: Account::new(),
            hardened: false,
            faults: BTreeMap::new(),
            calls: Vec::new(),
            routes: BTreeMap::new(),
        };
        Self { router, inner: Mutex::new(inner) }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the network and makes the router follow.
    pub fn change<T>(&self, work: impl FnOnce(&mut Vpc) -> T) -> Result<T> {
        let mut inner = self.lock();
        let answer = work(&mut inner.vpc);
        inner.vpc.remember(Instant::now());
        inner.route(&self.router)?;
        Ok(answer)
    }

    pub fn answer(&self, question: &Question) -> Reply {
        let mut inner = self.lock();
        inner.vpc.pass(Instant::now());
        let parameters = actions::parameters(question);
        let action = actions::name(question, &parameters);
        let fault = inner.faults.get_mut(&action).and_then(VecDeque::pop_front);
        let outcome = match &fault {
            Some(Fault::Refuse(error)) => Err(error.clone()),
            _ => inner.carry_out(question, &action, &parameters),
        };
        let code = outcome.as_ref().map_or_else(|error| error.code.clone(), |_| "OK".to_owned());
        let kept = parameters.into_iter().filter(|(name, _)| !signature::PARAMETERS.contains(&name.as_str()));
        let call = Call { from: question.from, action, parameters: kept.collect(), outcome: code };
        inner.calls.push(call);
        inner.vpc.remember(Instant::now());
        // A router that cannot follow would be seen by the packets that do not arrive.
        let _ = inner.route(&self.router);
        let request = inner.account.token("");
        fault::reply(outcome, &request, question.header("host").unwrap_or_default(), fault.as_ref())
    }
}

impl Inner {
    fn carry_out(
        &mut self,
        question: &Question,
        action: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Value, Error> {
        let caller = signature::check(question, &mut self.account)?;
        self.account.may(&caller, action)?;
        let mut answer = actions::carry_out(&mut self.vpc, action, parameters)?;
        answer["RequestId"] = json!(self.account.token(""));
        Ok(answer)
    }

    /// Makes the router's routes those of the table in use.
    fn route(&mut self, router: &Namespace) -> Result<()> {
        let wanted = self.vpc.routes();
        let gone: Vec<IpNet> =
            self.routes.keys().filter(|destination| !wanted.contains_key(destination)).copied().collect();
        for destination in gone {
            self.routes.remove(&destination);
            router.ip(&format!("route del {destination}"))?;
        }
        for (destination, hop) in wanted {
            if self.routes.get(&destination) != Some(&hop) {
                router.ip(&format!("route replace {destination} via {hop}"))?;
                self.routes.insert(destination, hop);
            }
        }
        Ok(())
    }
}

/// Lets the time pass until the cloud is gone.
pub(super) fn pass_time(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let mut inner = shared.lock();
        if inner.vpc.pass(Instant::now()) {
            let _ = inner.route(&shared.router);
        }
        drop(inner);
        drop(shared);
        std::thread::sleep(STEP);
    }
}
