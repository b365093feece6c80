//! Namespaces, and the ways of making rules.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::tool::Tools;
use crate::{Firewall, Mode, Rules};

/// Runs a test on a thread in a new network namespace. Programs and tasks are started on this one thread, and so in the
/// namespace.
pub(super) fn in_namespace<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let outcome = std::thread::spawn(move || {
        unshare();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(test())
    })
    .join();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Puts the calling thread in a network namespace of its own.
pub(super) fn unshare() {
    // SAFETY: only the network namespace changes, and only this thread's; no memory or descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect(
        "a network namespace: run the tests as root, or under `unshare --user --map-root-user --net`",
    );
    run("ip", "link set lo up");
}

/// Runs a program that has to succeed.
pub(super) fn run(program: &str, arguments: &str) -> String {
    run_with(program, arguments, "").unwrap_or_else(|said| panic!("{program} {arguments}: {said}"))
}

/// Runs a program; what it said on standard error if it fails.
pub(super) fn run_with(program: &str, arguments: &str, input: &str) -> Result<String, String> {
    let mut arguments = arguments.split_whitespace().collect::<Vec<_>>();
    // The one text with a space that is needed.
    let (spaced, plain) = ("flanneld masq", "flanneld-masq");
    arguments.iter_mut().filter(|word| **word == plain).for_each(|word| *word = spaced);
    let mut child = Command::new(program)
        .args(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    // A program that does not want to read does not.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes());
    let output = child.wait_with_output().expect("a program's end");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A way of making rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Nftables,
    IptablesNft,
    IptablesLegacy,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nft",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        })
    }
}

impl Way {
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Nftables => Mode::Nftables,
            Self::IptablesNft | Self::IptablesLegacy => Mode::Iptables,
        }
    }

    pub(super) fn tools(self) -> Tools {
        let variant = match self {
            Self::Nftables | Self::IptablesNft => "-nft",
            Self::IptablesLegacy => "-legacy",
        };
        Tools { variant, path: None }
    }

    /// Without notifications it takes time to notice changes.
    pub(super) fn resync(self) -> Duration {
        if self == Self::IptablesLegacy { Duration::from_millis(50) } else { super::NEVER }
    }

    pub(super) async fn start(self, rules: Rules) -> Firewall {
        let started = Firewall::start_with(self.tools(), self.mode(), rules, self.resync()).await;
        let firewall = started.unwrap_or_else(|error| panic!("{self}: {error}"));
        let status = firewall.status();
        assert!(status.ok && status.last_error.is_none(), "{self}: {status:?}");
        firewall
    }

    /// All rules that there are of this way's kind, ours and others', with what changes when a rule is made anew: handles,
    /// or counters.
    pub(super) fn everything(self) -> String {
        if self != Self::IptablesLegacy {
            return run("nft", "-a list ruleset");
        }
        let saved = run("iptables-legacy-save", "-c") + "\n" + &run("ip6tables-legacy-save", "-c");
        saved.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }

    /// What a person is shown.
    pub(super) fn shown(self) -> String {
        if self == Self::Nftables {
            // One by one: in a list of all, the table that was made last comes last.
            let table = |name| run_with("nft", &format!("list table {name}"), "").unwrap_or_default() + "\n";
            return ["ip flannel-ipv4", "ip6 flannel-ipv6"].map(table).concat();
        }
        let mut shown = String::new();
        for (program, chains) in [("iptables", 2), ("ip6tables", 2)] {
            for (table, hook, chain) in
                [("nat", "POSTROUTING", "FLANNEL-POSTRTG"), ("filter", "FORWARD", "FLANNEL-FWD")]
                    .iter()
                    .take(chains)
            {
                let program = format!("{program}{}", self.tools().variant);
                for name in [hook, chain] {
                    let listed = run_with(&program, &format!("-t {table} -S {name}"), "");
                    shown += &(listed.unwrap_or_default() + "\n");
                }
            }
        }
        shown
    }

    /// Why rules cannot be had here; nothing if they can.
    fn obstacle(self) -> Option<&'static str> {
        static OBSTACLES: [OnceLock<Option<String>>; 3] = [const { OnceLock::new() }; 3];
        let obstacle = OBSTACLES[self as usize].get_or_init(|| {
            std::thread::spawn(move || {
                unshare();
                let (program, arguments, input) = match self {
                    Self::Nftables => (
                        "nft",
                        "-f -",
                        "table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }",
                    ),
                    Self::IptablesNft => ("iptables-nft-restore", "--noflush", PROBE),
                    Self::IptablesLegacy => ("iptables-legacy-restore", "--noflush", PROBE),
                };
                run_with(program, arguments, input).err()
            })
            .join()
            .expect("a probe")
        });
        obstacle.as_deref()
    }
}

const PROBE: &str = r#"*nat
:PROBE - [0:0]
-A PROBE -m mark --mark 0x4000/0x4000 -m comment --comment "a probe" -j MASQUERADE --random-fully
COMMIT
*filter
:PROBE - [0:0]
COMMIT
"#;

/// Those that this machine has. Others are skipped, with a line that says why.
pub(super) fn ways() -> Vec<Way> {
    let all = [Way::Nftables, Way::IptablesNft, Way::IptablesLegacy];
    all.into_iter()
        .filter(|way| match way.obstacle() {
            None => true,
            Some(reason) => {
                flannel_test_support::skip(format_args!("no rules by {way} here: {reason}"));
                false
            }
        })
        .collect()
}

/// Runs a test for each way, in namespaces of their own.
pub(super) fn each_way(test: impl AsyncFnOnce(Way) + Copy + Send + 'static) {
    for way in ways() {
        in_namespace(async move || test(way).await);
    }
}

/// Waits for something to become true.
pub(super) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}
