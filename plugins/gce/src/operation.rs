//! What the cloud is doing for this node. It is remembered in the durable store, so that whoever comes next, another plugin or a
//! daemon that was started anew, waits for it instead of doing it again.

use std::fmt;

use flannel_backend::serde_json::{self, Value, json};
use flannel_backend::state;

use super::api::Project;
use super::refusal::Refusal;

/// Where it is remembered.
const KEY: &str = "operation";

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A route is made.
    Insert {
        /// Its name.
        route: String,
    },
    /// A route is removed.
    Delete {
        /// Its name.
        route: String,
        /// Its number.
        id: String,
    },
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The project's id.
    pub project: String,
    /// The operation's name.
    pub name: String,
    /// What is done.
    pub action: Action,
}

/// What has become of it.
pub enum Outcome {
    /// It goes on.
    Unfinished,
    /// It was done.
    Done,
    /// It failed.
    Failed(Refusal),
    /// The cloud does not know it any more.
    Forgotten,
}

impl fmt::Display for Operation {
    /// Fit to follow on `cannot`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let project = &self.project;
        match &self.action {
            Action::Insert { route } => write!(f, "make route {route} in project {project}"),
            Action::Delete { route, .. } => write!(f, "remove route {route} in project {project}"),
        }
    }
}

impl Operation {
    /// The one that is remembered.
    pub fn stored() -> Result<Option<Self>, String> {
        let stored = state::get(KEY)?;
        // What another version has written and this one cannot read is not waited for: the cloud says what is there.
        Ok(stored.and_then(|bytes| Self::read(&serde_json::from_slice(&bytes).ok()?)))
    }

    fn read(stored: &Value) -> Option<Self> {
        let text = |member: &str| stored[member].as_str().map(ToOwned::to_owned);
        let route = text("route")?;
        let action = match text("id") {
            Some(id) => Action::Delete { route, id },
            None => Action::Insert { route },
        };
        Some(Self { project: text("project")?, name: text("operation")?, action })
    }

    /// Remembers it.
    pub fn store(&self) -> Result<(), String> {
        let mut stored = json!({ "project": self.project, "operation": self.name });
        match &self.action {
            Action::Insert { route } => stored["route"] = route.clone().into(),
            Action::Delete { route, id } => {
                stored["route"] = route.clone().into();
                stored["id"] = id.clone().into();
            }
        }
        Ok(state::set(KEY, Some(stored.to_string().as_bytes()))?)
    }

    /// Nothing is remembered any more.
    pub fn forget() -> Result<(), String> {
        Ok(state::set(KEY, None)?)
    }

    /// Asks what has become of it.
    pub fn outcome(&self) -> Result<Outcome, String> {
        let asked = Project::new(&self.project).operation(&self.name);
        let found = asked.map_err(|refusal| refusal.text(&format!("read operation {}", self.name), ""))?;
        Ok(match found {
            None => Outcome::Forgotten,
            Some(found) if found["status"] != "DONE" => Outcome::Unfinished,
            Some(found) => Refusal::of_operation(&found).map_or(Outcome::Done, Outcome::Failed),
        })
    }
}
