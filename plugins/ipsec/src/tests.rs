//! Leases in, peers out, without a host.

use flannel_backend::Lease;
use flannel_backend::testing::{Bench, samples, taken, with};

use super::*;

/// The sample host's own key, and a peer's.
const OWN: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

fn registered(v4: bool, v6: bool, config: &str) -> Bench<IpsecPolicy> {
    Bench::register(&samples::node(v4, v6), config).expect("registers")
}

fn peer() -> Lease {
    let data = Some(format!(r#"{{"PublicKey":"{KEY}"}}"#));
    Lease { backend_data: data.clone(), backend_v6_data: data, ..samples::peer("ipsec") }
}

#[test]
fn one_device_knows_the_way_to_the_whole_cluster() {
    let mut bench = registered(true, false, "{}");
    assert_eq!(taken(), ["link flannel-ipsec ipsec Aes128Gcm rekey 86400 mtu 1423"]);
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("leased"),
        ["addresses 10.5.72.0/32 dev flannel-ipsec", "route 10.5.0.0/16 dev flannel-ipsec"]
    );
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("ipsec", 1423));
    assert_eq!(published.backend_data, Some(format!(r#"{{"PublicKey":"{OWN}"}}"#)));
    assert_eq!(published.backend_v6_data, None);
    assert_eq!(
        bench.put(1, &peer()).expect("served"),
        [format!("ipsec flannel-ipsec 10.5.3.0/24 at 192.168.0.101 key {KEY}")]
    );
}

#[test]
fn in_dual_stack_each_family_goes_over_itself() {
    let mut bench = registered(true, true, "{}");
    assert_eq!(taken(), ["link flannel-ipsec ipsec Aes128Gcm rekey 86400 mtu 1403"]);
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("leased"),
        [
            "addresses 10.5.72.0/32 fc00:5:0:72::/128 dev flannel-ipsec",
            "route 10.5.0.0/16 fc00:5::/48 dev flannel-ipsec",
        ]
    );
    assert_eq!(
        bench.put(1, &peer()).expect("served"),
        [
            format!("ipsec flannel-ipsec 10.5.3.0/24 at 192.168.0.101 key {KEY}"),
            format!("ipsec flannel-ipsec fc00:5:0:3::/64 at fd77::101 key {KEY}"),
        ]
    );
}

#[test]
fn options_are_upstreams_and_one_more() {
    let link = |config: &str| {
        registered(true, false, config);
        taken().remove(0)
    };
    let udp = link(r#"{"UDPEncap":true,"ESPProposal":"aes256gcm16-prfsha384-ecp384","RekeySeconds":0}"#);
    assert_eq!(udp, "link flannel-ipsec ipsec Aes256Gcm udp-port 4500 mtu 1423");
    assert!(link(r#"{"espproposal":"chacha20poly1305"}"#).contains("ChaCha20Poly1305"));
    for (config, named) in [
        (r#"{"ESPProposal":"aes256-sha256-modp2048"}"#, "ESPProposal"),
        (r#"{"UDPEncap":"yes"}"#, "UDPEncap"),
        (r#"{"RekeySeconds":9}"#, "RekeySeconds"),
        (r#"{"RekeySeconds":-1}"#, "RekeySeconds"),
    ] {
        let error = Bench::<IpsecPolicy>::register(&samples::node(true, false), config).err().expect(config);
        assert!(error.contains(named), "{error}");
        taken();
    }
}

#[test]
fn peers_without_a_key_are_rejected_and_others_ignored() {
    let mut bench = registered(true, false, "{}");
    taken();
    for (data, reason) in [
        (None, "IKE"),
        (Some("{}"), "IKE"),
        (Some("7"), "BackendData"),
        (Some(r#"{"PublicKey":7}"#), "BackendData.PublicKey"),
        (Some(r#"{"PublicKey":"short"}"#), "BackendData.PublicKey"),
    ] {
        let lease = Lease { backend_data: data.map(ToOwned::to_owned), ..peer() };
        let error = bench.put(1, &lease).expect_err("no key");
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(bench.put(2, &samples::peer("vxlan")).expect("ignored"), [""; 0]);
}

#[test]
fn another_key_of_the_hosts_is_published() {
    let mut bench = registered(true, true, "{}");
    taken();
    assert_eq!(bench.policy.tick(), Ok(Some(LOOK)));
    assert!(with(|host| host.published.is_empty()));
    with(|host| host.ipsec_key = KEY.parse().expect("a key"));
    bench.policy.tick().expect("published");
    bench.policy.tick().expect("nothing new");
    let data = Some(format!(r#"{{"PublicKey":"{KEY}"}}"#));
    assert_eq!(with(|host| std::mem::take(&mut host.published)), [(data.clone(), data)]);
}
