//! One node: what is remembered of it, and what becomes of that when it is read again.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flannel_base::Timestamp;
use flannel_model::codec::CodecError;
use flannel_model::lease::{Attributes, Lease, Subnets};
use serde_json::value::RawValue;

use super::claims::Rank;
use super::notice::{Noteworthy, Refusal};
use crate::annotated::{Annotated, Managed, Reached, Said};
use crate::cidrs::Cidrs;
use crate::families::Families;
use crate::prefix::Keys;
use flannel_kube_api::Node;

/// How things stand with a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has no annotations, and has had none: no daemon has run there yet.
    #[default]
    Unmanaged,
    /// It says that flannel does not manage it.
    Withdrawn,
    /// It says how it is reached, and has no CIDR yet.
    WaitingForCidr,
    /// It has a lease.
    Ok,
    /// It has the lease that it had before its annotations were lost.
    AnnotationsLost,
    /// Some of what it says cannot be read, and is what it was before.
    Unreadable(String),
    /// Its lease is not served.
    Refused(Box<Refusal>),
}

/// What is remembered of a node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) uid: Box<str>,
    /// Seconds since 1970; 0 if nobody can read it.
    pub(super) created: u64,
    /// Of the cluster's families. Kubernetes changes them with the UID only.
    cidrs: Subnets,
    /// Whether Kubernetes has assigned them; else the node itself says so.
    assigned: bool,
    /// The last good one, whether served or not.
    pub(super) lease: Option<Arc<Lease>>,
    /// What of it is told: the families in which no other node is reached by the same CIDR.
    pub(super) served: Option<Arc<Lease>>,
    /// How things stand by what the node says.
    pub(super) read: State,
    /// How they stand beside this node.
    pub(super) state: State,
    /// What has been said already.
    said: u8,
}

impl Peer {
    /// Of a node that is not known yet.
    pub(super) fn of(node: &Node) -> Self {
        let created = node.created.parse::<Timestamp>().unwrap_or_default().seconds();
        Self {
            uid: node.uid.as_str().into(),
            created,
            cidrs: Subnets { v4: None, v6: None },
            assigned: false,
            lease: None,
            served: None,
            read: State::Unmanaged,
            state: State::Unmanaged,
            said: 0,
        }
    }

    /// What goes over to a map that is built beside this one.
    pub(super) fn remembered(&self) -> Self {
        Self {
            uid: self.uid.clone(),
            lease: self.lease.clone(),
            served: None,
            read: State::Unmanaged,
            state: State::Unmanaged,
            ..*self
        }
    }

