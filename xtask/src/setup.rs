//! What building and testing need besides Rust: found, installed, or asked for in one line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::cargo::{installed, output, root, run, succeeds};

const WASM: &str = "wasm32-unknown-unknown";

/// The Debian packages of a compiler that can build its own standard library for wasm, for machines without rustup's network.
const DEBIAN_RUST: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];

/// How wasm is compiled on this machine.
pub enum WasmToolchain {
    /// With the toolchain in use, which has the target.
    Rustup,
    /// With Debian's compiler, building the standard library along.
    Debian,
}

/// All of it.
pub fn everything() -> Result<()> {
    system_packages()?;
    let toolchain = match wasm_toolchain()? {
        WasmToolchain::Rustup => format!("the {WASM} target of the toolchain in use"),
        WasmToolchain::Debian => "Debian's rustc-web, with its standard library built along".to_owned(),
    };
    eprintln!("setup: plugins are compiled with {toolchain}");
    let etcd = etcd()?;
    eprintln!("setup: etcd for tests: {}", etcd.join("etcd").display());
    firewalls()?;
    lab_tools()
}

/// `protoc` with its own message types, for the etcd client's messages, and iproute2, for the lab.
pub fn system_packages() -> Result<()> {
    let program = |name: &str| installed(name) || Path::new("/sbin").join(name).is_file();
    let includes = ["/usr/include", "/usr/local/include"]
        .map(|path| Path::new(path).join("google/protobuf/empty.proto"));
    let needed = [
        (program("protoc"), "protobuf-compiler"),
        (includes.iter().any(|file| file.is_file()), "libprotobuf-dev"),
        (program("ip") && program("bridge"), "iproute2"),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(there, _)| !there).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

/// Makes sure that programs are there, which are given with Debian's packages that have them.
pub fn programs(needed: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        needed.iter().filter(|(name, _)| !installed(name)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

/// Where a program is: in the path, or where programs for administrators are, which are not in everybody's path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(administrators)
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

/// A Python that can make environments of its own.
pub fn python() -> Result<()> {
    if succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        return Ok(());
    }
    apt_install(&["python3", "python3-venv"])
}

/// An environment of Python's, with what a file of requirements names from PyPI.
pub fn environment(place: &Path, requirements: &Path) -> Result<()> {
    python()?;
    run(Command::new("python3").args(["-m", "venv"]).arg(place))?;
    let mut pip = Command::new(place.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run(pip.arg(requirements))
}

/// Both firewalls, for the tests that look at packets and for the soak. The daemon itself uses the one that the network config asks for.
pub fn firewalls() -> Result<()> {
    let program = |name: &str| installed(name) || Path::new("/usr/sbin").join(name).is_file();
    let needed = [(program("iptables"), "iptables"), (program("nft"), "nftables")];
    let missing: Vec<&str> = needed.iter().filter(|(there, _)| !there).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

/// A compiler for the plugins: the cheapest way that works is taken.
pub fn wasm_toolchain() -> Result<WasmToolchain> {
    let sysroot = output(Command::new(rustc()).args(["--print", "sysroot"]))?;
    if Path::new(&sysroot).join("lib/rustlib").join(WASM).is_dir() {
        return Ok(WasmToolchain::Rustup);
    }
    if debian_rust_is_there() {
        return Ok(WasmToolchain::Debian);
    }
    eprintln!("setup: adding the target {WASM} with rustup");
    if succeeds(Command::new("rustup").args(["target", "add", WASM])) {
        return Ok(WasmToolchain::Rustup);
    }
    apt_install(&DEBIAN_RUST).with_context(|| {
        format!(
            "plugins need a compiler for wasm: `rustup target add {WASM}`, or Debian's {}",
            DEBIAN_RUST.join(" ")
        )
    })?;
    if debian_rust_is_there() {
        return Ok(WasmToolchain::Debian);
    }
    bail!("plugins need a compiler for wasm: run `rustup target add {WASM}`");
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn debian_rust_is_there() -> bool {
    [
        "/usr/bin/rustc",
        "/usr/bin/cargo",
        "/usr/bin/wasm-ld",
        "/usr/lib/rustlib/src/rust/library/std/Cargo.toml",
    ]
    .iter()
    .all(|path| Path::new(path).exists())
}

/// The directory that has `etcd` and `etcdctl`.
pub fn etcd() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_both = |directory: &Path| directory.join("etcd").is_file() && directory.join("etcdctl").is_file();
    if let Some(found) = std::env::split_paths(&path).find(|directory| has_both(directory)) {
        return Ok(found);
    }
    let found = unpacked("etcd", &["etcd-server", "etcd-client"], |root| has_both(&root.join("usr/bin")))
        .context("tests need etcd and etcdctl in the PATH: install etcd-server and etcd-client, or etcd 3.4 or later")?;
    Ok(found.join("usr/bin"))
}

/// The program that makes streams for `bench tunnel`, where the lab looks for it: in the path, or below `target/`.
pub fn iperf3() -> Result<()> {
    if !installed("iperf3") {
        let packages = ["iperf3", "libiperf0", "libsctp1"];
        unpacked("iperf3", &packages, |root| has_library(root, "libiperf.so.0"))
            .context("this benchmark needs iperf3: install the package of that name")?;
    }
    Ok(())
}

/// Whether a file is there below `usr/lib/<architecture>/`.
fn has_library(root: &Path, file: &str) -> bool {
    let places = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    places.map(|place| place.path().join(file)).any(|library| library.is_file())
}

/// The CNI project's plugins and the library that gives a daemon another clock, where the lab looks for them.
fn lab_tools() -> Result<()> {
    const FAKETIME: &str = "faketime/libfaketimeMT.so.1";
    cni_plugins()?;
    if !has_library(Path::new("/"), FAKETIME) {
        unpacked("faketime", &["libfaketime"], |root| has_library(root, FAKETIME))
            .context("tests need libfaketime: install the package of that name")?;
    }
    Ok(())
}

/// The CNI project's plugins, where the lab looks for them.
pub fn cni_plugins() -> Result<()> {
    let installed =
        ["/usr/lib/cni", "/opt/cni/bin"].iter().any(|place| Path::new(place).join("bridge").is_file());
    if !installed && std::env::var_os("CNI_PATH").is_none() {
        unpacked("cni", &["containernetworking-plugins"], |root| root.join("usr/lib/cni/bridge").is_file())
            .context("tests need the CNI plugins: install containernetworking-plugins, or set CNI_PATH")?;
    }
    Ok(())
}

/// Debian packages unpacked below `target/tools/`, once: installing them would start servers, and change the machine for what
/// only our tests need.
pub fn unpacked(name: &str, packages: &[&str], complete: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let tools = root().join("target/tools").join(name);
    if complete(&tools) {
        return Ok(tools);
    }
    eprintln!("setup: unpacking Debian's {} below {}", packages.join(" and "), tools.display());
    std::fs::create_dir_all(&tools)?;
    let unpack = || -> Result<()> {
        run(Command::new("apt-get").arg("download").args(packages).current_dir(&tools))?;
        for entry in std::fs::read_dir(&tools)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&tools))?;
            }
        }
        Ok(())
    };
    if unpack().is_err() {
        apt_update()?;
        unpack()?;
    }
    if !complete(&tools) {
        bail!("{} do not have what was expected of them", packages.join(" and "));
    }
    Ok(tools)
}

