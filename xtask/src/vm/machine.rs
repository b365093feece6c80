//! QEMU: started, followed to its end, and never left behind.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::accelerator::Accelerator;
use super::host_tools::HostTools;
use super::initramfs::Archive;
use super::kernel::Kernel;
use super::{Guest, root};

/// How long a guest may take to get up when it is only asked whether it does.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Open files, which the lab needs many of.
const OPEN_FILES: u32 = 65_536;
/// What any guest's kernel is told.
const KERNEL_PARAMETERS: &str = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off";
/// Where the guest may leave a file for us; `guest.sh` knows it, too.
const RESULT: &str = "/run/vm/result";

/// What a guest is made of.
pub struct Machine {
    pub tools: HostTools,
    pub kernel: Kernel,
    pub initramfs: PathBuf,
    pub accelerator: Accelerator,
}

impl Machine {
    /// Runs a command in a new guest, with what it prints on our standard output and standard error. Answers its status.
    pub fn run(&self, guest: &Guest) -> Result<u8> {
        let files = tempfile::Builder::new().prefix("flannel-vm-").tempdir()?;
        let outputs =
            [("out", Sink::Stdout), ("err", Sink::Stderr), ("result", Sink::Kept), ("status", Sink::Kept)];
        let ports: Vec<Port> = outputs
            .into_iter()
            .map(|(name, sink)| Port::listen(files.path(), name, sink))
            .collect::<Result<_>>()?;
        let mut command = self.qemu(self.accelerator, files.path(), &run_script(guest)?, guest.memory)?;
        for port in &ports {
            command.arg("-chardev").arg(format!("socket,id={},path={}", port.name, port.path.display()));
            command.arg("-device").arg(format!("virtserialport,chardev={0},name={0}", port.name));
        }
        let _shared = Running(root::share(&self.tools.virtiofsd, &files.path().join("root"))?);
        let mut running = Running(command.spawn().context("cannot start QEMU")?);
        let ended = running.0.wait().context("cannot wait for QEMU")?;
        let mut kept = Vec::new();
        for port in ports {
            kept.push(port.content(ended.success())?);
        }
        let said = String::from_utf8_lossy(&kept[3]).trim().to_owned();
        let Ok(status) = said.parse() else {
            bail!(
                "the guest of Linux {} ended early ({ended}); its console:\n{}",
                self.kernel.release,
                console(files.path())
            );
        };
        if let Some(file) = &guest.result {
            std::fs::write(file, &kept[2]).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(status)
    }

    /// Whether a guest gets as far as its first process with this accelerator.
    pub fn gets_up(&self, accelerator: Accelerator) -> Result<bool> {
        let files = tempfile::Builder::new().prefix("flannel-vm-").tempdir()?;
        let mut command = self.qemu(accelerator, files.path(), "exit 0", Some(1024))?;
        command.stderr(Stdio::null());
        let _shared = Running(root::share(&self.tools.virtiofsd, &files.path().join("root"))?);
        let mut running = Running(command.spawn().context("cannot start QEMU")?);
        let begin = Instant::now();
        while begin.elapsed() < PROBE_TIMEOUT {
            if let Some(status) = running.0.try_wait()? {
                // A guest that dies early ends QEMU well, too: what it has said tells.
                return Ok(status.success() && console(files.path()).contains("vm: up"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }

    fn qemu(
        &self,
        accelerator: Accelerator,
        files: &Path,
        script: &str,
        memory: Option<u32>,
    ) -> Result<Command> {
        let memory = memory.map_or_else(default_memory, Ok)?;
        let archive = files.join("initramfs");
        let mut bytes = std::fs::read(&self.initramfs).context("the archive that guests start from")?;
        let mut own = Archive::default();
        own.file("vm/run.sh", script.as_bytes());
        bytes.extend(own.finish());
        std::fs::write(&archive, bytes).with_context(|| archive.display().to_string())?;
        let [accel, cpu] = accelerator.arguments();
        let mut command = Command::new(&self.tools.qemu);
        command
            .args([
                "-accel",
                accel,
                "-cpu",
                cpu,
                "-smp",
                &accelerator.processors().to_string(),
                "-m",
                &format!("{memory}M"),
            ])
            // virtiofsd reads and writes the guest's memory.
            .args(["-object", &format!("memory-backend-memfd,id=memory,size={memory}M,share=on")])
            .args(["-machine", "memory-backend=memory"])
            .args(["-chardev", &format!("socket,id=root,path={}", files.join("root").display())])
            .args(["-device", "vhost-user-fs-pci,chardev=root,tag=rootfs"])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(archive)
            .arg("-append")
            .arg(format!("{KERNEL_PARAMETERS} {}", accelerator.boot_parameters()))
            .args(["-serial", &format!("file:{}", files.join("console").display())])
            .args(["-device", "virtio-serial-pci"])
            .args(["-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        bound_to_us(&mut command);
        Ok(command)
    }
}

/// Half of this machine's memory, in MiB: the guest's scratch layer is part of it.
pub fn default_memory() -> Result<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("MemTotal")?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().context("MemTotal")?;
    Ok((kib / 1024 / 2).min(8192))
}

fn console(files: &Path) -> String {
    let bytes = std::fs::read(files.join("console")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// What the guest runs: our environment and directory, and the command.
fn run_script(guest: &Guest) -> Result<String> {
    let ours = std::env::vars_os().chain(guest.environment.iter().cloned());
    let mut script = String::new();
    for (name, value) in ours {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.as_bytes().iter().all(|byte| plain(*byte)) && name != "_" {
            writeln!(script, "export {}={}", name.to_string_lossy(), quoted(&value)?)?;
        }
    }
    writeln!(script, "export FLANNELD_VM_RESULT={RESULT}")?;
    writeln!(script, "ulimit -n {OPEN_FILES}")?;
    writeln!(script, "cd {} || exit 125", quoted(std::env::current_dir()?.as_os_str())?)?;
    let words = guest.command.iter().map(|word| quoted(word)).collect::<Result<Vec<_>>>()?;
    writeln!(script, "exec {}", words.join(" "))?;
    Ok(script)
}

fn quoted(word: &OsStr) -> Result<String> {
    let word = word.to_str().with_context(|| format!("{} is no UTF-8", word.display()))?;
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// A child that is killed when this process ends, however it ends.
pub fn bound_to_us(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
}

/// A child that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where what comes through a port goes.
#[derive(Clone, Copy)]
enum Sink {
    Stdout,
    Stderr,
    Kept,
}

/// A way out of the guest.
struct Port {
    name: &'static str,
    path: PathBuf,
    reader: JoinHandle<io::Result<Vec<u8>>>,
}

impl Port {
    fn listen(files: &Path, name: &'static str, sink: Sink) -> Result<Self> {
        let path = files.join(name);
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        let reader = std::thread::spawn(move || pump(&listener, sink));
        Ok(Self { name, path, reader })
    }

    /// What came through it; nothing if QEMU has never opened it.
    fn content(self, opened: bool) -> Result<Vec<u8>> {
        if !opened {
            return Ok(Vec::new());
        }
        let content = self.reader.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        content.with_context(|| format!("the guest's {}", self.name))
    }
}

/// Reads to the end. What is to be shown is shown a whole line at a time: another guest may have something to show, too.
fn pump(listener: &UnixListener, sink: Sink) -> io::Result<Vec<u8>> {
    let (mut from, _) = listener.accept()?;
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = from.read(&mut buffer)?;
        kept.extend_from_slice(&buffer[..length]);
        let whole = if length == 0 {
            kept.len()
        } else {
            kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
        };
        match sink {
            Sink::Kept => {}
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&kept[..whole])?;
                out.flush()?;
            }
            Sink::Stderr => io::stderr().write_all(&kept[..whole])?,
        }
        if !matches!(sink, Sink::Kept) {
            kept.drain(..whole);
        }
        if length == 0 {
            return Ok(kept);
        }
    }
}
