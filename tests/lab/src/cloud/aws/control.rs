//! Calls, and what goes wrong with them.

use std::time::Duration;

use super::{Aws, Call, Fault, Mode};

impl Aws {
    /// The calls so far, answered or not.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How often an action was called, however it went.
    pub fn count(&self, action: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.action == action).count()
    }

    /// How many calls there were that change something, however they went.
    pub fn mutations(&self) -> usize {
        self.lock().calls.iter().filter(|call| call.is_mutation()).count()
    }

    /// The next calls of an action go wrong; `*`: of all actions; `metadata`: questions to the metadata service.
    pub fn fail(&self, action: &str, fault: Fault, times: usize) {
        self.lock().faults.add(action, fault, times);
    }

    /// No call goes wrong any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Nobody may do an action any more: `CreateRoute`.
    pub fn deny(&self, action: &str) {
        self.lock().denied.insert(action.to_owned());
    }

    /// All may do everything.
    pub fn allow_everything(&self) {
        self.lock().denied.clear();
    }

    /// How many rows of a family a table may have besides the cloud's own.
    pub fn limit(&self, rows: usize) {
        self.lock().limit = rows;
    }

    /// From now on reads of route tables show the rows that were there so long ago.
    pub fn lag(&self, time: Duration) {
        self.lock().lag = time;
    }

    /// Which versions of the metadata service there are.
    pub fn set_mode(&self, mode: Mode) {
        self.lock().sessions.mode = mode;
    }

    /// The role's credentials are over at once: calls with them are refused until newer ones are fetched.
    pub fn expire_credentials(&self) {
        self.lock().credentials.expire();
    }

    /// How the end of credentials is told: 400 `RequestExpired` at first; also 400 `ExpiredToken`, 401 `AuthFailure`.
    pub fn tell_expiry(&self, status: u16, code: &'static str) {
        self.lock().credentials.over = (status, code);
    }

    /// How long the role's credentials are good that are made from now on. At first six hours.
    pub fn credential_lifetime(&self, time: Duration) {
        self.lock().credentials.lifetime = time;
    }

    /// How many credentials the role has had.
    pub fn issued(&self) -> usize {
        self.lock().credentials.issued()
    }

    /// All secrets that it knows: nobody should ever see one in a log.
    pub fn secrets(&self) -> Vec<String> {
        self.lock().credentials.secrets()
    }
}
