//! One living instance of a component: calls go in with a deadline, and come out as what was declared or as the reason why not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::{Engine, Store, Trap};

use super::artifact::Artifact;
use super::bindings::cloud_permissions::CloudBackendPre;
use super::bindings::cloud_permissions::exports::flannel::backend::cloud_permissions::RequiredOperation;
use super::bindings::exports::flannel::backend::policy::Guest;
use super::bindings::retirement::{RetiringBackend, RetiringBackendPre};
use super::bindings::{Backend, BackendPre};
use super::budget::Budget;
use super::call::{Call, Function};
use super::capability::{self, HostState};
use super::convert::shown;
use super::debuginfo::Lines;
use super::error::{Cause, describe_trap};
use super::imports;
use super::wasi;
use super::watchdog::{Pauser, Watchdog};

/// A component that is linked and checked, from which instances are made.
pub(crate) struct LinkedComponent {
    engine: Engine,
    pre: BackendPre<HostState>,
    /// The same component, as far as it says what it needs of clouds; none: it does not.
    needs: Option<CloudBackendPre<HostState>>,
    /// The same component, as far as it has something to do when its backend ends; none: it has not.
    retirement: Option<RetiringBackendPre<HostState>>,
    watchdog: Watchdog,
    lines: Arc<Lines>,
    /// Bytes of the host's own records of an instance.
    instance_records: usize,
    records: Mutex<Vec<CallRecord>>,
}

/// A call that has ended, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// The function of the `policy` interface.
    pub function: &'static str,
    /// How long it took, with the checks of its answer.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// It has used nearly all the time that it had.
    pub exhausted: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// With an answer.
    Ok,
    /// The host had refused a capability call.
    Refused,
    /// With an error of the plugin's own.
    Error,
    /// It trapped.
    Trap,
    /// It ran too long.
    TimedOut,
    /// It wanted too much memory.
    OutOfMemory,
}

impl From<&Cause> for Outcome {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Answered(_) | Cause::BadAnswer(_) | Cause::Down(_) => Self::Error,
            Cause::Refused(_) | Cause::NotGranted(_) => Self::Refused,
            Cause::TimedOut(_) => Self::TimedOut,
            Cause::OutOfMemory { .. } => Self::OutOfMemory,
            Cause::Trapped(_) => Self::Trap,
            Cause::StartedAfresh { then, .. } => Self::from(&**then),
        }
    }
}

impl LinkedComponent {
    /// Links a component. The error is for an operator.
    pub(crate) fn new(artifact: &Artifact) -> Result<Self, String> {
        let Artifact { engine, component, .. } = artifact;
        let text = |error: wasmtime::Error| error.root_cause().to_string();
        let mut linker = wasmtime::component::Linker::new(engine);
        capability::link_all(&mut linker).map_err(text)?;
        if imports::has_wasi(&artifact.outline) {
            wasi::link(&mut linker).map_err(text)?;
        }
        let pre = linker.instantiate_pre(component).map_err(text)?;
        let has_needs = imports::has_needs(&artifact.outline);
        let needs = has_needs.then(|| CloudBackendPre::new(pre.clone())).transpose().map_err(text)?;
        let retires = imports::has_retirement(&artifact.outline);
        let retirement = retires.then(|| RetiringBackendPre::new(pre.clone())).transpose().map_err(text)?;
        let pre = BackendPre::new(pre).map_err(text)?;
        let watchdog = Watchdog::start(engine.clone()).map_err(|error| error.to_string())?;
        let lines = Arc::clone(&artifact.lines);
        let instance_records = usize::try_from(artifact.outline.inventory.records).unwrap_or(usize::MAX);
        let engine = engine.clone();
        Ok(Self {
            engine,
            pre,
            needs,
            retirement,
            watchdog,
            lines,
            instance_records,
            records: Mutex::default(),
        })
    }

