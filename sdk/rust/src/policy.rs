//! What an author implements.

use std::time::Duration;

use crate::{Config, Lease, Node, PeerId, Registration};

/// A policy: leases in, entries out. Each call is a transaction: what it declares is applied as a whole when it answers
/// `Ok`, and not at all otherwise.
pub trait Policy: Sized + 'static {
    /// Name of the policy: 1 to 64 characters of `a-z`, `0-9`, `-`.
    const NAME: &'static str;
    /// The plugin's own version.
    const VERSION: &'static str;
    /// Values of `Backend.Type` in the network config for which the policy is meant, in lower case.
    const BACKEND_TYPES: &'static [&'static str];

    /// Called once, before anything else: check the config, declare the devices, and say what to publish. The error is for
    /// the operator and ends the daemon's start: it names the option and the value, and says what would be right.
    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String>;

    /// The node holds this lease now: put addresses on the devices. Called again when the lease has changed.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let _ = own;
        Ok(())
    }

    /// A peer has this lease now: new, changed, or the same again. What was declared for the peer before is forgotten, so
    /// declare all that it needs. Peers of other backends come too: do nothing for them. An error means that this peer cannot
    /// be served, says what is wrong with which value, and leaves the peer without entries.
    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String>;

    /// A peer is gone, and so are all of its entries: forget what the policy itself remembers of it.
    fn removed(&mut self, peer: PeerId) {
        let _ = peer;
    }

    /// The policy has been told of all changes of a call, which are thousands at the beginning: for what is about all peers, such as
    /// [`crate::probe::watch`]. An error drops the whole call.
    fn applied(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// For policies with state outside of the kernel: called first right after the first snapshot. Answers after what time to
    /// call again (at least 100 ms), or none for never.
    fn tick(&mut self) -> Result<Option<Duration>, String> {
        Ok(None)
    }
}

/// What a policy implements besides that has something outside of the kernel, rows in a cloud's table, say; exported with
/// [`crate::retirement!`].
pub trait Retire: Policy {
    /// The node has a backend of another type now: remove what this one has made for the node, and nothing of anybody else's. Answers
    /// after what time to call again (at least 100 ms), or none: nothing is left. After an error it is called again up to four times.
    fn retire(&mut self) -> Result<Option<Duration>, String>;
}
