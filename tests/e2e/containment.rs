//! What a plugin's file may cost the process that loads it: it is refused by what can be seen of it, or stopped while it is compiled, and
//! neither memory nor packets are lost over it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use flannel_lab::ping_probe::{INTERVAL, Mark};
use flannel_lab::{Cluster, ClusterOptions, Echo, Prober, artifacts, wait};
use tempfile::TempDir;

/// Bytes by which the daemon may have grown over it: less than what each of these would cost.
const ROOM: u64 = 128 << 20;

/// A component that exports what a policy does, by name, and has something else in it.
fn policy_with(inside: &str) -> String {
    format!(r#"(component (instance $p) (export "flannel:backend/policy@0.1.0" (instance $p)) {inside})"#)
}

/// Many loops inside of each other, which no compiler is quick with: `loop` and `end` of the binary format.
fn nested_loops(count: usize) -> Vec<u8> {
    let body = [vec![0], [3, 0x40].repeat(count), vec![0x0b; count + 1]].concat();
    let code = [vec![1], leb(body.len()), body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(3, vec![1, 0]),
        section(10, code),
    ]
    .concat();
    let mut component = wat::parse_str(policy_with("")).expect("a component");
    component.extend(section(1, module));
    component
}

fn section(id: u8, content: Vec<u8>) -> Vec<u8> {
    [vec![id], leb(content.len()), content].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

/// A cluster under traffic whose first daemon is watched.
struct Watched {
    cluster: Cluster,
    ping: Prober,
    directory: TempDir,
    /// The most bytes that the daemon has had resident before.
    peak: u64,
}

/// The most bytes that the first daemon has had resident so far (`proc_pid_status(5)`, `VmHWM`).
fn peak(cluster: &mut Cluster) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.daemon(0)?.pid()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

impl Watched {
    fn start(arguments: &[&str]) -> Result<Self> {
        let plugin = Some(artifacts::plugin("vxlan")?);
        let mut cluster = Cluster::prepare(&ClusterOptions { plugin, ..ClusterOptions::default() })?;
        cluster.add_arguments(arguments);
        cluster.bring_up()?;
        let ping = Prober::start(cluster.pod(0)?.namespace(), Echo::to(cluster.pod(1)?.ipv4()?), INTERVAL)?;
        let peak = peak(&mut cluster)?;
        Ok(Self { cluster, ping, directory: TempDir::new()?, peak })
    }

    fn file(&self, bytes: &[u8]) -> Result<PathBuf> {
        let file = self.directory.path().join("plugin.wasm");
        std::fs::write(&file, bytes)?;
        Ok(file)
    }

    /// A swap to it is refused in these words.
    fn refuses(&self, file: &Path, said: &str) {
        let error = self.cluster.swap(0, file).expect_err("refused").to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    /// Nothing was lost over it, and a plugin that is like others takes over.
    fn goes_on(mut self) -> Result<()> {
        assert!(self.cluster.daemon(0)?.runs()?);
        let grown = peak(&mut self.cluster)?.saturating_sub(self.peak);
        assert!(grown < ROOM, "the daemon has grown by {grown} bytes");
        self.cluster.swap(0, &artifacts::component("vxlan-next")?)?;
        let report = self.ping.report(Mark::default());
        assert_eq!(report.lost, 0, "{report:?}");
        Ok(())
    }
}

#[test]
fn a_plugin_that_would_cost_too_much_is_refused_by_what_can_be_seen_of_it() -> Result<()> {
    let node = Watched::start(&[])?;
    let globals = "(global i32 (i32.const 0))".repeat(10_000);
    let instances = "(core instance (instantiate $m))".repeat(250);
    let tables = "(table 3000 funcref)".repeat(64);
    let levels =
        (1..9).fold(String::from("(component $c0 (core module $m) (core instance (instantiate $m)))"), {
            |inside, level| {
                let made = format!("(instance (instantiate $c{}))", level - 1).repeat(10);
                format!("(component $c{level} {inside} {made})")
            }
        });
    for (inside, said) in [
        (format!("(core module $m {globals}) {instances}"), "globals before it has done anything"),
        (format!("(core module $m {tables}) {}", "(core instance (instantiate $m))".repeat(2)), "128 tables"),
        (format!("(core module $m) {}", instances.repeat(2)), "501 instances"),
        (format!("{levels} (instance (instantiate $c8))"), "instances of modules and components"),
        ("(core module $m (memory 4000)) (core instance (instantiate $m))".to_owned(), "bytes in memories"),
    ] {
        let file = node.file(&wat::parse_str(policy_with(&inside))?)?;
        node.refuses(&file, said);
    }
    node.goes_on()
}

#[test]
fn a_plugin_that_takes_too_long_to_compile_is_stopped_and_another_takes_over() -> Result<()> {
    let node = Watched::start(&["--plugin-compile-time=1"])?;
    let file = node.file(&nested_loops(80_000))?;
    node.refuses(
        &file,
        "compiling it takes more than 1 s of processor time: it has 1 functions in 235 KiB of code",
    );
    node.goes_on()
}

#[test]
fn a_plugin_that_takes_too_much_memory_to_compile_is_stopped_and_another_takes_over() -> Result<()> {
    let node = Watched::start(&["--plugin-compile-memory=64"])?;
    let file = node.file(&nested_loops(80_000))?;
    node.refuses(
        &file,
        "compiling it takes more than 64 MiB of memory: it has 1 functions in 235 KiB of code",
    );
    node.goes_on()
}

#[test]
fn a_plugin_that_may_not_have_what_it_imports_is_not_even_compiled() -> Result<()> {
    let mut bytes = nested_loops(80_000);
    let import = wat::parse_str(r#"(component (import "flannel:backend/wireguard@0.1.0" (instance)))"#)?;
    // Behind the magic number of that component are its sections.
    bytes.extend(import.get(8..).context("sections")?);
    let directory = TempDir::new()?;
    let file = directory.path().join("plugin.wasm");
    std::fs::write(&file, bytes)?;
    // With the built-in plugins' grants alone.
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    cluster.add_arguments(&["--plugin-compile-time=1"]);
    cluster.bring_up()?;
    let error = cluster.swap(0, &file).expect_err("refused").to_string();
    assert!(error.contains("it asks for wireguard, which it is not granted"), "{error}");
    Ok(())
}

#[test]
fn code_in_a_cache_that_another_user_can_write_to_is_not_run() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Watched::start(&[])?;
    let cache = TempDir::new()?;
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o777))?;
    let inspect = |cache: &Path| -> Result<()> {
        let mut command = node.cluster.options().command(node.cluster.node(0));
        command
            .env("FLANNELD_CACHE_DIR", cache)
            .env("FLANNELD_STATE_DIR", node.directory.path().join("state"));
        let output =
            command.args(["plugin", "inspect"]).arg(artifacts::component("vxlan-direct")?).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    inspect(cache.path())?;
    assert_eq!(cache.path().read_dir()?.count(), 0, "nothing is kept where others could exchange it");
    let own = cache.path().join("own");
    inspect(&own)?;
    assert!(!own.exists(), "nor below it");
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o755))?;
    inspect(&own)?;
    assert_eq!(own.read_dir()?.count(), 1);
    node.goes_on()
}