    /// The calls that have ended since this was asked last.
    pub(crate) fn take_records(&self) -> Vec<CallRecord> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record<T>(&self, function: Function, begin: Instant, budget: &Budget, outcome: &Result<T, Cause>) {
        let outcome = outcome.as_ref().err().map_or(Outcome::Ok, Outcome::from);
        let exhausted = outcome == Outcome::TimedOut || budget.is_nearly_used_up();
        let record = CallRecord { function: function.name(), took: begin.elapsed(), outcome, exhausted };
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Makes an instance. Code may run here, within the time of a call.
    pub(crate) fn instantiate(&self, state: HostState) -> Result<Instance, Cause> {
        let budget = state.limits.call_time;
        let mut store = self.store(state);
        let made = self.timed(&mut store, budget, |store| {
            let instance = self.pre.instance_pre().instantiate(&mut *store)?;
            let retirement = self.retirement.as_ref().map(|_| RetiringBackend::new(&mut *store, &instance));
            Ok((Backend::new(&mut *store, &instance)?, retirement.transpose()?))
        });
        match made {
            Ok((backend, retirement)) => Ok(Instance { store, backend, retirement, end: None }),
            Err(error) => Err(self.cause(&error, store.data(), budget)),
        }
    }

    /// Whether it has something to do when its backend ends.
    pub(crate) fn retires(&self) -> bool {
        self.retirement.is_some()
    }

    /// Stops the clock of a call.
    pub(crate) fn pauser(&self) -> Pauser {
        self.watchdog.pauser()
    }

    /// Asks the component what it needs of clouds, in an instance that is there for nothing else.
    pub(crate) fn needs(&self, mut state: HostState) -> Result<Vec<RequiredOperation>, Cause> {
        let Some(pre) = &self.needs else { return Ok(Vec::new()) };
        let budget = state.limits.call_time;
        state.call = Call::new(Function::Required);
        let mut store = self.store(state);
        let declared = self.timed(&mut store, budget, |store| {
            pre.instantiate(&mut *store)?.flannel_backend_cloud_permissions().call_required(store)
        });
        declared.map_err(|error| self.cause(&error, store.data(), budget))
    }

    fn store(&self, mut state: HostState) -> Store<HostState> {
        state.reserve(self.instance_records);
        limited_store(&self.engine, state)
    }

    fn timed<T>(
        &self,
        store: &mut Store<HostState>,
        budget: Duration,
        run: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        timed(&self.watchdog, store, budget, run)
    }

    /// Why a call came back with an error of wasmtime's.
    fn cause(&self, error: &wasmtime::Error, state: &HostState, budget: Duration) -> Cause {
        if let Some(wanted) = state.wanted_memory {
            return Cause::OutOfMemory { wanted, limit: state.limits.memory };
        }
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            return Cause::TimedOut(budget);
        }
        let panic_message = state.call.panic_message.clone().or_else(|| state.console.panic_message());
        Cause::Trapped(shown(&describe_trap(error, panic_message.as_deref(), &self.lines), state.limits.text))
    }
}

/// A store whose instances have the limits of memory and time that its state says.
fn limited_store(engine: &Engine, state: HostState) -> Store<HostState> {
    let handed_over = state.limits.handed_over;
    let mut store = Store::new(engine, state);
    store.set_hostcall_fuel(handed_over);
    store.limiter(|state| state);
    store.epoch_deadline_callback(|store| store.data().time_is_over());
    store
}

/// Runs something in a store, for so long and no longer.
fn timed<T>(
    watchdog: &Watchdog,
    store: &mut Store<HostState>,
    budget: Duration,
    run: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    store.set_epoch_deadline(1);
    let deadline = store.data_mut().begin(budget);
    watchdog.arm(deadline);
    let outcome = run(store);
    watchdog.disarm();
    store.data().console.end();
    outcome
}

/// An instance.
pub(crate) struct Instance {
    store: Store<HostState>,
    backend: Backend,
    retirement: Option<RetiringBackend>,
    /// Why it cannot be called any more: the function, and what happened in it.
    end: Option<String>,
}

impl Instance {
    /// Whether it can be called: not after a trap.
    pub(crate) fn usable(&self) -> bool {
        self.end.is_none()
    }

    /// Why it cannot be called any more.
    pub(crate) fn take_end(&mut self) -> Option<String> {
        self.end.take()
    }

    /// What the host keeps for it.
    pub(crate) fn state(&mut self) -> &mut HostState {
        self.store.data_mut()
    }