/// The path, with etcd in it.
pub fn path_with_etcd() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::env::split_paths(&path).chain([etcd()?]))?)
}

/// Parts that are prepared side by side wait for each other here: apt's lists have a lock that it does not wait for.
static APT: Mutex<()> = Mutex::new(());

pub fn apt_update() -> Result<()> {
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    if is_root() && installed("apt-get") {
        run(Command::new("apt-get").args(["update", "-q"]))
    } else {
        Ok(())
    }
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// Installs Debian packages, as root or with a sudo that asks for nothing.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    let by_hand = || format!("missing: run `sudo apt-get install {}`", packages.join(" "));
    if !installed("apt-get") {
        bail!("{} (or your system's packages of the same purpose)", by_hand());
    }
    let sudo: &[&str] = if is_root() {
        &[]
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        &["sudo", "-n"]
    } else {
        bail!(by_hand());
    };
    let apt = |arguments: &[&str]| {
        let words: Vec<&str> =
            sudo.iter().copied().chain(["apt-get"]).chain(arguments.iter().copied()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("setup: installing {}", packages.join(" "));
    // Another installation that is under way is waited for.
    let install: Vec<&str> =
        ["install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
            .into_iter()
            .chain(packages.iter().copied())
            .collect();
    if apt(&install).is_err() {
        apt(&["update", "-q"])?;
        apt(&install).with_context(by_hand)?;
    }
    Ok(())
}
