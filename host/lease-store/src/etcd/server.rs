//! An etcd for tests: a real one on the loopback, with a data directory of its own. It ends when it is dropped, and in any
//! case with this process.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use etcd_client::Client;
use tempfile::TempDir;

/// How long etcd may take to answer.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    ports: (u16, u16),
    directory: TempDir,
    /// Certificates, and whether clients need one.
    tls: Option<(PathBuf, bool)>,
    keeper: Option<Keeper>,
}

/// The thread that started the process: when it ends, the kernel ends the process, too.
struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// The one that tests share; each with a prefix of its own.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    /// One that a test may kill.
    pub(crate) fn start() -> Self {
        Self::start_as(None)
    }

    /// One that speaks TLS, with `ca.crt`, `server.crt` and `server.key` of a directory.
    pub(crate) fn start_with_tls(certificates: &Path, wants_client: bool) -> Self {
        Self::start_as(Some((certificates.to_owned(), wants_client)))
    }

    fn start_as(tls: Option<(PathBuf, bool)>) -> Self {
        // In memory where that is possible: etcd writes through to the disk.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("directory");
        let mut server = Self { ports: (free_port(), free_port()), directory, tls, keeper: None };
        server.resume();
        server
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls.is_some() { "https" } else { "http" }, self.ports.0)
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.stop.send(());
            let _ = keeper.thread.join();
        }
    }

    /// Removes all that it has stored; it has to be killed before.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.data()).expect("data directory");
    }

    /// Starts it again on the same ports, and waits until something listens.
    pub(crate) fn resume(&mut self) {
        let mut command = self.command();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let mut etcd = command.spawn().expect("etcd starts");
            let _ = stopped.recv();
            let _ = etcd.kill();
            let _ = etcd.wait();
        });
        self.keeper = Some(Keeper { stop, thread });
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.ports.0)).is_err() {
            assert!(begun.elapsed() < TEST_TIMEOUT, "etcd does not listen: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A client of the test's own, when etcd serves.
    pub(crate) async fn client(&self) -> Client {
        let begun = Instant::now();
        loop {
            let mut client = Client::connect([self.endpoint()], None).await.expect("client");
            match client.get("health", None).await {
                Ok(_) => return client,
                Err(error) => {
                    assert!(begun.elapsed() < TEST_TIMEOUT, "etcd does not serve: {error}: {}", self.log());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let peer = format!("http://127.0.0.1:{}", self.ports.1);
        let log = std::fs::File::create(self.directory.path().join("log")).expect("log");
        let mut command = Command::new(binary());
        command
            .args(["--name=test", "--logger=zap", "--heartbeat-interval=100", "--election-timeout=1000"])
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={}", self.endpoint()))
            .arg(format!("--advertise-client-urls={}", self.endpoint()))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=test={peer}"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some((certificates, wants_client)) = &self.tls {
            let file = |name: &str| certificates.join(name).display().to_string();
            command.arg(format!("--cert-file={}", file("server.crt")));
            command.arg(format!("--key-file={}", file("server.key")));
            if *wants_client {
                command.arg(format!("--trusted-ca-file={}", file("ca.crt"))).arg("--client-cert-auth");
            }
        }
        // SAFETY: between fork and exec only a system call is made, on the child itself.
        unsafe {
            command.pre_exec(|| {
                let kill = rustix::process::Signal::KILL;
                rustix::process::set_parent_process_death_signal(Some(kill)).map_err(Into::into)
            });
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("port").port()
}

fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("FLANNELD_TEST_ETCD") {
        return named.into();
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/etcd/usr/bin/etcd");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(tool)
        .chain(std::env::split_paths(&path).map(|directory| directory.join("etcd")))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("etcd is missing: run `cargo xtask setup`"))
}
