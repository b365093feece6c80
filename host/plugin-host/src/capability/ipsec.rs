//! `ipsec`: XFRM interfaces and the peers behind them. Keys that are secret stay on this side.

use std::sync::Arc;
use std::time::Duration;

use flannel_model::entry::{Device, DeviceSpec, Entry};
use flannel_model::ipsec::{Cipher, Ipsec, IpsecPeer, if_id};
use flannel_model::lease::{Lease, Subnets};
use flannel_model::wireguard::PublicKey;
use ipnet::IpNet;
use wasmtime::component::Resource;

use super::belongs::check_published;
use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::ipsec::{self as wit, Error};
use crate::convert;

/// The least MTU of a device that carries IPv6 (RFC 8200), and of one that does not (RFC 791).
const LEAST_MTU: [u32; 2] = [1280, 68];
/// Seconds that a key serves at least.
const LEAST_AGE: u32 = 10;

impl wit::Host for HostState {
    fn ensure(&mut self, device: wit::Device) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("ipsec.ensure")?;
        let device = self.checked_ipsec(device).map(DeviceSpec::Ipsec);
        self.declared("ipsec.ensure", device)
    }

    fn public_key(&mut self) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.enter("ipsec.public-key")?;
        let key = self.environment.links.ipsec_key().map_err(Error::Unavailable);
        Ok(self.outcome("ipsec.public-key", key.map(|key| key.0.to_vec())))
    }

    fn put(
        &mut self,
        peer: u64,
        ipsec: wit::Peer,
        device: Resource<LinkHandle>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("ipsec.put")?;
        let device = self.device(&device)?;
        let outcome = self.declare(peer, |host, lease| {
            let found = match &device {
                Device::Own(name) => host.devices.get(name),
                Device::External | Device::Uplink(_) => None,
            };
            let Some(DeviceSpec::Ipsec(found)) = found else {
                return Err(Error::Denied(format!("{device} is no XFRM interface")));
            };
            let peer = Arc::new(checked_peer(host.own.as_ref(), found, lease, ipsec)?);
            Ok(Entry::IpsecPeer { peer, device })
        });
        Ok(self.outcome("ipsec.put", outcome))
    }
}

impl HostState {
    fn checked_ipsec(&self, device: wit::Device) -> Result<Ipsec, Error> {
        let wit::Device { name, mtu, cipher, udp_port, rekey_seconds } = device;
        let node = &self.environment.node;
        self.check_device(&name, mtu, LEAST_MTU[usize::from(node.ipv6_network.is_none())])?;
        if let Some(port) = udp_port {
            Self::check_port(&name, port)?;
        }
        if let Some(seconds) = rekey_seconds.filter(|seconds| *seconds < LEAST_AGE) {
            return Err(Error::InvalidArgument(format!(
                "{name}: a key that is replaced after {seconds} seconds; {LEAST_AGE} at least"
            )));
        }
        let Some(psk) = self.environment.secrets.psk.clone() else {
            return Err(Error::InvalidArgument(
                "the network config has no Backend.PSK, which IPsec needs: at least 96 characters".to_owned(),
            ));
        };
        let cipher = match cipher {
            wit::Cipher::Aes128Gcm => Cipher::Aes128Gcm,
            wit::Cipher::Aes192Gcm => Cipher::Aes192Gcm,
            wit::Cipher::Aes256Gcm => Cipher::Aes256Gcm,
            wit::Cipher::Chacha20Poly1305 => Cipher::ChaCha20Poly1305,
        };
        Ok(Ipsec {
            if_id: if_id(&name, cipher, udp_port, &psk),
            name: name.into(),
            mtu,
            ipv4: node.ipv4,
            ipv6: node.ipv6,
            cipher,
            udp_port,
            rekey: rekey_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            psk,
        })
    }
}

