//! `--keep`: all goes on running, and one can look inside.

use super::narrator::Narrator;
use crate::interrupt::Interrupt;
use crate::{Cluster, Namespace, privileges};

/// Says how to look inside, and waits for Ctrl-C.
pub fn until_interrupted(narrator: &Narrator, cluster: &Cluster, interrupt: &Interrupt) {
    narrator.say("\nAll is left running. To look inside:\n");
    for (index, node) in cluster.lab().nodes().iter().enumerate() {
        narrator.say(&format!("  {:<6} {} ip route", node.name(), enter(node.namespace())));
        if let Ok(pod) = cluster.pod(index) {
            let addresses: Vec<String> = pod.addresses().iter().map(ToString::to_string).collect();
            narrator.say(&format!(
                "  {:<6} {} ip address   # {}",
                "  pod",
                enter(pod.namespace()),
                addresses.join(", ")
            ));
        }
    }
    narrator.say(&format!("\nLogs and leases: {}\nCtrl-C ends it.", cluster.lab().directory().display()));
    interrupt.wait();
}

fn enter(namespace: &Namespace) -> String {
    let user = if privileges::in_user_namespace() {
        format!("--target {} --user --preserve-credentials ", std::process::id())
    } else {
        String::new()
    };
    format!("nsenter {user}--net={}", namespace.path().display())
}
