//! What `cargo xtask bench` measures. Figures of one run belong together; those of different runs, on machines that do other
//! things besides, do not.

mod arrival;

pub use arrival::{Arrival, ArrivalOptions, arrival};
