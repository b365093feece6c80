//! Leases of nodes that there are not, written as fast as the store takes them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::{Lab, Store};

/// The way into a store.
pub enum Feed<'a> {
    /// A directory.
    File(PathBuf),
    /// etcd; single keys go through its JSON gateway, over one connection.
    Etcd(&'a crate::etcd::Etcd, BufReader<TcpStream>),
}

/// What a lease is for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invented {
    /// The second and the third octet of the subnet, and the last two of the public address.
    pub octets: (u8, u8),
    /// The last four octets of the VTEP's Ethernet address.
    pub mac: [u8; 4],
}

impl Invented {
    /// The lease with a number from 0 on, in its first version or a later one.
    pub fn new(number: u32, version: u16) -> Self {
        let [_, _, high, low] = (number + 1).to_be_bytes();
        let [a, b] = version.to_be_bytes();
        Self { octets: (high, low), mac: [a, b, high, low] }
    }

    /// The subnet, without its length.
    pub fn subnet(&self) -> String {
        format!("10.{}.{}.0", self.octets.0, self.octets.1)
    }

    /// The node's address.
    pub fn public(&self) -> String {
        format!("172.20.{}.{}", self.octets.0, self.octets.1)
    }

    /// The VTEP's Ethernet address.
    pub fn mac(&self) -> String {
        let [a, b, c, d] = self.mac;
        format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    fn key(&self) -> String {
        format!("{}-24", self.subnet())
    }

    fn value(&self) -> String {
        let (public, mac) = (self.public(), self.mac());
        format!(
            r#"{{"PublicIP":"{public}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        )
    }
}

impl<'a> Feed<'a> {
    /// Opens it.
    pub fn open(store: &'a Store, lab: &Lab) -> Result<Self> {
        Ok(match store {
            Store::File(directory) => Self::File(directory.join("subnets")),
            Store::Etcd(etcd) => {
                let address = etcd.endpoints();
                let address = address.trim_start_matches("http://").to_owned();
                let stream = lab.switch().namespace().run(|| TcpStream::connect(&address))?;
                let stream = stream.with_context(|| format!("cannot connect to etcd at {address}"))?;
                stream.set_nodelay(true)?;
                Self::Etcd(etcd, BufReader::new(stream))
            }
            Store::Kube(_) => bail!("nodes' objects are not fed from here"),
        })
    }

    /// Writes the first leases.
    pub fn put_all(&mut self, leases: u32) -> Result<()> {
        let all = (0..leases).map(|number| Invented::new(number, 0));
        match self {
            Self::File(_) => all.into_iter().try_for_each(|lease| self.put(&lease)),
            Self::Etcd(etcd, _) => {
                let keyed: Vec<_> =
                    all.map(|lease| (etcd.key(&format!("subnets/{}", lease.key())), lease.value())).collect();
                etcd.put_many(&keyed)
            }
        }
    }

    /// Writes one.
    pub fn put(&mut self, lease: &Invented) -> Result<()> {
        match self {
            Self::File(subnets) => {
                let (file, new) = (subnets.join(lease.key()), subnets.join(".arriving"));
                std::fs::write(&new, lease.value()).with_context(|| new.display().to_string())?;
                std::fs::rename(&new, &file).with_context(|| file.display().to_string())
            }
            Self::Etcd(etcd, stream) => {
                let key = STANDARD.encode(etcd.key(&format!("subnets/{}", lease.key())));
                post(stream, "/v3/kv/put", &json!({"key": key, "value": STANDARD.encode(lease.value())}))
            }
        }
    }

    /// Removes the first leases; in etcd all but one, the node's own.
    pub fn remove_all(&mut self, leases: u32, own: &str) -> Result<()> {
        match self {
            Self::File(subnets) => (0..leases).try_for_each(|number| {
                let file = subnets.join(Invented::new(number, 0).key());
                std::fs::remove_file(&file).with_context(|| file.display().to_string())
            }),
            Self::Etcd(etcd, stream) => {
                let own = etcd.key(&format!("subnets/{own}"));
                let ranges = [(etcd.key("subnets/"), own.clone()), (own + "\0", etcd.key("subnets0"))];
                for (key, end) in ranges {
                    let (key, end) = (STANDARD.encode(key), STANDARD.encode(end));
                    post(stream, "/v3/kv/deleterange", &json!({"key": key, "range_end": end}))?;
                }
                Ok(())
            }
        }
    }
}

/// A request of etcd's JSON gateway; what it answers does not matter as long as it is no error.
fn post(stream: &mut BufReader<TcpStream>, path: &str, body: &serde_json::Value) -> Result<()> {
    let body = body.to_string();
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "etcd's gateway: {line}");
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(())
}