    /// Calls a function that cannot answer an error.
    pub(crate) fn call<T>(
        &mut self,
        component: &LinkedComponent,
        call: Call,
        budget: Duration,
        run: impl FnOnce(&Guest, &mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> Result<(T, Call), Cause> {
        let (function, begin, used) = (call.function, Instant::now(), Budget::new(budget));
        let outcome = self.run(component, call, budget, run);
        component.record(function, begin, &used, &outcome);
        outcome
    }

    fn run<T>(
        &mut self,
        component: &LinkedComponent,
        call: Call,
        budget: Duration,
        run: impl FnOnce(&Guest, &mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> Result<(T, Call), Cause> {
        let function = call.function.name();
        self.store.data_mut().call = call;
        let guest = self.backend.flannel_backend_policy();
        let outcome = component.timed(&mut self.store, budget, |store| run(guest, store));
        match outcome {
            Ok(answer) => {
                let ended = std::mem::replace(&mut self.store.data_mut().call, Call::new(Function::Describe));
                Ok((answer, ended))
            }
            Err(error) => {
                let cause = component.cause(&error, self.store.data(), budget);
                self.end = Some(format!("{function}: {cause}"));
                Err(cause)
            }
        }
    }

    /// Calls a function that can answer an error, and makes what it wrote durable if it did not.
    pub(crate) fn transact<T>(
        &mut self,
        component: &LinkedComponent,
        call: Call,
        budget: Duration,
        run: impl FnOnce(&Guest, &mut Store<HostState>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<(T, Call), Cause> {
        let (function, begin, used) = (call.function, Instant::now(), Budget::new(budget));
        let outcome =
            self.run(component, call, budget, run).and_then(|(answer, call)| self.conclude(answer, call));
        component.record(function, begin, &used, &outcome);
        outcome
    }

    /// Calls `retirement.retire`; none: it has no such function.
    pub(crate) fn retire(
        &mut self,
        component: &LinkedComponent,
        budget: Duration,
    ) -> Option<Result<Option<u64>, Cause>> {
        let retirement = self.retirement.take()?;
        let called = self.transact(component, Call::new(Function::Retire), budget, |_, store| {
            retirement.flannel_backend_retirement().call_retire(store)
        });
        self.retirement = Some(retirement);
        Some(called.map(|(answer, _)| answer))
    }

    fn conclude<T>(&self, answer: Result<T, String>, call: Call) -> Result<(T, Call), Cause> {
        if let Some(reason) = call.refused {
            return Err(Cause::Refused(reason));
        }
        let state = self.store.data();
        let answer = answer.map_err(|text| Cause::Answered(shown(&text, state.limits.text)))?;
        state
            .state
            .apply(&state.store, &call.state)
            .map_err(|error| Cause::Refused(format!("state.set: cannot be written: {error}")))?;
        Ok((answer, call))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};

    use super::*;
    use crate::bindings::flannel::backend::clock;
    use crate::imports::IncompatibleComponent;
    use crate::log_rate::LogRate;
    use crate::outline::Outline;
    use crate::series::PluginSeries;
    use crate::tests::environment;
    use crate::{DirState, Limits, engine};

    const TIME: Duration = Duration::from_millis(100);

    fn rate() -> LogRate {
        LogRate::new(Instant::now())
    }

    /// Runs a component that takes no processor time for three times the time that it has, and does something afterwards.
    fn nap_and(then: &str) -> wasmtime::Result<()> {
        run(TIME, &format!("call $nap {then}"))
    }

    /// Runs a component that does something, with so much time.
    fn run(time: Duration, what: &str) -> wasmtime::Result<()> {
        let engine = engine::native()?;
        let text = format!(
            r#"(component
                (import "nap" (func $nap))
                (core func $nap (canon lower (func $nap)))
                (core module $napper (import "" "nap" (func $nap)) (func $start {what}) (start $start))
                (core instance (instantiate $napper (with "" (instance (export "nap" (func $nap)))))))"#
        );
        let component = Component::new(&engine, wat::parse_str(text).expect("a component"))?;
        let mut linker = Linker::new(&engine);
        linker.root().func_wrap("nap", |_, (): ()| {
            std::thread::sleep(TIME * 3);
            Ok(())
        })?;
        let watchdog = Watchdog::start(engine.clone())?;
        let directory = tempfile::tempdir()?;
        let state = Arc::new(DirState::open(directory.path()));
        let environment = environment(r#"{"Type":"napper"}"#);
        let state = HostState::new(
            "napper".to_owned(),
            Limits::default(),
            environment,
            state,
            watchdog.pauser(),
            rate(),
            PluginSeries::default(),
        );
        let mut store = limited_store(&engine, state);
        timed(&watchdog, &mut store, time, |store| linker.instantiate(store, &component).map(drop))
    }

    /// A record that has grown a field, as a second version of an interface may have it.
    #[derive(wasmtime::component::ComponentType, wasmtime::component::Lower)]
    #[component(record)]
    struct Moment {
        milliseconds: u64,
        synchronised: bool,
    }

    /// Asks both versions of `clock` for the time, and traps unless they agree.
    const BOTH_CLOCKS: &str = r#"(component
        (import "flannel:backend/clock@0.1.0" (instance $first (export "wall" (func (result u64)))))
        (import "flannel:backend/clock@0.2.0" (instance $second
            (type $m (record (field "milliseconds" u64) (field "synchronised" bool)))
            (export "moment" (type $moment (eq $m)))
            (export "wall" (func (result $moment)))))
        (core module $memory (memory (export "m") 1))
        (core instance $memory (instantiate $memory))
        (alias core export $memory "m" (core memory $m))
        (core func $first (canon lower (func $first "wall")))
        (core func $second (canon lower (func $second "wall") (memory $m)))
        (core module $main
            (import "" "m" (memory 1))
            (import "" "first" (func $first (result i64)))
            (import "" "second" (func $second (param i32)))
            (func $start
                (call $second (i32.const 0))
                (if (i64.gt_u (i64.sub (call $first) (i64.load (i32.const 0))) (i64.const 3600000)) (then unreachable))
                (if (i32.ne (i32.load8_u (i32.const 8)) (i32.const 1)) (then unreachable)))
            (start $start))
        (core instance (instantiate $main (with "" (instance
            (export "m" (memory $m)) (export "first" (func $first)) (export "second" (func $second)))))))"#;

    #[test]
    fn a_second_version_of_an_interface_is_served_beside_its_first_to_the_same_component() {
        let engine = engine::native().expect("engine");
        let component = wat::parse_str(BOTH_CLOCKS).expect("a component");
        let outline = Outline::of(&component).expect("read");
        let component = Component::new(&engine, component).expect("compiled");
        let is_no_policy = |checked| matches!(checked, Err(IncompatibleComponent::NoPolicy));
        let refused = imports::check(&outline, imports::served).expect_err("only the first is served");
        assert!(
            refused.to_string().contains("clock@0.2.0, and this flanneld has version 0.1.0"),
            "{refused}"
        );
        // With the second version in the list, nothing is wrong with what it imports.
        let both = |interface: &str| -> &'static [&'static str] {
            if interface == "clock" { &["0.1.0", "0.2.0"] } else { imports::served(interface) }
        };
        assert!(is_no_policy(imports::check(&outline, both)));

        let mut linker = Linker::new(&engine);
        capability::link_all(&mut linker).expect("the first version");
        let mut second = linker.instance("flannel:backend/clock@0.2.0").expect("a name of its own");
        second
            .func_wrap("wall", |mut store: wasmtime::StoreContextMut<HostState>, (): ()| {
                // Both versions lead to the same code of the host.
                let milliseconds = clock::Host::wall(store.data_mut())?;
                Ok((Moment { milliseconds, synchronised: true },))
            })
            .expect("the second version");
        let watchdog = Watchdog::start(engine.clone()).expect("watchdog");
        let directory = tempfile::tempdir().expect("directory");
        let state = Arc::new(DirState::open(directory.path()));
        let environment = environment(r#"{"Type":"clocks"}"#);
        let mut state = HostState::new(
            "clocks".to_owned(),
            Limits::default(),
            environment,
            state,
            watchdog.pauser(),
            rate(),
            PluginSeries::default(),
        );
        state.call = Call::new(Function::Register);
        let mut store = limited_store(&engine, state);
        let instantiated =
            timed(&watchdog, &mut store, TIME * 20, |store| linker.instantiate(store, &component).map(drop));
        instantiated.expect("both say the time");
    }

    #[test]
    fn who_could_not_work_because_the_machine_did_other_things_goes_on() {
        nap_and("(loop (br_if 0 (i32.const 0)))").expect("it did next to nothing");
    }

    /// Without anything else to do on the processor, both times are over at the same moment.
    #[test]
    fn who_works_all_along_is_stopped_each_time() {
        for _ in 0..200 {
            let error = run(Duration::from_millis(2), "(loop (br 0))").expect_err("is stopped");
            assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::Interrupt), "{error:?}");
        }
    }

    #[test]
    fn who_works_for_longer_than_its_time_is_stopped_however_late_it_begins() {
        let error = nap_and("(loop (br 0))").expect_err("is stopped");
        assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::Interrupt), "{error:?}");
    }
}
