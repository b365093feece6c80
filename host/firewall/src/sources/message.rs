//! Messages of nf_tables in netlink's wire format: constants and layouts of the kernel's `linux/netfilter/nf_tables.h` and `nfnetlink.h`.
//! (The crates for it run `nft`, link libnftnl, or have a licence that does not fit.)

use std::net::IpAddr;

use flannel_base::Family;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
const NEW_OBJECT: u16 = 18;
const GET_OBJECT: u16 = 19;

const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;

/// The table goes with the socket that made it.
const TABLE_OWNED: u32 = 2;
const HOOK_LOCAL_IN: u32 = 1;
/// Where `filter` chains are.
const PRIORITY: u32 = 0;
/// `nft`'s numbers for what is in a set; the kernel only keeps them, for those who list it.
const KEY_TYPES: [u32; 2] = [7, 8];
const OBJECT_COUNTER: u32 = 1;

/// The only chain of a table.
const CHAIN: &str = "input";
/// The only set of a table: addresses of nodes.
const SET: &str = "nodes";
/// The only named counter of a table.
const COUNTER: &str = "strangers";

const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;

/// An expression of a rule. All load into, and compare, one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Loads the number of the protocol behind the IP header.
    Protocol,
    /// Loads bytes, counted from the network header (`false`) or the one behind it (`true`). A packet without them is met by no rule that
    /// wants them.
    Load { transport: bool, offset: u32, length: u32 },
    /// Keeps some bits of what is loaded.
    Mask(Vec<u8>),
    /// Goes on if it is this (`true`), or is not.
    Compare { is: bool, value: Vec<u8> },
    /// Goes on if it is not in the set.
    NotANode,
    /// Counts.
    Count,
    /// Ends.
    Verdict(Verdict),
}

/// What becomes of a packet (`NF_DROP`, `NF_ACCEPT`). Another table's chain may still drop what is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// Messages of one transaction, or one question, for one table.
pub(super) struct Messages<'a> {
    bytes: Vec<u8>,
    sequence: u32,
    family: Family,
    table: &'a str,
    last: usize,
}

/// Attributes of a message.
struct Attributes(Vec<u8>);

impl Attributes {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn put(mut self, kind: u16, value: &[u8]) -> Self {
        // Nothing that is put here comes near 64 KiB: see `ELEMENTS`.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    fn nested(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NLA_F_NESTED, &inner.0)
    }

    /// `NFTA_DATA_VALUE` within another attribute.
    fn data(self, kind: u16, value: &[u8]) -> Self {
        self.nested(kind, &Self::new().put(1, value))
    }
}

/// How many elements one message takes: 64 KiB are an attribute's limit, and an IPv6 element has 28 bytes.
pub(super) const ELEMENTS: usize = 2000;

impl<'a> Messages<'a> {
    /// A transaction, which has to be [ended](Self::end).
    pub(super) fn begin(sequence: u32, family: Family, table: &'a str) -> Self {
        let mut messages = Self { bytes: Vec::new(), sequence, family, table, last: 0 };
        messages.append_header(BATCH_BEGIN, NLM_F_REQUEST, &batch_header());
        messages
    }

    /// The question how much the table's counter has counted.
    pub(super) fn count(sequence: u32, family: Family, table: &'a str) -> Vec<u8> {
        let mut messages = Self { bytes: Vec::new(), sequence, family, table, last: 0 };
        let object = Attributes::new().text(1, table).text(2, COUNTER).number(3, OBJECT_COUNTER);
        messages.append(GET_OBJECT, 0, object);
        messages.bytes
    }

    /// The bytes, and the number of the message that is acknowledged.
    pub(super) fn end(mut self) -> (Vec<u8>, u32) {
        let acknowledged = self.sequence.wrapping_sub(1);
        let flags = self.last + 6..self.last + 8;
        let with = u16::from_ne_bytes([self.bytes[flags.start], self.bytes[flags.start + 1]]) | NLM_F_ACK;
        self.bytes[flags].copy_from_slice(&with.to_ne_bytes());
        self.append_header(BATCH_END, NLM_F_REQUEST, &batch_header());
        (self.bytes, acknowledged)
    }

    /// The table, its set and its counter.
    pub(super) fn table(&mut self) {
        let table = Attributes::new().text(1, self.table).number(2, TABLE_OWNED);
        self.append(NEW_TABLE, NLM_F_CREATE, table);
        let (kind, length) = match self.family {
            Family::Ipv4 => (KEY_TYPES[0], 4),
            Family::Ipv6 => (KEY_TYPES[1], 16),
        };
        let set = Attributes::new().text(1, self.table).text(2, SET).number(3, 0);
        self.append(NEW_SET, NLM_F_CREATE, set.number(4, kind).number(5, length).number(10, 1));
        let counter = Attributes::new().text(1, self.table).text(2, COUNTER).number(3, OBJECT_COUNTER);
        self.append(NEW_OBJECT, NLM_F_CREATE, counter.nested(4, &Attributes::new()));
    }

