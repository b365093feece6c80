//! `flanneld config set`: writes a config, and waits until the cluster has changed to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use flannel_base::text::one_line;
use flannel_lease_store::ConfigWritten;
use flannel_model::canonical::canonical;
use flannel_telemetry::control::ask_status;
use flannel_telemetry::{ObserveError, Status};
use flanneld::cli::Options;
use flanneld::store;
use tokio::time::{Instant, sleep, timeout_at};

use super::in_force::InForce;
use super::progress::{Look, Progress, left_behind};
use super::report::{Report, Verdict};
use super::secrets::without_secrets;
use super::{End, INTERRUPTED, Written};
use crate::commands::output;

/// How often the daemon is asked.
const ASK: Duration = Duration::from_secs(1);

/// Writes a config. `patience`: how long to wait for the cluster; none: not at all.
pub(super) fn set(file: &Path, patience: Option<Duration>, options: &Options) -> anyhow::Result<()> {
    let written = Written::read(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(write_and_wait(&written, patience, options));
    // The daemon may still be asked: that is not to hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn write_and_wait(
    written: &Written,
    patience: Option<Duration>,
    options: &Options,
) -> anyhow::Result<()> {
    let in_force = InForce::find(options).await;
    let report = Report::make(options, written, &in_force).await;
    may_be_written(&report, &in_force)?;
    for line in report.differences.iter().map(ToString::to_string).chain(report.notes.iter().cloned()) {
        output::line(one_line(&line))?;
    }
    for unread in &report.unread {
        output::line(one_line(&unread.to_string()))?;
    }
    let target = in_force.parse(&written.text).map(|config| canonical(config.backend.get()))?;
    let target =
        without_secrets(&target).context("the secrets of the backend cannot be told from the rest")?;
    let progress = Progress::new(target, in_force.daemon.as_ref());
    write(written, &in_force, options).await?;
    let Some(patience) = patience else { return Ok(()) };
    if in_force.daemon.is_none() {
        return Ok(output::line(
            "how the change goes cannot be seen from here, since no daemon tells: flanneld status on a node does",
        )?);
    }
    tokio::select! {
        outcome = wait(progress, patience, &options.control_socket) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            let said = "interrupted; the change goes on: flanneld status tells how, and writing the config of before reverts it";
            Err(End { status: INTERRUPTED, said: said.to_owned() }.into())
        }
    }
}

/// Refuses what would do harm, or nothing.
fn may_be_written(report: &Report, in_force: &InForce) -> anyhow::Result<()> {
    if let Some(elsewhere) = &in_force.elsewhere {
        bail!("{} is not written: {elsewhere}", report.config);
    }
    if let Some(error) = &in_force.unread {
        bail!("{} is not written: the config that is there cannot be read: {error}", report.config);
    }
    match report.verdict {
        Verdict::Same | Verdict::Live => Ok(()),
        Verdict::Invalid | Verdict::CannotStart => {
            bail!("{} is not written: {}", report.config, report.problems.join("; "))
        }
        Verdict::Restart => bail!(
            "{} is not written: it takes a restart of each node: {}; to do that, stop flanneld on all nodes, write it to {} yourself, and \
             start them again",
            report.config,
            report.fixed(),
            in_force.place
        ),
    }
}

async fn write(written: &Written, in_force: &InForce, options: &Options) -> anyhow::Result<()> {
    let place = &in_force.place;
    if in_force.stored.as_deref() == Some(&written.text) {
        return Ok(output::line(format_args!("{place} has it already"))?);
    }
    let store = store::open(options)?;
    match store.write_network_config(&written.text, in_force.stored.as_deref()).await? {
        ConfigWritten::Written => Ok(output::line(format_args!("written: {place}"))?),
        ConfigWritten::Overtaken(_) => bail!(
            "{} is not written: somebody else has changed {place} meanwhile; look at what is there, and try again",
            written.place
        ),
    }
}

