//! Log lines on standard error.
//!
//! A line names the part of the daemon that it comes from, such as `flanneld::datapath`, and so do filters. In which crate that part is
//! makes no difference to either.
//!
//! A line that cannot be written, since a disk is full or a pipe's reader has gone or does not read, is lost and counted: that is no reason
//! for a node to end, or to stand still.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flannel_base::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::{LogFormat, Options};

/// The crates that log, each with the part of the daemon that it is.
const PARTS: &[(&str, &str)] = &[
    ("flannel_cloud", "flanneld::cloud"),
    ("flannel_datapath", "flanneld::datapath"),
    ("flannel_firewall", "flanneld::datapath::firewall"),
    ("flannel_kube_api", "flanneld::lease::kube"),
    ("flannel_kube_store", "flanneld::lease::kube"),
    ("flannel_lease_store", "flanneld::lease"),
    ("flannel_plugin_host", "flanneld::plugin"),
    ("flannel_privileges", "flanneld::privileges"),
    ("flannel_telemetry", "flanneld::observe"),
    ("flannel_udp_tunnel", "flanneld::datapath::tunnel"),
];

/// Starts logging; called once. The level has been checked by the command line.
pub fn start(options: &Options) {
    let directives = for_crates(&options.log_directives());
    let filter =
        EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new(for_crates("flanneld=info")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(options.log_format))
        // They would go where the lines go, by a macro that panics.
        .log_internal_errors(false);
    match options.log_format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Filter directives that say of crates what the given ones say of parts.
fn for_crates(directives: &str) -> String {
    let end = |directive: &str| directive.find(['=', '[']).unwrap_or(directive.len());
    let all = directives.split(',').map(|directive| directive.split_at(end(directive)));
    let mut all: Vec<(&str, &str)> = all.collect();
    let is_ours = |target: &str| target.starts_with("flanneld");
    // Of two that are for the same crate then, the last one counts: the one that was for the smaller part.
    all.sort_by_key(|(target, _)| if is_ours(target) { target.len() } else { 0 });
    let mut out = Vec::new();
    for (wanted, level) in all {
        out.push(format!("{wanted}{level}"));
        for (name, part) in PARTS.iter().filter(|_| is_ours(wanted)) {
            if part.starts_with(wanted) {
                out.push(format!("{name}{level}"));
            } else if let Some(module) = wanted.strip_prefix(part) {
                out.push(format!("{name}{module}{level}"));
            }
        }
    }
    out.join(",")
}

/// A module's path as lines and filters have it, if that is another one.
fn shown(target: &str) -> Option<String> {
    PARTS.iter().find_map(|(name, part)| {
        let module = target.strip_prefix(name)?;
        (module.is_empty() || module.starts_with("::")).then(|| format!("{part}{module}"))
    })
}

/// Where the lines go.
struct Lines(LogFormat);

/// A line on its way to standard error.
struct Line {
    format: LogFormat,
    /// What it says it is from, and what it is to say.
    target: Option<(String, String)>,
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { format: self.0, target: None }
    }

    fn make_writer_for(&self, meta: &Metadata<'_>) -> Line {
        Line { format: self.0, target: shown(meta.target()).map(|shown| (meta.target().to_owned(), shown)) }
    }
}

impl Line {
    /// The line with the right target. In text the target comes before all that is not ours, in JSON after it.
    fn with_target(&self, line: &str) -> Option<String> {
        let (target, shown) = self.target.as_ref()?;
        let at = match self.format {
            LogFormat::Text => line.find(target.as_str())?,
            LogFormat::Json => line.rfind(&format!("\"target\":\"{target}\""))? + "\"target\":\"".len(),
        };
        let (before, after) = (&line[..at], &line[at + target.len()..]);
        Some(format!("{before}{shown}{after}"))
    }
}

impl Write for Line {
    /// Takes one line, whole. What becomes of it is nobody's error.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let with_target = str::from_utf8(line).ok().and_then(|line| self.with_target(line));
        let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Patient { out: io::stderr(), patience: sink.patience() };
        sink.line(self.format, with_target.as_ref().map_or(line, String::as_bytes), &mut out);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a reader that is behind is waited for. Everything that logs waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);
/// What a pipe or a socket that can be written to takes without waiting for its reader: a page, `PIPE_BUF` of pipe(7).
const WITHOUT_WAITING: usize = 4096;

