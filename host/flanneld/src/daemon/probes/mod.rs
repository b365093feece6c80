//! Probes for plugins (`probe` of the contract): all of the node's targets, whichever plugin has declared them, one socket for each family, and
//! one task that sends what is due and hears the answers.

mod figures;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use flannel_plugin_host::{Artifact, PROBE, ProbeKey, ProbeReport, ProbeTarget, Probes};
use flannel_telemetry::metrics::ProbeFigures;
use flannel_telemetry::status;
use rustix::net::netdevice::name_to_index;
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tracing::trace;

use super::icmp::{self, Echo, Way};
use table::{OwnerId, Request, Summary, Table, Turn};

/// By which answers are known, besides their tokens.
const ID: u16 = 0xf1a8;
/// Answers that are taken before it is looked whether others wait.
const AT_ONCE: usize = 64;

/// A socket for a family, or why there is none.
type Place = Result<AsyncFd<Socket>, String>;

/// All probes of the process. A clone is of the same ones.
#[derive(Clone, Default)]
pub(super) struct ProbeHub(Arc<Shared>);

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// Who is told when a target's condition is another one.
    listeners: Mutex<BTreeMap<OwnerId, Box<dyn Fn() + Send>>>,
    /// For IPv4 and for IPv6, once a plugin is there that needs them.
    sockets: OnceLock<[Place; 2]>,
    last_owner: AtomicU64,
    /// What is due may be something else than before.
    wake: Notify,
}

/// Who has targets probed, as long as this is there.
pub(super) struct ProbeOwner {
    id: OwnerId,
    hub: ProbeHub,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProbeHub {
    /// Opens the sockets, if a plugin may need them and they are not there. To be called where that is allowed, which it is not on a plugin's
    /// own thread, and before the plugin is started.
    pub(super) fn open_for(&self, artifact: &Artifact) {
        if artifact.imports().iter().any(|import| import == PROBE) {
            self.prepare();
        }
    }

    /// Opens the sockets, if they are not there.
    fn open(&self) {
        let mut is_new = false;
        self.0.sockets.get_or_init(|| {
            is_new = true;
            [true, false].map(|ipv4| {
                let socket = icmp::socket(ipv4).and_then(icmp::register);
                let family = if ipv4 { "IPv4" } else { "IPv6" };
                socket.map_err(|error| {
                    format!("peers cannot be probed over {family}: {error} (CAP_NET_RAW is needed for it)")
                })
            })
        });
        if is_new {
            tokio::spawn(run(Arc::clone(&self.0)));
        }
    }

    /// Another one who has targets. `listener`: is told when the condition of one of them is another one.
    pub(super) fn owner(&self, listener: impl Fn() + Send + 'static) -> ProbeOwner {
        let id = self.0.last_owner.fetch_add(1, Ordering::Relaxed);
        lock(&self.0.listeners).insert(id, Box::new(listener));
        ProbeOwner { id, hub: self.clone() }
    }

    fn declare(&self, owner: OwnerId, targets: Vec<ProbeTarget>) {
        lock(&self.0.table).declare(owner, targets, Instant::now());
        self.0.wake.notify_one();
    }

    fn summary(&self) -> Option<Summary> {
        lock(&self.0.table).summary()
    }

    /// For the status; none where nothing is probed.
    pub(super) fn status(&self) -> Option<status::Probes> {
        let Summary { untested, answered, lost, named, interval, .. } =
            self.summary().filter(|all| all.untested + all.answered + all.lost > 0)?;
        let name = |key: &ProbeKey| {
            let ProbeKey { address, over, size, .. } = key;
            let over = over.as_ref().map(|over| format!(" over {over}")).unwrap_or_default();
            format!("{address}{over}, {size} bytes")
        };
        Some(status::Probes {
            untested,
            answered,
            lost,
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            lost_targets: named.iter().map(name).collect(),
        })
    }

    /// For Prometheus; none where nothing is probed and nothing has been.
    pub(super) fn figures(&self) -> Option<ProbeFigures> {
        let Summary { untested, answered, lost, requests, answers, .. } = self.summary()?;
        let targets = [("untested", untested), ("answered", answered), ("lost", lost)];
        Some(ProbeFigures { targets: targets.map(|(name, count)| (name, count as u64)), requests, answers })
    }
}

impl Probes for ProbeHub {
    fn prepare(&self) {
        self.open();
    }

