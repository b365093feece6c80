//! A node's lease in, a route of the network out.

mod cloud;

use flannel_backend::http::Error as HttpError;
use flannel_backend::serde_json::{Value, json};
use flannel_backend::testing::{Bench, samples, with};

use super::*;
use cloud::{Cloud, Shared, bench, ok, refused};

const OWN: &str = "10.5.72.0/24";
const ME: &str = "192.168.0.100";

/// Ticks until all is well.
fn settle(bench: &mut Bench<HetznerPolicy>) {
    for _ in 0..20 {
        if bench.tick().expect("a tick").expect("another one") == INTERVAL {
            return;
        }
    }
    panic!("it never settles");
}

fn routes(cloud: &Shared) -> Vec<(String, String)> {
    cloud.borrow().routes.clone()
}

fn own() -> (String, String) {
    (OWN.to_owned(), ME.to_owned())
}

#[test]
fn pods_get_what_the_network_carries_and_nothing_is_published() {
    let published = bench(&Cloud::new()).registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("", 1450));
    assert_eq!((&published.backend_data, &published.backend_v6_data), (&None, &None));
    let mut small = samples::node(true, false);
    small.external.mtu = 1400;
    let bench = Bench::<HetznerPolicy>::register(&small, r#"{"NetworkID":"4711"}"#).expect("registered");
    assert_eq!(bench.registration.mtu, 1400);
}

#[test]
fn what_cannot_be_is_refused_with_what_would_be_right() {
    for (v6, config, said) in [
        (true, r#"{"NetworkID":4711}"#, "IPv4 alone"),
        (false, "{}", "NetworkID is missing"),
        (false, r#"{"NetworkID":null}"#, "NetworkID is missing"),
        (false, r#"{"NetworkID":"lab"}"#, "NetworkID is \"lab\": right would be a number such as 4711"),
        (false, r#"{"NetworkID":0}"#, "NetworkID is 0"),
        (false, r#"{"NetworkID":-1}"#, "NetworkID is -1"),
        (false, r#"{"NetworkID":"../servers"}"#, "NetworkID is \"../servers\""),
    ] {
        let refused = Bench::<HetznerPolicy>::register(&samples::node(true, v6), config);
        let error = refused.err().expect("refused");
        assert!(error.contains(said), "{config}: {error}");
    }
}

#[test]
fn the_own_subnet_gets_a_route_by_the_own_address() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    settle(&mut bench);
    let asked = cloud.borrow_mut().taken();
    let expected = [
        "GET /networks/4711",
        r#"POST /networks/4711/actions/add_route {"destination":"10.5.72.0/24","gateway":"192.168.0.100"}"#,
        "GET /actions/7",
        "GET /networks/4711",
    ];
    assert_eq!((asked, routes(&cloud)), (expected.map(str::to_owned).to_vec(), vec![own()]));
    // Peers look after their own.
    assert_eq!(bench.put(1, &samples::peer("hetzner")).expect("no rejection"), [""; 0]);
}

#[test]
fn a_route_that_is_right_is_left_alone_whoever_made_it() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(OWN, ME);
    let mut bench = bench(&cloud);
    for _ in 0..3 {
        assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    }
    assert_eq!(cloud.borrow().mutations(), [""; 0]);
}

#[test]
fn a_wrong_gateway_is_corrected_and_what_was_deleted_comes_back() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(OWN, "192.168.0.7");
    let mut bench = bench(&cloud);
    settle(&mut bench);
    assert_eq!(routes(&cloud), [own()]);
    assert!(with(|host| host.log.iter().any(|(level, _)| *level == log::Level::Warn)));
    cloud.borrow_mut().routes.clear();
    settle(&mut bench);
    assert_eq!(routes(&cloud), [own()]);
}

#[test]
fn a_stale_route_of_its_own_goes_and_those_of_others_stay() {
    let cloud = Cloud::new();
    let others = [
        // Another node's, somebody's of another cluster, a whole cluster's, one of another length.
        ("10.5.73.0/24", "192.168.0.101"),
        ("10.6.1.0/24", ME),
        ("10.5.0.0/16", ME),
        ("10.5.8.0/25", ME),
        ("0.0.0.0/0", ME),
    ];
    for (destination, gateway) in others {
        cloud.borrow_mut().put(destination, gateway);
    }
    cloud.borrow_mut().put("10.5.9.0/24", ME);
    let mut bench = bench(&cloud);
    settle(&mut bench);
    let mut expected: Vec<(String, String)> =
        others.iter().map(|(to, by)| ((*to).to_owned(), (*by).to_owned())).collect();
    expected.push(own());
    assert_eq!(routes(&cloud), expected);
    // On its way out it takes its own alone.
    for _ in 0..10 {
        if bench.retire().expect("retired").is_none() {
            break;
        }
    }
    expected.pop();
    assert_eq!(routes(&cloud), expected);
}

#[test]
fn a_route_that_another_has_removed_meanwhile_is_no_trouble() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put("10.5.9.0/24", ME);
    let mut bench = bench(&cloud);
    let gone = refused(404, "not_found", "route not found");
    cloud.borrow_mut().scripted.push_back(("POST", Ok(gone)));
    assert_eq!(bench.tick(), Ok(Some(SOON)));
    cloud.borrow_mut().routes.clear();
    settle(&mut bench);
    assert_eq!(routes(&cloud), [own()]);
}

#[test]
fn on_its_way_out_it_leaves_what_another_has_put_in_its_place() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(OWN, "192.168.0.101");
    assert_eq!(bench(&cloud).retire(), Ok(None));
    assert_eq!(cloud.borrow().mutations(), [""; 0]);
}

#[test]
fn an_action_is_asked_for_until_it_is_over_and_told_if_it_fails() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    cloud.borrow_mut().held = true;
    bench.tick().expect("a tick");
    cloud.borrow_mut().taken();
    for _ in 0..3 {
        assert_eq!(bench.tick(), Ok(Some(SOON)));
    }
    assert_eq!(cloud.borrow_mut().taken(), ["GET /actions/7"; 3]);
    {
        let mut cloud = cloud.borrow_mut();
        (cloud.held, cloud.fails) = (false, Some("action_failed"));
    }
    let error = bench.tick().expect_err("told");
    assert!(
        error.contains(
            "cannot make the route to 10.5.72.0/24 by 192.168.0.100: Action failed (action_failed)"
        ),
        "{error}"
    );
    cloud.borrow_mut().fails = None;
    settle(&mut bench);
    assert_eq!(routes(&cloud), [own()]);
}

