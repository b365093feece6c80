//! The control socket: how other commands ask the daemon that runs on this node.
//!
//! A request is a line with a JSON object, `{"request":"status"}`; the answer is one too, `{"ok":…}` or `{"error":"…"}`.
//! A connection may ask more than once. Nobody but the daemon's own user can connect.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flannel_base::trusted_dir::TrustedDir;
use flannel_base::trusted_file::is_trusted_user;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream as AsyncStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

pub use super::attendance::{Attendance, Attended, attend};
use super::connections::Connections;
use super::{ObserveError, Status};

/// Where the socket is if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/run/flannel/flanneld.sock";

/// The longest request, and the longest answer that the client takes: of a hundred thousand peers.
const LONGEST_REQUEST: u64 = 64 * 1024;
const LONGEST_ANSWER: u64 = 256 * 1024 * 1024;
/// So many clients at once; another one ends the oldest.
const CLIENTS: usize = 32;
/// How long a client may take for its next request, and for taking the answer.
const REQUEST_TIME: Duration = Duration::from_secs(30);
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long the daemon may take; the client waits a little longer, to hear about it.
const ANSWER_TIME: Duration = Duration::from_secs(10);
const CLIENT_TIME: Duration = Duration::from_secs(15);
/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 64;

/// How long a swap of the plugin may take: a large component is compiled first.
const SWAP_TIME: Duration = Duration::from_mins(5);

/// The way back to whoever asked for something that can be refused.
pub type Responder<T> = oneshot::Sender<Result<T, String>>;

/// What somebody wants of the daemon.
#[derive(Debug)]
pub enum Request {
    /// How things stand.
    Status(oneshot::Sender<Status>),
    /// Another plugin in the place of the one that serves, who wants it, and whether he still does.
    Swap(SwapOrder, Asker, Responder<Swapped>, Attended),
}

/// A swap of the plugin that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapOrder {
    /// The plugin's reference; a file's path as the daemon finds it.
    pub plugin: String,
    /// It gets a copy of the durable store of the plugin that serves.
    pub take_state: bool,
}

/// The process that wants something, as the kernel says (`SO_PEERCRED`, or a signal's `siginfo_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its user.
    pub uid: u32,
    /// Its number; none if it is in a PID namespace that cannot be seen from here.
    pub pid: Option<u32>,
}

/// A swap of the plugin that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swapped {
    /// The plugin that serves now, as it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component.
    pub digest: String,
    /// Entries that should be in the kernel.
    pub entries: usize,
    /// Netlink messages that the difference took.
    pub messages: u64,
    /// Microseconds from the question to the end.
    pub took_us: u64,
}

#[derive(Serialize, Deserialize)]
struct RequestLine {
    request: String,
    /// For `swap`: the plugin's reference; a file's path as the daemon finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    /// For `swap`: it gets a copy of the durable store of the plugin that serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    take_state: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

/// The socket, taken but not served yet. As long as it is there, no other daemon starts on this node.
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl ControlSocket {
    /// Takes the socket, or says who has it. What a dead daemon left is replaced. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, ObserveError> {
        let failed = |reason: String| ObserveError::Socket { path: path.to_owned(), reason };
        let directory = directory(path).map_err(|error| failed(format!("its directory: {error}")))?;
        let lock = lock(path, &directory)?;
        remove_stale_socket(path)?;
        let listener = listener(path).map_err(|error| failed(error.to_string()))?;
        let file = SocketFile::new(path, lock).map_err(|error| failed(error.to_string()))?;
        Ok(Self { listener, file })
    }

    /// Answers from now on, until it is dropped. Requests go to the daemon, which answers in its own time, ten seconds at
    /// most.
    pub fn serve(self, requests: mpsc::Sender<Request>) -> ControlServer {
        ControlServer { task: tokio::spawn(accept(self.listener, requests)), _file: self.file }
    }
}

/// The control socket in operation. Dropping it removes the socket.
pub struct ControlServer {
    task: JoinHandle<()>,
    _file: SocketFile,
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The socket in the file system, and the lock beside it.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Released last, when the socket is gone.
    _lock: File,
}

impl SocketFile {
    fn new(path: &Path, lock: File) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)?, _lock: lock })
    }
}

impl Drop for SocketFile {
    /// Somebody may have put another one in its place.
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The directory of the socket, where nobody else can exchange it, or the lock. One that is made has the subnet file in it, too, which others
/// read.
fn directory(path: &Path) -> io::Result<TrustedDir> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    TrustedDir::make_shared(parent.unwrap_or(Path::new(".")))
}

