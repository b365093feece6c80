//! The chain of credentials, in the order of Amazon's own tools: environment, a web identity's role, the shared file, a container's
//! agent, the instance's role. The first place that has any is it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use flannel_base::Timestamp;

use super::{AwsContext, ecs, metadata, profile, web_identity};
use crate::Secret;
use crate::access_key::AccessKey;
use crate::http::Http;
use crate::options::Variables;
use crate::request::Failure;

/// Seconds before their end from which on a session's keys are fetched anew. The metadata service has new ones by then.
const REFRESH_BEFORE_EXPIRY: u64 = 5 * 60;

/// Sessions that are kept until they are over.
#[derive(Default)]
pub(super) struct Credentials {
    session: Mutex<Option<AccessKey>>,
}

impl Credentials {
    /// AccessKey that are good now.
    pub(super) async fn keys(&self, http: &Http, places: &AwsContext) -> Result<AccessKey, Failure> {
        let variables = &places.options.variables;
        if let Some(keys) = of_environment(variables)? {
            return Ok(keys);
        }
        let mut looked = "none are in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)".to_owned();
        if !web_identity::is_there(places) {
            match profile::keys(variables)? {
                Ok(keys) => return Ok(keys),
                Err(reason) => looked = format!("{looked}, none in the shared file ({reason})"),
            }
        }
        let now = Timestamp::now().seconds();
        let left = |keys: &AccessKey| keys.expires.map_or(u64::MAX, |end| end.seconds().saturating_sub(now));
        let kept = self.session().clone();
        if let Some(keys) = kept.as_ref().filter(|keys| left(keys) > REFRESH_BEFORE_EXPIRY) {
            return Ok(keys.clone());
        }
        match fetch(http, places, &looked).await {
            Ok(keys) => {
                *self.session() = Some(keys.clone());
                Ok(keys)
            }
            // Those from before are good for some more minutes.
            Err(error) => kept.filter(|keys| left(keys) > 0).ok_or(error),
        }
    }

    /// A session's keys are fetched anew next time.
    pub(super) fn forget(&self) {
        *self.session() = None;
    }

    fn session(&self) -> MutexGuard<'_, Option<AccessKey>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(http: &Http, places: &AwsContext, looked: &str) -> Result<AccessKey, Failure> {
    let variables = &places.options.variables;
    if web_identity::is_there(places) {
        return web_identity::keys(http, places).await;
    }
    if ecs::is_there(variables) {
        return ecs::keys(http, variables).await;
    }
    let nowhere = |reason: String| Failure::Credentials(format!("{looked}, and {reason}"));
    let session = places.metadata.session(http).await.map_err(|error| nowhere(error.to_string()))?;
    metadata::keys(&session).await.map_err(|error| nowhere(error.to_string()))?.map_err(nowhere)
}

fn of_environment(variables: &Variables) -> Result<Option<AccessKey>, Failure> {
    const ID: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    let (id, secret) = match (variables.get(ID), variables.get(SECRET).map(Secret::new)) {
        (Some(id), Some(secret)) => (id, secret),
        (Some(_), None) => return Err(Failure::Credentials(format!("{ID} is set, and {SECRET} is not"))),
        (None, Some(_)) => return Err(Failure::Credentials(format!("{SECRET} is set, and {ID} is not"))),
        (None, None) => return Ok(None),
    };
    let token = variables.get("AWS_SESSION_TOKEN").or_else(|| variables.get("AWS_SECURITY_TOKEN"));
    let keys = AccessKey { id, secret, token: token.map(Secret::new), expires: None }.checked();
    let odd = || Failure::Credentials(format!("{ID} and {SECRET} have characters that keys do not have"));
    keys.map(Some).ok_or_else(odd)
}
