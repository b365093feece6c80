//! What `flanneld plugin new` writes: the commands of each README, which it prints, too, work as they stand there, one after the other, and
//! so does the daemon's, on nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::{self, workspace};
use flannel_lab::{Backend, Cluster, ClusterOptions, share_cache_key};

/// The name of all projects here. It is the examples': a component that has been compiled already is not compiled again.
const NAME: &str = "example-host-gw";

/// A project that was written a moment ago, and where its commands are run.
struct Project {
    place: tempfile::TempDir,
    /// What `plugin new` has printed of what is to be typed.
    commands: Vec<String>,
    readme: String,
}

impl Project {
    fn new(language: &str) -> Result<Self> {
        let place = tempfile::tempdir()?;
        // The commands say `flanneld`.
        std::os::unix::fs::symlink(artifacts::flanneld()?, place.path().join("flanneld"))?;
        let mut new = Command::new(artifacts::flanneld()?);
        new.args(["plugin", "new", NAME, "--lang", language]).current_dir(&place);
        let output = new.output().context("cannot run flanneld")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout)?;
        let readme = std::fs::read_to_string(place.path().join(NAME).join("README.md"))?;
        Ok(Self { place, commands: shown_as_code(&printed), readme })
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join(NAME)
    }

    /// Types what was printed, each line after the one before it, and the first that fails ends it.
    fn type_all(&self, environment: impl FnOnce(&mut Command)) -> Result<String> {
        self.type_all_but(&[], environment)
    }

    /// The same without lines that begin so.
    fn type_all_but(&self, leave_out: &[&str], environment: impl FnOnce(&mut Command)) -> Result<String> {
        assert_eq!(self.commands.first(), Some(&format!("cd {NAME}")));
        assert_eq!(self.commands[1..], shown_as_code(&self.readme), "the README has the same");
        let kept = self.commands.iter().filter(|line| !leave_out.iter().any(|begin| line.starts_with(begin)));
        let script = kept.map(String::as_str).collect::<Vec<_>>().join("\n");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-eux", "-c", &script]).current_dir(&self.place);
        shell.env("PATH", format!("{}:{path}", self.place.path().display()));
        let (cache, state) = compiled()?;
        shell.env("FLANNELD_CACHE_DIR", cache).env("FLANNELD_STATE_DIR", state);
        environment(&mut shell);
        let output = shell.output().context("cannot run sh")?;
        let (said, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{script}{said}{errors}");
        Ok(said)
    }

    /// What the commands have made serves two nodes, with just what the README says that the daemon is to be given.
    fn serves_nodes(&self) -> Result<()> {
        let (_, rest) = self.readme.split_once("`flanneld --plugin ").context("how the daemon is started")?;
        let (command, _) = rest.split_once('`').context("the command's end")?;
        let (plugin, allow) = command.split_once(" --allow ").context("what the plugin is granted")?;
        let (cache, _) = compiled()?;
        let config = Backend::HostGw.config(false).replace(Backend::HostGw.name(), NAME);
        let options = ClusterOptions {
            config,
            plugin: Some(self.directory().join(plugin)),
            allow: Some(allow.to_owned()),
            ..ClusterOptions::of(Backend::HostGw, false)
        };
        let mut cluster = Cluster::prepare(&options)?;
        cluster.set_options(cluster.options().clone().cache(&cache));
        cluster.bring_up()?;
        cluster.pod(0)?.reaches(cluster.pod(1)?)
    }
}

