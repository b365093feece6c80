//! Sends one request, and waits for the head of the answer, or for all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flannel_base::text::{beginning, with_causes};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, Response};
use kube::client::{AuthError, Body};
use tokio::time::timeout;

use crate::connection::{Connection, Place};
use crate::error::KubeError;
use crate::status::{Status, retry_after};

/// Bytes of the largest body that is read as a whole: etcd takes objects of 1.5 MiB.
const WHOLE: usize = 4 << 20;
/// Bytes of an error's body that are looked at.
const REFUSAL: usize = 64 << 10;

/// What a request needs permission for, in the words of RBAC's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'static str,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of an answer. The server itself gives up after a minute.
    pub answer: Duration,
    /// Between two pieces of an answer that ends.
    pub piece: Duration,
    /// Between two frames of a watch: there is a bookmark each minute.
    pub watch: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(65),
            piece: Duration::from_secs(30),
            watch: Duration::from_secs(150),
        }
    }
}

/// A request as it is sent, again if need be.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) accept: &'static str,
    /// Type and bytes.
    pub(crate) body: Option<(&'static str, Bytes)>,
    pub(crate) purpose: Purpose,
}

/// An answer with status 2xx, whose body comes piece by piece.
pub(crate) struct Answer {
    body: Body,
    place: Arc<Place>,
    read: Arc<AtomicU64>,
}

/// Sends requests.
pub(crate) struct Sender {
    pub(crate) connection: Connection,
    pub(crate) patience: Patience,
    pub(crate) read: Arc<AtomicU64>,
}

impl Sender {
    /// Once more, with credentials read anew, if the server does not accept them.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Answer, KubeError> {
        match self.send_once(ask).await {
            Err(KubeError::Unauthorized { .. }) => {
                self.connection.refused();
                let again = self.send_once(ask).await;
                if matches!(again, Err(KubeError::Unauthorized { .. })) {
                    self.connection.refused();
                }
                again
            }
            outcome => outcome,
        }
    }

    async fn send_once(&self, ask: &Ask) -> Result<Answer, KubeError> {
        let (client, place) = self.connection.client().await?;
        let mut request = Request::builder().method(&ask.method).uri(&ask.path).header(ACCEPT, ask.accept);
        if let Some((kind, _)) = &ask.body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = ask.body.as_ref().map_or_else(Body::empty, |(_, bytes)| Body::from(bytes.clone()));
        let request = request.body(body);
        let request =
            request.map_err(|_| KubeError::Malformed { reason: "a path that is none".to_owned() })?;
        let response = timeout(self.patience.answer, client.send(request)).await;
        let response = response.map_err(|_| gone(&place, "no answer in time".to_owned()))?;
        let response = response.map_err(|error| failed(&place, &error))?;
        let status = response.status();
        let header = retry_after(response.headers());
        let mut answer = self.answer(response, place);
        if status.is_success() {
            return Ok(answer);
        }
        let mut body = Vec::new();
        // An error is one even if its words break off.
        while body.len() < REFUSAL
            && let Ok(Some(piece)) = answer.piece(self.patience.piece).await
        {
            body.extend_from_slice(&piece);
        }
        body.truncate(REFUSAL);
        Err(Status::of_body(status.as_u16(), &body).into_error(ask.purpose, header))
    }

    fn answer(&self, response: Response<Body>, place: Arc<Place>) -> Answer {
        Answer { body: response.into_body(), place, read: Arc::clone(&self.read) }
    }

    /// The whole answer.
    pub(crate) async fn whole(&self, ask: &Ask) -> Result<Vec<u8>, KubeError> {
        let mut answer = self.send(ask).await?;
        let mut whole = Vec::new();
        while let Some(piece) = answer.piece(self.patience.piece).await? {
            if piece.len() > WHOLE - whole.len() {
                return Err(KubeError::Malformed { reason: format!("more than {WHOLE} bytes") });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self, patience: Duration) -> Result<Option<Bytes>, KubeError> {
        loop {
            let frame = timeout(patience, self.body.frame()).await;
            let frame = frame
                .map_err(|_| gone(&self.place, format!("nothing has come for {} s", patience.as_secs())))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| failed(&self.place, &error))?;
            if let Ok(data) = frame.into_data() {
                self.read.fetch_add(data.len() as u64, Ordering::Relaxed);
                return Ok(Some(data));
            }
        }
    }
}

fn gone(place: &Place, reason: String) -> KubeError {
    KubeError::Unreachable { address: place.address.clone(), reason }
}

fn is_of_credentials(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<AuthError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn failed(place: &Place, error: &kube::Error) -> KubeError {
    // A token that an exec plugin has given has to be renewed, which only a new client may do.
    if is_of_credentials(error) {
        return KubeError::Unauthorized { message: "the credentials are at their end".to_owned() };
    }
    gone(place, beginning(&with_causes(error), 300))
}
