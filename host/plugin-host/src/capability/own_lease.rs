//! `own-lease`: what the node publishes while the plugin runs.

use super::HostState;
use crate::bindings::flannel::backend::own_lease::{self as wit, Error};
use crate::call::Function;
use crate::published::{PublishedData, Unfit};

impl wit::Host for HostState {
    fn publish(
        &mut self,
        backend_data: Option<String>,
        backend_v6_data: Option<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("own-lease.publish")?;
        let outcome = self.checked_data(backend_data, backend_v6_data);
        let outcome = outcome.map(|published| self.call.wishes.published = Some(published));
        Ok(self.outcome("own-lease.publish", outcome))
    }
}

impl HostState {
    fn checked_data(&self, data: Option<String>, v6_data: Option<String>) -> Result<PublishedData, Error> {
        match self.call.function {
            Function::Register => {
                return Err(Error::Denied("in register it is the answer that is published".to_owned()));
            }
            Function::Retire => {
                return Err(Error::Denied("in retire the lease is another backend's already".to_owned()));
            }
            _ => {}
        }
        PublishedData::check(data, v6_data, self.limits.backend_data).map_err(|unfit| match unfit {
            Unfit::TooLong(text) => Error::LimitExceeded(text),
            Unfit::NoJson(text) => Error::InvalidArgument(text),
        })
    }
}
