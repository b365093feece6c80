//! What commands are told of a peer.

use std::net::{Ipv4Addr, Ipv6Addr};

use flannel_backend::Lease;
use flannel_backend::ipnet::{Ipv4Net, Ipv6Net};
use flannel_backend::serde_json::{self, Value, json};

use super::shown;

/// Bytes of published data that are remembered over restarts.
const REMEMBERED: usize = 1024;

/// A peer, as its lease has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    subnet: Option<Ipv4Net>,
    subnet_v6: Option<Ipv6Net>,
    public: Option<Ipv4Addr>,
    public_v6: Option<Ipv6Addr>,
    /// What its own command before the start has said. A stranger's words: they are for standard input, and for nothing else.
    pub data: String,
}

impl Peer {
    /// Reads a lease. The error says what is wrong with it.
    pub fn of(lease: &Lease) -> Result<Self, String> {
        let data = match lease.backend_data.as_deref() {
            None => String::new(),
            Some(data) => match serde_json::from_str(data) {
                Ok(Value::String(data)) => data,
                Ok(Value::Null) => String::new(),
                _ => return Err("BackendData is no text in quotes".to_owned()),
            },
        };
        Ok(Self {
            subnet: lease.ipv4_subnet,
            subnet_v6: lease.ipv6_subnet,
            public: lease.public_ipv4,
            public_v6: lease.public_ipv6,
            data,
        })
    }

    /// What a peer stays known by: its subnets.
    pub fn key_of(lease: &Lease) -> String {
        lease.subnets().map(|subnet| subnet.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// The variables. Of a family that it does not have they are empty.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SUBNET", shown(self.subnet)),
            ("IPV6SUBNET", shown(self.subnet_v6)),
            ("PUBLIC_IP", shown(self.public)),
            ("PUBLIC_IPV6", shown(self.public_v6)),
        ]
    }

    /// Its subnets, for the log.
    pub fn shown(&self) -> String {
        [shown(self.subnet), shown(self.subnet_v6)].join(" ").trim().to_owned()
    }

    /// For the durable store. Long data is left out: it is for the commands alone, and may be anybody's.
    pub fn to_json(&self) -> Value {
        let data = Some(&self.data).filter(|data| data.len() <= REMEMBERED);
        json!([shown(self.subnet), shown(self.subnet_v6), shown(self.public), shown(self.public_v6), data])
    }

    /// From there.
    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |at: usize| value[at].as_str();
        Some(Self {
            subnet: read(text(0)?).ok()?,
            subnet_v6: read(text(1)?).ok()?,
            public: read(text(2)?).ok()?,
            public_v6: read(text(3)?).ok()?,
            data: text(4).unwrap_or_default().to_owned(),
        })
    }
}

/// A value that may be empty.
fn read<T: std::str::FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    Some(text).filter(|text| !text.is_empty()).map(str::parse).transpose()
}
