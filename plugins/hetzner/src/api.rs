//! The calls of Hetzner Cloud's API, version 1: <https://docs.hetzner.cloud/>. Those that only read may be repeated. A change is not: what
//! became of it is read.

use std::fmt;

use flannel_backend::http::{self, Method, Request, Response};
use flannel_backend::serde_json::{self, Value};

use super::network::Route;
use super::refusal::Refusal;

/// The endpoint's name in the operator's file.
pub const ENDPOINT: &str = "hetzner";
/// Pages of a list that are read at most, and how many a page has: as many as there may be.
const PAGES: u64 = 40;
const PER_PAGE: &str = "50";

/// A network, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkId(pub u64);

/// Something that is being done.
#[derive(Clone, Debug)]
pub struct Action {
    /// Its number.
    id: u64,
    /// What it is, fit to follow on `cannot`.
    pub doing: String,
    /// It was over when it was begun.
    answer: Option<Value>,
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action {}", self.id)
    }
}

impl NetworkId {
    /// Whether a number in an answer is this one.
    pub fn is(self, value: &Value) -> bool {
        value.as_u64() == Some(self.0)
    }

    /// The network as it is.
    pub fn read(self) -> Result<Value, Refusal> {
        let path = format!("/networks/{self}");
        let mut found = read(&http::send(&Request::new(ENDPOINT, Method::Get, path).idempotent())?)?;
        Ok(found["network"].take())
    }

    /// Begins to make a route.
    pub fn add(self, route: &Route, doing: String) -> Result<Action, Refusal> {
        self.change("add_route", route, doing)
    }

    /// Begins to remove one.
    pub fn delete(self, route: &Route, doing: String) -> Result<Action, Refusal> {
        self.change("delete_route", route, doing)
    }

    fn change(self, what: &str, route: &Route, doing: String) -> Result<Action, Refusal> {
        let path = format!("/networks/{self}/actions/{what}");
        let request = Request::new(ENDPOINT, Method::Post, path).body(route.to_json().to_string());
        let mut answer = read(&http::send(&request)?)?;
        let action = answer["action"].take();
        let id = action["id"].as_u64().ok_or_else(|| Refusal::nonsense("an action without a number"))?;
        Ok(Action { id, doing, answer: (action["status"] != "running").then_some(action) })
    }
}

impl Action {
    /// How it has ended; none: not yet. The outer error: it is not known.
    pub fn ended(&self) -> Result<Option<Result<(), Refusal>>, Refusal> {
        let answer = if let Some(answer) = &self.answer {
            answer.clone()
        } else {
            let request = Request::new(ENDPOINT, Method::Get, format!("/actions/{}", self.id));
            match read(&http::send(&request.idempotent())?) {
                Ok(mut found) => found["action"].take(),
                // Actions are not kept for ever. The network says what is there.
                Err(refusal) if refusal.is_not_found() => return Ok(Some(Ok(()))),
                Err(refusal) => return Err(refusal),
            }
        };
        Ok(match answer["status"].as_str() {
            Some("running") => None,
            Some("error") => Some(Err(Refusal::of_action(&answer))),
            _ => Some(Ok(())),
        })
    }
}

/// All servers of the project.
pub fn servers() -> Result<Vec<Value>, Refusal> {
    let (mut all, mut page) = (Vec::new(), 1);
    for _ in 0..PAGES {
        let request = Request::new(ENDPOINT, Method::Get, "/servers").idempotent();
        let request = request.query(&[("page", &page.to_string()), ("per_page", PER_PAGE)]);
        let mut found = read(&http::send(&request)?)?;
        if let Value::Array(more) = found["servers"].take() {
            all.extend(more);
        }
        match found["meta"]["pagination"]["next_page"].as_u64() {
            Some(next) if next > page => page = next,
            _ => break,
        }
    }
    Ok(all)
}

/// What an answer has, if it is a good one.
fn read(answer: &Response) -> Result<Value, Refusal> {
    if !(200..300).contains(&answer.status) {
        return Err(Refusal::read(answer));
    }
    serde_json::from_str(&answer.body).map_err(|_| Refusal::nonsense("an answer that is no JSON"))
}
