//! A cloud that refuses, fails, is behind, or is faster.

use flannel_backend::cloud::{Error as CloudError, Response};
use flannel_backend::serde_json::Value;

use super::cloud::refusal;
use super::*;

fn script(cloud: &Shared, begins: &'static str, answer: Result<Response, CloudError>) {
    cloud.borrow_mut().scripted.push_back((begins, answer));
}

fn is_one_line(text: &str) {
    assert!(!text.contains('\n') && text.len() < 1_000, "{text}");
}

#[test]
fn a_full_quota_is_named_with_its_limit_and_what_there_is() {
    let cloud = Cloud::new();
    for number in [1, 2] {
        cloud.borrow_mut().put(route(number, "node2"));
    }
    let mut own = route(9, "node2");
    own["name"] = "someones".into();
    let subnet = json!({ "name": "default-route", "destRange": "10.0.0.0/8", "network": link("global/networks/lab"),
        "nextHopNetwork": link("global/networks/lab") });
    cloud.borrow_mut().put(own);
    cloud.borrow_mut().put(subnet);
    let full = "Quota 'STATIC_ROUTES_PER_NETWORK' exceeded.  Limit: 3.0 globally.";
    script(&cloud, "POST", Ok(refusal(403, "quotaExceeded", full)));
    let error = bench(&cloud).tick().expect_err("told");
    let expected = format!(
        "cannot make route {OWN} in project p: Quota 'STATIC_ROUTES_PER_NETWORK' exceeded. Limit: 3.0 globally.; network lab has \
         3 static routes, 2 of them flannel's: remove routes that nobody needs, or ask for a higher quota (IAM & Admin, Quotas)"
    );
    assert_eq!(error, expected);
}

#[test]
fn an_operation_that_fails_is_told_once_and_begun_again() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    bench.tick().expect("a tick");
    let error = json!({ "errors": [{
        "code": "QUOTA_EXCEEDED",
        "message": "Quota 'STATIC_ROUTES_PER_NETWORK' exceeded.  Limit: 300.0 globally.",
        "errorDetails": [{ "quotaInfo": { "metricName": "compute.googleapis.com/static_routes_per_network", "limit": 300.0 } }],
    }] });
    cloud.borrow_mut().operations.get_mut("operation-1").expect("begun")["error"] = error;
    bench.tick().expect("the operation's end");
    let error = bench.tick().expect_err("told");
    assert!(
        error.contains("(quota compute.googleapis.com/static_routes_per_network, limit 300.0)"),
        "{error}"
    );
    assert!(error.contains("network lab has 0 static routes"), "{error}");
    is_one_line(&error);
    settle(&mut bench);
    assert_eq!(names(&cloud), [OWN]);
}

#[test]
fn a_stale_route_of_this_instance_makes_room_for_the_new_one() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(route(3, "node1"));
    script(
        &cloud,
        "POST",
        Ok(refusal(403, "quotaExceeded", "Quota 'ROUTES' exceeded.  Limit: 1.0 globally.")),
    );
    settle(&mut bench(&cloud));
    assert_eq!(names(&cloud), [OWN]);
}

#[test]
fn a_missing_permission_is_named() {
    for (call, permission) in [
        ("GET zones", "compute.instances.get"),
        ("GET global/routes/", "compute.routes.get"),
        ("GET global/routes", "compute.routes.list"),
        ("POST", "compute.routes.create"),
        ("POST", "compute.networks.updatePolicy"),
    ] {
        let cloud = Cloud::new();
        if permission == "compute.routes.list" {
            cloud.borrow_mut().put(route(72, "node1"));
            let (instance, right) = (cloud.borrow().instance.clone(), cloud.borrow().routes[OWN].clone());
            script(&cloud, "GET zones", Ok(good(&instance)));
            script(&cloud, "GET global/routes/", Ok(good(&right)));
        }
        let message = format!("Required '{permission}' permission for 'projects/p/global/x'");
        script(&cloud, call, Ok(refusal(403, "forbidden", &message)));
        let error = bench(&cloud).tick().expect_err("told");
        assert!(
            error.contains(&format!("grant {permission} to")) && error.contains("plugin inspect"),
            "{error}"
        );
        is_one_line(&error);
    }
}

fn good(value: &Value) -> Response {
    Response { status: 200, body: value.to_string(), ..Response::default() }
}

#[test]
fn access_scopes_that_are_too_narrow_are_named() {
    let cloud = Cloud::new();
    let narrow = refusal(403, "insufficientPermissions", "Request had insufficient authentication scopes.");
    script(&cloud, "POST", Ok(narrow));
    let error = bench(&cloud).tick().expect_err("told");
    assert!(error.contains("https://www.googleapis.com/auth/compute or cloud-platform"), "{error}");
}

