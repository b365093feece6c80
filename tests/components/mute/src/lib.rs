//! A plugin that does not answer the question who it is.

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "backend", generate_all });
}

use bindings::exports::flannel::backend::policy::{
    Change, Description, Guest, Lease, Node, Registration, Rejection,
};

struct Mute;

impl Guest for Mute {
    fn describe() -> Description {
        loop {
            std::hint::black_box(());
        }
    }

    fn register(_: Node, _: String) -> Result<Registration, String> {
        Err("it has described itself after all".to_owned())
    }

    fn lease_acquired(_: Lease) -> Result<(), String> {
        Ok(())
    }

    fn apply(_: Vec<Change>) -> Result<Vec<Rejection>, String> {
        Ok(Vec::new())
    }

    fn tick() -> Result<Option<u64>, String> {
        Ok(None)
    }
}

bindings::export!(Mute with_types_in bindings);
