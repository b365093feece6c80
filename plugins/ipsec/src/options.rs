//! The options of the network config's `Backend` object. `PSK` is among them too, but the host keeps it to itself.

use flannel_backend::ipsec::Cipher;
use flannel_backend::{Config, Node};

/// What a packet grows by at most over IPv4: another header 20, UDP 8, ESP 8, its initialization vector 8, padding with its length and the next
/// header 2 to 5, the integrity check value 16, and some more. Upstream takes as much.
const OVERHEAD_V4: u32 = 77;
/// The header of IPv6 is 20 bytes longer.
const OVERHEAD_V6: u32 = OVERHEAD_V4 + 20;
/// Pods need an MTU of at least 68 for IPv4 (RFC 791) and 1280 for IPv6 (RFC 8200).
const LEAST_MTU_V4: u32 = 68;
const LEAST_MTU_V6: u32 = 1280;
/// The port of ESP in UDP (RFC 3948), which upstream has, too.
const UDP_PORT: u16 = 4500;
/// Upstream's default.
const PROPOSAL: &str = "aes128gcm16-sha256-prfsha256-ecp256";
/// How long a key serves: a day, as a lease.
const REKEY_SECONDS: u32 = 86_400;

/// Options with upstream's names and defaults, and one of our own.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// `ESPProposal`, of which the cipher counts: the rest is about exchanges that there are none of.
    pub cipher: Cipher,
    /// `UDPEncap`: ESP goes by UDP.
    pub udp_port: Option<u16>,
    /// `RekeySeconds`, default a day; 0: as long as the daemon runs.
    pub rekey_seconds: Option<u32>,
    /// The device's MTU: the external interface's, less what ESP takes.
    pub mtu: u32,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config, node: &Node) -> Result<Self, String> {
        let rekey = match config.number("RekeySeconds", 0..=31_536_000)?.unwrap_or(REKEY_SECONDS) {
            0 => None,
            seconds @ 1..10 => return Err(format!("RekeySeconds: {seconds} is less than 10; 0 is never")),
            seconds => Some(seconds),
        };
        let proposal = config.text("ESPProposal")?.filter(|text| !text.is_empty()).unwrap_or(PROPOSAL);
        Ok(Self {
            cipher: cipher(proposal)?,
            udp_port: config.boolean("UDPEncap")?.unwrap_or(false).then_some(UDP_PORT),
            rekey_seconds: rekey,
            mtu: mtu(node)?,
        })
    }
}

/// The cipher of a proposal as strongSwan writes them: words with `-` between them, the cipher first.
fn cipher(proposal: &str) -> Result<Cipher, String> {
    let first = proposal.split('-').next().unwrap_or_default();
    Ok(match first.to_ascii_lowercase().as_str() {
        "aes128gcm16" | "aes128gcm128" | "aes128gcm" => Cipher::Aes128Gcm,
        "aes192gcm16" | "aes192gcm128" | "aes192gcm" => Cipher::Aes192Gcm,
        "aes256gcm16" | "aes256gcm128" | "aes256gcm" => Cipher::Aes256Gcm,
        "chacha20poly1305" | "chacha20poly1305compat" => Cipher::ChaCha20Poly1305,
        _ => {
            return Err(format!(
                "ESPProposal: {proposal:?} begins with none of aes128gcm16, aes192gcm16, aes256gcm16, chacha20poly1305: this backend has \
                 ciphers that authenticate, too, and no others"
            ));
        }
    })
}

fn mtu(node: &Node) -> Result<u32, String> {
    let has_v6 = node.ipv6_network.is_some();
    let (overhead, least) = if has_v6 { (OVERHEAD_V6, LEAST_MTU_V6) } else { (OVERHEAD_V4, LEAST_MTU_V4) };
    let external = &node.external;
    if external.mtu < overhead + least {
        let name = &external.name;
        return Err(format!(
            "the MTU of {name}: {} leaves pods too little; at least {}",
            external.mtu,
            overhead + least
        ));
    }
    Ok(external.mtu - overhead)
}