/// Checks a peer's subnet. `own`: this node's subnets.
fn checked_peer(
    own: Option<&Subnets>,
    device: &Ipsec,
    lease: &Lease,
    peer: wit::Peer,
) -> Result<IpsecPeer, Error> {
    let wit::Peer { subnet, endpoint, public_key } = peer;
    let length = public_key.len();
    let key = <[u8; 32]>::try_from(public_key)
        .map_err(|_| Error::InvalidArgument(format!("a public key of {length} bytes; it has 32")))?;
    let (subnet, endpoint) = (convert::network(&subnet)?, convert::address(endpoint));
    if !lease.subnets.iter().any(|own| own == subnet) {
        return Err(Error::Denied(format!("{subnet} is not the peer's subnet, {}", lease.subnets)));
    }
    check_published(lease, endpoint)?;
    let is_v4 = |network: &IpNet| network.addr().is_ipv4();
    if is_v4(&subnet) != endpoint.is_ipv4() {
        return Err(Error::InvalidArgument(format!("{endpoint} is not of the family of {subnet}")));
    }
    if device.local(endpoint).is_none() {
        let name = &device.name;
        return Err(Error::InvalidArgument(format!(
            "{name} has no address of the family of {endpoint} to send from"
        )));
    }
    let own = own.and_then(|own| own.iter().find(|own| is_v4(own) == is_v4(&subnet)));
    let own_subnet = own.ok_or_else(|| {
        Error::InvalidArgument(format!("this node has no subnet of the family of {subnet}"))
    })?;
    Ok(IpsecPeer { subnet, own_subnet, endpoint, key: PublicKey(key) })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use flannel_model::ipsec::Psk;
    use flannel_model::lease::Attributes;

    use super::*;
    use crate::bindings::flannel::backend::types::{IpAddress, IpPrefix, Ipv4Prefix};

    fn device() -> Ipsec {
        Ipsec {
            name: "flannel-ipsec".into(),
            if_id: 1,
            mtu: 1423,
            ipv4: Some(Ipv4Addr::new(192, 168, 0, 100)),
            ipv6: None,
            cipher: Cipher::Aes128Gcm,
            udp_port: None,
            rekey: None,
            psk: Psk::new("made up".to_owned()),
        }
    }

    fn subnets(text: &str) -> Subnets {
        Subnets { v4: text.parse().ok(), v6: None }
    }

    fn v4(address: [u8; 4]) -> IpAddress {
        IpAddress::Ipv4(address.into())
    }

    fn prefix(address: [u8; 4], length: u8) -> IpPrefix {
        IpPrefix::Ipv4(Ipv4Prefix { address: address.into(), length })
    }

    #[test]
    fn a_peer_has_its_own_subnet_and_an_address_that_it_has_published() {
        let attributes =
            Attributes { public_ip: Some(Ipv4Addr::new(192, 168, 0, 101)), ..Attributes::default() };
        let lease = Lease { subnets: subnets("10.5.3.0/24"), attributes, expires: None };
        let own = subnets("10.5.72.0/24");
        let try_peer = |subnet, endpoint, length| {
            let peer = wit::Peer { subnet, endpoint, public_key: vec![7; length] };
            checked_peer(Some(&own), &device(), &lease, peer).map_err(|error| match error {
                Error::InvalidArgument(text) | Error::Denied(text) => text,
                other => panic!("{other:?}"),
            })
        };
        let right = try_peer(prefix([10, 5, 3, 0], 24), v4([192, 168, 0, 101]), 32).expect("its own");
        assert_eq!((right.own_subnet, right.key), ("10.5.72.0/24".parse().expect("net"), PublicKey([7; 32])));
        for (subnet, endpoint, length, said) in [
            (prefix([10, 5, 4, 0], 24), v4([192, 168, 0, 101]), 32, "10.5.4.0/24 is not the peer's subnet"),
            (prefix([10, 5, 3, 0], 25), v4([192, 168, 0, 101]), 32, "10.5.3.0/25 is not the peer's subnet"),
            (prefix([10, 5, 3, 0], 24), v4([192, 168, 0, 102]), 32, "192.168.0.102 is not an address that"),
            (prefix([10, 5, 3, 0], 24), v4([192, 168, 0, 101]), 31, "31 bytes; it has 32"),
        ] {
            let error = try_peer(subnet, endpoint, length).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}
