//! Leases that nobody should write: each costs its own peer what the policy makes of it, and nobody else anything.

use flannel_model::lease::{Attributes, Lease};
use flannel_plugin_host::{ApplyOutcome, PeerChange};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::session::{Session, in_words};
use super::super::{Families, peers};
use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// The peer that nothing is wrong with.
const GOOD: u16 = 9;
/// The odd peers' numbers begin here.
const ODD: u16 = 1000;

/// Peers of which the backend's type says that they are not the plugin's.
pub(super) fn foreign(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    let own = session.registered.backend_type.clone();
    let types = ["no-such-backend", "", "x y", "\u{1f980}"].into_iter().filter(|name| *name != own);
    for (backend_type, number) in types.zip(ODD..) {
        let mut lease = subject.lease(number);
        backend_type.clone_into(&mut lease.attributes.backend_type);
        let id = u64::from(number);
        let ApplyOutcome { failures, rejected, .. } = session.apply(&[subject::put(id, lease)]);
        if let Some(error) = failures.first() {
            return Err(Stop::Failed(format!("BackendType {backend_type:?}: {error}")));
        }
        if let Some((_, reason)) = rejected.first() {
            return Err(Stop::Failed(format!("BackendType {backend_type:?} is rejected: {reason}")));
        }
        let entries = subject::entries(&session).remove(&flannel_model::ledger::PeerId(id));
        if let Some(entry) = entries.unwrap_or_default().first() {
            return Err(Stop::Failed(format!("BackendType {backend_type:?}: it declares {}", entry.key())));
        }
    }
    Ok(String::new())
}

/// Data that is missing, of another shape, or huge.
pub(super) fn data(subject: &Subject) -> Outcome {
    let mut trial = Trial::new(subject)?;
    let good = subject.lease(ODD).attributes;
    let published = [&good.backend_data, &good.backend_v6_data];
    let texts = published.into_iter().flatten().flat_map(|data| distorted(data.get()));
    let texts: Vec<Option<String>> = texts.chain(strange()).map(Some).chain([None]).collect();
    for text in texts {
        let said = text.as_ref().map_or("no data".to_owned(), |text| format!("data {}", beginning(text)));
        let data = text.and_then(|text| RawValue::from_string(text).ok());
        trial.hand_over(&said, |lease| {
            lease.attributes.backend_data.clone_from(&data);
            lease.attributes.backend_v6_data = data;
        })?;
    }
    Ok(trial.seen())
}

/// What is JSON, and nothing that any backend publishes.
fn strange() -> impl Iterator<Item = String> {
    let small = [
        "7",
        "-1.5e300",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"x\"",
        "\"{\\\"VNI\\\":\"",
        r#""\u0000\ud800""#,
        r#"{"":{"":[null]}}"#,
        r#"{"VNI":1,"vni":"x","VtepMAC":["02:00:00:00:00:01"]}"#,
    ];
    let deep = format!("{}{}", "[".repeat(30 << 10), "]".repeat(30 << 10));
    let long = json!("x".repeat((64 << 10) - 2)).to_string();
    let wide = json!({ "x".repeat(30 << 10): "y".repeat(30 << 10) }).to_string();
    let longer = json!("x".repeat(128 << 10)).to_string();
    small.into_iter().map(str::to_owned).chain([deep, long, wide, longer])
}

/// What the plugin publishes, with one thing wrong.
fn distorted(good: &str) -> Vec<String> {
    let members: Map<String, Value> = serde_json::from_str(good).unwrap_or_default();
    let mut texts = Vec::new();
    for name in members.keys() {
        let mut without = members.clone();
        without.remove(name);
        texts.push(Value::from(without).to_string());
        for wrong in
            [json!(null), json!("x"), json!(""), json!(-1), json!(1e30), json!(true), json!([]), json!({})]
        {
            let mut members = members.clone();
            members.insert(name.clone(), wrong);
            texts.push(Value::from(members).to_string());
        }
    }
    texts
}

/// Addresses that are missing, not a node's, or not of the cluster's families.
pub(super) fn addresses(subject: &Subject) -> Outcome {
    let mut trial = Trial::new(subject)?;
    trial.hand_over("no public addresses", |lease| {
        (lease.attributes.public_ip, lease.attributes.public_ipv6) = (None, None);
    })?;
    trial.hand_over("nothing but subnets", |lease| {
        let backend_type = std::mem::take(&mut lease.attributes.backend_type);
        lease.attributes = Attributes { backend_type, ..Attributes::default() };
    })?;
    for v4 in [[192, 168, 0, 100], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [0, 0, 0, 1]] {
        trial.hand_over(&format!("PublicIP {v4:?}"), |lease| lease.attributes.public_ip = Some(v4.into()))?;
    }
    for v6 in ["fd77::100", "::1", "ff02::1", "::ffff:192.168.0.3", "fe80::1"] {
        let address = v6.parse().ok();
        trial.hand_over(&format!("PublicIPv6 {v6}"), |lease| lease.attributes.public_ipv6 = address)?;
    }
    for (said, families) in
        [("IPv4 alone", Families::Ipv4), ("IPv6 alone", Families::Ipv6), ("both families", Families::Dual)]
    {
        trial.hand_over(said, |lease| {
            let number = lease_number(lease);
            let (v4, v6) = peers::addresses(number);
            lease.subnets = peers::subnets(number, families);
            lease.attributes.public_ip = families.v4().then(|| v4.into());
            lease.attributes.public_ipv6 = families.v6().then(|| v6.into());
        })?;
    }
    Ok(trial.seen())
}