/// The lock ends with the process, however it ends, and two daemons that start at once cannot both have it. Its file stays:
/// if it were removed, one could lock the old and another the new.
fn lock(path: &Path, directory: &TrustedDir) -> Result<File, ObserveError> {
    let mut file = path.as_os_str().to_owned();
    file.push(".lock");
    let failed = |error: io::Error| ObserveError::Socket {
        path: path.to_owned(),
        reason: format!("{} cannot be locked: {error}", Path::new(&file).display()),
    };
    let name = Path::new(&file).file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed(io::Error::other("its name is no text")))?;
    let file = directory.open_lock(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let pid = if let Ok(Listening::Yes(pid)) = probe_listener(path) { pid } else { None };
            Err(ObserveError::AnotherRuns { path: path.to_owned(), pid })
        }
    }
}

/// Removes a socket on which nobody listens; anything else that is in the way is an error.
fn remove_stale_socket(path: &Path) -> Result<(), ObserveError> {
    let failed = |reason: String| ObserveError::Socket { path: path.to_owned(), reason };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error.to_string())),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(failed("something else is there, which is no socket".to_owned()));
        }
        // In a directory like `/tmp` it can be anybody's.
        Ok(metadata) if !is_trusted_user(metadata.uid()) => {
            return Err(failed(format!(
                "a socket of another user's is there (uid {}); remove it if nobody needs it",
                metadata.uid()
            )));
        }
        Ok(_) => {}
    }
    match probe_listener(path) {
        Ok(Listening::Yes(pid)) => Err(ObserveError::AnotherRuns { path: path.to_owned(), pid }),
        Ok(Listening::No) => fs::remove_file(path)
            .map_err(|error| failed(format!("what a dead daemon left cannot be removed: {error}"))),
        Err(error) => Err(failed(format!("another program has it: {error}"))),
    }
}

enum Listening {
    Yes(Option<u32>),
    No,
}

/// Connects, but does not wait for a process that hangs.
fn probe_listener(path: &Path) -> rustix::io::Result<Listening> {
    let socket = new_socket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {
            // A process in another PID namespace has no number here.
            let pid = socket_peercred(&socket).ok().map(|peer| peer.pid.as_raw_nonzero().get());
            Ok(Listening::Yes(pid.and_then(|pid| u32::try_from(pid).ok())))
        }
        Err(Errno::AGAIN) => Ok(Listening::Yes(None)),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Listening::No),
        Err(error) => Err(error),
    }
}

fn new_socket() -> rustix::io::Result<rustix::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn listener(path: &Path) -> io::Result<UnixListener> {
    let socket = new_socket()?;
    // Linux gives the file the mode that the socket has: at no time can others connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let mut clients = Connections::new(CLIENTS);
    let mut said = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                clients.serve(async move {
                    if let Err(error) = session(stream, requests).await {
                        debug!(%error, "control socket: a client went wrong");
                    }
                });
            }
            Err(error) => {
                if !said {
                    warn!(%error, "control socket: a connection cannot be accepted; going on");
                }
                said = true;
                sleep(PAUSE).await;
            }
        }
    }
}

/// Requests of one client, one after the other.
async fn session(stream: AsyncStream, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let asker = Asker { uid: peer.uid(), pid };
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(LONGEST_REQUEST + 1);
        timeout(REQUEST_TIME, limited.read_until(b'\n', &mut line)).await??;
        let too_long = line.len() as u64 > LONGEST_REQUEST;
        if line.is_empty() {
            return Ok(());
        }
        let mut answer = if too_long {
            error(format!("the request is longer than {LONGEST_REQUEST} bytes"))
        } else {
            tokio::select! {
                answer = answer(&line, asker, &requests) => answer,
                () = hung_up(&writer) => return Ok(()),
            }
        };
        answer.push(b'\n');
        timeout(WRITE_TIME, writer.write_all(&answer)).await??;
        if too_long {
            return Ok(());
        }
    }
}

/// Returns when the client is gone. One that only says no more, and listens, is not.
async fn hung_up(writer: &OwnedWriteHalf) {
    loop {
        sleep(PAUSE).await;
        match writer.ready(Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => {}
            _ => return,
        }
    }
}

