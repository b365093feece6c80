//! Following a lease directory: a snapshot, then what differs at each further reading. Readings are prompted by inotify, and
//! by time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use flannel_model::codec;
use flannel_model::lease::{Lease, Subnets};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::directory::{Cache, Content, Directory, Entry};
use super::notify::{Changed, Notify};
use crate::store::{Change, Event, RECONNECT, StoreError, as_long_as_heard};

/// How long after a reading the directory is read again if nothing prompts it.
const RESYNC: Duration = Duration::from_secs(30);
/// The same while there is no inotify.
const POLL: Duration = Duration::from_secs(1);
/// Of more files that changed at once than this the whole directory is read.
const MANY: usize = 1024;

pub(super) fn start(directory: Arc<Directory>) -> Receiver<Event> {
    as_long_as_heard(move |sender| async move { follow(&directory, &sender).await })
}

/// Ends when nobody listens any more.
async fn follow(directory: &Arc<Directory>, sender: &Sender<Event>) {
    let mut notify: Option<Notify> = None;
    let mut cache = Cache::default();
    let mut known: Option<Known> = None;
    let mut failures = 0;
    let (mut throttle, mut said_blind) = (LogThrottle::new(None), false);
    let mut prompt = Prompt::All;
    loop {
        // Before the reading: what changes after it prompts the next.
        if notify.is_none() {
            match Notify::start(&directory.subnets()) {
                Ok(started) => (notify, said_blind) = (Some(started), false),
                Err(error) if !said_blind => {
                    said_blind = true;
                    warn!(%error, "inotify cannot watch the lease directory: it is read every second");
                }
                Err(_) => {}
            }
        }
        let looked;
        (cache, looked) =
            look(Arc::clone(directory), cache, std::mem::replace(&mut prompt, Prompt::All)).await;
        match looked {
            Ok((looked, contested)) => {
                failures = 0;
                throttle.reset();
                let event = match (&mut known, looked) {
                    (Some(known), Looked::All(entries)) => Event::Changes(known.update(entries)),
                    (Some(known), Looked::Some(entries)) => Event::Changes(known.update_some(entries)),
                    (none, Looked::All(entries)) => {
                        let (first, leases) = Known::begin(entries);
                        *none = Some(first);
                        Event::Snapshot(leases)
                    }
                    (None, Looked::Some(_)) => Event::Changes(Vec::new()),
                };
                for event in [event, Event::Changes(contested)] {
                    if !matches!(&event, Event::Changes(changes) if changes.is_empty())
                        && sender.send(event).await.is_err()
                    {
                        return;
                    }
                }
                (notify, prompt) = prompted(notify).await;
            }
            Err(error) => {
                let text = error.to_string();
                if throttle.says(&text, Instant::now()) {
                    warn!("{text}; going on with the leases that are known, and trying again");
                }
                notify = None;
                sleep(RECONNECT.after(failures)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// What is to be looked at.
enum Prompt {
    /// Files with these names.
    Some(BTreeSet<String>),
    /// Everything.
    All,
}

/// What was found there; and which leases of this process somebody else has written.
type Found = (Looked, Vec<Change>);

/// What was found.
enum Looked {
    Some(Vec<(String, Option<Entry>)>),
    All(Vec<Entry>),
}

impl Looked {
    fn entries(&self) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match self {
            Self::Some(entries) => Box::new(entries.iter().filter_map(|(_, entry)| entry.as_ref())),
            Self::All(entries) => Box::new(entries.iter()),
        }
    }
}

/// Waits until something is to be looked at.
async fn prompted(notify: Option<Notify>) -> (Option<Notify>, Prompt) {
    let Some(mut notify) = notify else {
        sleep(POLL).await;
        return (None, Prompt::All);
    };
    let (mut names, mut all) = (BTreeSet::new(), false);
    let take = |changed: Changed<'_>| {
        let name = match changed {
            Changed::File(name) => name.to_str(),
            Changed::Anything => None,
        };
        match name {
            // Not a lease yet, and told of again when it gets its name.
            Some(name) if name.starts_with('.') => return false,
            Some(name) if is_canonical(name) => drop(names.insert(name.to_owned())),
            _ => all = true,
        }
        all |= names.len() > MANY;
        true
    };
    match timeout(RESYNC, notify.changed(take)).await {
        Ok(Ok(true)) => (Some(notify), if all { Prompt::All } else { Prompt::Some(names) }),
        // Begun anew: the directory was moved or removed, or inotify failed, or nothing has come for long, and then it may
        // have been replaced further up, without a sign.
        _ => (None, Prompt::All),
    }
}

async fn look(
    directory: Arc<Directory>,
    mut cache: Cache,
    prompt: Prompt,
) -> (Cache, Result<Found, StoreError>) {
    let place = directory.place();
    let work = move || {
        let looked = match prompt {
            Prompt::Some(names) => directory.read_some(names, &mut cache).map(Looked::Some),
            Prompt::All => directory.scan(&mut cache).map(Looked::All),
        };
        let found = looked.map(|looked| {
            let foreign = looked.entries().filter(|entry| directory.is_foreign(entry));
            let foreign = foreign.map(|entry| match entry.content {
                Content::Unreadable => Change::Spoiled(entry.subnets),
                Content::Same | Content::New(_) => Change::Contested(entry.subnets),
            });
            let foreign = foreign.collect();
            (looked, foreign)
        });
        (cache, found)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        (Cache::default(), Err(StoreError::Unavailable { place, reason: error.to_string() }))
    })
}

/// What the receiver knows.
struct Known(HashMap<Subnets, Arc<Lease>>);

impl Known {
    fn begin(entries: Vec<Entry>) -> (Self, Vec<Arc<Lease>>) {
        let leases: Vec<Arc<Lease>> =
            entries.into_iter().filter_map(Entry::into_lease).map(Arc::new).collect();
        (Self(leases.iter().map(|lease| (lease.subnets, Arc::clone(lease))).collect()), leases)
    }

    /// What has changed: first what is gone, so that what comes in its place does not overlap it.
    fn update(&mut self, entries: Vec<Entry>) -> Vec<Change> {
        let mut present = HashMap::with_capacity(entries.len());
        for entry in entries {
            let subnets = entry.subnets;
            present.extend(self.lease(entry).map(|lease| (subnets, lease)));
        }
        let mut gone: Vec<Subnets> =
            self.0.keys().filter(|subnets| !present.contains_key(subnets)).copied().collect();
        let mut put: Vec<&Arc<Lease>> =
            present.values().filter(|lease| self.0.get(&lease.subnets) != Some(lease)).collect();
        gone.sort_unstable();
        put.sort_unstable_by_key(|lease| lease.subnets);
        let changes: Vec<Change> =
            gone.into_iter().map(Change::Removed).chain(put.into_iter().cloned().map(Change::Put)).collect();
        self.0 = present;
        changes
    }

    /// The same for some files.
    fn update_some(&mut self, entries: Vec<(String, Option<Entry>)>) -> Vec<Change> {
        let (mut gone, mut put) = (Vec::new(), Vec::new());
        for (name, entry) in entries {
            if let Some(lease) = entry.and_then(|entry| self.lease(entry)) {
                if self.0.insert(lease.subnets, Arc::clone(&lease)).as_ref() != Some(&lease) {
                    put.push(Change::Put(lease));
                }
                continue;
            }
            let subnets = codec::parse_key_name(&name).ok();
            gone.extend(subnets.filter(|subnets| self.0.remove(subnets).is_some()).map(Change::Removed));
        }
        gone.extend(put);
        gone
    }

    /// The lease of a file: one that cannot be read, or is unchanged, stays what it was, but for its end.
    fn lease(&self, entry: Entry) -> Option<Arc<Lease>> {
        if matches!(entry.content, Content::New(_)) {
            return entry.into_lease().map(Arc::new);
        }
        let known = self.0.get(&entry.subnets)?;
        if matches!(entry.content, Content::Unreadable) || known.expires == Some(entry.expires) {
            return Some(Arc::clone(known)).filter(|_| !entry.is_over());
        }
        let lease = Lease { expires: Some(entry.expires), ..Lease::clone(known) };
        (!entry.is_over()).then(|| Arc::new(lease))
    }
}

/// Whether a name is the only one that these subnets can have: then its file alone says what is with them.
fn is_canonical(name: &str) -> bool {
    codec::parse_key_name(name).is_ok_and(|subnets| codec::key_name(&subnets) == name)
}