/// Something to write to, which does not hold up for longer than this.
struct Patient<W> {
    out: W,
    patience: Duration,
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let timeout = Timespec::try_from(self.patience).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], Some(&timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.out.write(&bytes[..bytes.len().min(WITHOUT_WAITING)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Lines that could not be written, in all.
static LOST: AtomicU64 = AtomicU64::new(0);
static SINK: Mutex<Sink> = Mutex::new(Sink { lost: 0, within_line: false });

/// How many lines of the log are lost, since the process began.
pub(super) fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// What has become of the last lines.
#[derive(Debug, Default)]
struct Sink {
    /// Lines lost since one could be written.
    lost: u64,
    /// The last one was written in part.
    within_line: bool,
}

impl Sink {
    /// How long the next line may take. Who was waited for once is not waited for again before he has read.
    fn patience(&self) -> Duration {
        if self.lost > 0 { Duration::ZERO } else { PATIENCE }
    }

    /// Writes a line, and before it how many are lost, if any.
    fn line(&mut self, format: LogFormat, line: &[u8], out: &mut impl Write) {
        let mut whole = Vec::new();
        if self.within_line {
            whole.push(b'\n');
        }
        if self.lost > 0 {
            whole.extend(lost(format, self.lost).into_bytes());
        }
        whole.extend(line);
        match write_counted(&whole, out) {
            Ok(()) => (self.lost, self.within_line) = (0, false),
            Err(written) => {
                // Where the line that says so got through, and this one did not, it is said again.
                self.lost += 1;
                LOST.fetch_add(1, Ordering::Relaxed);
                if written > 0 {
                    self.within_line = whole.get(written - 1) != Some(&b'\n');
                }
            }
        }
    }
}

/// Writes all of it, or answers how much was written.
fn write_counted(bytes: &[u8], out: &mut impl Write) -> Result<(), usize> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err(written),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// The line that says how many are lost. By hand: it is written from within the writing of another one.
fn lost(format: LogFormat, lines: u64) -> String {
    const TARGET: &str = "flanneld::daemon::log";
    const MESSAGE: &str = "lines of this log are lost: they could not be written";
    let now = Timestamp::now();
    match format {
        LogFormat::Text => format!("{now}  WARN {TARGET}: {MESSAGE} lines={lines}\n"),
        LogFormat::Json => format!(
            "{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"fields\":{{\"message\":\"{MESSAGE}\",\"lines\":{lines}}},\"target\":\"{TARGET}\"}}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_that_logs_is_a_part() {
        let mut logging = Vec::new();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).expect("crates") {
            let directory = entry.expect("a directory").path();
            let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
            let name = directory.file_name().expect("a name").to_string_lossy().replace('-', "_");
            if manifest.contains("\ntracing.workspace") && name != "flanneld" {
                logging.push(format!("flannel_{name}"));
            }
        }
        logging.sort();
        assert_eq!(logging, PARTS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_said_of_a_part_holds_for_its_crates() {
        let all = for_crates("warn,flanneld=debug");
        for (name, _) in PARTS {
            assert!(all.contains(&format!(",{name}=debug")), "{all}");
        }
        assert_eq!(
            for_crates("flanneld::datapath=trace,info"),
            "info,flanneld::datapath=trace,flannel_datapath=trace,flannel_firewall=trace,flannel_udp_tunnel=trace"
        );
        assert_eq!(
            for_crates("flanneld::plugin::wasi=debug"),
            "flanneld::plugin::wasi=debug,flannel_plugin_host::wasi=debug"
        );
        assert_eq!(for_crates("hyper=debug,off"), "hyper=debug,off");
    }

    #[test]
    fn the_smaller_part_counts_in_whichever_order() {
        for directives in [
            "flanneld::datapath::firewall=warn,flanneld=debug",
            "flanneld=debug,flanneld::datapath::firewall=warn",
        ] {
            let all = for_crates(directives);
            let last = all.split(',').rfind(|directive| directive.starts_with("flannel_firewall="));
            assert_eq!(last, Some("flannel_firewall=warn"), "{all}");
        }
    }

    #[test]
    fn lines_name_the_part() {
        let line =
            |format, target: &str| Line { format, target: shown(target).map(|s| (target.to_owned(), s)) };
        let target = "flannel_udp_tunnel::worker";
        let text = line(LogFormat::Text, target).with_target(&format!("T  INFO {target}: of {target}\n"));
        assert_eq!(
            text.as_deref(),
            Some("T  INFO flanneld::datapath::tunnel::worker: of flannel_udp_tunnel::worker\n")
        );
        let json = format!(
            "{{\"fields\":{{\"message\":\"\\\"target\\\":\\\"{target}\\\"\"}},\"target\":\"{target}\"}}\n"
        );
        let json = line(LogFormat::Json, target).with_target(&json).expect("another target");
        assert!(json.ends_with(",\"target\":\"flanneld::datapath::tunnel::worker\"}\n"), "{json}");
        assert!(json.contains(target), "{json}");
        assert_eq!(shown("flanneld::daemon"), None);
        assert_eq!(shown("flannel_cloudy"), None);
    }

    /// A disk with so many bytes left.
    struct Disk {
        left: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.left);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.left -= fits;
            self.text.extend(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_hears_of_what_is_lost() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut sink = Sink::default();
        let long = [vec![b'x'; 3 * WITHOUT_WAITING], vec![b'\n']].concat();
        let mut say = |line: &[u8]| {
            let mut out = Patient { out: &writer, patience: sink.patience() };
            sink.line(LogFormat::Text, line, &mut out);
            sink.lost
        };
        let lines = (0..1000).take_while(|_| say(&long) == 0).count();
        assert!((1..1000).contains(&lines));
        for _ in 0..100 {
            say(b"one more\n");
        }
        io::Read::read(&mut reader, &mut vec![0; 1 << 20]).expect("a full pipe");
        assert_eq!(say(b"the last\n"), 0);
        drop(writer);
        let rest = io::read_to_string(reader).expect("text");
        assert!(rest.contains("lines of this log are lost") && rest.contains("lines=101"), "{rest}");
        assert!(rest.ends_with("the last\n"), "{rest}");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_of_when_one_can() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let mut disk = Disk { left: 4 + 3, text: Vec::new() };
            let mut sink = Sink::default();
            for line in ["one\n", "two and a half\n", "three\n"] {
                sink.line(format, line.as_bytes(), &mut disk);
            }
            disk.left = usize::MAX;
            sink.line(format, b"four\n", &mut disk);
            sink.line(format, b"five\n", &mut disk);
            let text = String::from_utf8(disk.text).expect("text");
            let lines: Vec<&str> = text.lines().collect();
            let [one, two, lost, four, five] = lines[..] else { panic!("{text}") };
            assert_eq!((one, two, four, five), ("one", "two", "four", "five"));
            assert!(lost.contains("WARN") && lost.contains("lines of this log are lost"), "{lost}");
            assert!(lost.contains("lines=2") || lost.contains("\"lines\":2"), "{lost}");
        }
        assert!(lost_lines() >= 4);
    }
}