/// The number that the made-up subnets of a lease were made of.
fn lease_number(lease: &Lease) -> u16 {
    let v4 = lease
        .subnets
        .v4
        .map(|net| net.addr().octets())
        .map(|[_, high, low, _]| u16::from_be_bytes([high, low]));
    v4.or(lease.subnets.v6.map(|net| net.addr().segments()[3])).unwrap_or(ODD)
}

/// Subnets as large as the cluster's network, and as small as they can be.
pub(super) fn sizes(subject: &Subject) -> Outcome {
    let mut lengths = Vec::new();
    for length in [8, 12, 16, 20, 24, 25, 28, 29, 30] {
        // A session for each: the larger ones contain the smaller ones.
        let mut session = subject.start()?;
        let mut lease = subject.lease(ODD);
        // IPv6 networks of the same numbers of nodes, as far as there are such: a /24 here is a /64 there.
        let v6 = length + 40;
        lease.subnets.v4 = lease
            .subnets
            .v4
            .and_then(|net| ipnet::Ipv4Net::new(net.addr(), length).ok())
            .map(|net| net.trunc());
        lease.subnets.v6 =
            lease.subnets.v6.and_then(|net| ipnet::Ipv6Net::new(net.addr(), v6).ok()).map(|net| net.trunc());
        let shown = lease.subnets.to_string();
        subject::expect(&mut session, &[subject::put(1, lease)])
            .map_err(|error| format!("{shown}: {error}"))?;
        lengths.push(shown);
    }
    let (first, last) =
        (lengths.first().cloned().unwrap_or_default(), lengths.last().cloned().unwrap_or_default());
    Ok(format!("{first} to {last}"))
}

/// Odd peers, handed over one after another, each together with a good one.
struct Trial<'a> {
    subject: &'a Subject<'a>,
    session: Session,
    /// What the good one has when it comes alone.
    good: Vec<flannel_model::entry::Entry>,
    next: u16,
    rejected: u32,
    refused: u32,
    served: u32,
}

impl<'a> Trial<'a> {
    fn new(subject: &'a Subject<'a>) -> Result<Self, String> {
        let mut session = subject.start()?;
        subject::expect(&mut session, &subject.puts(GOOD..=GOOD))?;
        let good = good(&session);
        Ok(Self { subject, session, good, next: ODD, rejected: 0, refused: 0, served: 0 })
    }

    /// `said` is what is odd.
    fn hand_over(&mut self, said: &str, distort: impl FnOnce(&mut Lease)) -> Result<(), Stop> {
        let mut lease = self.subject.lease(self.next);
        distort(&mut lease);
        let odd = subject::put(self.next.into(), lease);
        self.next += 1;
        let id = odd.id();
        let mut changes: Vec<PeerChange> = self.subject.puts(GOOD..=GOOD);
        changes.push(odd);
        let ApplyOutcome { failures, rejected, deferred, .. } = self.session.apply(&changes);
        if let Some(error) = failures.iter().find(|error| !in_words(error)) {
            return Err(Stop::Failed(format!("{said}: {error}")));
        }
        if let Some((other, reason)) = rejected.iter().find(|(peer, _)| *peer != id) {
            return Err(Stop::Failed(format!("{said}: it rejects another peer, {other}: {reason}")));
        }
        if deferred.iter().any(|change| change.id() != id) || good(&self.session) != self.good {
            return Err(Stop::Failed(format!("{said}: another peer is not served any more")));
        }
        if !rejected.is_empty() {
            self.rejected += 1;
        } else if !failures.is_empty() {
            self.refused += 1;
        } else {
            self.served += 1;
        }
        self.session.apply(&[PeerChange::Removed(id)]);
        Ok(())
    }

    fn seen(&self) -> String {
        let Self { rejected, refused, served, .. } = self;
        let seen = format!("{rejected} rejected, {served} accepted");
        if *refused > 0 { format!("{seen}, {refused} refused by the host") } else { seen }
    }
}

fn good(session: &Session) -> Vec<flannel_model::entry::Entry> {
    subject::entries(session).remove(&flannel_model::ledger::PeerId(GOOD.into())).unwrap_or_default()
}

fn beginning(text: &str) -> String {
    if text.len() <= 60 { text.to_owned() } else { text.chars().take(59).chain(['…']).collect() }
}
