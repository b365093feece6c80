//! Watches, and lists as streams.

use std::collections::HashMap;
use std::io::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Shared;
use crate::faults::Kind;
use crate::http::{PieceSender, Pieces, only, respond, whole};
use crate::nodes::{partial, status};
use crate::state::{Change, Mode, Request, State};

/// What a watch has told so far.
struct Progress {
    version: u64,
    ends: usize,
    cuts: usize,
    bookmarks: usize,
    lines: usize,
}

/// What a watch does next.
#[derive(Default)]
struct Next {
    lines: Vec<String>,
    ends: bool,
    is_cut: bool,
}

/// Counts a watch for as long as it runs.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.state().watches -= 1;
    }
}

pub(crate) fn answer(
    request: &Request,
    query: HashMap<String, String>,
    shared: Arc<Shared>,
    fault: Option<Kind>,
) -> Response<Pieces> {
    let is_partial =
        request.headers.get("accept").is_some_and(|accept| accept.contains("PartialObjectMetadata;"));
    let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let is_list = query.contains_key("sendInitialEvents");
    let (sender, pieces) = mpsc::channel(1);
    let mut state = shared.state();
    if is_partial && state.has_no_metadata_form {
        return whole(406, &status(406, "only the following media types are accepted"), None);
    }
    if is_list {
        match state.mode {
            Mode::V1_26 => return whole(422, &status(422, "sendInitialEvents is forbidden for watch"), None),
            Mode::V1_33 => {
                let words =
                    "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
                return whole(422, &status(422, words), None);
            }
            Mode::V1_36 | Mode::V1_36OnEtcd3_4 => {}
        }
    } else if from < state.oldest && state.gone_by_status {
        return whole(410, &status(410, "too old resource version"), None);
    }
    let mut progress = Progress {
        version: from,
        ends: state.ends,
        cuts: state.cuts,
        bookmarks: state.bookmarks,
        lines: state.lines.len(),
    };
    let mut first = Next::default();
    if is_list && from > state.version {
        // Waits until it is there.
    } else if is_list {
        first = initial(&state, &query, is_partial);
        progress.version = state.version;
    } else if from < state.oldest {
        first = too_old(from, &state);
    }
    state.watches += 1;
    drop(state);
    let counted = Counted(Arc::clone(&shared));
    tokio::spawn(run(counted, shared, sender, query, is_partial, progress, first, fault));
    respond(200, pieces)
}

fn initial(state: &State, query: &HashMap<String, String>, is_partial: bool) -> Next {
    if state.mode == Mode::V1_36OnEtcd3_4 {
        let words = "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled";
        let event = json!({"type": "ERROR", "object": status(500, words)});
        return Next { lines: vec![event.to_string()], ends: true, is_cut: false };
    }
    let mut lines: Vec<String> =
        state.selected(only(query)).iter().map(|node| event("ADDED", node, is_partial)).collect();
    lines.push(bookmark(state.version, true));
    Next { lines, ..Next::default() }
}

fn too_old(version: u64, state: &State) -> Next {
    let words = format!("too old resource version: {version} ({})", state.oldest);
    let event = json!({"type": "ERROR", "object": status(410, &words)});
    Next { lines: vec![event.to_string()], ends: true, is_cut: false }
}

fn event(kind: &str, object: &Value, is_partial: bool) -> String {
    let object = if is_partial { partial(object) } else { object.clone() };
    json!({"type": kind, "object": object}).to_string()
}

fn bookmark(version: u64, is_end_of_list: bool) -> String {
    let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    if is_end_of_list {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    json!({"type": "BOOKMARK", "object": {"kind": "Node", "apiVersion": "v1", "metadata": metadata, "spec": {}, "status": {}}})
        .to_string()
}

fn next(state: &State, progress: &mut Progress, only: Option<&str>, is_partial: bool) -> Next {
    if progress.version < state.oldest {
        // What it has not told yet is forgotten.
        return too_old(progress.version, state);
    }
    let is_new = |change: &&Change| change.version > progress.version;
    let is_selected =
        |change: &&Change| only.is_none_or(|only| change.object["metadata"]["name"].as_str() == Some(only));
    let news = state.history.iter().filter(is_new).filter(is_selected);
    let mut lines: Vec<String> = news.map(|change| event(change.kind, &change.object, is_partial)).collect();
    progress.version = progress.version.max(state.version);
    if progress.bookmarks < state.bookmarks {
        progress.bookmarks = state.bookmarks;
        lines.push(bookmark(progress.version, false));
    }
    lines.extend_from_slice(&state.lines[progress.lines..]);
    progress.lines = state.lines.len();
    Next { lines, ends: progress.ends < state.ends, is_cut: progress.cuts < state.cuts }
}

#[expect(clippy::too_many_arguments, reason = "a task takes all that it needs along")]
async fn run(
    _counted: Counted,
    shared: Arc<Shared>,
    sender: PieceSender,
    query: HashMap<String, String>,
    is_partial: bool,
    mut progress: Progress,
    first: Next,
    fault: Option<Kind>,
) {
    let mut changed = shared.changed.subscribe();
    let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(30);
    let over = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(over);
    let mut now = first;
    loop {
        if !tell(&sender, &now, fault.as_ref()).await {
            return;
        }
        now = next(&shared.state(), &mut progress, only(&query), is_partial);
        if now.lines.is_empty() && !now.ends && !now.is_cut {
            tokio::select! {
                _ = changed.changed() => {}
                () = &mut over => return,
                () = sender.closed() => return,
            }
        }
    }
}

/// Sends lines, each in two pieces. Whether the watch goes on.
async fn tell(sender: &PieceSender, now: &Next, fault: Option<&Kind>) -> bool {
    let piece = |text: &str| Ok::<_, Error>(Bytes::copy_from_slice(text.as_bytes()));
    for line in &now.lines {
        let middle = line.len() / 2;
        let middle = (0..=middle).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        if let Some(Kind::Slow(pause)) = fault {
            tokio::time::sleep(*pause).await;
        }
        if sender.send(piece(&line[..middle])).await.is_err() {
            return false;
        }
        match fault {
            Some(Kind::Cut) => {
                drop(sender.send(Err(Error::other("cut"))).await);
                return false;
            }
            Some(Kind::Stop) => std::future::pending::<()>().await,
            _ => {}
        }
        if sender.send(piece(&format!("{}\n", &line[middle..]))).await.is_err() {
            return false;
        }
    }
    if now.is_cut {
        drop(sender.send(Err(Error::other("cut"))).await);
    }
    !now.ends && !now.is_cut
}
