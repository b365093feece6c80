//! The CNI plugin as a program of its own, for `/opt/cni/bin/flannel`.

use std::process::ExitCode;

fn main() -> ExitCode {
    flannel_cni::run_process()
}
