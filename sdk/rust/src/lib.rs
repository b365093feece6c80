//! What the author of a flanneld backend in Rust depends on.
//!
//! A backend is a *policy*: leases in, entries out. Implement [`Policy`], export it with [`export!`], build the crate as a
//! `cdylib` for `wasm32-unknown-unknown`, and make a component of it (`cargo xtask plugins` in this repository). The
//! capabilities are plain functions in [`links`], [`routes`], [`neighbours`], [`fdb`], [`wireguard`], [`ipsec`], [`udp_tunnel`], [`cloud`], [`http`], [`commands`], [`node_info`], [`log`],
//! [`metrics`], [`own_lease`], [`peers`], [`policy_routing`], [`probe`], [`tunnel_links`], [`clock`] and [`state`]. A
//! component imports only those that it calls, and is granted nothing else.
//!
//! ```
//! use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Route, links, routes};
//!
//! /// Packets for a peer's subnet go to the peer, which is on the same link.
//! struct Direct;
//!
//! impl Policy for Direct {
//!     const NAME: &'static str = "direct";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     const BACKEND_TYPES: &'static [&'static str] = &["direct"];
//!
//!     fn register(node: &Node, _config: &Config) -> Result<(Self, Registration), String> {
//!         let registration =
//!             Registration { backend_type: "direct".into(), mtu: node.external.mtu, ..Registration::default() };
//!         Ok((Self, registration))
//!     }
//!
//!     fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
//!         if lease.backend_type != Self::NAME {
//!             return Ok(());
//!         }
//!         let (Some(subnet), Some(gateway)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
//!         let route = Route { destination: subnet.into(), via: gateway.into(), onlink: false };
//!         Ok(routes::put(peer, &route, &links::external())?)
//!     }
//! }
//!
//! flannel_backend::export!(Direct);
//! # fn main() {}
//! ```
//!
//! Outside of WebAssembly the same functions write into a record, which is how a policy is tested without a host and
//! without root: see [`testing`].

mod answer;
mod convert;
mod glue;
mod policy;
mod types;

pub mod clock;
pub mod cloud;
pub mod commands;
pub mod config;
pub mod fdb;
pub mod http;
pub mod ipsec;
pub mod links;
pub mod log;
pub mod metrics;
pub mod neighbours;
pub mod node_info;
pub mod own_lease;
pub mod peers;
pub mod policy_routing;
pub mod probe;
pub mod routes;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod tunnel_links;
pub mod udp_tunnel;
pub mod wireguard;

pub use config::Config;
pub use links::{Ipip, Link, Vxlan};
pub use policy::{Policy, Retire};
pub use routes::Route;
pub use types::{Error, ExternalInterface, Family, Lease, Mac, Node, PeerId, Registration};

pub use ipnet;
pub use serde_json;

/// For the macro and for the glue; not for authors.
#[doc(hidden)]
pub mod bindings {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::undocumented_unsafe_blocks,
        unused_qualifications
    )]
    wit_bindgen::generate!({
        path: "wit",
        world: "backend",
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "flannel_backend::bindings",
    });
}

/// The same for plugins that ask clouds.
#[doc(hidden)]
pub mod permissions_bindings {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::undocumented_unsafe_blocks,
        unused_qualifications
    )]
    wit_bindgen::generate!({
        path: "wit",
        world: "cloud-backend",
        pub_export_macro: true,
        export_macro_name: "export_permissions",
        default_bindings_module: "flannel_backend::permissions_bindings",
    });
}

/// The same for plugins that have something to remove when their backend ends.
#[doc(hidden)]
pub mod retirement_bindings {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::undocumented_unsafe_blocks,
        unused_qualifications
    )]
    wit_bindgen::generate!({
        path: "wit",
        world: "retiring-backend",
        pub_export_macro: true,
        export_macro_name: "export_retirement",
        default_bindings_module: "flannel_backend::retirement_bindings",
    });
}

#[doc(hidden)]
pub use glue::{CloudPermissions, Guest, PermissionsGuest, RetirementGuest};

/// Exports what a [`Policy`] does when its backend ends, which is its [`Retire`]; beside [`export!`].
#[macro_export]
macro_rules! retirement {
    ($policy:ty) => {
        const _: () = {
            type Component = $crate::RetirementGuest<$policy>;
            #[cfg(target_family = "wasm")]
            $crate::retirement_bindings::export_retirement!(Component with_types_in $crate::retirement_bindings);
            #[cfg(not(target_family = "wasm"))]
            const _: ::core::marker::PhantomData<Component> = ::core::marker::PhantomData;
        };
    };
}

/// Declares what the component may ask of clouds, as a list of [`cloud::RequiredOperation`]; beside [`export!`].
#[macro_export]
macro_rules! cloud_permissions {
    ($required:expr) => {
        const _: () = {
            pub struct Required;

            impl $crate::CloudPermissions for Required {
                const REQUIRED: &'static [$crate::cloud::RequiredOperation] = $required;
            }

            type Component = $crate::PermissionsGuest<Required>;
            #[cfg(target_family = "wasm")]
            $crate::permissions_bindings::export_permissions!(Component with_types_in $crate::permissions_bindings);
            #[cfg(not(target_family = "wasm"))]
            const _: ::core::marker::PhantomData<Component> = ::core::marker::PhantomData;
        };
    };
}

/// Exports a [`Policy`] as the component's.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        const _: () = {
            type Component = $crate::Guest<$policy>;

            impl $crate::Instance for $policy {
                fn with<T>(run: impl FnOnce(&mut Option<Self>) -> T) -> T {
                    thread_local! {
                        static POLICY: ::core::cell::RefCell<Option<$policy>> = const { ::core::cell::RefCell::new(None) };
                    }
                    POLICY.with_borrow_mut(run)
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::bindings::export_policy!(Component with_types_in $crate::bindings);
            #[cfg(not(target_family = "wasm"))]
            const _: ::core::marker::PhantomData<Component> = ::core::marker::PhantomData;
        };
    };
}

#[doc(hidden)]
pub use glue::Instance;