#[test]
fn a_failure_of_the_host_is_told_with_what_was_being_done() {
    let cloud = Cloud::new();
    script(
        &cloud,
        "POST",
        Err(CloudError::Unreachable("http://x/: no answer in time (sent 6 times)".to_owned())),
    );
    let error = bench(&cloud).tick().expect_err("told");
    assert_eq!(
        error,
        format!("cannot make route {OWN} in project p: http://x/: no answer in time (sent 6 times)")
    );
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    with(|host| host.instance = Err(CloudError::Credentials("there are none".to_owned())));
    assert_eq!(bench.tick(), Err("no credentials: there are none".to_owned()));
}

#[test]
fn answers_that_make_no_sense_are_told() {
    for (call, status, body) in [
        ("GET zones", 200, "<html>"),
        ("GET zones", 200, r#"{"canIpForward":true}"#),
        ("GET zones", 502, "<html>"),
        ("GET global/routes/", 200, "{}"),
        ("GET global/routes/", 404, "<html>"),
        ("POST", 200, "[]"),
        ("POST", 418, r#"{"error":{"message":"no\nteapot"}}"#),
    ] {
        let cloud = Cloud::new();
        script(&cloud, call, Ok(Response { status, body: body.to_owned(), ..Response::default() }));
        let error = bench(&cloud).tick().expect_err(call);
        is_one_line(&error);
    }
}

#[test]
fn a_route_that_is_there_and_cannot_be_read_is_read_again_and_told_in_the_end() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(route(72, "node1"));
    cloud.borrow_mut().hidden.push(OWN.to_owned());
    let mut bench = bench(&cloud);
    for _ in 0..CONTRADICTIONS {
        assert_eq!(bench.tick(), Ok(Some(SOON)));
    }
    let error = bench.tick().expect_err("told");
    assert!(error.contains("it already exists (alreadyExists, status 409)"), "{error}");
    cloud.borrow_mut().hidden.clear();
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
}

#[test]
fn reads_that_do_not_show_a_new_route_yet_do_not_make_another() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    cloud.borrow_mut().hidden.push(OWN.to_owned());
    for _ in 0..5 {
        assert!(bench.tick().expect("a tick") < Some(INTERVAL));
    }
    assert_eq!(cloud.borrow_mut().mutations().len(), 1);
    cloud.borrow_mut().hidden.clear();
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
}

#[test]
fn reads_that_still_show_a_removed_route_do_not_remove_another() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(route(72, "node2"));
    let old = cloud.borrow().routes[OWN].clone();
    let mut bench = bench(&cloud);
    bench.tick().expect("begun");
    bench.tick().expect("over");
    for _ in 0..3 {
        script(&cloud, "GET global/routes/", Ok(good(&old)));
        assert_eq!(bench.tick(), Ok(Some(SOON)));
    }
    settle(&mut bench);
    assert_eq!(cloud.borrow_mut().mutations(), ["DELETE global/routes/1", "POST global/routes"]);
}

#[test]
fn a_route_that_another_node_has_made_anew_meanwhile_is_not_removed() {
    let cloud = Cloud::new();
    cloud.borrow_mut().put(route(72, "node1"));
    cloud.borrow_mut().put(route(3, "node1"));
    let stale = json!({ "items": [cloud.borrow().routes["flannel-10-5-3-0-24"].clone()] });
    // By now it is somebody else's, and reads do not show that yet.
    cloud.borrow_mut().put(route(3, "node2"));
    let (instance, right) = (cloud.borrow().instance.clone(), cloud.borrow().routes[OWN].clone());
    script(&cloud, "GET zones", Ok(good(&instance)));
    script(&cloud, "GET global/routes/", Ok(good(&right)));
    script(&cloud, "GET global/routes", Ok(good(&stale)));
    let mut bench = bench(&cloud);
    settle(&mut bench);
    assert_eq!(hop(&cloud, "flannel-10-5-3-0-24"), link("zones/zone-a/instances/node2"));
    assert_eq!(cloud.borrow_mut().mutations(), ["DELETE global/routes/2"]);
}

#[test]
fn an_operation_that_the_cloud_has_forgotten_is_not_waited_for() {
    let cloud = Cloud::new();
    bench(&cloud).tick().expect("begun");
    cloud.borrow_mut().operations.clear();
    cloud.borrow_mut().pending.clear();
    let mut next = bench(&cloud);
    settle(&mut next);
    assert_eq!(names(&cloud), [OWN]);
}

#[test]
fn an_operation_that_cannot_be_asked_for_is_not_lost() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    bench.tick().expect("begun");
    script(&cloud, "GET global/operations", Ok(refusal(503, "backendError", "Internal error.")));
    let error = bench.tick().expect_err("told");
    assert!(error.contains("cannot read operation operation-1: Internal error."), "{error}");
    settle(&mut bench);
    assert_eq!(cloud.borrow_mut().mutations().len(), 1);
}

#[test]
fn what_is_remembered_and_makes_no_sense_is_not_waited_for() {
    for stored in ["", "{}", r#"{"project":"p","operation":7}"#] {
        let cloud = Cloud::new();
        let mut bench = bench(&cloud);
        with(|host| host.state.insert("operation".to_owned(), stored.as_bytes().to_vec()));
        settle(&mut bench);
        assert_eq!(names(&cloud), [OWN], "{stored}");
    }
}
