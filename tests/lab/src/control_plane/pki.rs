//! The certificates and keys of a control plane, in files that its parts read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The certificate of the authority that signs all others.
pub(super) const AUTHORITY: &str = "ca.crt";
/// The API server's.
pub(super) const SERVER_CERTIFICATE: &str = "server.crt";
/// Its key.
pub(super) const SERVER_KEY: &str = "server.key";
/// The key that signs service accounts' tokens.
pub(super) const TOKEN_KEY: &str = "sa.key";
/// The other half of it.
pub(super) const TOKEN_PUBLIC_KEY: &str = "sa.pub";

/// What pods call the API server, and the first address of the services' networks, by which it has the name.
const NAMES: [&str; 4] = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
const SERVICES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1))];

/// The authority.
#[derive(Debug)]
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    certificate: String,
}

impl Pki {
    /// Makes all of it, with a server's certificate for these addresses, and those that it has in any lab.
    pub(super) fn new(directory: &Path, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Self> {
        let write = |name: &str, text: &str| {
            let file = directory.join(name);
            std::fs::write(&file, text).with_context(|| file.display().to_string())
        };
        let mut params = named("lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        write(AUTHORITY, &authority.pem())?;

        let mut params = named("kube-apiserver");
        let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let addresses = addresses.into_iter().chain(own).chain(SERVICES).map(SanType::IpAddress);
        params.subject_alt_names = addresses.collect();
        for name in NAMES {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        write(SERVER_CERTIFICATE, &params.signed_by(&key, &authority)?.pem())?;
        write(SERVER_KEY, &key.serialize_pem())?;

        let key = KeyPair::generate()?;
        write(TOKEN_KEY, &key.serialize_pem())?;
        write(TOKEN_PUBLIC_KEY, &key.public_key_pem())?;
        Ok(Self { certificate: authority.pem(), authority })
    }

    /// The authority's certificate, PEM.
    pub(super) fn authority(&self) -> &str {
        &self.certificate
    }

    /// A client's certificate and its key, PEM: Kubernetes takes its user from the common name, its groups from the organisations.
    pub(super) fn client(&self, user: &str, groups: &[&str]) -> Result<(String, String)> {
        let mut params = named(user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.authority)?.pem(), key.serialize_pem()))
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
