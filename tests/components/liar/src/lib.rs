//! A plugin that breaks the contract where the SDK would not let it: `Do` in its options says how.

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "backend", generate_all });
}

use std::sync::Mutex;

use bindings::exports::flannel::backend::policy::{
    Change, Description, Guest, Lease, Node, Registration, Rejection,
};
use bindings::flannel::backend::clock;
use bindings::flannel::backend::links::{self, IpPrefix, Link};
use bindings::flannel::backend::routes::{self, Route};
use bindings::flannel::backend::types::{IpAddress, PeerId};

static DEED: Mutex<String> = Mutex::new(String::new());

struct Liar;

impl Guest for Liar {
    fn describe() -> Description {
        let backend_types = vec!["hostile".to_owned()];
        Description { name: "liar".to_owned(), version: "0.0.0".to_owned(), backend_types }
    }

    fn register(_: Node, config: String) -> Result<Registration, String> {
        let deed = config.split("\"Do\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let mut place = DEED.lock().map_err(|error| error.to_string())?;
        deed.unwrap_or_default().clone_into(&mut place);
        // No two starts are at the same time.
        let start = clock::monotonic();
        let backend_type =
            if *place == "other-type" { format!("hostile-{start}") } else { "hostile".to_owned() };
        let backend_data = (*place == "other-data").then(|| start.to_string());
        Ok(Registration { backend_type, backend_data, backend_v6_data: None, mtu: 1450 })
    }

    fn lease_acquired(_: Lease) -> Result<(), String> {
        Ok(())
    }

    fn apply(changes: Vec<Change>) -> Result<Vec<Rejection>, String> {
        let deed = DEED.lock().map_err(|error| error.to_string())?.clone();
        let mut rejections = Vec::new();
        for change in changes {
            let Change::Put((peer, lease)) = change else { continue };
            put(peer, &lease, &deed);
            let reason = "it says so".to_owned();
            match deed.as_str() {
                "other-type" | "other-data" => assert_ne!(peer, 3, "this peer is too much"),
                "reject-stranger" => rejections.push(Rejection { peer: peer + 1_000_000, reason }),
                "reject-twice" => {
                    rejections.push(Rejection { peer, reason: reason.clone() });
                    rejections.push(Rejection { peer, reason });
                }
                "reject-with-a-book" => rejections.push(Rejection { peer, reason: "no\n".repeat(1 << 20) }),
                _ => {}
            }
        }
        Ok(rejections)
    }

    fn tick() -> Result<Option<u64>, String> {
        Ok(Some(0))
    }
}

fn put(peer: PeerId, lease: &Lease, deed: &str) {
    let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return };
    let link = links::external();
    let device = match deed {
        "dropped-handle" => {
            let number = link.handle();
            drop(link);
            // SAFETY: memory is not touched: the handle is the host's, which has to notice.
            unsafe { Link::from_handle(number) }
        }
        // SAFETY: as above.
        "invented-handle" => unsafe { Link::from_handle(4711) },
        _ => link,
    };
    let via = IpAddress::Ipv4(public);
    let route = match deed {
        "prefix-of-200" => {
            IpPrefix::Ipv4(bindings::flannel::backend::types::Ipv4Prefix { length: 200, ..subnet })
        }
        _ => IpPrefix::Ipv4(subnet),
    };
    let _ = routes::put(peer, Route { destination: route, via, onlink: false }, &device);
    if deed == "dropped-handle" || deed == "invented-handle" {
        // A second drop would trap first.
        std::mem::forget(device);
    }
}

bindings::export!(Liar with_types_in bindings);
