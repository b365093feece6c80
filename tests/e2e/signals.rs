//! Signals that somebody sends by mistake.

use anyhow::Result;
use flannel_lab::log::LogLine;
use flannel_lab::{Daemon, DaemonOptions, Lab, Store, Underlay};

/// What Go's runtime catches without doing anything.
const STRAYS: [&str; 12] =
    ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "XCPU", "XFSZ", "34", "64"];

#[test]
fn stray_signals_end_no_daemon_and_are_said_once() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    let mut daemon = lab.node(0).start(&DaemonOptions::new(&store, None, None)?)?;
    daemon.wait_log("that there is no config", |line| line.message().contains("no network config"))?;
    let said = |name: &str, daemon: &Daemon| {
        let is_it = |line: &LogLine| {
            line.message().contains("a signal without effect")
                && line.field("signal").as_str().is_some_and(|signal| signal.contains(name))
        };
        daemon.log().lines().iter().filter(|line| is_it(line)).count()
    };
    for name in STRAYS {
        // The first and the last of the real-time signals, for which `kill` has no name.
        let logged = match name {
            "34" => "SIGRTMIN+0",
            "64" => "SIGRTMIN+30",
            name => name,
        };
        for _ in 0..2 {
            lab.node(0).namespace().tool("kill", &format!("-{name} {}", daemon.pid()))?;
            let what = format!("{name} has no effect");
            daemon
                .wait_log(&what, |line| line.field("signal").as_str().is_some_and(|s| s.contains(logged)))?;
        }
    }
    assert!(daemon.runs()?);
    for name in ["USR1", "USR2", "ALRM"] {
        assert_eq!(said(name, &daemon), 1, "{name}: {}", daemon.log().tail());
    }
    assert!(daemon.terminate()?.success());
    Ok(())
}
