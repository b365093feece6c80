//! Listens to what changes in a node's kernel, whoever changes it: the witness that a daemon did nothing, or when it did it.

use std::fmt;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Namespace, Node};

/// Multicast groups, `RTNLGRP_*`: links, neighbours (with forwarding databases), addresses and routes of both families,
/// nexthop objects.
const GROUPS: [u32; 7] = [1, 3, 5, 9, 7, 11, 32];

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A device.
    Link,
    /// An address of a device.
    Address,
    /// A route.
    Route,
    /// A neighbour entry, or one of a forwarding database.
    Neighbour,
    /// A nexthop object.
    Nexthop,
}

/// A change.
#[derive(Clone, Debug)]
pub struct Change {
    /// When it was heard of.
    pub at: Instant,
    /// Whether something went away.
    pub gone: bool,
    /// What it is about.
    pub object: Object,
    /// The device that it is about, where it is about one.
    device: Option<u32>,
    text: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", if self.gone { "gone" } else { "new" }, self.object, self.text)
    }
}

#[derive(Default)]
struct Shared {
    changes: Mutex<Vec<Change>>,
    stop: AtomicBool,
}

/// A listener. It ends when it is dropped.
pub struct Watcher {
    namespace: Namespace,
    devices: Vec<u64>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Listens from now on.
    pub fn start(node: &Node) -> Result<Self> {
        let namespace = node.namespace().clone();
        let devices = our_devices(&namespace)?;
        let socket =
            namespace.run(subscribe)?.with_context(|| format!("cannot listen on {}", node.name()))?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || listen(&socket, &shared)
            })
            .context("cannot start a thread")?;
        Ok(Self { namespace, devices, shared, thread: Some(thread) })
    }

    /// All changes so far.
    pub fn all(&self) -> Vec<Change> {
        self.shared.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The changes so far that concern flannel: to routes and nexthop objects, and to all that is on flannel devices which were there
    /// at the beginning or are there now. (Neighbours of other devices come and go as packets do.)
    pub fn ours(&self) -> Result<Vec<Change>> {
        let now = our_devices(&self.namespace)?;
        let is_ours = |device: u32| now.iter().chain(&self.devices).any(|ours| *ours == u64::from(device));
        let concerns = |change: &Change| match change.object {
            Object::Route | Object::Nexthop => true,
            Object::Link | Object::Address | Object::Neighbour => change.device.is_some_and(is_ours),
        };
        Ok(self.all().into_iter().filter(concerns).collect())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn our_devices(namespace: &Namespace) -> Result<Vec<u64>> {
    let links = namespace.ip_json("link show")?;
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with("flannel")))
        .filter_map(|link| link["ifindex"].as_u64())
        .collect())
}

fn subscribe() -> std::io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn listen(socket: &Socket, shared: &Shared) {
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !shared.stop.load(Ordering::Relaxed) {
        if poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::IN)], Some(&pause)).is_err() {
            continue;
        }
        loop {
            match socket.recv_from_full() {
                Ok((bytes, _)) => {
                    let changes = parse(&bytes, Instant::now());
                    shared.changes.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // More happened than the socket could hold: what is lost cannot be told any more, but must not go unseen.
                Err(error) => {
                    let text = format!("(some changes were missed: {error})");
                    let change =
                        Change { at: Instant::now(), gone: false, object: Object::Route, device: None, text };
                    shared.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
                    std::thread::sleep(Duration::from_millis(1));
                    break;
                }
            }
        }
    }
}

/// The changes in a datagram, which may hold several messages.
fn parse(mut bytes: &[u8], at: Instant) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some((message, rest)) = split(bytes) {
        changes.extend(change(message, at));
        bytes = rest;
    }
    changes
}

/// A whole message with its header, and what comes behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let message = bytes.get(..length).filter(|message| message.len() >= 16)?;
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn change(message: &[u8], at: Instant) -> Option<Change> {
    let kind = u16::from_ne_bytes(message[4..6].try_into().ok()?);
    let object = match kind {
        16 | 17 => Object::Link,
        20 | 21 => Object::Address,
        24 | 25 => Object::Route,
        28 | 29 => Object::Neighbour,
        104 | 105 => Object::Nexthop,
        _ => return None,
    };
    // The headers of links, addresses and neighbours all have the interface at the same place.
    let has_device = matches!(object, Object::Link | Object::Address | Object::Neighbour);
    let device = message.get(20..24).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    Some(Change {
        at,
        gone: kind % 2 == 1,
        object,
        device: device.filter(|_| has_device),
        text: text(message),
    })
}

fn text(message: &[u8]) -> String {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|message| message.payload) {
        Ok(NetlinkPayload::InnerMessage(inner)) => format!("{inner:?}"),
        _ => format!("{:02x?}", &message[16..]),
    }
}