#[test]
fn a_swap_that_takes_for_ever_ends_with_the_process_that_asked_for_it() -> Result<()> {
    let mut node = Watched::start(&["--plugin-compile-time=3600", "--plugin-compile-memory=4096"])?;
    let file = node.file(&nested_loops(80_000))?;
    let here = node.cluster.node(0);
    let mut command = node.cluster.options().command(here);
    command.args(["plugin", "swap", "--control-socket"]).arg(here.control_socket()).arg(&file);
    let mut asking = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let daemon = node.cluster.daemon(0)?.pid();
    wait::until_true("it is being compiled", || compiles(daemon))?;
    let error = node.cluster.swap(0, &artifacts::component("vxlan-next")?).expect_err("refused").to_string();
    assert!(error.contains(&format!("or end process {}", asking.id())), "{error}");
    asking.kill()?;
    asking.wait()?;
    wait::until_true("nothing is compiled any more", || Ok(!compiles(daemon)?))?;
    node.goes_on()
}

#[test]
fn grants_that_another_user_could_have_written_and_names_that_he_could_take_count_for_nothing() -> Result<()>
{
    use std::os::unix::fs::PermissionsExt as _;
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    let place = cluster.lab().directory().join("place");
    std::fs::create_dir(&place)?;
    let grants = place.join("grants.toml");
    let allow = r#"allow = ["links", "routes", "neighbours", "fdb"]"#;
    std::fs::write(&grants, format!("[[grant]]\nname = \"vxlan\"\n{allow}"))?;
    cluster.add_arguments(&["--plugin-grants", &grants.display().to_string()]);
    cluster.bring_up()?;
    let plugins = cluster.lab().directory().join("plugins");
    std::fs::create_dir(&plugins)?;
    let plugin = plugins.join("plugin.wasm");
    std::fs::copy(artifacts::component("vxlan-next")?, &plugin)?;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let refused = |said: &str| {
        let error = cluster.swap(0, &plugin).expect_err("refused").to_string();
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    };
    for (path, wrong, right) in [(&place, 0o777, 0o755), (&grants, 0o664, 0o644)] {
        mode(path, wrong)?;
        refused(&format!("(uid 0, mode {wrong:o}): `chmod go-w {}`", path.display()));
        mode(path, right)?;
    }
    mode(&plugins, 0o777)?;
    refused(
        "which it is not granted (no grant is for it by its name alone, since others can exchange its file: ",
    );
    mode(&plugins, 0o755)?;
    assert_eq!(cluster.swap(0, &plugin)?["version"], "9.0.0");
    Ok(())
}

#[test]
fn a_daemon_does_not_start_by_grants_that_another_user_could_have_written() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new()?;
    let grants = directory.path().join("grants.toml");
    std::fs::write(&grants, "")?;
    std::fs::set_permissions(&grants, std::fs::Permissions::from_mode(0o666))?;
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    cluster.add_arguments(&["--plugin-grants", &grants.display().to_string()]);
    let error = format!("{:#}", cluster.bring_up().expect_err("refused"));
    assert!(error.contains("grants.toml can be written by another user"), "{error}");
    Ok(())
}

/// Whether a daemon has a child that compiles.
fn compiles(daemon: u32) -> Result<bool> {
    let is_it = |process: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
        read("status").lines().any(|line| line == format!("PPid:\t{daemon}"))
            && read("cmdline").contains("compile-a-component-and-nothing-else")
    };
    Ok(std::fs::read_dir("/proc")?.flatten().any(is_it))
}
