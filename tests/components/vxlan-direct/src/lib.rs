//! A vxlan plugin of another policy: peers on the same link get direct routes, whatever the network config says. What it publishes
//! is the same.

#[path = "../../vxlan-next/src/policy.rs"]
mod policy;

flannel_backend::export!(policy::Vtep::<true>);
