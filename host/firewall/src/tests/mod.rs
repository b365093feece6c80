//! The rules as texts, in the kernel, and as packets meet them. Those with a kernel are in a network namespace of each
//! test's own, and need the right to make one, and the programs `iptables` and `nft`.

mod golden;
mod kernel;
mod lab;
mod programs;
mod sources;

use std::time::Duration;

use super::{FamilyRules, Rules};

/// So long that nothing in a test is due to it.
const NEVER: Duration = Duration::from_hours(24);

fn networks(cluster: &str, subnet: &str) -> FamilyRules {
    FamilyRules { cluster: cluster.parse().expect("network"), subnet: subnet.parse().expect("network") }
}

fn ipv4() -> FamilyRules {
    networks("10.5.0.0/16", "10.5.72.0/24")
}

fn ipv6() -> FamilyRules {
    networks("fc00:5::/48", "fc00:5:0:72::/64")
}

/// Everything, for both families.
fn everything() -> Rules {
    Rules {
        families: vec![ipv4(), ipv6()],
        masquerade: true,
        random_fully: true,
        forward: true,
        ..Rules::default()
    }
}