async fn answer(line: &[u8], asker: Asker, requests: &mpsc::Sender<Request>) -> Vec<u8> {
    let request = match serde_json::from_slice::<RequestLine>(line) {
        Ok(line) => line,
        Err(reason) => {
            return error(format!("this is no request: {reason}; right would be {{\"request\":\"status\"}}"));
        }
    };
    match request.request.as_str() {
        "swap" => {
            let Some(plugin) = request.plugin else {
                return error("a swap needs the plugin's file, as in {\"request\":\"swap\",\"plugin\":\"/a/file.wasm\"}".to_owned());
            };
            let order = SwapOrder { plugin, take_state: request.take_state };
            let (_here, attended) = attend();
            let swap = |answer| Request::Swap(order, asker, answer, attended);
            match timeout(SWAP_TIME, ask(requests, swap)).await {
                Ok(Some(Ok(swapped))) => encoded(&Answer::Ok(swapped)),
                Ok(Some(Err(reason))) => error(reason),
                Ok(None) => {
                    error("the daemon starts over, or is about to stop: the plugin is not swapped".to_owned())
                }
                Err(_) => error(format!(
                    "the swap took more than {} seconds: it is cancelled, unless the plugin was about to take over; flanneld status says what has become of it",
                    SWAP_TIME.as_secs()
                )),
            }
        }
        "status" => match timeout(ANSWER_TIME, ask(requests, Request::Status)).await {
            Ok(Some(status)) => encoded(&Answer::Ok(status)),
            Ok(None) => error("the daemon is about to stop".to_owned()),
            Err(_) => error(format!("the daemon was busy for {} seconds", ANSWER_TIME.as_secs())),
        },
        other => {
            let other: String = other.chars().take(40).collect();
            error(format!("unknown request {other:?}; known are \"status\" and \"swap\""))
        }
    }
}

/// What comes back for a line of a client's, from a daemon that refuses all swaps.
#[cfg(feature = "fuzz")]
pub async fn answer_line(line: &[u8]) -> Vec<u8> {
    let (sender, mut requests) = mpsc::channel(1);
    let daemon = async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Status(answer) => drop(answer.send(Status::default())),
                Request::Swap(order, _, answer, _) => drop(answer.send(Err(order.plugin))),
            }
        }
    };
    let client = async move { answer(line, Asker { uid: 0, pid: None }, &sender).await };
    tokio::pin!(client);
    tokio::select! {
        answer = &mut client => answer,
        () = daemon => client.await,
    }
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    requests.send(request(sender)).await.ok()?;
    answer.await.ok()
}

fn error(text: String) -> Vec<u8> {
    encoded(&Answer::<()>::Error(text))
}

fn encoded<T: Serialize>(answer: &Answer<T>) -> Vec<u8> {
    serde_json::to_vec(answer)
        .unwrap_or_else(|_| br#"{"error":"the answer cannot be written as JSON"}"#.to_vec())
}

/// Asks the daemon on this node how things stand. Waits for the answer, fifteen seconds at most.
pub fn ask_status(path: &Path) -> Result<Status, ObserveError> {
    let line = RequestLine { request: "status".to_owned(), plugin: None, take_state: false };
    request(path, &line, CLIENT_TIME)
}

/// Has the daemon on this node swap its plugin, and waits until it has. A file's path has to be whole: the daemon has a working directory
/// of its own.
pub fn ask_swap(path: &Path, order: SwapOrder) -> Result<Swapped, ObserveError> {
    let SwapOrder { plugin, take_state } = order;
    let line = RequestLine { request: "swap".to_owned(), plugin: Some(plugin), take_state };
    request(path, &line, SWAP_TIME + CLIENT_TIME)
}

fn request<T: DeserializeOwned>(
    path: &Path,
    line: &RequestLine,
    patience: Duration,
) -> Result<T, ObserveError> {
    let path = path.to_owned();
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ObserveError::NoDaemon { path },
                io::ErrorKind::PermissionDenied => ObserveError::NoPermission { path },
                _ => ObserveError::NoAnswer { path, reason: error.to_string() },
            });
        }
    };
    let answer =
        serde_json::to_vec(line).map_err(io::Error::from).and_then(|line| exchange(stream, &line, patience));
    match answer {
        Ok(Answer::Ok(answer)) => Ok(answer),
        Ok(Answer::Error(reason)) if line.request == "swap" => Err(ObserveError::NotSwapped { reason }),
        Ok(Answer::Error(reason)) => Err(ObserveError::NoAnswer { path, reason }),
        Err(error) => {
            let reason = match error.kind() {
                io::ErrorKind::WouldBlock => format!("it took more than {} seconds", patience.as_secs()),
                _ => error.to_string(),
            };
            Err(ObserveError::NoAnswer { path, reason })
        }
    }
}

