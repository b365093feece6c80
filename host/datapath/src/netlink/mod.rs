//! Talking to the kernel's routing netlink: typed messages in, typed answers and notifications out. What the messages
//! should say is not decided here.
//!
//! `rtnetlink`'s handle sends one request at a time and is what the rest of the daemon uses. The reconciler has tens of
//! thousands of entries to send, and must know exactly which notifications came before an acknowledgement, so it has
//! sockets of its own: many requests in one system call, and a notification socket that it reads itself.

mod message;
mod nexthop;
mod notify;
mod socket;

pub(crate) use message::{Message, Payload, create, create_or_replace};
pub(crate) use nexthop::NexthopMessage;
pub(crate) use notify::{Drained, NotificationSocket};
pub(crate) use socket::RequestSocket;

use std::io;

/// Why the kernel, or the way to it, failed a request.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NetlinkError {
    /// The kernel refused: an error number, and its explanation where it gave one.
    #[error("{}{}", io::Error::from_raw_os_error(*errno), explanation(text))]
    Refused {
        /// Positive error number, as in errno(3).
        errno: i32,
        /// The kernel's extended acknowledgement text; may be empty.
        text: String,
    },
    /// The kernel has no such thing; the text says what, and what would help.
    #[error("{0}")]
    Unsupported(String),
    /// A device that is not ours is in the way: nothing was sent. The text says which, and what would be right.
    #[error("{0}")]
    NotOurs(String),
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(String),
    /// The kernel's answer could not be understood.
    #[error("netlink answer: {0}")]
    Malformed(String),
}

fn explanation(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

impl NetlinkError {
    /// Whether the kernel refused with this error number.
    pub fn is(&self, errno: i32) -> bool {
        matches!(self, Self::Refused { errno: is, .. } if *is == errno)
    }
}

impl From<io::Error> for NetlinkError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.to_string())
    }
}
