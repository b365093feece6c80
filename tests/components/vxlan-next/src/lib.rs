//! Another build of the vxlan plugin: its code is another one, and what it declares for IPv4 is the same.

mod policy;

flannel_backend::export!(policy::Vtep::<false>);