    fn unavailable(&self, ipv4: bool) -> Option<String> {
        let Some(sockets) = self.0.sockets.get() else {
            return Some("peers cannot be probed here".to_owned());
        };
        sockets[usize::from(!ipv4)].as_ref().err().cloned()
    }

    fn reports(&self, targets: &mut dyn Iterator<Item = &ProbeKey>) -> Vec<Option<ProbeReport>> {
        let (table, now) = (lock(&self.0.table), Instant::now());
        targets.map(|key| table.report(key, now)).collect()
    }
}

impl ProbeOwner {
    /// These are its targets from now on.
    pub(super) fn declare(&self, targets: Vec<ProbeTarget>) {
        self.hub.declare(self.id, targets);
    }
}

impl Drop for ProbeOwner {
    fn drop(&mut self) {
        lock(&self.hub.0.listeners).remove(&self.id);
        self.hub.declare(self.id, Vec::new());
    }
}

/// Sends what is due and hears the answers, for as long as the process runs.
async fn run(shared: Arc<Shared>) {
    loop {
        let deadline = shared.proceed();
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = due => {}
            () = shared.hear(true) => {}
            () = shared.hear(false) => {}
        }
        shared.tell();
    }
}

impl Shared {
    fn socket(&self, ipv4: bool) -> Option<&AsyncFd<Socket>> {
        self.sockets.get()?[usize::from(!ipv4)].as_ref().ok()
    }

    /// Does what is due; answers when there is something to do again.
    fn proceed(&self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let request = {
                let mut table = lock(&self.table);
                table.expire(now);
                table.next(now)
            };
            let Some(request) = request else { break };
            if let Err(error) = self.send(&request) {
                trace!(to = %request.to, over = request.over.as_deref(), %error, "a probe cannot be sent");
                lock(&self.table).unsent(request.turn);
            }
        }
        self.tell();
        lock(&self.table).deadline()
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        let Request { turn, to, over, source, size } = request;
        let ipv4 = to.is_ipv4();
        let socket = self.socket(ipv4).ok_or(io::ErrorKind::Unsupported)?.get_ref();
        let echo = Echo { id: ID, sequence: low(turn.sequence), token: turn.token() };
        let bytes = usize::from(*size).saturating_sub(icmp::headers(ipv4));
        let packet = icmp::request(ipv4, echo, bytes);
        let device = over.as_ref().map_or(Ok(0), |over| name_to_index(socket, over))?;
        match icmp::send_by(socket, *to, &packet, Way { device, source: *source }) {
            // This node does not have that address on any device.
            Err(error) if source.is_some() && is_foreign(&error) => {
                icmp::send_by(socket, *to, &packet, Way { device, source: None })
            }
            outcome => outcome,
        }
    }

    /// Takes answers of a family, as soon as there are any.
    async fn hear(&self, ipv4: bool) {
        let Some(socket) = self.socket(ipv4) else { return std::future::pending().await };
        let Ok(mut ready) = socket.readable().await else { return std::future::pending().await };
        for _ in 0..AT_ONCE {
            match ready.try_io(|socket| icmp::receive(socket.get_ref(), ipv4)) {
                Ok(Ok(Some((echo, from)))) => self.take(echo, from),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    fn take(&self, echo: Echo, from: IpAddr) {
        let turn = Turn::of_token(echo.token);
        if echo.id == ID && echo.sequence == low(turn.sequence) {
            lock(&self.table).answer(turn, from, Instant::now());
        }
    }

    /// Tells those whose targets have another condition.
    fn tell(&self) {
        let news = lock(&self.table).take_news();
        let listeners = lock(&self.listeners);
        for listener in news.iter().filter_map(|owner| listeners.get(owner)) {
            listener();
        }
    }
}

/// The part of a number that there is room for in ICMP's header.
fn low(sequence: u32) -> u16 {
    let [.., a, b] = sequence.to_be_bytes();
    u16::from_be_bytes([a, b])
}

fn is_foreign(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests;
