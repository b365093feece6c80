//! A TCP connection between two pods that outlives all faults: what one end sends the other gets, in order, however long it takes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{Pod, wait};

/// Numbers in a part that is sent at once.
const NUMBERS: u64 = 64;
/// How often a part is sent.
const INTERVAL: Duration = Duration::from_millis(10);
/// How often is looked whether it is over, where nothing can be sent or comes.
const TURN: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    wrong: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// The connection. It ends when this is dropped.
pub struct Stream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Connects two pods.
    pub fn start(from: &Pod, to: &Pod) -> Result<Self> {
        let address = *to.addresses().last().context("a pod without an address")?;
        let listener = to.namespace().run(|| TcpListener::bind(SocketAddr::new(address, 0)))??;
        let target = listener.local_addr()?;
        let source = from.namespace().run(|| TcpStream::connect(target))??;
        let (sink, _) = listener.accept()?;
        source.set_write_timeout(Some(TURN))?;
        sink.set_read_timeout(Some(TURN))?;
        let mut stream = Self { shared: Arc::default(), threads: Vec::new() };
        stream.spawn("stream's source", move |shared| send(source, shared))?;
        stream.spawn("stream's sink", move |shared| receive(sink, shared))?;
        Ok(stream)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Shared) -> Result<()> + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            if let Err(error) = work(&shared) {
                let mut wrong = shared.wrong.lock().unwrap_or_else(PoisonError::into_inner);
                wrong.get_or_insert(format!("{error:#}"));
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.context("cannot start a thread")?);
        Ok(())
    }

    /// Waits until more has come than by now.
    pub fn goes_on(&self) -> Result<()> {
        let before = self.shared.received.load(Ordering::Relaxed);
        wait::until_true("the TCP connection goes on", || {
            if let Some(wrong) = &*self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner) {
                bail!("the TCP connection: {wrong}");
            }
            Ok(self.shared.received.load(Ordering::Relaxed) > before)
        })
        .map(drop)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn send(mut source: TcpStream, shared: &Shared) -> Result<()> {
    let mut next = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let bytes: Vec<u8> = (next..next + NUMBERS).flat_map(u64::to_be_bytes).collect();
        next += NUMBERS;
        let mut rest = &bytes[..];
        while !rest.is_empty() && !shared.stop.load(Ordering::Relaxed) {
            match source.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if is_a_pause(&error) => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

fn receive(mut sink: TcpStream, shared: &Shared) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let (mut filled, mut next) = (0, 0u64);
    while !shared.stop.load(Ordering::Relaxed) {
        match sink.read(&mut buffer[filled..]) {
            Ok(0) => bail!("the other end has closed it"),
            Ok(count) => filled += count,
            Err(error) if is_a_pause(&error) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        }
        let (numbers, rest) = buffer[..filled].as_chunks::<8>();
        let left = rest.len();
        for number in numbers {
            let number = u64::from_be_bytes(*number);
            ensure!(number == next, "{number} came instead of {next}");
            next += 1;
        }
        shared.received.store(next, Ordering::Relaxed);
        buffer.copy_within(filled - left..filled, 0);
        filled = left;
    }
    Ok(())
}

fn is_a_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
