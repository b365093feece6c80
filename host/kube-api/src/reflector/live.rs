//! Tells what changes, from watch to watch.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::api::WatchForm;
use crate::error::KubeError;
use crate::watch::{NodeWatch, WatchEvent};

use super::memory::Verdict;
use super::{NobodyListens, NodeEvent, Phase, Reflector, number};

/// After so many long watches in a row on which nothing has come, all nodes are read: a server whose backup was restored is silent until it
/// has the version that was asked for.
const SILENT_WATCHES: u32 = 2;

/// How a watch has ended.
enum End {
    /// As it should.
    Over,
    /// Otherwise.
    Failed(KubeError),
    /// What comes does not go together with what was told.
    Lost(&'static str),
}

impl Reflector {
    /// Goes on until all nodes have to be read again.
    pub(super) async fn live(&mut self, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        let (mut failures, mut silent) = (0, 0);
        loop {
            let form = self.watched_form();
            self.state.send_modify(|state| {
                state.phase = Phase::Live;
                state.form = Some(form);
            });
            let begun = self.state.borrow().events;
            let watch = self.api.watch_nodes(&self.version, form, self.options.only.as_deref());
            let watch = tokio::select! {
                watch = watch => watch,
                () = events.closed() => return Err(NobodyListens),
            };
            let opened = watch.is_ok().then(Instant::now);
            let end = match watch {
                Ok(watch) => self.follow(watch, form, events).await?,
                Err(error) => End::Failed(error),
            };
            let has_said_nothing = self.state.borrow().events == begun;
            let was_long = opened.is_some_and(|opened| opened.elapsed() >= self.api.patience().watch);
            silent = if was_long && has_said_nothing { silent + 1 } else { 0 };
            failures = if has_said_nothing { failures } else { 0 };
            let label = match &end {
                End::Over => "end",
                End::Failed(error) => error.label(),
                End::Lost(reason) => reason,
            };
            self.state.send_modify(|state| *state.ends.entry(label).or_default() += 1);
            let error = match end {
                End::Lost(_) | End::Failed(KubeError::Gone { .. } | KubeError::Malformed { .. }) => {
                    return Ok(());
                }
                End::Failed(KubeError::NotAcceptable { .. }) if form == WatchForm::Metadata => {
                    self.no_metadata_since = Some(Instant::now());
                    continue;
                }
                End::Over if !has_said_nothing => continue,
                End::Failed(error) => error,
                End::Over => KubeError::Malformed { reason: "a watch without a word".to_owned() },
            };
            if silent >= SILENT_WATCHES {
                return Ok(());
            }
            self.pause(&error, failures, events).await?;
            failures += 1;
        }
    }

    /// Everything, for a while, where the server does not know the metadata form.
    fn watched_form(&self) -> WatchForm {
        let is_refused =
            self.no_metadata_since.is_some_and(|since| since.elapsed() < self.options.pace.unknown);
        if is_refused { WatchForm::Full } else { self.options.form }
    }

    async fn follow(
        &mut self,
        mut watch: NodeWatch,
        form: WatchForm,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<End, NobodyListens> {
        loop {
            let event = tokio::select! {
                event = watch.next() => event,
                answer = self.completion.next() => {
                    self.state.send_modify(|state| state.asked += 1);
                    let node = self.completion.conclude(answer);
                    let verdict = node.map(|node| self.memory.apply(node));
                    self.hasten_disputed();
                    if let Some(Verdict::Tell(node)) = verdict {
                        self.tell(NodeEvent::Applied(node), events).await?;
                    }
                    continue;
                }
                () = events.closed() => return Err(NobodyListens),
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(End::Over),
                Err(error) => return Ok(End::Failed(error)),
            };
            if number(event.resource_version()) < number(&self.version) {
                return Ok(End::Lost("backwards"));
            }
            event.resource_version().clone_into(&mut self.version);
            self.state.send_modify(|state| {
                state.events += 1;
                state.version.clone_from(&self.version);
                state.heard();
            });
            if let Some(event) = self.judge(event, form) {
                self.tell(event, events).await?;
            }
        }
    }

    /// What is to be told of an event.
    fn judge(&mut self, event: WatchEvent, form: WatchForm) -> Option<NodeEvent> {
        let verdict = match event {
            WatchEvent::Bookmark { .. } => return Some(NodeEvent::Bookmark),
            WatchEvent::Deleted(node) => {
                self.completion.forget(&node.name);
                let is_news = self.memory.delete(&node);
                return is_news.then_some(NodeEvent::Deleted { name: node.name, uid: node.uid });
            }
            WatchEvent::Applied(node) if form == WatchForm::Metadata => self.memory.apply_metadata(node),
            WatchEvent::Applied(node) => self.memory.apply(node),
        };
        self.hasten_disputed();
        match verdict {
            Verdict::Tell(node) if node.cidrs_unverified => {
                self.completion.check(node.clone(), self.memory.len());
                Some(NodeEvent::Applied(node))
            }
            Verdict::Tell(node) => {
                self.completion.forget(&node.name);
                Some(NodeEvent::Applied(node))
            }
            Verdict::Unverified(node) => {
                self.completion.check(node, self.memory.len());
                None
            }
            Verdict::Incomplete(node) => {
                self.completion.want(node);
                None
            }
            Verdict::Nothing => None,
        }
    }

    /// Who says what another one says, too, has to be looked at before anybody else does.
    fn hasten_disputed(&mut self) {
        for name in self.memory.take_disputed() {
            self.completion.hasten(&name);
        }
    }
}
