//! What goes wrong with calls, on request, and errors in EC2's shape.

use std::time::Duration;

use crate::cloud::server::Reply;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 `RequestLimitExceeded`.
    Throttled,
    /// 500 `InternalError`.
    Broken,
    /// 503 `Unavailable`.
    Unavailable,
    /// No answer, for so long; nothing is carried out.
    Silence(Duration),
    /// It is carried out, and the answer breaks off in the middle.
    Half,
    /// It is carried out, and there is no answer for so long.
    Unheard(Duration),
}

/// What questions to the metadata service are called here.
pub(super) const METADATA: &str = "metadata";

/// The faults that are still to happen.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(String, Fault, usize)>);

impl Faults {
    /// The next calls of an action go wrong; `*`: of all actions.
    pub(super) fn add(&mut self, action: &str, fault: Fault, times: usize) {
        if times > 0 {
            self.0.push((action.to_owned(), fault, times));
        }
    }

    /// Nothing goes wrong any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What happens to a call.
    pub(super) fn take(&mut self, action: &str) -> Option<Fault> {
        let at = self
            .0
            .iter()
            .position(|(wanted, _, _)| wanted == action || (wanted == "*" && action != METADATA))?;
        let (_, fault, left) = &mut self.0[at];
        let fault = *fault;
        *left -= 1;
        if *left == 0 {
            self.0.remove(at);
        }
        Some(fault)
    }
}

/// An error as EC2 answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// The errors of faults that have one.
    pub(super) fn of(fault: Fault) -> Option<Self> {
        match fault {
            Fault::Throttled => Some(Self::new(503, "RequestLimitExceeded", "Request limit exceeded.")),
            Fault::Broken => Some(Self::new(500, "InternalError", "An internal error has occurred")),
            Fault::Unavailable => {
                Some(Self::new(503, "Unavailable", "The service is unavailable. Please try again shortly."))
            }
            Fault::Silence(_) | Fault::Half | Fault::Unheard(_) => None,
        }
    }

    /// The body.
    pub(super) fn xml(&self, request: &str) -> String {
        let message = self.message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{}</Code>\
             <Message>{message}</Message></Error></Errors><RequestID>{request}</RequestID></Response>",
            self.code
        )
    }
}

/// XML as EC2 answers it.
pub(super) fn reply(status: u16, body: String) -> Reply {
    Reply::new(status, "text/xml;charset=UTF-8", body)
}
