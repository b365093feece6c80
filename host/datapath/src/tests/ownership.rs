//! Devices that are not ours stay as they are, whatever they are called; ours, and what a flannel without marks left, are taken up.

use super::*;

/// A device of a plugin's own, of whose name anybody may have one.
const OWN_NAME: &str = "flannel-x";

/// A state with a VXLAN device of this name.
fn with_device(name: &str) -> Transaction {
    let device = Vxlan { name: name.into(), vni: 77, ..vxlan() };
    Transaction {
        devices: [(name.into(), DeviceSpec::Vxlan(device))].into(),
        addresses: [(Arc::from(name), [prefix("10.5.72.0/32")].into())].into(),
        ..Transaction::default()
    }
}

/// All that the kernel says of a device, its settings for IPv6 included; nothing if it is away.
fn whole(name: &str) -> String {
    let setting =
        std::fs::read_to_string(format!("/proc/thread-self/net/../../sys/net/ipv6/conf/{name}/accept_ra"));
    format!("{} {setting:?}", of_device("ip", &format!("-details address show dev {name}")))
}

fn alias(name: &str) -> Option<String> {
    let shown = of_device("ip", &format!("link show dev {name}"));
    shown.lines().find_map(|line| line.trim().strip_prefix("alias ")).map(ToOwned::to_owned)
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn device_failure(node: &Node) -> Option<String> {
    node.runtime.block_on(node.datapath.report()).expect("report").device_failure
}

/// A device that somebody else made by these commands is refused with all these words, stays as it is, and makes room for ours when it
/// goes.
fn is_left_alone(name: &'static str, made: &'static [&'static str], words: &'static [&'static str]) {
    in_namespace(move |node| {
        for command in made {
            // A mark has a space in it.
            let words = command.split_whitespace().map(|word| word.replace('_', " "));
            assert!(Command::new("ip").args(words).status().expect("iproute2 is installed").success());
        }
        let before = whole(name);
        let said = node.commit(with_device(name)).device_failure.expect("it is refused");
        for word in [&name].into_iter().chain(words) {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
        node.prune_stale();
        assert_eq!(whole(name), before);
        ip(&format!("link delete {name}"));
        until("ours comes", || {
            of_device("ip", &format!("-details link show {name}")).contains("vxlan id 77 ")
        });
        until("nothing is wrong any more", || device_failure(node).is_none());
    });
}

#[test]
fn a_bridge_of_the_operators_stays_a_bridge() {
    is_left_alone(
        OWN_NAME,
        &["link add flannel-x mtu 1400 type bridge", "address add 10.5.200.1/24 dev flannel-x"],
        &["bridge", "not flanneld's", "alias"],
    );
}

#[test]
fn devices_of_other_kinds_under_one_of_flannels_own_names_stay() {
    is_left_alone("flannel.77", &["link add flannel.77 type bridge"], &["bridge"]);
    is_left_alone("flannel-v6.77", &["link add flannel-v6.77 type bridge"], &["bridge"]);
    is_left_alone("flannel0", &["tuntap add flannel0 mode tap"], &["TAP"]);
    is_left_alone("flannel.ipip", &["link add flannel.ipip type veth peer name there"], &["veth"]);
}

#[test]
fn a_device_of_the_right_kind_without_our_mark_stays_where_its_name_is_not_flannels() {
    is_left_alone(
        OWN_NAME,
        &["link add flannel-x type vxlan id 77 dev eth0 local 192.168.0.100 dstport 8472 nolearning"],
        &["vxlan"],
    );
    is_left_alone(
        OWN_NAME,
        &[
            "link add flannel-x type vxlan id 77 dev eth0 local 192.168.0.100 dstport 8472 nolearning",
            "link set flannel-x alias mine",
        ],
        &["vxlan"],
    );
}

#[test]
fn a_device_of_another_networks_flanneld_stays() {
    is_left_alone(
        OWN_NAME,
        &[
            "link add flannel-x type vxlan id 77 dev eth0 local 192.168.0.100 dstport 8472 nolearning",
            "link set dev flannel-x alias flanneld_10.6.0.0/16",
        ],
        &["vxlan", "the flanneld for 10.6.0.0/16"],
    );
}

#[test]
fn a_device_of_ours_carries_our_mark_and_is_taken_up_by_it() {
    in_namespace(|node| {
        node.commit(with_device(OWN_NAME));
        assert_eq!(alias(OWN_NAME).as_deref(), Some("flanneld 10.5.0.0/16,fc00:5::/48"));
        node.datapath.stop();
        let again = Node::new();
        let report = again.commit(with_device(OWN_NAME));
        assert_eq!((report.device_failure, again.messages()), (None, 0));
        // Of another VNI it is ours still, and can be made anew.
        let device = Vxlan { name: OWN_NAME.into(), vni: 78, ..vxlan() };
        let other = Transaction {
            devices: [(OWN_NAME.into(), DeviceSpec::Vxlan(device))].into(),
            ..Transaction::default()
        };
        again.replace(other).expect("taken");
        assert!(ip("-details link show flannel-x").contains("vxlan id 78 "));
    });
}

#[test]
fn a_device_that_somebody_puts_in_place_of_ours_stays() {
    for name in [OWN_NAME, "flannel.77"] {
        in_namespace(move |node| {
            node.commit(with_device(name));
            // Ours cannot come back at once where the interface below it is away.
            ip("link set eth0 down");
            ip("link set eth0 name away");
            until("it is away", || device_failure(node).is_some_and(|said| said.contains("eth0 is away")));
            ip(&format!("link delete {name}"));
            ip(&format!("link add name {name} type bridge"));
            ip("link set away name eth0");
            ip("link set eth0 up");
            until("it is noticed", || device_failure(node).is_some_and(|said| said.contains("bridge")));
            let before = whole(name);
            node.prune_stale();
            assert_eq!(whole(name), before);
            ip(&format!("link delete {name}"));
            until("ours comes back", || {
                of_device("ip", &format!("-details link show {name}")).contains("vxlan id 77 ")
            });
        });
    }
}

#[test]
fn a_swap_to_a_device_that_somebody_else_has_is_refused_and_leaves_all_as_it_was() {
    in_namespace(|node| {
        node.with_peers();
        ip("link add flannel-x type bridge");
        let before = (state(), whole(OWN_NAME));
        let reason = node.replace(with_device(OWN_NAME)).expect_err("refused");
        assert!(reason.contains(OWN_NAME) && reason.contains("bridge"), "{reason}");
        assert_eq!((state(), whole(OWN_NAME)), before);
    });
}

#[test]
fn of_a_device_that_is_needed_no_more_only_ours_is_removed() {
    in_namespace(|node| {
        node.commit(with_device(OWN_NAME));
        node.datapath.stop();
        let node = Node::new();
        node.commit(with_device(OWN_NAME));
        node.replace(Transaction::default()).expect("taken");
        assert!(!ip("link show").contains(OWN_NAME));
        ip("link add flannel-x type vxlan id 77 dev eth0 local 192.168.0.100 dstport 8472");
        assert!(node.commit(with_device(OWN_NAME)).device_failure.is_some());
        node.replace(Transaction::default()).expect("taken");
        assert!(ip("link show").contains(OWN_NAME), "nobody but its owner removes it");
    });
}

#[test]
fn a_device_that_has_our_devices_name_as_another_name_stays() {
    in_namespace(|node| {
        ip("link add name mine type bridge");
        ip("link property add dev mine altname flannel-x");
        let before = whole("mine");
        let said = node.commit(with_device(OWN_NAME)).device_failure.expect("it is refused");
        assert!(said.contains("flannel-x is another name of mine") && said.contains("bridge"), "{said}");
        assert_eq!(whole("mine"), before);
        ip("link property del dev mine altname flannel-x");
        until("ours comes", || of_device("ip", "-details link show flannel-x").contains("vxlan id 77 "));
    });
}

#[test]
fn a_device_of_ours_with_another_name_besides_is_ours() {
    in_namespace(|node| {
        node.with_peers();
        ip("link property add dev flannel.1 altname overlay");
        let again = Node::new();
        assert_eq!(again.commit(base()).device_failure, None);
        assert!(ip("link show overlay").contains("flannel.1"));
    });
}

#[test]
fn a_device_of_ours_that_is_made_a_port_of_a_bridge_is_taken_out() {
    in_namespace(|node| {
        node.with_peers();
        ip("link add name lan type bridge");
        ip("link set flannel.1 master lan");
        until("it is free", || !ip("link show flannel.1").contains("master"));
        assert_eq!(device_failure(node), None);
    });
}

#[test]
fn a_device_without_a_mark_that_is_a_port_of_a_bridge_is_somebodys() {
    in_namespace(|node| {
        ip("link add name lan type bridge");
        ip("link add flannel.77 type vxlan id 77 dev eth0 local 192.168.0.100 dstport 8472 nolearning");
        ip("link set flannel.77 master lan");
        let before = whole("flannel.77");
        let said = node.commit(with_device("flannel.77")).device_failure.expect("it is refused");
        assert!(said.contains("a port of lan") && said.contains("nomaster"), "{said}");
        assert_eq!(whole("flannel.77"), before);
        ip("link set flannel.77 nomaster");
        until("it is taken up", || device_failure(node).is_none());
    });
}

#[test]
fn routes_over_somebody_elses_device_with_a_name_like_flannels_stay() {
    in_namespace(|node| {
        ip("link add flannel.7 up type bridge");
        ip("route add 10.5.3.0/24 dev flannel.7");
        node.commit(base());
        let report = node.commit(put(3, peer(3)));
        assert_eq!(report.failures.len(), 1, "{report:?}");
        assert!(ip("route show 10.5.3.0/24").contains("dev flannel.7"));
    });
}

#[test]
fn what_cannot_serve_is_not_left_behind() {
    in_namespace(|node| {
        let _socket = std::net::UdpSocket::bind(("0.0.0.0", 8472)).expect("a socket");
        let said = node.commit(with_device(OWN_NAME)).device_failure.expect("the port is taken");
        assert!(said.contains("a program has UDP port 8472"), "{said}");
        // It is tried again now and then, and made for as long as that takes.
        until("it is gone again", || !ip("link show").contains(OWN_NAME));
    });
}

/// Opens a TUN device, as a program does that keeps it.
fn open_tun(name: &str, flags: libc::c_int) -> std::fs::File {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect("a TUN device");
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("flags");
    // SAFETY: TUNSETIFF reads and writes an ifreq, which lives for the call.
    let outcome =
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    file
}

/// A state with a tunnel of this name.
fn with_tunnel(name: &str) -> Transaction {
    let device = flannel_model::entry::TunnelDevice {
        name: name.into(),
        port: 8285,
        mtu: 1472,
        ipv4: Some([192, 168, 0, 100].into()),
        ipv6: None,
        offloads: flannel_model::offloads::Offloads::ALL,
    };
    Transaction { devices: [(name.into(), DeviceSpec::Tunnel(device))].into(), ..Transaction::default() }
}

#[test]
fn a_tun_device_that_another_process_has_open_is_left_to_it() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        flannel_test_support::skip("there is no /dev/net/tun (module tun)");
        return;
    }
    in_namespace(|node| {
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        let theirs = open_tun("flannel0", flags);
        let queues = || ip("-details link show flannel0").contains("numqueues 1 ");
        for state in [with_tunnel("flannel0"), with_device("flannel0")] {
            let said = node.replace(state).expect_err("refused");
            assert!(said.contains("flannel0") && said.contains("another process has"), "{said}");
            assert!(queues(), "nobody else has attached to it");
        }
        let report = node.commit(with_tunnel("flannel0"));
        assert!(report.device_failure.is_some() && queues());
        drop(theirs);
        until("ours comes", || device_failure(node).is_none());
    });
}

#[test]
fn a_tun_device_of_somebody_elses_name_is_not_attached_to() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        flannel_test_support::skip("there is no /dev/net/tun (module tun)");
        return;
    }
    in_namespace(|node| {
        ip("tuntap add flannel-vpn mode tun multi_queue vnet_hdr");
        let before = whole("flannel-vpn");
        let said = node.commit(with_tunnel("flannel-vpn")).device_failure.expect("refused");
        assert!(said.contains("a tun device of this name, which is not flanneld's"), "{said}");
        assert_eq!(whole("flannel-vpn"), before);
        ip("link delete flannel-vpn");
        until("ours comes", || alias("flannel-vpn").is_some_and(|alias| alias.starts_with("flanneld ")));
        node.datapath.stop();
        let again = Node::new();
        assert_eq!(again.commit(with_tunnel("flannel-vpn")).device_failure, None);
        again.replace(Transaction::default()).expect("taken");
        assert!(!ip("link show").contains("flannel-vpn"));
    });
}
