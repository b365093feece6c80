//! `wasi:io/poll`, where a component waits: no longer than the call may take. The host's thread waits here, out of reach of what
//! ends code that runs too long.

use std::time::Instant;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{Result, Trap};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll as patient;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::runtime::in_tokio;

use crate::capability::HostState;

/// What a component may wait for, and until when.
struct Waiting<'a> {
    table: &'a mut ResourceTable,
    deadline: Instant,
}

/// Where that is in the store.
struct InState;

impl HasData for InState {
    type Data<'a> = Waiting<'a>;
}

/// Takes the place of the interface that waits for as long as the component likes.
pub(super) fn link(linker: &mut Linker<HostState>) -> Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, InState>(linker, HostState::waiting)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl HostState {
    fn waiting(&mut self) -> Waiting<'_> {
        Waiting { table: &mut self.table, deadline: self.deadline }
    }
}

/// Ends as code does that runs too long.
fn until<T>(deadline: Instant, waits: impl Future<Output = Result<T>>) -> Result<T> {
    in_tokio(async { tokio::time::timeout_at(deadline.into(), waits).await })
        .unwrap_or_else(|_| Err(Trap::Interrupt.into()))
}

impl poll::Host for Waiting<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        until(self.deadline, patient::Host::poll(self.table, pollables))
    }
}

impl poll::HostPollable for Waiting<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        until(self.deadline, patient::HostPollable::ready(self.table, pollable))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        until(self.deadline, patient::HostPollable::block(self.table, pollable))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        patient::HostPollable::drop(self.table, pollable)
    }
}
