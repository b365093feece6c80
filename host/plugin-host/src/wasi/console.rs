//! Standard output and standard error: lines in the log, with the plugin's name, limited as `log` is.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite;
use tracing::{info, warn};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::call::Function;
use crate::convert::shown;
use crate::limits::Limits;
use crate::log_rate::LogRate;

/// How lines begin that a language's runtime ends with and that do not say what went wrong, besides those that are indented:
/// componentize-py's, and componentize-js's.
const EPILOGUE: [&str; 5] =
    ["thread '", "Python function threw", "note: run with", "Stack:", "Redirecting call to abort"];
/// How the line begins that says what went wrong where everything behind it says where: Go's.
const LAST_WORD: [&str; 2] = ["panic: ", "fatal error: "];
/// Bytes that one write may have.
const LARGEST_WRITE: usize = 64 << 10;

#[derive(Clone, Copy)]
enum Channel {
    Stdout,
    Stderr,
}

/// What a component has written in the call that is going on.
#[derive(Clone)]
pub(crate) struct Console(Arc<Mutex<Written>>);

struct Written {
    plugin: String,
    function: Function,
    lines: u32,
    most_lines: u32,
    longest: usize,
    rate: LogRate,
    /// The lines that are not complete yet, of either channel.
    begun: [Vec<u8>; 2],
    panic_message: Option<String>,
}

impl Console {
    /// Nothing is written yet.
    pub(crate) fn new(limits: &Limits, rate: LogRate) -> Self {
        Self(Arc::new(Mutex::new(Written {
            plugin: String::new(),
            function: Function::Describe,
            lines: 0,
            most_lines: limits.log_lines,
            longest: limits.text,
            rate,
            begun: [Vec::new(), Vec::new()],
            panic_message: None,
        })))
    }

    /// A call begins.
    pub(crate) fn begin(&self, plugin: &str, function: Function) {
        let mut written = self.lock();
        if written.plugin != plugin {
            plugin.clone_into(&mut written.plugin);
        }
        written.function = function;
        written.lines = 0;
        written.panic_message = None;
    }

    /// The call has ended: a line that was not completed is one all the same.
    pub(crate) fn end(&self) {
        let mut written = self.lock();
        for channel in [Channel::Stdout, Channel::Stderr] {
            if !written.begun[channel as usize].is_empty() {
                written.complete(channel);
            }
        }
    }

    /// The last line on standard error that says something: what a runtime that gave up left behind.
    pub(crate) fn panic_message(&self) -> Option<String> {
        self.lock().panic_message.clone()
    }

    /// Standard output.
    pub(crate) fn stdout(&self) -> impl StdoutStream + use<> {
        Stream { console: self.clone(), channel: Channel::Stdout }
    }

    /// Standard error.
    pub(crate) fn stderr(&self) -> impl StdoutStream + use<> {
        Stream { console: self.clone(), channel: Channel::Stderr }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn write(&mut self, channel: Channel, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        self.append(channel, lines.next().unwrap_or_default());
        for line in lines {
            self.complete(channel);
            self.append(channel, line);
        }
    }

    /// Keeps one byte more than is shown, so that it shows that there was more.
    fn append(&mut self, channel: Channel, bytes: &[u8]) {
        let begun = &mut self.begun[channel as usize];
        let room = (self.longest + 1).saturating_sub(begun.len());
        begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn complete(&mut self, channel: Channel) {
        let bytes = std::mem::take(&mut self.begun[channel as usize]);
        let line = shown(&String::from_utf8_lossy(&bytes), self.longest);
        if line.is_empty() {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        let (plugin, function) = (self.plugin.as_str(), self.function.name());
        let is_shown = if self.lines > self.most_lines {
            self.rate.suppress();
            false
        } else {
            self.rate.admits(plugin, line.len(), Instant::now())
        };
        match channel {
            Channel::Stdout if is_shown => info!(plugin, function, "{line}"),
            Channel::Stderr if is_shown => warn!(plugin, function, "{line}"),
            _ => {}
        }
        let says_nothing = |line: &str| {
            line.starts_with(char::is_whitespace) || EPILOGUE.iter().any(|known| line.starts_with(known))
        };
        let is_said = |line: &String| LAST_WORD.iter().any(|known| line.starts_with(known));
        if matches!(channel, Channel::Stderr)
            && !says_nothing(&line)
            && !self.panic_message.as_ref().is_some_and(is_said)
        {
            self.panic_message = Some(line);
        }
    }
}

/// One of the two, as WASI sees it: always ready, never full.
#[derive(Clone)]
struct Stream {
    console: Console,
    channel: Channel,
}

impl Stream {
    fn take(&self, bytes: &[u8]) {
        self.console.lock().write(self.channel, bytes);
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LARGEST_WRITE)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
