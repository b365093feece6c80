//! `peers`: which of them the plugin wants to declare for anew.

use flannel_model::ledger::PeerId;

use super::HostState;
use crate::bindings::flannel::backend::peers::{self as wit, Error};
use crate::call::Function;

impl wit::Host for HostState {
    fn refresh(&mut self, peers: Vec<u64>) -> wasmtime::Result<Result<(), Error>> {
        self.enter("peers.refresh")?;
        let outcome = self.want_again(peers);
        Ok(self.outcome("peers.refresh", outcome))
    }
}

impl HostState {
    fn want_again(&mut self, peers: Vec<u64>) -> Result<(), Error> {
        if let Function::Register | Function::Retire = self.call.function {
            let function = self.call.function.name();
            return Err(Error::Denied(format!("in {function} there are no peers to be handed over")));
        }
        let wanted = &mut self.call.wishes.refresh;
        wanted.extend(peers.into_iter().map(PeerId));
        if wanted.len() > self.limits.refreshes {
            let limit = self.limits.refreshes;
            return Err(Error::LimitExceeded(format!("{} peers; at most {limit} in a call", wanted.len())));
        }
        Ok(())
    }
}