    pub(super) fn rank(&self) -> Rank<'_> {
        Rank { assigned: self.assigned, created: self.created, uid: &self.uid }
    }

    /// The CIDRs that it claims: those of a lease that is not refused.
    pub(super) fn claims(&self) -> Option<Subnets> {
        let lease = self.lease.as_ref().filter(|_| !matches!(self.state, State::Refused(_)))?;
        Some(lease.subnets)
    }

    /// Whether something is to be said now: it has not been said before.
    pub(super) fn says(&mut self, what: &Noteworthy) -> bool {
        let is_news = self.said & what.bit() == 0;
        self.said |= what.bit();
        is_news
    }

    /// Reads the node again; the same UID as before.
    pub(super) fn read(&mut self, node: &Node, keys: &Keys, families: Families) {
        let unreadable = self.take_cidrs(node, families);
        let managed = Managed::read(node, keys);
        let said = Annotated::read(node, keys);
        let is_silent = said.is_silent(families);
        self.read = match managed {
            Managed::No => {
                self.lease = None;
                State::Withdrawn
            }
            Managed::Unsaid if self.lease.is_none() => State::Unmanaged,
            Managed::Unsaid => State::AnnotationsLost,
            Managed::Yes if is_silent && said.backend_type.is_ok() && self.lease.is_some() => {
                State::AnnotationsLost
            }
            Managed::Yes if self.cidrs.iter().next().is_none() => {
                self.lease = None;
                match unreadable {
                    Some(cidr) => refused(format!("its podCIDR {cidr:?} is no network")),
                    None if !self.assigned => State::WaitingForCidr,
                    None => State::Refused(Box::new(Refusal::NoFamily)),
                }
            }
            Managed::Yes => self.take_annotations(said, families),
        };
    }

    /// A node's CIDRs change with its UID only, but for those that it only says it has: what it really has takes their place, and what was
    /// made of them goes, whatever is remembered otherwise. What is no CIDR, if there is none beside it.
    fn take_cidrs(&mut self, node: &Node, families: Families) -> Option<String> {
        let told = Cidrs::assigned(node);
        let found = told.of(families);
        if found.iter().next().is_some() || told.unreadable.is_none() {
            self.assigned = !told.is_empty() && !node.cidrs_unverified;
            self.cidrs = found;
            let lease = self.lease.take();
            self.lease = lease.and_then(|lease| {
                let Subnets { v4, v6 } = lease.subnets;
                part(&lease, v4 == found.v4, v6 == found.v6)
            });
        }
        told.unreadable
    }

    fn take_annotations(&mut self, said: Annotated, families: Families) -> State {
        let mut wrong: Option<CodecError> = None;
        let last = self.lease.as_deref().map(|lease| &lease.attributes);
        let backend_type = said.backend_type.unwrap_or_else(|error| {
            wrong = Some(error);
            last.map(|last| last.backend_type.clone()).unwrap_or_default()
        });
        if let (Some(error), None) = (&wrong, last) {
            return refused(error.to_string());
        }
        // Another backend's data are none of this one's.
        let last = last.filter(|last| last.backend_type == backend_type);
        let v4 =
            take(said.ipv4, self.cidrs.v4.is_some() && families.ipv4, &mut wrong, || last.and_then(last_v4));
        let v6 =
            take(said.ipv6, self.cidrs.v6.is_some() && families.ipv6, &mut wrong, || last.and_then(last_v6));
        let subnets = Subnets {
            v4: self.cidrs.v4.filter(|_| v4.is_some()),
            v6: self.cidrs.v6.filter(|_| v6.is_some()),
        };
        if subnets.iter().next().is_none() {
            // What was good is held for as long as nothing else is said.
            return match (wrong, &self.lease) {
                (Some(error), Some(_)) => State::Unreadable(error.to_string()),
                (Some(error), None) => refused(error.to_string()),
                (None, _) => {
                    self.lease = None;
                    State::Refused(Box::new(Refusal::NoFamily))
                }
            };
        }
        let (public_ip, backend_data) = v4.map_or((None, None), |v4| (Some(v4.address), v4.data));
        let (public_ipv6, backend_v6_data) = v6.map_or((None, None), |v6| (Some(v6.address), v6.data));
        let generations = said.generations;
        let attributes =
            Attributes { public_ip, public_ipv6, backend_type, backend_data, backend_v6_data, generations };
        let lease = Lease { subnets, attributes, expires: None };
        if self.lease.as_deref() != Some(&lease) {
            self.lease = Some(Arc::new(lease));
        }
        wrong.map_or(State::Ok, |error| State::Unreadable(error.to_string()))
    }
}

fn refused(reason: String) -> State {
    State::Refused(Box::new(Refusal::Unreadable(reason)))
}

/// What a node says of a family, or said last if that cannot be read; none if it has no subnet of that family.
fn take<A>(
    said: Said<A>,
    is_on: bool,
    wrong: &mut Option<CodecError>,
    last: impl FnOnce() -> Option<Reached<A>>,
) -> Option<Reached<A>> {
    match said {
        _ if !is_on => None,
        Ok(said) => said,
        Err(error) => {
            wrong.get_or_insert(error);
            last()
        }
    }
}

fn last_v4(last: &Attributes) -> Option<Reached<Ipv4Addr>> {
    Some(Reached { address: last.public_ip?, data: last.backend_data.clone() })
}

fn last_v6(last: &Attributes) -> Option<Reached<Ipv6Addr>> {
    Some(Reached { address: last.public_ipv6?, data: last.backend_v6_data.clone() })
}

/// The part of a lease that is of some of its families; none of none.
pub(super) fn part(lease: &Arc<Lease>, v4: bool, v6: bool) -> Option<Arc<Lease>> {
    let subnets = Subnets { v4: lease.subnets.v4.filter(|_| v4), v6: lease.subnets.v6.filter(|_| v6) };
    subnets.iter().next()?;
    if subnets == lease.subnets {
        return Some(Arc::clone(lease));
    }
    let whole = &lease.attributes;
    let data = |data: &Option<Box<RawValue>>, is_there| data.clone().filter(|_| is_there);
    let attributes = Attributes {
        public_ip: whole.public_ip.filter(|_| v4),
        public_ipv6: whole.public_ipv6.filter(|_| v6),
        backend_type: whole.backend_type.clone(),
        backend_data: data(&whole.backend_data, v4),
        backend_v6_data: data(&whole.backend_v6_data, v6),
        generations: whole.generations.clone(),
    };
    Some(Arc::new(Lease { subnets, attributes, expires: lease.expires }))
}