    /// The chain, without rules. From then on packets come by.
    pub(super) fn chain(&mut self) {
        let hook = Attributes::new().number(1, HOOK_LOCAL_IN).number(2, PRIORITY);
        let chain = Attributes::new().text(1, self.table).text(3, CHAIN).nested(4, &hook);
        self.append(NEW_CHAIN, NLM_F_CREATE, chain.number(5, Verdict::Accept as u32).text(7, "filter"));
    }

    /// All rules of the chain go.
    pub(super) fn flush(&mut self) {
        self.append(DELETE_RULE, 0, Attributes::new().text(1, self.table).text(2, CHAIN));
    }

    /// One more rule at the chain's end.
    pub(super) fn rule(&mut self, expressions: &[Expression]) {
        let list = expressions.iter().fold(Attributes::new(), |list, one| list.nested(1, &expression(one)));
        let rule = Attributes::new().text(1, self.table).text(2, CHAIN).nested(4, &list);
        self.append(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, rule);
    }

    /// Up to [`ELEMENTS`] addresses of the family come into the set, or go.
    pub(super) fn elements(&mut self, come: bool, addresses: &[IpAddr]) {
        let element = |list: Attributes, address: &IpAddr| {
            list.nested(1, &Attributes::new().data(1, &octets(*address)))
        };
        let list = addresses.iter().fold(Attributes::new(), element);
        let elements = Attributes::new().text(1, self.table).text(2, SET).nested(3, &list);
        let (kind, flags) = if come { (NEW_ELEMENT, NLM_F_CREATE) } else { (DELETE_ELEMENT, 0) };
        self.append(kind, flags, elements);
    }

    fn append(&mut self, kind: u16, flags: u16, attributes: Attributes) {
        let family = match self.family {
            Family::Ipv4 => libc::NFPROTO_IPV4,
            Family::Ipv6 => libc::NFPROTO_IPV6,
        };
        let mut body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
        body.extend(attributes.0);
        self.append_header(SUBSYSTEM << 8 | kind, NLM_F_REQUEST | flags, &body);
    }

    fn append_header(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.last = self.bytes.len();
        let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// `nfgenmsg` of a batch: of no family, for the subsystem.
fn batch_header() -> [u8; 4] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn expression(expression: &Expression) -> Attributes {
    let data = Attributes::new();
    let (name, data) = match expression {
        // NFT_META_L4PROTO
        Expression::Protocol => ("meta", data.number(1, REGISTER).number(2, 16)),
        Expression::Load { transport, offset, length } => {
            let base = if *transport { 2 } else { 1 };
            ("payload", data.number(1, REGISTER).number(2, base).number(3, *offset).number(4, *length))
        }
        Expression::Mask(mask) => {
            let length = u32::try_from(mask.len()).unwrap_or_default();
            let bits = data.number(1, REGISTER).number(2, REGISTER).number(3, length).data(4, mask);
            ("bitwise", bits.data(5, &vec![0; mask.len()]))
        }
        Expression::Compare { is, value } => {
            ("cmp", data.number(1, REGISTER).number(2, u32::from(!is)).data(3, value))
        }
        // NFT_LOOKUP_F_INV
        Expression::NotANode => ("lookup", data.text(1, SET).number(2, REGISTER).number(5, 1)),
        Expression::Count => ("objref", data.number(1, OBJECT_COUNTER).text(2, COUNTER)),
        Expression::Verdict(verdict) => {
            let verdict = Attributes::new().number(1, *verdict as u32);
            let verdict = Attributes::new().nested(2, &verdict);
            ("immediate", data.number(1, REGISTER_VERDICT).nested(2, &verdict))
        }
    };
    Attributes::new().text(1, name).nested(2, &data)
}

/// Reads the answer to [`Messages::count`], without its netlink header: packets.
pub(super) fn counted(body: &[u8]) -> Option<u64> {
    let object = body.get(4..)?;
    let counter = find(object, 4)?;
    let packets = find(counter, 2)?;
    Some(u64::from_be_bytes(*packets.first_chunk()?))
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(([a, b, c, d], _)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let kind = u16::from_ne_bytes([*c, *d]) & !NLA_F_NESTED;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}
