//! What the kernel tells of changes in a directory.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An inotify watch of a directory.
pub(super) struct Notify(AsyncFd<Inotify>);

/// What may have changed.
pub(super) enum Changed<'n> {
    /// The file of this name.
    File(&'n OsStr),
    /// Anything: the kernel could not keep up.
    Anything,
}

impl Notify {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        inotify.watches().add(
            path,
            WatchMask::CREATE
                | WatchMask::CLOSE_WRITE
                // Not only writing: a renewal sets the modification time, and that is told as this.
                | WatchMask::MODIFY
                | WatchMask::MOVE
                | WatchMask::DELETE
                | WatchMask::ATTRIB
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
                | WatchMask::ONLYDIR,
        )?;
        // SAFETY: `Inotify` owns the descriptor that it gives out, always the same one, and closes it only when it is dropped
        // or consumed. The `AsyncFd` owns it from here to its end: nothing in this module takes it out or replaces it.
        let notify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        Ok(Self(notify?))
    }

    /// Waits for changes, and gives out all that there are; `take` says of each whether it is of interest, and one has to be. Answers
    /// whether the directory itself is still there.
    pub(super) async fn changed(&mut self, mut take: impl FnMut(Changed<'_>) -> bool) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut of_interest = false;
        loop {
            let mut ready = self.0.readable_mut().await?;
            match ready.get_inner_mut().read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        let over = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
                        if event.mask.intersects(over) {
                            return Ok(false);
                        }
                        let changed = event.name.map_or(Changed::Anything, Changed::File);
                        of_interest |= take(changed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    if of_interest {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
