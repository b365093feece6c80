//! `cloud`: requests that the host signs and sends, and what this machine is. Every request is checked against the plugin's grants
//! (`cloud_scope.rs`), and the time that others take is not the plugin's.

use std::time::{Duration, Instant};

use flannel_cloud::{Answer, Failure, Method, NetworkInterface, Operation, Provider, Request};

use super::HostState;
use crate::bindings::flannel::backend::cloud as wit;
use crate::bindings::flannel::backend::types;
use crate::call::Function;
use crate::convert;

/// Time that the clouds may take for all that one tick asks for.
const TICK: Duration = Duration::from_mins(1);
/// Time for one of these requests, with all repetitions.
const REQUEST: Duration = Duration::from_secs(30);
/// Requests of a tick.
const REQUESTS: u32 = 64;
/// Parameters of a request, and characters of their names and values.
const PARAMETERS: (usize, usize, usize) = (256, 256, 16 << 10);
/// Characters of names and paths.
const NAME: usize = 256;
/// Bytes of a body.
const BODY: usize = 256 << 10;

/// A request to a cloud or an endpoint that has ended, for those who count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudRecord {
    /// Whose cloud, or `http:` and the endpoint's name.
    pub provider: String,
    /// The operation, as the grant or the entry of `allow` has it that allowed it, or `describe-instance`.
    pub operation: String,
    /// The status of the answer; none: there was no answer.
    pub status: Option<u16>,
    /// How long it took, with all repetitions.
    pub took: Duration,
    /// How often it was sent; 0: not known.
    pub attempts: u32,
}

impl wit::Host for HostState {
    fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, wit::Error>> {
        self.enter("cloud.send")?;
        let asked = request_of(request).and_then(|request| {
            let label = self.is_granted(&request)?;
            Ok((request, label))
        });
        let outcome = asked.and_then(|(request, label)| {
            let provider = request.provider.to_string();
            let answer = self.wait_for(provider, label, |host, deadline| {
                counted(host.environment.clouds.send(&request, deadline))
            })?;
            self.routes_seen.learn(&request, &answer);
            let Answer { status, headers, body, attempts } = answer;
            Ok(wit::Response { status, headers, body, attempts })
        });
        Ok(self.doomed_by("cloud.send", outcome))
    }

    fn describe_instance(&mut self, provider: String) -> wasmtime::Result<Result<wit::Instance, wit::Error>> {
        self.enter("cloud.describe-instance")?;
        let provider = match provider_of(&provider) {
            Ok(provider) => provider,
            Err(failure) => return Ok(self.doomed_by("cloud.describe-instance", Err(failure))),
        };
        let instance =
            self.wait_for(provider.to_string(), "describe-instance".to_owned(), |host, deadline| {
                let instance = host.environment.clouds.instance(provider, deadline);
                let status = instance.is_ok().then_some(200);
                (instance, (status, 0))
            });
        Ok(self.doomed_by("cloud.describe-instance", instance.map(instance_out)))
    }
}

impl HostState {
    /// Asks others for the plugin, which is counted.
    pub(super) fn wait_for<T>(
        &mut self,
        provider: String,
        operation: String,
        ask: impl FnOnce(&Self, Instant) -> (Result<T, Failure>, (Option<u16>, u32)),
    ) -> Result<T, Failure> {
        self.is_in_tick()?;
        if self.call.cloud_requests >= REQUESTS {
            return Err(Failure::Denied(format!(
                "a tick has at most {REQUESTS} requests: leave the rest to the next"
            )));
        }
        self.call.cloud_requests += 1;
        let begun = Instant::now();
        let (outcome, (status, attempts)) = self.aside(ask)?;
        self.cloud_records.push(CloudRecord { provider, operation, status, took: begun.elapsed(), attempts });
        outcome
    }

    fn is_in_tick(&self) -> Result<(), Failure> {
        if let Function::Tick | Function::Retire = self.call.function {
            return Ok(());
        }
        let now = self.call.function.name();
        Err(Failure::Denied(format!("clouds are asked in tick, and this is {now}")))
    }

    /// Asks others, outside of the plugin's own time.
    pub(super) fn aside<T>(&mut self, ask: impl FnOnce(&Self, Instant) -> T) -> Result<T, Failure> {
        self.is_in_tick()?;
        let begun = Instant::now();
        let end = *self.call.cloud_end.get_or_insert(begun + TICK);
        if begun >= end {
            let seconds = TICK.as_secs();
            return Err(Failure::Unreachable(format!(
                "the {seconds} s that clouds have in one tick are over"
            )));
        }
        Ok(self.outside(|host| ask(host, end.min(begun + REQUEST))))
    }

    /// Requests that are wrong doom the call, and bad news from outside does not.
    pub(super) fn doomed_by<T, E: From<Failure>>(
        &mut self,
        capability: &str,
        outcome: Result<T, Failure>,
    ) -> Result<T, E> {
        outcome.map_err(|failure| {
            if matches!(failure, Failure::Invalid(_) | Failure::Denied(_)) && self.call.refused.is_none() {
                self.call.refused = Some(format!("{capability}: {failure}"));
            }
            failure.into()
        })
    }
}

