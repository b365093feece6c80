//! Probes peers by the ways that are on trial: echo requests (RFC 792, RFC 4443) with the mark that leads by them, from this node's own `.0`
//! address to the peer's. The answer may come by any way.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockAddr, Socket};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::coordinator::ProbeOrder;
use super::icmp::{self, Echo};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Echo requests a second, at most.
const PER_SECOND: u32 = 100;
/// By which its answers are known, besides their keys.
const ID: u16 = 0xf1a7;
/// Bytes of the largest packet that is tried; an interface may have more (65,536), and no path.
const MAX_MTU: usize = 9216;
/// How many bytes less are tried where a device does not carry a packet, and how many less at most.
const LESS: usize = 4;
const MAX_LESS: usize = 160;
/// Who waits for an answer with this key, and from whom.
type Waiting = HashMap<u128, (IpAddr, oneshot::Sender<()>)>;

/// Sends probes, and hears the answers.
pub(super) struct Prober {
    nonce: u64,
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    /// By the addresses that they send from.
    sockets: HashMap<IpAddr, Arc<AsyncFd<Socket>>>,
    waiting: Arc<Mutex<Waiting>>,
    state: Mutex<(u64, Instant)>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

impl Prober {
    /// In the calling thread's network namespace. `sources`: this node's own addresses that probes are sent from.
    pub(super) fn open(mark: u32, sources: impl IntoIterator<Item = IpAddr>) -> io::Result<Self> {
        let waiting = Arc::<Mutex<Waiting>>::default();
        let (mut sockets, mut listeners) = (HashMap::new(), Vec::new());
        for source in sources {
            let socket = socket(mark, source)?;
            let socket = Arc::new(icmp::register(socket)?);
            listeners.push(tokio::spawn(listen(Arc::clone(&socket), source.is_ipv4(), Arc::clone(&waiting))));
            sockets.insert(source, socket);
        }
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let state = Mutex::new((0, Instant::now()));
        let shared = Shared { sockets, waiting, state };
        Ok(Self { nonce: u64::from_ne_bytes(nonce), shared: Arc::new(shared), listeners })
    }

    /// Probes a peer: a small request and two of the full size, of each family, one after the other. The error says what was not answered.
    pub(super) fn probe(&self, order: ProbeOrder) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let (shared, nonce) = (Arc::clone(&self.shared), self.nonce);
        async move {
            for (from, to) in order.ends {
                let headers = icmp::headers(to.is_ipv4());
                let full = usize::try_from(order.mtu).unwrap_or(MAX_MTU).min(MAX_MTU);
                let full = full.saturating_sub(headers).max(icmp::SMALLEST);
                shared.ask(from, to, nonce, icmp::SMALLEST, headers).await?;
                let mut bytes = full;
                for _ in 0..2 {
                    bytes = shared.ask_largest(from, to, nonce, bytes, headers).await?;
                }
            }
            Ok(())
        }
    }
}

/// Why there is no answer.
enum NoAnswer {
    /// This node's own device does not carry so much.
    TooLong(String),
    Other(String),
}

impl NoAnswer {
    fn of(to: IpAddr, error: &io::Error) -> Self {
        let text = format!("{to}: {error}");
        if error.raw_os_error() == Some(libc::EMSGSIZE) { Self::TooLong(text) } else { Self::Other(text) }
    }
}

impl From<NoAnswer> for String {
    fn from(answer: NoAnswer) -> Self {
        match answer {
            NoAnswer::TooLong(text) | NoAnswer::Other(text) => text,
        }
    }
}

impl Shared {
    /// With a packet of this size, or of the largest that this node's own device for that family carries: one of IPv6 carries less than what
    /// the pods have. Answers how many bytes there were behind the headers.
    async fn ask_largest(
        &self,
        from: IpAddr,
        to: IpAddr,
        nonce: u64,
        largest: usize,
        headers: usize,
    ) -> Result<usize, String> {
        let mut bytes = largest;
        loop {
            match self.ask(from, to, nonce, bytes, headers).await {
                Ok(()) => return Ok(bytes),
                Err(NoAnswer::TooLong(_)) if largest - bytes < MAX_LESS && bytes > LESS + icmp::SMALLEST => {
                    bytes -= LESS;
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    async fn ask(
        &self,
        from: IpAddr,
        to: IpAddr,
        nonce: u64,
        bytes: usize,
        headers: usize,
    ) -> Result<(), NoAnswer> {
        let size = bytes + headers;
        let Some(socket) = self.sockets.get(&from) else {
            return Err(NoAnswer::Other(format!("{from} is not this node's own address")));
        };
        let number = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = state.1.max(Instant::now());
            *state = (state.0 + 1, turn + Duration::from_secs(1) / PER_SECOND);
            (state.0, turn)
        };
        let (number, turn) = number;
        sleep_until(turn).await;
        let key = u128::from(nonce.wrapping_add(number));
        let (answer, answered) = oneshot::channel();
        self.lock().insert(key, (to, answer));
        let outcome = async {
            let [.., a, b] = number.to_be_bytes();
            let echo = Echo { id: ID, sequence: u16::from_be_bytes([a, b]), token: key };
            let packet = icmp::request(to.is_ipv4(), echo, bytes);
            icmp::send(socket, to, &packet).await.map_err(|error| NoAnswer::of(to, &error))?;
            let answered = timeout(ANSWER, answered).await;
            let silent = || NoAnswer::Other(format!("{to} does not answer packets of {size} bytes"));
            answered.ok().and_then(Result::ok).ok_or_else(silent)
        };
        let outcome = outcome.await;
        self.lock().remove(&key);
        outcome
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn socket(mark: u32, source: IpAddr) -> io::Result<Socket> {
    let socket = icmp::socket(source.is_ipv4())?;
    socket.set_mark(mark)?;
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    Ok(socket)
}

/// Hears answers until it is ended.
async fn listen(socket: Arc<AsyncFd<Socket>>, ipv4: bool, waiting: Arc<Mutex<Waiting>>) {
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let Ok(Ok(Some((echo, from)))) = ready.try_io(|socket| icmp::receive(socket.get_ref(), ipv4)) else {
            continue;
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if echo.id == ID
            && waiting.get(&echo.token).is_some_and(|(to, _)| *to == from)
            && let Some((_, answer)) = waiting.remove(&echo.token)
        {
            let _ = answer.send(());
        }
    }
}
