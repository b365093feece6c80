//! Which backend a node had before the one that the network config has now, and that backend itself: it may have secrets, of which leases and
//! the record in the state directory have digests alone.

use std::collections::BTreeMap;
use std::path::Path;

use flannel_model::lease::{Attributes, Generation, Lease};
use flannel_model::network_config::NetworkConfig;
use flannel_model::secrets::{option_with_digest, restored};
use flannel_plugin_host::extract_secrets;
use tracing::warn;

use crate::node::backend_record::BackendRecord;
use crate::node::backend_secrets;

/// What a node has said of its generations. One that was about to give one of both up has said that it has only the other; until it had given
/// it up, it had both.
pub(super) fn as_before_its_farewell(own: &Attributes, record: &BackendRecord, target: &str) -> Attributes {
    let is_told = own.generations.is_empty() && record.kept == target;
    let Some(former) = record.other_than(&record.kept).filter(|_| is_told) else { return own.clone() };
    let kept = Generation { backend: target.to_owned(), main: true, complete: true, ..Generation::default() };
    let former = Generation { backend: former.to_owned(), ..Generation::default() };
    Attributes { generations: vec![former, kept], ..own.clone() }
}

/// The generation that most nodes had before they began to change to `target`; of the type of this node's own, if it has published one.
pub(super) fn of_most(others: &[Lease], own: Option<&Attributes>, target: &str) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for other in others.iter().filter(|other| other.attributes.generation(target).is_some()) {
        for generation in
            other.attributes.generations.iter().filter(|generation| generation.backend != target)
        {
            let published = other.attributes.of_generation(&generation.backend);
            let fits =
                |published: Attributes| own.is_none_or(|own| own.backend_type == published.backend_type);
            if published.is_some_and(fits) {
                *counts.entry(&generation.backend).or_default() += 1;
            }
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(backend, _)| backend.to_owned())
}

/// The network config with a backend that is known by its published form. Where that has digests, their secrets are the network config's, or
/// those that this node has written down. None: it cannot be had, or is none.
pub(super) fn rebuilt(backend: &str, config: &NetworkConfig, state_dir: &Path) -> Option<NetworkConfig> {
    if option_with_digest(backend).is_none() {
        return config.with_backend(backend).ok();
    }
    let written = backend_secrets::read(state_dir);
    let known: Vec<&str> =
        std::iter::once(config.backend.get()).chain(written.iter().map(String::as_str)).collect();
    match restored(backend, &known) {
        Ok(section) => config.with_backend(&section).ok(),
        Err(reason) => {
            warn!(
                %reason,
                "the backend before cannot be had: beginning with the one that the network config has now"
            );
            None
        }
    }
}

