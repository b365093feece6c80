//! `state`: the plugin's durable store, written when the call succeeds.

use super::HostState;
use crate::bindings::flannel::backend::state::{self as wit, Error};
use crate::state::{KEYS, VALUE, check_key};

impl wit::Host for HostState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.enter("state.get")?;
        let outcome = match check_key(&key) {
            Err(reason) => Err(Error::InvalidArgument(reason)),
            Ok(()) => match self.call.state.get(&key) {
                Some(written) => Ok(written.clone()),
                None => {
                    self.state.get(&self.store, &key).map_err(|error| Error::Unavailable(error.to_string()))
                }
            },
        };
        Ok(self.outcome("state.get", outcome))
    }

    fn set(&mut self, key: String, value: Option<Vec<u8>>) -> wasmtime::Result<Result<(), Error>> {
        self.enter("state.set")?;
        let outcome = self.checked_write(&key, value.as_deref());
        if outcome.is_ok() {
            self.call.state.insert(key, value);
        }
        Ok(self.outcome("state.set", outcome))
    }
}

impl HostState {
    fn checked_write(&self, key: &str, value: Option<&[u8]>) -> Result<(), Error> {
        check_key(key).map_err(Error::InvalidArgument)?;
        let Some(value) = value else { return Ok(()) };
        if value.len() > VALUE {
            return Err(Error::LimitExceeded(format!(
                "{key}: {} bytes; a value has at most {VALUE}",
                value.len()
            )));
        }
        let kept = self.state.keys(&self.store).map_err(|error| Error::Unavailable(error.to_string()))?;
        let removed = |key: &String| matches!(self.call.state.get(key), Some(None));
        let added =
            self.call.state.iter().filter(|(name, value)| value.is_some() && !kept.contains(*name)).count();
        let there = kept.iter().filter(|key| !removed(key)).count() + added;
        let is_new = !matches!(self.call.state.get(key), Some(Some(_)))
            && (!kept.contains(key) || removed(&key.to_owned()));
        if is_new && there >= KEYS {
            return Err(Error::LimitExceeded(format!("{key}: a plugin has at most {KEYS} keys")));
        }
        Ok(())
    }
}
