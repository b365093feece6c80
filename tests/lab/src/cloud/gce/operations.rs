//! What takes its time: operations.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::errors::Refusal;
use super::state::{Notice, State, link};
use super::{PROJECT, moment};

/// How long operations take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) pending: Duration,
    pub(super) running: Duration,
    /// None is finished.
    pub(super) held: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pending: Duration::from_millis(50), running: Duration::from_millis(150), held: false }
    }
}

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// This route is made.
    Insert(Value),
    /// A route is removed.
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pending,
    Running,
    Done,
}

/// An operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    id: u64,
    pub(super) name: String,
    action: Action,
    route: String,
    route_id: String,
    user: String,
    request_id: String,
    status: Status,
    accepted: Instant,
    times: [Option<SystemTime>; 3],
    error: Option<Value>,
    warnings: Value,
}

impl Operation {
    /// Whether it is over, well or not.
    pub(super) fn is_done(&self) -> bool {
        self.status == Status::Done
    }

    /// As it is shown.
    pub(super) fn shown(&self) -> Value {
        let (status, progress) = match self.status {
            Status::Pending => ("PENDING", 0),
            Status::Running => ("RUNNING", 50),
            Status::Done => ("DONE", 100),
        };
        let mut shown = json!({
            "kind": "compute#operation",
            "id": self.id.to_string(),
            "name": self.name,
            "operationType": if matches!(self.action, Action::Delete) { "delete" } else { "insert" },
            "targetLink": link(&format!("projects/{PROJECT}/global/routes/{}", self.route)),
            "targetId": self.route_id,
            "status": status,
            "user": self.user,
            "progress": progress,
            "selfLink": link(&format!("projects/{PROJECT}/global/operations/{}", self.name)),
        });
        for (name, time) in ["insertTime", "startTime", "endTime"].into_iter().zip(self.times) {
            if let Some(time) = time {
                shown[name] = moment::written(time).into();
            }
        }
        if !self.request_id.is_empty() {
            shown["clientOperationId"] = self.request_id.clone().into();
        }
        if self.is_done() && !self.warnings.is_null() {
            shown["warnings"] = self.warnings.clone();
        }
        if let Some(error) = &self.error {
            shown["error"] = json!({ "errors": [error] });
            shown["httpErrorStatusCode"] = 403.into();
            shown["httpErrorMessage"] = "FORBIDDEN".into();
        }
        shown
    }
}

impl State {
    /// A route is to be made.
    pub(super) fn insert(&mut self, asked: &Value, user: &str, request_id: &str) -> Result<Value, Refusal> {
        if let Some(known) = self.known(request_id) {
            return Ok(known);
        }
        self.validate(asked)?;
        let name = asked["name"].as_str().unwrap_or_default().to_owned();
        let resource = format!("projects/{PROJECT}/global/routes/{name}");
        match self.busy(&name) {
            Some(Action::Delete) => return Err(Refusal::not_ready(&resource)),
            Some(Action::Insert(_)) => return Err(Refusal::exists(&resource)),
            None if self.routes.contains_key(&name) => return Err(Refusal::exists(&resource)),
            None => {}
        }
        let coming = self.operations.iter().filter(|operation| !operation.is_done());
        let coming = coming.filter(|operation| matches!(operation.action, Action::Insert(_))).count();
        if self.notice == Notice::AtOnce && self.routes.len() + coming >= self.limit {
            return Err(Refusal::quota(self.too_many()));
        }
        let route = self.completed(asked);
        Ok(self.begin(Action::Insert(route.clone()), &route, user, request_id))
    }

    /// A route is to be removed.
    pub(super) fn delete(&mut self, key: &str, user: &str, request_id: &str) -> Result<Value, Refusal> {
        if let Some(known) = self.known(request_id) {
            return Ok(known);
        }
        let resource = format!("projects/{PROJECT}/global/routes/{key}");
        if self.busy(key).is_some() {
            return Err(Refusal::not_ready(&resource));
        }
        let route = self.route(key).cloned().ok_or_else(|| Refusal::not_found(&resource))?;
        Ok(self.begin(Action::Delete, &route, user, request_id))
    }

    /// Takes operations further, as time passes.
    pub(super) fn advance(&mut self) {
        for at in 0..self.operations.len() {
            let (pace, limit) = (self.pace, self.limit);
            let operation = &mut self.operations[at];
            let age = operation.accepted.elapsed();
            if operation.status == Status::Pending && age >= pace.pending {
                operation.status = Status::Running;
                operation.times[1] = Some(SystemTime::now());
            }
            if operation.status != Status::Running || pace.held || age < pace.pending + pace.running {
                continue;
            }
            operation.status = Status::Done;
            operation.times[2] = Some(SystemTime::now());
            let (name, action) = (operation.route.clone(), operation.action.clone());
            match action {
                Action::Insert(_) if self.routes.len() >= limit => {
                    self.operations[at].error = Some(self.quota_error());
                }
                Action::Insert(route) => drop(self.change(|routes| routes.insert(name, route))),
                Action::Delete => drop(self.change(|routes| routes.remove(&name))),
            }
        }
    }

    fn begin(&mut self, action: Action, route: &Value, user: &str, request_id: &str) -> Value {
        let id = self.new_id();
        let text = |field: &str| route[field].as_str().unwrap_or_default().to_owned();
        let operation = Operation {
            id,
            name: format!("operation-{}-{id:x}", moment::unix(SystemTime::now())),
            warnings: if matches!(action, Action::Insert(_)) {
                route["warnings"].clone()
            } else {
                Value::Null
            },
            action,
            route: text("name"),
            route_id: text("id"),
            user: user.to_owned(),
            request_id: request_id.to_owned(),
            status: Status::Pending,
            accepted: Instant::now(),
            times: [Some(SystemTime::now()), None, None],
            error: None,
        };
        let shown = operation.shown();
        self.operations.push(operation);
        shown
    }

    /// What is being done about a route, by its name or number.
    fn busy(&self, key: &str) -> Option<Action> {
        let about = |operation: &&Operation| operation.route == key || operation.route_id == key;
        let busy = self.operations.iter().filter(|operation| !operation.is_done()).find(about);
        busy.map(|operation| operation.action.clone())
    }

    /// The operation of the same request that came before.
    fn known(&self, request_id: &str) -> Option<Value> {
        let same = |operation: &&Operation| !request_id.is_empty() && operation.request_id == request_id;
        self.operations.iter().find(same).map(Operation::shown)
    }

    fn too_many(&self) -> String {
        format!("Quota 'STATIC_ROUTES_PER_NETWORK' exceeded.  Limit: {}.0 globally.", self.limit)
    }

    fn quota_error(&self) -> Value {
        json!({
            "code": "QUOTA_EXCEEDED",
            "message": self.too_many(),
            "errorDetails": [{
                "quotaInfo": {
                    "metricName": "compute.googleapis.com/static_routes_per_network",
                    "limitName": "STATIC-ROUTES-PER-NETWORK-per-project",
                    "dimensions": { "global": "global", "network_id": super::NETWORK_ID.to_string() },
                    "limit": f64::from(u32::try_from(self.limit).unwrap_or(u32::MAX)),
                },
            }],
        })
    }
}
