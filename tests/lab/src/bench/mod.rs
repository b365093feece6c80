//! What `cargo xtask bench` measures. Figures of one run belong together; those of different runs, on machines that do other
//! things besides, do not.

mod change;
mod kubernetes;
mod policy;
mod scale;
mod swap;
mod tunnel;

pub use change::{Change, echo_requests, of_daemons, of_leases, of_reference};
pub use kubernetes::{Daemon, Kubernetes, KubernetesOptions, kubernetes};
pub use policy::{Native, native};
pub use scale::{Scale, ScaleOptions, scale};
pub use swap::{Swap, swap};
pub use tunnel::{Iperf3, TunnelFigures, TunnelOptions, tunnel};

use std::time::Duration;

/// Milliseconds, to a hundredth.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}