fn exchange<T: DeserializeOwned>(
    mut stream: UnixStream,
    request: &[u8],
    patience: Duration,
) -> io::Result<Answer<T>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(CLIENT_TIME))?;
    stream.write_all(request)?;
    stream.write_all(b"\n")?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_ANSWER)).read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before it had answered"));
    }
    serde_json::from_slice(&line).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::os::unix::net::UnixDatagram;

    use tempfile::TempDir;

    use super::*;

    struct Node {
        dir: TempDir,
        path: PathBuf,
    }

    fn node() -> Node {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("run/flannel/flanneld.sock");
        Node { dir, path }
    }

    impl Node {
        /// A daemon with a socket of its own, which has so many peers.
        fn start(&self, peers: usize) -> ControlServer {
            let (sender, mut requests) = mpsc::channel(4);
            tokio::spawn(async move {
                while let Some(Request::Status(answer)) = requests.recv().await {
                    let peers = vec![super::super::status::Peer::default(); peers];
                    let _ = answer.send(Status { version: "0.1.0".to_owned(), peers, ..Status::default() });
                }
            });
            ControlSocket::bind(&self.path).expect("socket").serve(sender)
        }

        /// A daemon with a socket of its own, which refuses all swaps, and says who wanted them.
        fn start_refusing(&self) -> ControlServer {
            let (sender, mut requests) = mpsc::channel(4);
            tokio::spawn(async move {
                while let Some(Request::Swap(order, asker, answer, _)) = requests.recv().await {
                    let _ = answer.send(Err(format!("{} for {asker:?}", order.plugin)));
                }
            });
            ControlSocket::bind(&self.path).expect("socket").serve(sender)
        }

        async fn status(&self) -> Result<Status, ObserveError> {
            let path = self.path.clone();
            tokio::task::spawn_blocking(move || ask_status(&path)).await.expect("no panic")
        }

        /// Sends bytes, and answers all that comes back until the server or we have ended.
        async fn raw(&self, request: &[u8]) -> Vec<String> {
            let mut stream = AsyncStream::connect(&self.path).await.expect("connection");
            // The server may end before it has read all of it.
            let _ = stream.write_all(request).await;
            let _ = stream.shutdown().await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_question_is_answered() {
        let node = node();
        let server = node.start(20_000);
        let status = node.status().await.expect("status");
        assert_eq!((status.version.as_str(), status.peers.len()), ("0.1.0", 20_000));
        assert_eq!(mode(&node.path), 0o600);
        assert_eq!(mode(node.path.parent().expect("parent")), 0o755);
        drop(server);
        assert!(!node.path.exists(), "a clean stop removes the socket");
        drop(node.dir);
    }

    #[tokio::test]
    async fn several_questions_on_a_connection() {
        let node = node();
        let _server = node.start(0);
        let two = b"{\"request\":\"status\"}\n{\"request\":\"status\",\"later\":1}";
        let answers = node.raw(two).await;
        assert_eq!(answers.len(), 2, "{answers:?}");
        for answer in answers {
            assert!(answer.starts_with(r#"{"ok":{"version":"0.1.0","#), "{answer}");
        }
    }

    #[tokio::test]
    async fn nonsense_gets_an_error() {
        let node = node();
        let _server = node.start(0);
        for (request, answer) in [
            (
                &b"{\"request\":\"make-coffee\"}\n"[..],
                r#"{"error":"unknown request \"make-coffee\"; known are"#,
            ),
            (b"GET / HTTP/1.1\n", r#"{"error":"this is no request: "#),
            (b"\n", r#"{"error":"this is no request: "#),
            (b"[1]\n", r#"{"error":"this is no request: "#),
            (b"\xff\x00\xfe\n", r#"{"error":"this is no request: "#),
        ] {
            let answers = node.raw(request).await;
            assert_eq!(answers.len(), 1, "{answers:?}");
            assert!(answers[0].starts_with(answer), "{answers:?}");
        }
        assert!(node.raw(b"").await.is_empty());
        let longest = [vec![b' '; 65_516], b"{\"request\":\"status\"}".to_vec()].concat();
        assert!(node.raw(&longest).await[0].starts_with(r#"{"ok":"#), "{} bytes", longest.len());
        for length in [65_537, 10_000_000] {
            let answers = node.raw(&vec![b'x'; length]).await;
            assert_eq!(answers, [r#"{"error":"the request is longer than 65536 bytes"}"#]);
        }
        node.status().await.expect("it is as before");
    }

    #[tokio::test]
    async fn clients_that_hang_keep_nobody_waiting() {
        let node = node();
        let _server = node.start(0);
        let mut hanging = Vec::new();
        for _ in 0..CLIENTS * 2 {
            let mut stream = AsyncStream::connect(&node.path).await.expect("connection");
            stream.write_all(b"{").await.expect("half a request");
            hanging.push(stream);
        }
        node.status().await.expect("status");
        // The oldest was cut off, and what it had sent is unread.
        let _ = hanging[0].read_to_end(&mut Vec::new()).await;
    }

    #[tokio::test]
    async fn a_second_daemon_is_refused() {
        let node = node();
        let server = node.start(0);
        let refused = |case: &str| {
            let error = ControlSocket::bind(&node.path).err().expect(case).to_string();
            let pid = std::process::id();
            let path = node.path.display();
            assert_eq!(
                error,
                format!("another flanneld is running (pid {pid}): it has the control socket {path}")
            );
        };
        refused("by the lock");
        let mut lock = node.path.clone().into_os_string();
        lock.push(".lock");
        fs::remove_file(&lock).expect("the lock's file");
        refused("by the socket, if somebody tidied up");
        node.status().await.expect("the first one is as before");
        drop(server);
        node.start(0);
    }

    #[tokio::test]
    async fn two_that_start_at_once() {
        let node = node();
        for _ in 0..20 {
            let starts: Vec<_> = (0..4)
                .map(|_| {
                    let path = node.path.clone();
                    tokio::task::spawn_blocking(move || ControlSocket::bind(&path))
                })
                .collect();
            let mut bound = Vec::new();
            for start in starts {
                bound.extend(start.await.expect("no panic").ok());
            }
            assert_eq!(bound.len(), 1);
        }
    }

    #[tokio::test]
    async fn what_a_dead_daemon_left_is_replaced() {
        let node = node();
        fs::create_dir_all(node.path.parent().expect("parent")).expect("directory");
        drop(std::os::unix::net::UnixListener::bind(&node.path).expect("a socket"));
        assert!(node.path.exists(), "it stays behind");
        let error = node.status().await.expect_err("nobody listens").to_string();
        let path = node.path.display();
        assert_eq!(
            error,
            format!("no flanneld is running here: nobody listens on {path} (--control-socket)")
        );
        let _server = node.start(0);
        node.status().await.expect("status");
    }

    #[tokio::test]
    async fn what_is_somebody_elses_stays() {
        let node = node();
        fs::create_dir_all(node.path.parent().expect("parent")).expect("directory");
        fs::write(&node.path, "precious").expect("a file");
        let error = ControlSocket::bind(&node.path).err().expect("in the way").to_string();
        assert!(
            error.ends_with("(--control-socket): something else is there, which is no socket"),
            "{error}"
        );
        fs::remove_file(&node.path).expect("removed");
        let _other = UnixDatagram::bind(&node.path).expect("a socket of another kind");
        let error = ControlSocket::bind(&node.path).err().expect("in the way").to_string();
        assert!(error.contains("another program has it"), "{error}");
        assert!(node.path.exists());
    }

    /// Why it does not start.
    fn refused(node: &Node) -> String {
        let error = ControlSocket::bind(&node.path).err().expect("refused").to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[tokio::test]
    async fn a_directory_where_others_could_exchange_the_socket_is_refused() {
        let node = node();
        let directory = node.path.parent().expect("parent");
        fs::create_dir_all(directory).expect("directory");
        let mode = |mode| fs::set_permissions(directory, Permissions::from_mode(mode)).expect("mode");
        mode(0o777);
        let error = refused(&node);
        let remedy = format!("(mode 777): `chmod go-w {}`", directory.display());
        let remedy = remedy.replace("(mode", &format!("(uid {}, mode", rustix::process::geteuid().as_raw()));
        assert!(error.contains("its directory: ") && error.ends_with(&remedy), "{error}");
        assert_eq!(directory.read_dir().expect("listed").count(), 0);
        // As /tmp is.
        mode(0o1777);
        let _server = node.start(0);
        node.status().await.expect("status");
    }

    #[tokio::test]
    async fn what_another_put_in_the_locks_place_is_neither_followed_nor_waited_for() {
        let node = node();
        fs::create_dir_all(node.path.parent().expect("parent")).expect("directory");
        let mut lock = node.path.clone().into_os_string();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        let elsewhere = node.dir.path().join("elsewhere");
        symlink(&elsewhere, &lock).expect("link");
        assert!(refused(&node).contains("flanneld.sock.lock cannot be locked: "));
        assert!(!elsewhere.exists());
        fs::remove_file(&lock).expect("removed");
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &lock, pipe, Mode::RWXU, 0).expect("a FIFO");
        assert!(refused(&node).ends_with("it is no regular file"));
        fs::remove_file(&lock).expect("removed");
        fs::write(&lock, "").expect("written");
        fs::set_permissions(&lock, Permissions::from_mode(0o666)).expect("mode");
        assert!(refused(&node).contains("flanneld.sock.lock can be written by another user"));
        if rustix::process::geteuid().is_root() {
            chown(&lock, Some(4321), None).expect("chown");
            assert!(refused(&node).contains("flanneld.sock.lock belongs to another user (uid 4321, "));
        }
        fs::remove_file(&lock).expect("removed");
        node.start(0);
        assert_eq!(mode(&lock), 0o600);
    }

    #[tokio::test]
    async fn a_socket_of_another_users_is_left_alone_though_nobody_listens() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let node = node();
        fs::create_dir_all(node.path.parent().expect("parent")).expect("directory");
        drop(std::os::unix::net::UnixListener::bind(&node.path).expect("a socket"));
        chown(&node.path, Some(4321), None).expect("chown");
        assert!(refused(&node).contains("a socket of another user's is there (uid 4321); remove it"));
        assert!(node.path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_is_not_ours_any_more_is_left_alone() {
        let node = node();
        let server = node.start(0);
        fs::rename(&node.path, node.dir.path().join("kept")).expect("moved away");
        let _other = std::os::unix::net::UnixListener::bind(&node.path).expect("another one's");
        drop(server);
        assert!(node.path.exists());
    }

    #[tokio::test]
    async fn errors_are_one_clear_line() {
        let node = node();
        let error = node.status().await.expect_err("nobody there").to_string();
        assert!(error.starts_with("no flanneld is running here: nobody listens on /"), "{error}");
        let deep = PathBuf::from("/proc/nowhere/flanneld.sock");
        let error = ControlSocket::bind(&deep).err().expect("no directory").to_string();
        assert!(
            error.starts_with("control socket /proc/nowhere/flanneld.sock (--control-socket): its directory")
        );
        let (sender, requests) = mpsc::channel(1);
        drop(requests);
        let _server = ControlSocket::bind(&node.path).expect("socket").serve(sender);
        let error = node.status().await.expect_err("nobody answers").to_string();
        assert!(error.ends_with("gave no answer: the daemon is about to stop"), "{error}");
    }

    #[tokio::test]
    async fn a_daemon_that_is_busy_is_said_to_be() {
        let node = node();
        let (sender, _requests) = mpsc::channel(1);
        let _server = ControlSocket::bind(&node.path).expect("socket").serve(sender);
        let answers = node.raw(b"{\"request\":\"status\"}\n").await;
        assert_eq!(answers, [r#"{"error":"the daemon was busy for 10 seconds"}"#]);
    }

    #[tokio::test]
    async fn who_hangs_up_during_a_swap_does_not_wait_for_it_and_who_only_says_no_more_does() {
        let node = node();
        let (sender, mut requests) = mpsc::channel(1);
        let _server = ControlSocket::bind(&node.path).expect("socket").serve(sender);
        let mut client = AsyncStream::connect(&node.path).await.expect("connected");
        client.write_all(b"{\"request\":\"swap\",\"plugin\":\"p\"}\n").await.expect("asked");
        let Some(Request::Swap(_, _, answer, mut attended)) = requests.recv().await else {
            panic!("it is asked for")
        };
        client.shutdown().await.expect("said no more");
        sleep(PAUSE * 3).await;
        assert!(!attended.is_over() && !answer.is_closed());
        drop(client);
        timeout(Duration::from_secs(30), attended.over()).await.expect("it is seen");
        assert!(attended.is_over());
    }

    #[tokio::test]
    async fn who_asks_for_a_swap_is_known() {
        let node = node();
        let _server = node.start_refusing();
        let answer = node.raw(b"{\"request\":\"swap\",\"plugin\":\"p\"}\n").await;
        let uid = rustix::process::geteuid().as_raw();
        let asker = Asker { uid, pid: Some(std::process::id()) };
        assert!(answer[0].contains(&format!("p for {asker:?}")), "{answer:?}");
    }
}