/// Whether two backends cannot be side by side since they are for the same devices, with another `PSK`. One peer of one device has one key: as
/// soon as one node had the new one, the others would not hear it.
pub(super) fn takes_a_restart(one: &NetworkConfig, other: &NetworkConfig) -> bool {
    let secrets = |config: &NetworkConfig| extract_secrets(&config.backend_type, config.backend.get());
    match (secrets(one), secrets(other)) {
        (Ok((_, one_has)), Ok((_, other_has))) => {
            let keys = (&one_has.preshared, &one_has.psk) != (&other_has.preshared, &other_has.psk);
            one.backend_type == other.backend_type && keys
        }
        // What is wrong with them is said where they are needed.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const OTHER: &str = "AwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const VXLAN: &str = r#"{"Type":"vxlan"}"#;

    fn config(backend: &str) -> NetworkConfig {
        let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
        NetworkConfig::parse(&text).expect("valid")
    }

    fn wireguard(psk: &str, port: u16) -> NetworkConfig {
        config(&format!(r#"{{"Type":"wireguard","ListenPort":{port},"PSK":"{psk}"}}"#))
    }

    fn state() -> tempfile::TempDir {
        tempfile::tempdir().expect("directory")
    }

    #[test]
    fn a_backend_without_secrets_is_rebuilt_from_what_is_published() {
        let state = state();
        let of =
            |backend| rebuilt(backend, &config(VXLAN), state.path()).map(|had| had.backend_key().to_owned());
        assert_eq!(of(r#"{"Port":1,"Type":"vxlan"}"#).as_deref(), Some(r#"{"Port":1,"Type":"vxlan"}"#));
        // As records of before have it, and what somebody else may have written.
        for none in ["sha256:c20e65119435d188564d9eb736e3bd37fac49ba17b11971d80e251bc43129524", "", "{}", "7"]
        {
            assert_eq!(of(none), None);
        }
    }

    #[test]
    fn a_secret_that_stayed_is_the_network_configs() {
        let (state, former) = (state(), wireguard(ONE, 51820));
        let had = rebuilt(former.backend_key(), &wireguard(ONE, 51900), state.path()).expect("rebuilt");
        assert_eq!(had.backend_key(), former.backend_key());
        assert!(had.backend.get().contains(ONE));
    }

    #[test]
    fn a_secret_that_the_network_config_has_no_more_is_what_was_written_down() {
        let (state, former) = (state(), wireguard(ONE, 51820));
        backend_secrets::write(state.path(), &[&former, &config(VXLAN)]);
        let had = rebuilt(former.backend_key(), &config(VXLAN), state.path()).expect("rebuilt");
        assert_eq!(had.backend_key(), former.backend_key());
        assert!(had.backend.get().contains(ONE));
        backend_secrets::remove(state.path());
        assert!(rebuilt(former.backend_key(), &config(VXLAN), state.path()).is_none());
    }

    #[test]
    fn no_digest_of_anybodys_becomes_a_secret() {
        let (state, own) = (state(), wireguard(ONE, 51820));
        backend_secrets::write(state.path(), &[&own]);
        for psk in ["sha256:", "sha256:c20e", "sha256:sha256:", wireguard(OTHER, 1).backend_key()] {
            let hostile =
                serde_json::json!({"Type": "wireguard", "PSK": format!("sha256:{psk}")}).to_string();
            assert!(rebuilt(&hostile, &wireguard(OTHER, 51820), state.path()).is_none(), "{hostile}");
        }
    }

    #[test]
    fn another_psk_of_ipsec_takes_a_restart() {
        let ipsec = |psk: &str, seconds: u32| {
            let psk = psk.repeat(96);
            config(&format!(r#"{{"Type":"ipsec","PSK":"{psk}","RekeySeconds":{seconds}}}"#))
        };
        assert!(takes_a_restart(&ipsec("a", 60), &ipsec("b", 60)));
        assert!(!takes_a_restart(&ipsec("a", 60), &ipsec("a", 90)));
    }

    #[test]
    fn another_psk_takes_a_restart_and_nothing_else_does() {
        let one = wireguard(ONE, 51820);
        assert!(takes_a_restart(&one, &wireguard(OTHER, 51820)));
        assert!(takes_a_restart(&config(r#"{"Type":"wireguard"}"#), &one));
        assert!(!takes_a_restart(&one, &wireguard(ONE, 51900)));
        assert!(!takes_a_restart(&one, &config(VXLAN)));
        assert!(!takes_a_restart(&one, &wireguard("c2VjcmV0", 51820)), "it is refused for another reason");
    }

    #[test]
    fn a_node_that_has_said_that_a_backend_with_secrets_goes_had_both_until_it_had_gone() {
        let (former, target) = (wireguard(ONE, 51820), config(VXLAN));
        let record = BackendRecord {
            serving: former.backend_key().to_owned(),
            changing: true,
            kept: target.backend_key().to_owned(),
        };
        let said = as_before_its_farewell(&Attributes::default(), &record, target.backend_key());
        let backends: Vec<&str> = said.generations.iter().map(|one| one.backend.as_str()).collect();
        assert_eq!(backends, [former.backend_key(), target.backend_key()]);
    }
}
