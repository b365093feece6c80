//! The API: a proxy in front of moto, which counts calls, checks signatures and permissions, and lets things go wrong on request.
//!
//! What moto 5.2.5 lacks is supplied here: signatures and permissions are checked; `CreateRoute` refuses a destination that is there
//! (moto overwrites it if the row leads to an interface); tables have a limit; `DryRun` is only a question; and rows are complete
//! (see `tables`). Left as it is: the filters `route.state` and `route.instance-id`, which moto answers with 501.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::fault::{Fault, Refusal, reply};
use super::moto::Moto;
use super::router::Router;
use super::state::{Call, State};
use super::{signature, tables};
use crate::Namespace;
use crate::cloud::server::{Question, Reply};

/// What all threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) router: Namespace,
    pub(super) moto: Moto,
    pub(super) state: Mutex<State>,
}

type Parameters = BTreeMap<String, String>;

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a call.
    pub(super) fn answer(&self, question: &Question) -> Reply {
        let form = String::from_utf8_lossy(&question.body);
        let mut parameters: Parameters =
            [question.query(), &form].into_iter().flat_map(Question::parameters).collect();
        let action = parameters.remove("Action").unwrap_or_default();
        parameters.remove("Version");
        // One call at a time: what is looked at before a change still holds when it is made.
        let mut state = self.lock();
        let fault = state.faults.take(&action);
        let came = match fault {
            Some(Fault::Silence(_)) => Ok(String::new()),
            fault => match fault.and_then(Refusal::of) {
                Some(refusal) => Err(refusal),
                None => self.carry_out(&mut state, question, &action, &parameters),
            },
        };
        let outcome = match (&came, fault) {
            (_, Some(Fault::Silence(_))) => String::new(),
            (Ok(_), _) => "OK".to_owned(),
            (Err(refusal), _) => refusal.code.clone(),
        };
        state.calls.push(Call { from: question.from, action, parameters, outcome });
        let request = state.request();
        drop(state);
        let (status, body) = match came {
            Ok(body) => (200, body.replace("<requestId>request-id<", &format!("<requestId>{request}<"))),
            Err(refusal) => (refusal.status, refusal.xml(&request)),
        };
        match fault {
            Some(Fault::Silence(time) | Fault::Unheard(time)) => Reply::Silence(time),
            Some(Fault::Half) => {
                let half = body.len() / 2;
                Reply::Half(body.into_bytes(), half)
            }
            _ => reply(status, body),
        }
    }

    fn carry_out(
        &self,
        state: &mut State,
        question: &Question,
        action: &str,
        parameters: &Parameters,
    ) -> Result<String, Refusal> {
        let who = signature::check(question, &state.site.region, &state.credentials)?;
        if state.denied.contains(action) {
            return Err(Refusal::new(
                403,
                "UnauthorizedOperation",
                format!(
                    "You are not authorized to perform this operation. User: {who} is not authorized to perform: ec2:{action} \
                     because no identity-based policy allows the ec2:{action} action"
                ),
            ));
        }
        if action == "CreateRoute" {
            creatable(state, parameters)?;
        }
        if parameters.get("DryRun").is_some_and(|dry| dry == "true") {
            let text = "Request would have succeeded, but DryRun flag is set.";
            return Err(Refusal::new(412, "DryRunOperation", text));
        }
        let broken = |error: anyhow::Error| Refusal::new(500, "InternalError", format!("moto: {error:#}"));
        let form = if question.body.is_empty() { question.query().as_bytes() } else { &question.body };
        let (status, body) = self.moto.post(form).map_err(broken)?;
        if status != 200 {
            return Err(refusal_of_moto(status, &body));
        }
        if !action.starts_with("Describe") {
            self.refresh(state).map_err(broken)?;
        }
        let seen = state.seen().filter(|_| action == "DescribeRouteTables");
        Ok(seen.map_or_else(|| body.clone(), |seen| tables::rewritten(&body, seen)))
    }

    /// Reads what moto has now, and makes the router follow.
    pub(super) fn refresh(&self, state: &mut State) -> Result<()> {
        let checks = tables::checks(&self.moto.ask("DescribeNetworkInterfaces")?);
        for machine in &mut state.machines {
            machine.checks = checks.get(&machine.interface).copied().unwrap_or(true);
        }
        let read = tables::read(&self.moto.ask("DescribeRouteTables")?, state);
        state.remember(read);
        let wanted = Router::wanted(state);
        state.router.apply(&self.router, &wanted);
        Ok(())
    }
}

/// Whether there may be a new row.
fn creatable(state: &State, parameters: &Parameters) -> Result<(), Refusal> {
    let of = |name: &str| parameters.get(name).map(String::as_str);
    let destination =
        of("DestinationCidrBlock").or_else(|| of("DestinationIpv6CidrBlock")).unwrap_or_default();
    let (rows, is_there) = state.rows_like(of("RouteTableId").unwrap_or_default(), destination);
    if is_there {
        let text = format!("The route identified by {destination} already exists.");
        return Err(Refusal::new(400, "RouteAlreadyExists", text));
    }
    if rows >= state.limit {
        return Err(Refusal::new(
            400,
            "RouteLimitExceeded",
            "The maximum number of routes has been reached.",
        ));
    }
    Ok(())
}

fn refusal_of_moto(status: u16, body: &str) -> Refusal {
    let of = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(text, _)| text.to_owned())
    };
    let code = of("Code").unwrap_or_else(|| "InternalFailure".to_owned());
    Refusal { status, code, message: of("Message").unwrap_or_else(|| body.to_owned()) }
}