impl From<Failure> for wit::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(text) => Self::Invalid(text),
            Failure::Denied(text) => Self::Denied(text),
            Failure::Credentials(text) => Self::Credentials(text),
            Failure::Unreachable(text) => Self::Unreachable(text),
        }
    }
}

/// What came of a request, with what is counted of it.
pub(super) fn counted(answer: Result<Answer, Failure>) -> (Result<Answer, Failure>, (Option<u16>, u32)) {
    let figures = answer.as_ref().map_or((None, 0), |answer| (Some(answer.status), answer.attempts));
    (answer, figures)
}

fn provider_of(name: &str) -> Result<Provider, Failure> {
    convert::shown(name, 80).parse().map_err(|error| Failure::Invalid(format!("the provider {error}")))
}

/// A request, checked.
fn request_of(request: wit::Request) -> Result<Request, Failure> {
    let wit::Request { provider, service, version, region, operation, idempotent } = request;
    let provider = provider_of(&provider)?;
    let wrong = |what: &str, text: &str, right: &str| {
        Err(Failure::Invalid(format!("the {what} {:?}: {right}", convert::shown(text, 80))))
    };
    for (what, text) in [("service", Some(&service)), ("region", region.as_ref())] {
        if let Some(text) = text.filter(|text| !flannel_cloud::is_label(text)) {
            return wrong(what, text, "1 to 63 of a-z, 0-9, `-`");
        }
    }
    let is_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if version.is_empty() || version.len() > 64 || !version.chars().all(is_version) {
        return wrong("version", &version, "such as 2016-11-15 or v1");
    }
    let operation = match operation {
        wit::Operation::Action(wit::Action { name, parameters }) => {
            if name.is_empty() || name.len() > NAME || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return wrong("action", &name, "letters and digits");
            }
            Operation::Action { name, parameters: parameters_of(parameters)? }
        }
        wit::Operation::Rest(wit::Rest { method, path, query, body }) => {
            if !is_path(&path) {
                return wrong(
                    "path",
                    &path,
                    "segments of A-Z, a-z, 0-9, `-`, `_`, `.`, `~`, `:`, with slashes between them",
                );
            }
            if let Some(body) = &body {
                if body.len() > BODY {
                    return Err(Failure::Invalid(format!("a body of {} bytes; at most {BODY}", body.len())));
                }
                if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(body) {
                    return Err(Failure::Invalid(format!("the body is not JSON: {error}")));
                }
            }
            let method = match method {
                wit::Method::Get => Method::Get,
                wit::Method::Post => Method::Post,
                wit::Method::Put => Method::Put,
                wit::Method::Patch => Method::Patch,
                wit::Method::Delete => Method::Delete,
            };
            Operation::Rest { method, path, query: parameters_of(query)?, body }
        }
    };
    if !fits(provider, &operation) {
        let right = if provider == Provider::Google { "a REST call" } else { "an action" };
        return Err(Failure::Invalid(format!(
            "{provider} has {right} in each request, and {operation} is none"
        )));
    }
    let request = Request { provider, service, version, region, operation, idempotent };
    request.check()?;
    Ok(request)
}

fn parameters_of(parameters: Vec<(String, String)>) -> Result<Vec<(String, String)>, Failure> {
    let (most, name_length, value_length) = PARAMETERS;
    if parameters.len() > most {
        return Err(Failure::Invalid(format!("{} parameters; at most {most}", parameters.len())));
    }
    let proper = |name: &str| name.bytes().all(|b| b.is_ascii_graphic());
    for (name, value) in &parameters {
        if name.is_empty() || name.len() > name_length || !proper(name) || value.len() > value_length {
            let (name, length) = (convert::shown(name, 80), value.len());
            return Err(Failure::Invalid(format!(
                "the parameter {name:?} with {length} bytes: its name has 1 to {name_length} visible characters, and its value at most {value_length}"
            )));
        }
    }
    Ok(parameters)
}

fn is_path(path: &str) -> bool {
    let proper = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':');
    let segment = |text: &str| !text.is_empty() && text != "." && text != ".." && text.bytes().all(proper);
    path.len() <= NAME * 4 && path.split('/').all(segment)
}

fn instance_out(instance: flannel_cloud::Instance) -> wit::Instance {
    let flannel_cloud::Instance { id, name, region, zone, account, interfaces } = instance;
    let interfaces = interfaces.into_iter().map(interface_out).collect();
    wit::Instance { id, name, region, zone, account, interfaces }
}

fn interface_out(interface: NetworkInterface) -> wit::NetworkInterface {
    let NetworkInterface { id, mac, addresses, subnet, network } = interface;
    let addresses: Vec<types::IpAddress> = addresses.into_iter().map(convert::address_out).collect();
    wit::NetworkInterface { id, mac: mac.map(convert::mac_out), addresses, subnet, network }
}

/// Whether an operation is of the kind that a provider has.
fn fits(provider: Provider, operation: &Operation) -> bool {
    matches!(
        (provider, operation),
        (Provider::Aws | Provider::Alibaba | Provider::Tencent, Operation::Action { .. })
            | (Provider::Google, Operation::Rest { .. })
    )
}
