//! What wasmtime makes of the contract in `wit/`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, unused_qualifications)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "backend",
    imports: { default: trappable },
    with: { "flannel:backend/links.link": super::capability::LinkHandle },
});

/// What a plugin exports besides its policy that has something to remove when its backend ends.
pub(crate) mod retirement {
    wasmtime::component::bindgen!({ path: "../../wit", world: "retiring-backend" });
}

/// What a plugin that asks clouds exports besides its policy.
pub(crate) mod cloud_permissions {
    wasmtime::component::bindgen!({ path: "../../wit", world: "cloud-backend" });
}
