//! Signals that somebody sends by mistake.

use anyhow::Result;
use flannel_lab::log::LogLine;
use flannel_lab::{DaemonOptions, Lab, Store, Underlay};

/// What Go's runtime catches without doing anything; for the first and the last of the real-time signals `kill` has no name.
const STRAYS: [&str; 12] =
    ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "XCPU", "XFSZ", "34", "64"];

#[test]
fn stray_signals_end_no_daemon_and_are_said_once() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    let mut daemon = lab.node(0).start(&DaemonOptions::new(&store, None, None)?)?;
    daemon.wait_log("that there is no config", |line| line.message().contains("no network config"))?;
    let shown = |number: &str| match number {
        "34" => "SIGRTMIN+0".to_owned(),
        "64" => "SIGRTMIN+30".to_owned(),
        name => format!("SIG{name}"),
    };
    let is_of = |line: &LogLine, name: &str| line.field("signal").as_str() == Some(&shown(name));
    for name in STRAYS {
        for _ in 0..2 {
            lab.node(0).namespace().tool("kill", &format!("-{name} {}", daemon.pid()))?;
            daemon.wait_log(&format!("{name} has no effect"), |line| is_of(line, name))?;
        }
    }
    assert!(daemon.runs()?);
    for name in STRAYS {
        let lines = daemon.log().lines();
        let count = lines.iter().filter(|line| is_of(line, name)).count();
        assert_eq!(count, 1, "{name}: {}", daemon.log().tail());
    }
    assert!(daemon.terminate()?.success());
    Ok(())
}
