//! The calls of Compute Engine's API, version 1. All that only read may be repeated; those that change something have an id by which
//! the cloud knows a repetition.

use flannel_backend::clock;
use flannel_backend::cloud::{self, Method, Provider, Request, Response};
use flannel_backend::serde_json::{self, Value};

use super::operation::Action;
use super::place::Place;
use super::refusal::Refusal;
use super::route::Route;

/// Pages of a list that are read at most: 10,000 routes.
const PAGES: usize = 20;

/// What a project has.
pub struct Project<'p>(&'p str);

impl<'p> Project<'p> {
    /// By its id.
    pub fn new(id: &'p str) -> Self {
        Self(id)
    }

    /// An instance; none: there is none.
    pub fn instance(&self, zone: &str, name: &str) -> Result<Option<Value>, Refusal> {
        self.get(&format!("zones/{zone}/instances/{name}"))
    }

    /// An operation; none: the cloud does not know it any more.
    pub fn operation(&self, name: &str) -> Result<Option<Value>, Refusal> {
        self.get(&format!("global/operations/{name}"))
    }

    /// A route; none: there is none.
    pub fn route(&self, name: &str) -> Result<Option<Route>, String> {
        let doing = || format!("read route {name}");
        let found =
            self.get(&format!("global/routes/{name}")).map_err(|refusal| refusal.text(&doing(), ""))?;
        let read = |value: Value| {
            Route::read(&value).ok_or_else(|| format!("cannot {}: it makes no sense", doing()))
        };
        found.map(read).transpose()
    }

    /// The routes whose next hop is an instance.
    pub fn routes_to(&self, place: &Place) -> Result<Vec<Route>, String> {
        let filter = format!("nextHopInstance eq \".*/zones/{}/instances/{}\"", place.zone, place.name);
        let found = self.list(&[("filter", &filter)]).map_err(|refusal| refusal.text("list routes", ""))?;
        Ok(found.iter().filter_map(Route::read).collect())
    }

    /// How many routes the own network has, in words.
    pub fn count(&self, place: &Place) -> Result<String, Refusal> {
        let all = self.list(&[])?;
        let routes: Vec<Route> = all.iter().filter_map(Route::read).collect();
        let own: Vec<&Route> = routes.iter().filter(|route| route.is_static_in(place)).collect();
        let flannels = own.iter().filter(|route| route.name.starts_with(super::route::PREFIX)).count();
        let (network, routes) = (place.network_name(), own.len());
        Ok(format!("network {network} has {routes} static routes, {flannels} of them flannel's"))
    }

    /// Makes a route. Answers the operation's name.
    pub fn insert(&self, route: &Value, action: &Action) -> Result<String, Refusal> {
        let request = self.request(Method::Post, "global/routes").body(route.to_string());
        self.begin(request, action)
    }

    /// Removes a route. Answers the operation's name.
    pub fn delete(&self, id: &str, action: &Action) -> Result<String, Refusal> {
        self.begin(self.request(Method::Delete, &format!("global/routes/{id}")), action)
    }

    fn begin(&self, request: Request, action: &Action) -> Result<String, Refusal> {
        let request =
            request.query(&[("requestId", &request_id(&format!("{} {action:?}", self.0)))]).idempotent();
        let operation = read(&cloud::send(&request)?)?;
        let name = operation["name"].as_str().filter(|name| !name.is_empty());
        name.map(ToOwned::to_owned).ok_or_else(|| Refusal::nonsense("an operation without a name"))
    }

    fn get(&self, path: &str) -> Result<Option<Value>, Refusal> {
        match read(&cloud::send(&self.request(Method::Get, path).idempotent())?) {
            Ok(found) => Ok(Some(found)),
            Err(refusal) if refusal.is_not_found() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn list(&self, query: &[(&str, &str)]) -> Result<Vec<Value>, Refusal> {
        let (mut items, mut token) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let mut request = self.request(Method::Get, "global/routes").query(query).idempotent();
            if !token.is_empty() {
                request = request.query(&[("pageToken", &token)]);
            }
            let mut page = read(&cloud::send(&request)?)?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            match page["nextPageToken"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => break,
            }
        }
        Ok(items)
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::rest(Provider::Google, "compute", "v1", method, format!("projects/{}/{path}", self.0))
    }
}

/// What an answer has, if it is a good one.
fn read(answer: &Response) -> Result<Value, Refusal> {
    if !(200..300).contains(&answer.status) {
        return Err(Refusal::read(answer));
    }
    serde_json::from_str(&answer.body).map_err(|_| Refusal::nonsense("an answer that is no JSON"))
}

/// An id for a request to change something, in the form that the API wants (RFC 9562, version 4). It has to be another one for each
/// request, which the time sees to, and on each node, which what is asked for sees to; nobody has to be unable to guess it.
fn request_id(about: &str) -> String {
    let seed = format!("{about} {} {}", clock::wall().as_millis(), clock::monotonic().as_nanos());
    // FNV-1a, 128 bits.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in seed.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let hash = hash & !(0xf << 76) & !(0xc << 60) | (0x4 << 76) | (0x8 << 60);
    let digits = format!("{hash:032x}");
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_of_version_4_and_differ() {
        let ids = ["a", "b"].map(request_id);
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        }
    }
}
