//! The netlink socket for IPsec: what is tied to a device read, added and removed.

use std::os::fd::BorrowedFd;

use netlink_packet_xfrm::constants::{XFRMNLGRP_POLICY, XFRMNLGRP_SA};

use super::message::{self, Policy, Protects, State};
use crate::netlink::{Message, NetlinkError, NotificationSocket, Payload, RequestSocket};

/// A socket for policies and states, in the network namespace of the thread that opens it.
pub(super) struct XfrmSocket {
    socket: RequestSocket,
    notifications: NotificationSocket,
}

impl XfrmSocket {
    /// Opens it. Fails where the kernel has no IPsec.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let lacking = |error: NetlinkError| {
            NetlinkError::Unsupported(format!(
                "this kernel has no IPsec (module `xfrm_user`): {error}; install it, or choose another Backend.Type"
            ))
        };
        let socket = RequestSocket::open_xfrm().map_err(lacking)?;
        let notifications =
            NotificationSocket::open_xfrm(&[XFRMNLGRP_SA, XFRMNLGRP_POLICY]).map_err(lacking)?;
        Ok(Self { socket, notifications })
    }

    /// What to wait on for others' changes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.notifications.descriptor()
    }

    /// Whether somebody else has changed something since the last question. What cannot be read counts as that.
    pub(super) fn others_changed(&self) -> bool {
        self.notifications.has_others(self.socket.port()).unwrap_or(true)
    }

    /// The states of a device.
    pub(super) fn states(&mut self, if_id: u32) -> Result<Vec<State>, NetlinkError> {
        let mut found = Vec::new();
        self.socket.dump_each(&message::all_states(), |payload| {
            found.extend(message::read_state(&payload).filter(|state| state.if_id == if_id));
        })?;
        Ok(found)
    }

    /// The policies of a device.
    pub(super) fn policies(&mut self, if_id: u32) -> Result<Vec<Policy>, NetlinkError> {
        let mut found = Vec::new();
        self.socket.dump_each(&message::all_policies(), |payload| {
            found.extend(message::read_policy(&payload).filter(|policy| policy.if_id == if_id));
        })?;
        Ok(found)
    }

    /// One state, as it is now.
    pub(super) fn state(&mut self, state: &State) -> Option<State> {
        let found = self.socket.get(message::get_state(state)).ok()??;
        message::read_state(&found)
    }

    /// Adds a state.
    pub(super) fn add(&mut self, state: &State, protects: &Protects<'_>) -> Result<(), NetlinkError> {
        self.execute(message::add_state(state, protects)).map_err(|error| explained(error, protects))
    }

    /// Removes a state; that it is gone already is fine.
    pub(super) fn delete(&mut self, state: &State) -> Result<(), NetlinkError> {
        gone(self.execute(message::delete_state(state)))
    }

    /// Makes policies, or changes them.
    pub(super) fn put_policies(&mut self, policies: &[Policy]) -> Result<(), NetlinkError> {
        let messages = policies.iter().map(|policy| Message::plain(message::put_policy(policy))).collect();
        self.socket.batch(messages).into_iter().collect()
    }

    /// Removes a policy; that it is gone already is fine.
    pub(super) fn delete_policy(&mut self, policy: &Policy) -> Result<(), NetlinkError> {
        gone(self.execute(message::delete_policy(policy)))
    }

    /// Removes all that is tied to a device.
    pub(super) fn flush(&mut self, if_id: u32) -> Result<(), NetlinkError> {
        for policy in self.policies(if_id)? {
            self.delete_policy(&policy)?;
        }
        for state in self.states(if_id)? {
            self.delete(&state)?;
        }
        Ok(())
    }

    fn execute(&mut self, payload: Payload) -> Result<(), NetlinkError> {
        self.socket.execute(Message::plain(payload))
    }
}

/// What is gone has been removed.
fn gone(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(error) if error.is(libc::ESRCH) || error.is(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// A kernel that lacks ESP or a cipher says no more than that it does not have it.
fn explained(error: NetlinkError, protects: &Protects<'_>) -> NetlinkError {
    if error.is(libc::EPROTONOSUPPORT) {
        return NetlinkError::Unsupported(
            "this kernel has no ESP (modules `esp4`, `esp6`): install it, or choose another Backend.Type"
                .to_owned(),
        );
    }
    if error.is(libc::ENOSYS) || error.is(libc::ENOENT) {
        return NetlinkError::Unsupported(format!(
            "this kernel has no {}: choose another ESPProposal",
            protects.cipher.kernel_name()
        ));
    }
    error
}
