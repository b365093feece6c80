//! What goes wrong with calls, on request.

use std::time::Duration;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429, with the seconds of a `Retry-After`.
    Throttled(u64),
    /// 403 with the reason `rateLimitExceeded`.
    RateLimited,
    /// 500, 502, 503.
    Broken(u16),
    /// No answer, for so long; nothing is carried out.
    Silence(Duration),
    /// It is carried out, and the answer breaks off in the middle.
    Half,
    /// It is carried out, and there is no answer for so long.
    Unheard(Duration),
}

/// The faults that are still to happen.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(String, Fault, usize)>);

impl Faults {
    /// The next calls of a kind go wrong; `*`: of all kinds.
    pub(super) fn add(&mut self, kind: &str, fault: Fault, times: usize) {
        self.0.push((kind.to_owned(), fault, times));
    }

    /// Nothing goes wrong any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What happens to a call.
    pub(super) fn take(&mut self, kind: &str) -> Option<Fault> {
        let at = self.0.iter().position(|(wanted, _, _)| wanted == kind || wanted == "*")?;
        let (_, fault, left) = &mut self.0[at];
        let fault = *fault;
        *left -= 1;
        if *left == 0 {
            self.0.remove(at);
        }
        Some(fault)
    }
}
