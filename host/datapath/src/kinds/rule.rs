//! Rules that lead to the tables of a plugin's own.

use std::sync::Arc;

use flannel_model::entry::{Device, Key};
use flannel_model::policy_routing::{FIRST_PRIORITY, PRIORITIES, PacketMark, Rule};
use ipnet::IpNet;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use crate::netlink::{Message, Payload, create};
use crate::observed::{Observation, ObservedState};
use crate::plan::{Draft, Stage};
use crate::policy_tables::{PROTOCOL, PolicyTables};

/// The names of the interfaces that are not ours, by which the kernel's rules know them: also while they are away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interfaces {
    /// The external one.
    pub external: Arc<str>,
    /// The operator's that plugins may use besides.
    pub uplinks: Vec<Arc<str>>,
}

impl Interfaces {
    /// What a device is called.
    pub(crate) fn name<'a>(&'a self, device: &'a Device) -> &'a str {
        match device {
            Device::External => &self.external,
            Device::Own(name) => name,
            Device::Uplink(name) => name,
        }
    }

    fn device(&self, name: &str) -> Device {
        if *self.external == *name {
            Device::External
        } else if self.uplinks.iter().any(|uplink| **uplink == *name) {
            Device::Uplink(Arc::new(name.to_owned()))
        } else {
            Device::Own(name.into())
        }
    }
}

/// A rule of ours.
fn message(tables: PolicyTables, interfaces: &Interfaces, rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(FIRST_PRIORITY + u32::from(rule.priority)),
        RuleAttribute::Table(tables.number(rule.table)),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    if let Some(source) = rule.source {
        message.header.src_len = source.prefix_len();
        message.attributes.push(RuleAttribute::Source(source.network()));
    }
    if let Some(destination) = rule.destination {
        message.header.dst_len = destination.prefix_len();
        message.attributes.push(RuleAttribute::Destination(destination.network()));
    }
    if let Some(PacketMark { value, mask }) = rule.mark {
        message.attributes.extend([RuleAttribute::FwMark(value), RuleAttribute::FwMask(mask)]);
    }
    let input = rule.input.as_ref().map(|input| interfaces.name(input).to_owned());
    message.attributes.extend(input.map(RuleAttribute::Iifname));
    message
}

/// A request for all rules.
pub(crate) fn all_rules(ipv4: bool) -> Payload {
    let mut request = RuleMessage::default();
    request.header.family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Payload::Route(Rt::GetRule(request))
}

/// The rule that a message is about, if it is like ours.
pub(crate) fn read(
    message: &RuleMessage,
    networks: &[IpNet],
    tables: PolicyTables,
    interfaces: &Interfaces,
) -> Option<Rule> {
    let (mut source, mut destination, mut table) = (None, None, u32::from(message.header.table));
    let mut input = None;
    let (mut priority, mut protocol, mut value, mut mask) = (0, 0, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => source = IpNet::new(*address, message.header.src_len).ok(),
            RuleAttribute::Destination(address) => {
                destination = IpNet::new(*address, message.header.dst_len).ok();
            }
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Protocol(number) => protocol = u8::from(*number),
            RuleAttribute::FwMark(bits) => value = *bits,
            RuleAttribute::FwMask(bits) => mask = *bits,
            RuleAttribute::Iifname(name) => input = Some(interfaces.device(name)),
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            // None of ours says anything else.
            _ => return None,
        }
    }
    let priority = u16::try_from(priority.checked_sub(FIRST_PRIORITY)?).ok()?;
    let is_ours = protocol == PROTOCOL
        && message.header.action == RuleAction::ToTable
        && message.header.tos == 0
        && priority < PRIORITIES
        && is_of(networks, source, destination);
    let mark = (mask != 0).then_some(PacketMark { value, mask });
    let table = tables.table(table)?;
    is_ours.then_some(Rule { priority, source, destination, mark, input, table })
}

/// Whether a rule with these networks is about the cluster's.
pub(crate) fn is_of(networks: &[IpNet], source: Option<IpNet>, destination: Option<IpNet>) -> bool {
    let is_in = |network: IpNet| networks.iter().any(|cluster| cluster.contains(&network));
    source.is_some_and(is_in) || destination.is_some_and(is_in)
}

impl Draft<'_> {
    pub(super) fn put_rule(&mut self, rule: &Arc<Rule>) {
        let kernel = self.planner.kernel;
        if !kernel.rules.contains(rule) {
            self.step(
                Stage::PutRule,
                Some(Key::Rule(Arc::clone(rule))),
                create(Payload::Route(Rt::NewRule(message(kernel.policy_tables, &kernel.interfaces, rule)))),
                Observation::Rule(Arc::clone(rule), true),
            );
        }
    }

    pub(super) fn remove_rule(&mut self, rule: &Arc<Rule>) {
        let kernel = self.planner.kernel;
        if kernel.rules.contains(rule) {
            self.step(
                Stage::DeleteRule,
                Some(Key::Rule(Arc::clone(rule))),
                Message::plain(Payload::Route(Rt::DelRule(message(
                    kernel.policy_tables,
                    &kernel.interfaces,
                    rule,
                )))),
                Observation::Rule(Arc::clone(rule), false),
            );
        }
    }
}

/// Ours: all that look like ours.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.rules.iter().map(|rule| Key::Rule(Arc::clone(rule)))
}