#[test]
fn a_network_that_is_busy_is_waited_for_and_told_in_the_end() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    for (status, code) in [(409, "conflict"), (423, "locked")] {
        cloud.borrow_mut().scripted.push_back(("POST", Ok(refused(status, code, "busy"))));
        let wait = bench.tick().expect("a tick").expect("another one");
        assert!(wait >= SOON && wait < SOON * 2, "{wait:?}");
    }
    for _ in 0..PATIENCE {
        cloud.borrow_mut().scripted.push_back(("POST", Ok(refused(409, "conflict", "busy"))));
    }
    let told = (0..PATIENCE).find_map(|_| bench.tick().err()).expect("told");
    assert!(told.contains("busy (conflict, status 409)"), "{told}");
}

#[test]
fn what_the_cloud_refuses_is_told_with_what_to_do_and_heals() {
    for (call, answer, said) in [
        ("GET", Ok(refused(401, "unauthorized", "unable to authenticate")), "is not known to Hetzner Cloud"),
        ("GET", Ok(refused(404, "not_found", "network not found")), "has no network 4711"),
        ("POST", Ok(refused(403, "token_readonly", "read only")), "permission Read & Write"),
        ("POST", Ok(refused(403, "resource_limit_exceeded", "too many")), "room for 100 routes"),
        ("POST", Ok(refused(422, "invalid_input", "overlaps")), "overlaps (invalid_input, status 422)"),
        ("GET", Ok(refused(429, "rate_limit_exceeded", "limit")), "3600 an hour"),
        (
            "GET",
            Ok(refused(500, "server_error", "sorry\nabout that")),
            "sorry about that (server_error, status 500)",
        ),
        ("GET", Ok(ok(&json!({ "network": { "ip_range": "x" } }))), "it makes no sense"),
        ("POST", Ok(ok(&Value::Null)), "an action without a number"),
        (
            "GET",
            Err(HttpError::Credentials("/etc/t: it is empty".to_owned())),
            "no credentials: /etc/t: it is empty",
        ),
        ("POST", Err(HttpError::Unreachable("breaks off".to_owned())), "breaks off"),
    ] {
        let cloud = Cloud::new();
        let mut bench = bench(&cloud);
        cloud.borrow_mut().scripted.push_back((call, answer));
        let error = bench.tick().expect_err("told");
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
        settle(&mut bench);
        assert_eq!(routes(&cloud), [own()]);
    }
}

#[test]
fn a_node_whose_interface_is_not_in_the_network_is_looked_up_by_its_public_address() {
    let server = |public: &str, network: u64, private: &str| {
        json!({
            "name": "node",
            "public_net": { "ipv4": { "ip": public } },
            "private_net": [{ "network": 1, "ip": "172.16.0.9" }, { "network": network, "ip": private }],
        })
    };
    let cloud = Cloud::new();
    {
        let mut cloud = cloud.borrow_mut();
        (cloud.range, cloud.page) = ("10.0.0.0/16", 1);
        cloud.servers = vec![server("192.168.0.7", 4711, "10.0.0.7"), server(ME, 4711, "10.0.0.100")];
    }
    settle(&mut bench(&cloud));
    assert_eq!(routes(&cloud), [(OWN.to_owned(), "10.0.0.100".to_owned())]);
    let asked = cloud.borrow_mut().taken();
    assert!(asked.contains(&"GET /servers?page=2&per_page=50".to_owned()), "{asked:?}");
    for (servers, said) in [
        (vec![server("192.168.0.7", 4711, "10.0.0.7")], "no server of the project has 192.168.0.100"),
        (vec![server(ME, 5, "10.0.0.100")], "is not attached to network 4711"),
    ] {
        cloud.borrow_mut().servers = servers;
        let error = bench(&cloud).tick().expect_err("told");
        assert!(error.contains(said), "{error}");
    }
}
