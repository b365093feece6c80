//! What is sent from pod to pod: streams by iperf3, small datagrams and questions with answers by ourselves.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::artifacts::workspace;
use crate::{Pod, child_reaper};

/// Where iperf3 is.
#[derive(Clone, Debug)]
pub struct Iperf3 {
    /// The program.
    pub program: PathBuf,
    /// Where its libraries are, if not in the usual place.
    pub libraries: Option<PathBuf>,
}

impl Iperf3 {
    /// The one in the path, or the one that the project's setup has unpacked.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&path).any(|place| place.join("iperf3").is_file()) {
            return Ok(Self { program: "iperf3".into(), libraries: None });
        }
        let root = workspace().join("target/tools/iperf3");
        let program = root.join("usr/bin/iperf3");
        ensure!(program.is_file(), "iperf3 is not installed: run this by `cargo xtask bench`");
        let places = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
        let libraries = places.map(|place| place.path()).find(|place| place.join("libiperf.so.0").exists());
        Ok(Self { program, libraries })
    }
}

/// What a stream has carried.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Bytes received.
    pub bytes: f64,
    /// 10⁹ bits received a second.
    pub gbits: f64,
}

/// Bytes of a small datagram.
const SMALL: usize = 64;
/// How long a socket waits before it looks whether all is over.
const GLANCE: Duration = Duration::from_millis(50);
/// How long iperf3's server takes until it listens.
const STARTING: Duration = Duration::from_millis(300);
/// How often iperf3 may fail.
const TRIES: usize = 2;
/// For what is still on its way.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// So many TCP streams at once.
pub fn streams(iperf3: &Iperf3, from: &Pod, to: &Pod, count: u32, time: Duration) -> Result<Stream> {
    // Now and then a server serves nobody, and then it has served its one client.
    let mut tries = (0..TRIES).map(|_| try_streams(iperf3, from, to, count, time));
    let outcome = tries.by_ref().find(Result::is_ok);
    outcome.unwrap_or_else(|| try_streams(iperf3, from, to, count, time))
}

fn try_streams(iperf3: &Iperf3, from: &Pod, to: &Pod, count: u32, time: Duration) -> Result<Stream> {
    let address = to.ipv4()?.to_string();
    let command = |pod: &Pod| {
        let mut command = pod.namespace().command(&iperf3.program);
        if let Some(libraries) = &iperf3.libraries {
            command.env("LD_LIBRARY_PATH", OsString::from(libraries));
        }
        command.stdin(Stdio::null());
        command
    };
    let mut server = command(to);
    server.args(["-s", "-1", "-B", &address]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = child_reaper::spawn(server)?;
    std::thread::sleep(STARTING);
    let mut client = command(from);
    client.args(["-J", "-c", &address, "-P", &count.to_string(), "-t", &time.as_secs().max(1).to_string()]);
    let output = client.output();
    child_reaper::end(&mut server);
    let report: serde_json::Value =
        serde_json::from_slice(&output.context("iperf3")?.stdout).context("iperf3's report")?;
    let received = &report["end"]["sum_received"];
    let number =
        |name: &str| received[name].as_f64().with_context(|| format!("iperf3 said {}", report["error"]));
    Ok(Stream { bytes: number("bytes")?, gbits: number("bits_per_second")? / 1e9 })
}

/// Datagrams of 64 bytes, as many as go: those received a second.
pub fn small(from: &Pod, to: &Pod, time: Duration) -> Result<f64> {
    let (sender, receiver) = (socket(from)?, socket(to)?);
    sender.connect(receiver.local_addr()?)?;
    let over = AtomicBool::new(false);
    let received = std::thread::scope(|scope| {
        let counter = scope.spawn(|| {
            let (mut buffer, mut count) = ([0; SMALL], 0_u32);
            while !over.load(Ordering::Relaxed) {
                count += u32::from(receiver.recv(&mut buffer).is_ok());
            }
            count
        });
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..32 {
                // What is refused is lost, as what is dropped.
                let _ = sender.send(&[0; SMALL]);
            }
        }
        std::thread::sleep(STRAGGLERS);
        over.store(true, Ordering::Relaxed);
        counter.join()
    });
    let received = received.map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
    Ok(f64::from(received) / time.as_secs_f64())
}

/// One datagram at a time, there and back: microseconds of half the way, the median and the 99th percentile.
pub fn latency(from: &Pod, to: &Pod, time: Duration) -> Result<(f64, f64)> {
    let (asker, answerer) = (socket(from)?, socket(to)?);
    asker.connect(answerer.local_addr()?)?;
    let over = AtomicBool::new(false);
    let mut times = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; SMALL];
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, asker)) = answerer.recv_from(&mut buffer) {
                    // The asker counts what is lost.
                    let _ = answerer.send_to(&buffer[..length], asker);
                }
            }
        });
        let (mut times, mut buffer) = (Vec::new(), [0; SMALL]);
        let begin = Instant::now();
        while begin.elapsed() < time {
            let asked = Instant::now();
            if asker.send(&[0; SMALL]).is_ok() && asker.recv(&mut buffer).is_ok() {
                times.push(asked.elapsed().as_secs_f64() * 1e6 / 2.0);
            }
        }
        over.store(true, Ordering::Relaxed);
        times
    });
    ensure!(!times.is_empty(), "no datagram was answered");
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn socket(pod: &Pod) -> Result<UdpSocket> {
    let address: IpAddr = pod.ipv4()?;
    let socket = pod.namespace().run(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
    socket.set_read_timeout(Some(GLANCE))?;
    Ok(socket)
}
