//! Leases in, nothing out.

use flannel_backend::testing::samples;
use flannel_backend::testing::{Bench, taken};

use super::AllocPolicy;

#[test]
fn nothing_is_declared_and_no_type_is_published() {
    let node = samples::node(true, true);
    let mut bench = Bench::<AllocPolicy>::register(&node, r#"{"Type":"alloc"}"#).expect("registers");
    assert_eq!((bench.registration.mtu, bench.registration.backend_type.as_str()), (1500, ""));
    assert_eq!(bench.lease_acquired(&samples::own()).expect("leased"), [""; 0]);
    assert_eq!(bench.put(1, &samples::peer("vxlan")).expect("served"), [""; 0]);
    assert_eq!(taken(), [""; 0]);
}
