//! Which routes over the external interface are ours: there a route of ours looks like anybody's, and the next run is to know. One line for each
//! route, as in `ip route`. A record that is lost costs no more than that routes of peers that went meanwhile stay, as upstream's do.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use flannel_base::atomic_file::{self, Mode};
use flannel_base::trusted_file;
use ipnet::IpNet;
use tracing::warn;

/// Between two writes: leases may change many times a second.
pub(crate) const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an end waits for the last write: the disk may hang.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// More than a record has.
const MAX_BYTES: u64 = 64 << 20;

/// A route as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The gateway.
    pub via: IpAddr,
    /// The name of the interface.
    pub device: String,
}

/// The record of one daemon. Written beside, so that nobody waits for the disk.
pub(crate) struct RouteRecord {
    /// What was told to be written last.
    text: String,
    writer: Option<(Sender<String>, Receiver<()>)>,
}

impl RouteRecord {
    /// Reads the record of the last run, and begins a new one in its place. With no path nothing is recorded.
    pub(crate) fn open(path: Option<PathBuf>) -> (Self, HashMap<IpNet, Recorded>) {
        let Some(path) = path else { return (Self { text: String::new(), writer: None }, HashMap::new()) };
        let text = trusted_file::read(&path, MAX_BYTES).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(file = %path.display(), %error, "the record of routes is not used: those of peers that went meanwhile stay");
            }
            Vec::new()
        });
        let text = String::from_utf8_lossy(&text).into_owned();
        let routes = text.lines().filter_map(parse).collect();
        let ((sender, texts), (done, ended)) = (channel(), channel());
        let writer = std::thread::Builder::new().name("route-record".to_owned()).spawn(move || {
            write_all(&path, &texts);
            // Nobody listens who has waited for long enough.
            let _ = done.send(());
        });
        let writer = writer
            .inspect_err(|error| warn!(%error, "routes cannot be recorded"))
            .is_ok()
            .then_some((sender, ended));
        (Self { text, writer }, routes)
    }

    /// These are ours now.
    pub(crate) fn write<'r>(&mut self, routes: impl Iterator<Item = (&'r IpNet, Recorded)>) {
        let Some((writer, _)) = &self.writer else { return };
        let line = |(destination, Recorded { via, device }): (&IpNet, Recorded)| {
            format!("{destination} via {via} dev {device}\n")
        };
        let mut lines: Vec<String> = routes.map(line).collect();
        lines.sort_unstable();
        let text = lines.concat();
        if text != self.text {
            self.text.clone_from(&text);
            let _ = writer.send(text);
        }
    }
}

impl Drop for RouteRecord {
    fn drop(&mut self) {
        if let Some((texts, ended)) = self.writer.take() {
            drop(texts);
            let _ = ended.recv_timeout(LAST_WRITE);
        }
    }
}

/// Writes what comes, the newest of all that has come meanwhile.
fn write_all(path: &Path, texts: &Receiver<String>) {
    let mut warned = false;
    while let Ok(mut text) = texts.recv() {
        text = texts.try_iter().last().unwrap_or(text);
        match atomic_file::replace(path, text.as_bytes(), Mode::Exactly(0o600)) {
            Ok(()) => warned = false,
            Err(error) if !warned => {
                warned = true;
                warn!(file = %path.display(), %error, "routes cannot be recorded: those of peers that go while no daemon runs will stay");
            }
            Err(_) => {}
        }
    }
}

fn parse(line: &str) -> Option<(IpNet, Recorded)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [destination, "via", via, "dev", device] = words[..] else { return None };
    Some((destination.parse().ok()?, Recorded { via: via.parse().ok()?, device: device.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> (IpNet, Recorded) {
        parse(text).expect("a route")
    }

    #[test]
    fn what_is_recorded_is_known_to_the_next_run() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("state/routes");
        let routes =
            [route("10.5.3.0/24 via 192.168.0.3 dev eth0"), route("fc00:5:0:3::/64 via fd77::3 dev eth0")];
        let (mut record, before) = RouteRecord::open(Some(path.clone()));
        assert!(before.is_empty());
        record.write(routes.iter().map(|(destination, route)| (destination, route.clone())));
        drop(record);
        let (mut record, before) = RouteRecord::open(Some(path.clone()));
        assert_eq!(before, HashMap::from(routes));
        record.write(std::iter::empty());
        drop(record);
        assert!(RouteRecord::open(Some(path)).1.is_empty());
    }

    #[test]
    fn a_line_that_is_no_route_is_left_out() {
        for line in
            ["", "10.5.3.0/24", "10.5.3.0/24 via eth0 dev eth0", "10.5.3.0/33 via 192.168.0.3 dev eth0"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