/// Says how the change goes until it has come to its end, or the time is over.
async fn wait(mut progress: Progress, patience: Duration, socket: &Path) -> anyhow::Result<()> {
    let end = Instant::now() + patience;
    let mut last: Option<Status> = None;
    loop {
        let asked = timeout_at(end, ask(socket.to_owned()));
        let look = match asked.await {
            Ok(Ok(status)) => {
                let look = progress.look(&status);
                last = Some(status);
                look
            }
            Ok(Err(error)) => progress.silent(&error.to_string()),
            Err(_) => Look::GoesOn(None),
        };
        match look {
            Look::Done => return Ok(output::line("done: the cluster has changed to it")?),
            Look::Over(reason) => bail!("{reason}"),
            Look::GoesOn(line) => line.map_or(Ok(()), |line| output::line(one_line(&line)))?,
        }
        if Instant::now() + ASK > end {
            break;
        }
        sleep(ASK).await;
    }
    let left = last.as_ref().map(left_behind).unwrap_or_default();
    for line in &left {
        output::line(format_args!("  {}", one_line(line)))?;
    }
    let said = format!(
        "after {} s the cluster has not changed to it; the change goes on: flanneld status tells how, and writing the config of before \
         reverts it",
        patience.as_secs()
    );
    bail!(said)
}

async fn ask(socket: PathBuf) -> Result<Status, ObserveError> {
    let path = socket.clone();
    let asked = tokio::task::spawn_blocking(move || ask_status(&path)).await;
    asked.unwrap_or_else(|error| Err(ObserveError::NoAnswer { path: socket, reason: error.to_string() }))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use flannel_telemetry::control::{ControlServer, ControlSocket, Request};
    use flannel_telemetry::status::{Change, Config};
    use tokio::sync::mpsc::channel;

    use super::*;

    const OLD: &str = r#"{"Type":"vxlan"}"#;
    const NEW: &str = r#"{"Type":"host-gw"}"#;

    fn status(backend: &str, refused: Option<&str>, moved: Option<usize>) -> Status {
        let config = Some(Config { refused: refused.map(ToOwned::to_owned), backend: backend.to_owned() });
        let change =
            moved.map(|moved| Change { to_type: "host-gw".to_owned(), moved, peers: 2, ..Change::default() });
        Status { config, change, ..Status::default() }
    }

    /// A daemon that says one after the other, and then the last for ever.
    fn daemon(socket: &Path, says: Vec<Status>) -> ControlServer {
        let (sender, mut requests) = channel(1);
        let mut says = VecDeque::from(says);
        tokio::spawn(async move {
            while let Some(Request::Status(answer)) = requests.recv().await {
                let now = if says.len() > 1 { says.pop_front() } else { says.front().cloned() };
                let _ = answer.send(now.unwrap_or_default());
            }
        });
        ControlSocket::bind(socket).expect("bound").serve(sender)
    }

    async fn waited(says: Vec<Status>, patience: u64) -> Result<(), String> {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("flanneld.sock");
        let _daemon = daemon(&socket, says);
        let progress = Progress::new(NEW.to_owned(), Some(&status(OLD, None, None)));
        wait(progress, Duration::from_secs(patience), &socket).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_wait_ends_when_the_change_has() {
        let says = vec![status(OLD, None, None), status(NEW, None, Some(1)), status(NEW, None, None)];
        assert_eq!(waited(says, 60).await, Ok(()));
    }

    #[tokio::test]
    async fn the_wait_ends_when_the_time_is_over_or_the_node_refuses() {
        let error = waited(vec![status(NEW, None, Some(1))], 1).await.expect_err("it goes on");
        assert!(
            error.starts_with("after 1 s the cluster has not changed to it; the change goes on"),
            "{error}"
        );
        let error = waited(vec![status(OLD, Some("no grant"), None)], 60).await.expect_err("refused");
        assert_eq!(error, "this node does not take it up: no grant");
    }

    #[tokio::test]
    async fn a_daemon_that_is_away_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("flanneld.sock");
        let mut progress = Progress::new(NEW.to_owned(), None);
        progress.look(&status(NEW, None, Some(1)));
        let waiting = wait(progress, Duration::from_mins(1), &socket);
        let comes = async {
            sleep(Duration::from_millis(1_500)).await;
            daemon(&socket, vec![status(NEW, None, None)])
        };
        let (waited, _daemon) = tokio::join!(waiting, comes);
        assert!(waited.is_ok(), "{waited:?}");
    }
}