/// The lines of a text that are indented as code is.
fn shown_as_code(text: &str) -> Vec<String> {
    let code = text.lines().filter_map(|line| line.strip_prefix("    "));
    code.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Where compiled forms are kept that all tests of examples share, and the key with which they are.
fn compiled() -> Result<(PathBuf, PathBuf)> {
    let components =
        artifacts::components().canonicalize().context("build them first: cargo xtask languages")?;
    let (cache, state) = (components.join("cache"), components.join("state"));
    std::fs::create_dir_all(&state)?;
    share_cache_key(&state)?;
    Ok((cache, state))
}

/// Where `cargo xtask languages` puts tools.
fn tools(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("tools").join(name)
}

/// Whether a toolchain is missing on this machine; then it is said.
fn is_missing(language: &str) -> bool {
    let skipped = artifacts::components().join(format!("{language}-host-gw.skipped"));
    let Ok(reason) = std::fs::read_to_string(skipped) else { return false };
    flannel_test_support::skip(&reason);
    true
}

/// A directory before all others in which programs are looked for.
fn prefer(shell: &mut Command, directory: &Path) {
    let before = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    let before = before.unwrap_or_default().to_string_lossy().into_owned();
    shell.env("PATH", format!("{}:{before}", directory.display()));
}

/// Rows of the dry run of `leases.json`, which are the same in all languages.
fn has_said_what_it_wants(said: &str) {
    for row in [
        "10.5.3.0/24  192.168.0.3  route  eth0    10.5.3.0/24  via 192.168.0.3",
        "10.5.5.0/24  192.168.0.5  nothing",
    ] {
        assert!(said.lines().any(|line| line == row), "{row}: {said}");
    }
    let rejected = "10.5.4.0/24  203.0.113.4  rejected: 203.0.113.4 is not on the link of eth0";
    assert!(said.lines().any(|line| line.starts_with(rejected)), "{said}");
    assert!(said.contains("ok       golden file"), "{said}");
}

#[test]
fn the_readme_of_a_project_in_rust_is_right() -> Result<()> {
    const WASM: &str = "wasm32-unknown-unknown";
    let project = Project::new("rust")?;
    // The very dependencies that have been built before, and no newer ones.
    std::fs::copy(workspace().join("Cargo.lock"), project.directory().join("Cargo.lock"))?;
    let has_rustup = Command::new("rustup").arg("--version").output().is_ok();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout)?.trim());
    let said = project.type_all_but(if has_rustup { &[] } else { &["rustup "] }, |shell| {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO") && text != "CARGO_HOME"
                || text.starts_with("RUST") && text != "RUSTUP_HOME"
            {
                shell.env_remove(&name);
            }
        }
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
        shell.env("CARGO_TARGET_DIR", target.join("wasm"));
        // As `cargo xtask` does it with what Debian's packages have.
        if !has_rustup && !sysroot.join("lib/rustlib").join(WASM).is_dir() {
            prefer(shell, Path::new("/usr/bin"));
            shell
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "/usr/bin/wasm-ld");
        }
    })?;
    has_said_what_it_wants(&said);
    project.serves_nodes()
}

#[test]
fn the_readme_of_a_project_in_go_is_right() -> Result<()> {
    if is_missing("go") {
        return Ok(());
    }
    let project = Project::new("go")?;
    let said = project.type_all(|shell| {
        // The machine's own compiler, if it is new enough, else the one that `cargo xtask` has fetched.
        if tools("go").join("bin/go").is_file() {
            prefer(shell, &tools("go").join("bin"));
        }
        shell.env("GOTOOLCHAIN", "local").env("GOWORK", "off").env("GOPROXY", "off").env_remove("GOFLAGS");
    })?;
    has_said_what_it_wants(&said);
    assert!(said.contains(&format!("ok  \t{NAME}\t")), "its own tests: {said}");
    project.serves_nodes()
}

#[test]
fn the_readme_of_a_project_in_c_is_right() -> Result<()> {
    is_right_as_it_is("c")
}

#[test]
fn the_readme_of_a_project_in_cpp_is_right() -> Result<()> {
    is_right_as_it_is("cpp")
}

#[test]
fn the_readme_of_a_project_in_zig_is_right() -> Result<()> {
    if is_missing("zig") {
        return Ok(());
    }
    let project = Project::new("zig")?;
    let said = project.type_all(|shell| {
        // The machine's own compiler, or the one that `cargo xtask` has fetched.
        if tools("zig").join("zig").exists() {
            prefer(shell, &tools("zig"));
        }
    })?;
    has_said_what_it_wants(&said);
    project.serves_nodes()
}

fn is_right_as_it_is(language: &str) -> Result<()> {
    if is_missing(language) {
        return Ok(());
    }
    let project = Project::new(language)?;
    has_said_what_it_wants(&project.type_all(|_| {})?);
    project.serves_nodes()
}

/// Toolchains with an interpreter take half a minute to build what then takes a quarter of one to compile, and never build the same twice. So
/// the commands that build were typed by `cargo xtask languages`, which takes them from the README, too.
fn is_right_but_for_what_builds(language: &str, builds: &[&str]) -> Result<()> {
    if is_missing(language) {
        return Ok(());
    }
    let project = Project::new(language)?;
    let built = artifacts::components().join(format!("{language}-host-gw.wasm"));
    std::fs::copy(built, project.directory().join(NAME).with_extension("wasm"))?;
    let left_out = project.commands.iter().filter(|line| builds.iter().any(|build| line.starts_with(build)));
    assert_eq!(left_out.count(), builds.len(), "{:?}", project.commands);
    has_said_what_it_wants(&project.type_all_but(builds, |_| {})?);
    project.serves_nodes()
}

#[test]
fn the_readme_of_a_project_in_python_is_right() -> Result<()> {
    is_right_but_for_what_builds("python", &["./build.sh"])
}

#[test]
fn the_readme_of_a_project_in_javascript_is_right() -> Result<()> {
    is_right_but_for_what_builds("js", &["npm ci", "npm run build"])
}
