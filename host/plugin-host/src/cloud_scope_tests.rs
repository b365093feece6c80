//! A grant of a cloud's operation is that operation, with these parameters, for this machine and its cluster: what a component sends
//! beyond that reaches no cloud.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flannel_cloud::{Answer, Failure, Instance, NetworkInterface, Provider, Request};
use serde_json::{Value, json};

use super::tests::{environment, start_in};
use super::*;

/// What the component declares, which has to be granted in any case.
const DECLARED: [&str; 2] =
    ["cloud:aws:ec2:DescribeRouteTables", "cloud:google:compute:GET projects/*/global/routes/*"];
const OWN: &str = "projects/p/zones/europe-west3-a/instances/node-1";

/// A cloud that takes everything, and remembers it.
#[derive(Default)]
struct Open(Mutex<Vec<Request>>);

impl Clouds for Open {
    fn send(&self, request: &Request, _: Instant) -> Result<Answer, Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let route = |id: &str, network: &str| json!({ "RouteEntryId": id, "DestinationCidrBlock": network });
        let body = match request.provider {
            Provider::Alibaba => {
                let all = [route("rte-in", "10.5.9.0/24"), route("rte-out", "0.0.0.0/0")];
                json!({ "RouteEntrys": { "RouteEntry": all } })
            }
            Provider::Tencent => {
                let route = |id: u64, network: &str| json!({ "RouteId": id, "RouteItemId": format!("rti-{id}"), "DestinationCidrBlock": network });
                let table = |id: &str, routes: Value| json!({ "RouteTableId": id, "RouteSet": routes });
                let tables = [
                    table("rtb-1", json!([route(17, "10.5.9.0/24"), route(18, "0.0.0.0/0")])),
                    table("rtb-2", json!([route(17, "0.0.0.0/0"), route(19, "10.5.8.0/24")])),
                ];
                json!({ "Response": { "TotalCount": 2, "RouteTableSet": tables, "RequestId": "x" } })
            }
            _ => json!({ "items": [
                { "name": "made-by-hand", "id": "17", "destRange": "10.5.9.0/24", "description": "\"id\": \"99\"" },
                { "name": "default-route", "id": "18", "destRange": "0.0.0.0/0" },
                { "name": "flannel-10-5-8-0-24", "id": "19", "destRange": "0.0.0.0/0" },
            ] }),
        };
        Ok(Answer { status: 200, body: body.to_string(), attempts: 1, ..Answer::default() })
    }

    fn instance(&self, _: Provider, _: Instant) -> Result<Instance, Failure> {
        let interface = NetworkInterface {
            id: "eni-own".to_owned(),
            addresses: vec![[192, 0, 2, 1].into()],
            network: "projects/12/networks/n".to_owned(),
            ..NetworkInterface::default()
        };
        Ok(Instance {
            id: "i-own".to_owned(),
            name: "node-1".to_owned(),
            region: "europe-west3".to_owned(),
            zone: "europe-west3-a".to_owned(),
            account: "p".to_owned(),
            interfaces: vec![interface],
        })
    }
}

/// Sends requests with these grants. Answers how many reached the cloud, and why no others did.
fn send_with(grants: &[&str], option: Option<Value>, requests: &[Value]) -> (usize, String) {
    let mut config = json!({ "Type": "asker", "Do": "send", "Requests": requests });
    if let Some(tables) = option {
        config["RouteTableID"] = tables;
    }
    let granted = DECLARED.iter().chain(grants).map(|grant| (*grant).to_owned()).collect();
    let cloud = Arc::new(Open::default());
    let environment = Environment {
        grants: Arc::new(Grants::new(None, granted, &[])),
        clouds: Arc::clone(&cloud) as Arc<dyn Clouds>,
        ..environment(&config.to_string())
    };
    let mut bench = start_in("asker", environment, Limits::default()).expect("starts");
    let error = bench.policy.tick().expect_err("says what came of it");
    let refused = match error.cause {
        Cause::Refused(reason) => reason,
        _ => String::new(),
    };
    let sent = cloud.0.lock().unwrap_or_else(PoisonError::into_inner).len();
    (sent, refused)
}

fn goes(grants: &[&str], request: &Value) {
    let (sent, refused) = send_with(grants, None, std::slice::from_ref(request));
    assert_eq!((sent, refused.as_str()), (1, ""), "{request} by {grants:?}");
}

fn is_refused(grants: &[&str], request: &Value, said: &str) {
    let (sent, refused) = send_with(grants, None, std::slice::from_ref(request));
    assert!(sent == 0 && refused.contains(said), "{request} by {grants:?}: {sent} sent; {refused}");
}

fn ec2(action: &str, parameters: &[(&str, &str)]) -> Value {
    json!({ "provider": "aws", "service": "ec2", "version": "2016-11-15", "action": action, "parameters": parameters })
}

fn vpc(action: &str, parameters: &[(&str, &str)]) -> Value {
    json!({ "provider": "alibaba", "service": "vpc", "version": "2016-04-28", "action": action, "parameters": parameters })
}

fn tencent(action: &str, parameters: &[(&str, &str)]) -> Value {
    json!({ "provider": "tencent", "service": "vpc", "version": "2017-03-12", "action": action, "parameters": parameters })
}

fn compute(method: &str, path: &str, query: &[(&str, &str)], body: Option<&str>) -> Value {
    json!({ "provider": "google", "service": "compute", "version": "v1", "method": method, "path": path, "query": query,
        "body": body })
}

/// The body of a route to this machine, with other members.
fn route(more: &Value) -> String {
    let mut body = json!({ "name": "r", "destRange": "10.5.3.0/24", "nextHopInstance": OWN,
        "network": "projects/p/global/networks/n" });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
        if value.is_null() {
            body.as_object_mut().expect("an object").remove(name);
        }
    }
    body.to_string()
}

fn with(request: &Value, name: &str, value: &str) -> Value {
    let mut changed = request.clone();
    changed[name] = value.into();
    changed
}

#[test]
fn parameters_that_name_another_operation_or_sign_or_come_twice_reach_no_cloud() {
    let aws = ["cloud:aws:ec2:*"];
    for (name, said) in [
        ("Action", "is reserved"),
        ("aCtion", "is reserved"),
        ("Version", "is reserved"),
        ("X-Amz-Security-Token", "is reserved"),
        ("AWSAccessKeyId", "is reserved"),
        ("Signature", "is reserved"),
        ("%41ction", "names are words"),
        ("nexttoken", "is there twice"),
    ] {
        is_refused(&aws, &ec2("DescribeRouteTables", &[("NextToken", "x"), (name, "DeleteVpc")]), said);
    }
    goes(&aws, &ec2("DescribeRouteTables", &[("Filter.1.Value.1", "a"), ("Filter.1.Value.2", "b")]));

    let alibaba = ["cloud:alibaba:vpc:*"];
    for name in ["Action", "SecurityToken", "x-acs-action", "signatureNonce", "OwnerAccount"] {
        is_refused(&alibaba, &vpc("DescribeVpcs", &[(name, "x")]), "is reserved");
    }

    let google = ["cloud:google:compute:*"];
    let path = "projects/p/global/routes/r";
    for name in ["$httpMethod", "$alt", "alt", "key", "access_token", "prettyPrint", "X-HTTP-Method-Override"]
    {
        is_refused(&google, &compute("GET", path, &[(name, "DELETE")], None), "is reserved");
    }
    goes(&google, &compute("GET", path, &[("fields", "name")], None));
    for path in
        ["projects/p/../q", "projects/p/global%2Froutes/r", "projects/p/routes;x=1/r", "projects/p//r", "./r"]
    {
        is_refused(&google, &compute("GET", path, &[], None), "segments of");
    }
    for version in ["..", ".", "v1/x"] {
        is_refused(&google, &with(&compute("GET", path, &[], None), "version", version), "the version");
    }
}

#[test]
fn a_body_that_says_something_twice_reaches_no_cloud() {
    let google = ["cloud:google:compute:*"];
    let post = |body: &str| compute("POST", "projects/p/global/routes", &[], Some(body));
    for more in
        [r#""destRange":"0.0.0.0/0""#, r#""DESTRANGE":"0.0.0.0/0""#, r#""dest\u0052ange":"0.0.0.0/0""#]
    {
        let body = route(&json!({})).replacen('{', &format!("{{{more},"), 1);
        is_refused(&google, &post(&body), "is there twice");
    }
    let other_name = route(&json!({ "dest_range": "0.0.0.0/0" }));
    is_refused(&google, &post(&other_name), "right would be \"destRange\"");
}

#[test]
fn routes_are_to_the_cluster_network_and_to_nothing_else() {
    let aws = ["cloud:aws:ec2:*"];
    let table = ("RouteTableId", "rtb-1");
    let hop = ("NetworkInterfaceId", "eni-own");
    for action in ["CreateRoute", "ReplaceRoute"] {
        goes(&aws, &ec2(action, &[table, hop, ("DestinationCidrBlock", "10.5.3.0/24")]));
    }
    goes(&aws, &ec2("DeleteRoute", &[table, ("DestinationCidrBlock", "10.5.3.0/24")]));
    for action in ["CreateRoute", "ReplaceRoute", "DeleteRoute"] {
        for (name, network, said) in [
            ("DestinationCidrBlock", "0.0.0.0/0", "is not in the cluster network, which is 10.5.0.0/16"),
            ("DestinationCidrBlock", "10.4.0.0/15", "is not in the cluster network"),
            ("DestinationIpv6CidrBlock", "::/0", "is not in the cluster network"),
            ("DestinationIpv6CidrBlock", "::ffff:10.5.3.0/120", "is not in the cluster network"),
            ("DestinationCidrBlock", "10.5.3.0", "is no network"),
            ("DestinationCidrBlock", "10.5.3.0/24 ", "is no network"),
            ("destinationcidrblock", "10.5.3.0/24", "right would be \"DestinationCidrBlock\""),
            ("DestinationCidrBlock.1", "10.5.3.0/24", "right would be \"DestinationCidrBlock\""),
            ("DestinationPrefixListId", "pl-1", "prefix list"),
            ("DryRun", "false", "without DestinationCidrBlock"),
        ] {
            is_refused(&aws, &ec2(action, &[table, (name, network)]), said);
        }
    }
    // No rule of their own, and the same words.
    let gateway = [("TransitGatewayRouteTableId", "tgw-1"), ("DestinationCidrBlock", "0.0.0.0/0")];
    is_refused(&aws, &ec2("CreateTransitGatewayRoute", &gateway), "is not in the cluster network");
    goes(&aws, &ec2("DescribeRouteTables", &[("DestinationCidrBlock", "0.0.0.0/0")]));
    let old =
        with(&ec2("DeleteRoute", &[table, ("DestinationCidrBlock", "10.5.3.0/24")]), "version", "2009-01-01");
    is_refused(&aws, &old, "is known for 2016-11-15");

    let alibaba = ["cloud:alibaba:vpc:*"];
    let entry =
        |network| vpc("CreateRouteEntry", &[("DestinationCidrBlock", network), ("NextHopId", "i-own")]);
    goes(&alibaba, &entry("10.5.3.0/24"));
    is_refused(&alibaba, &entry("0.0.0.0/0"), "is not in the cluster network");
    let many = |network| {
        let inside = [("RouteEntries.1.DstCidrBlock", "10.5.3.0/24"), ("RouteEntries.1.NextHop", "i-own")];
        vpc("CreateRouteEntries", &[inside[0], inside[1], ("RouteEntries.2.DstCidrBlock", network)])
    };
    goes(&alibaba, &many("10.5.4.0/24"));
    is_refused(&alibaba, &many("0.0.0.0/0"), "RouteEntries.2.DstCidrBlock=0.0.0.0/0 is not in");

    let google = ["cloud:google:compute:*"];
    let post = |more| compute("POST", "projects/p/global/routes", &[("requestId", "1")], Some(&route(&more)));
    goes(&google, &post(json!({ "priority": 1000, "tags": [] })));
    is_refused(&google, &post(json!({ "destRange": "0.0.0.0/0" })), "is not in the cluster network");
    is_refused(&google, &post(json!({ "destRange": null })), "without destRange");
}

#[test]
fn routes_are_removed_by_identifiers_that_the_cloud_has_shown() {
    let alibaba = ["cloud:alibaba:vpc:*"];
    let list = vpc("DescribeRouteEntryList", &[("RouteTableId", "vtb-1")]);
    let delete = |id: &str| vpc("DeleteRouteEntry", &[("RouteEntryId", id)]);
    let send = |requests: &[Value]| send_with(&alibaba, None, requests);
    assert_eq!(send(&[list.clone(), delete("rte-in")]), (2, String::new()));
    let (sent, said) = send(&[list.clone(), delete("rte-out")]);
    assert!(sent == 1 && said.contains("is to 0.0.0.0/0, which is not in the cluster network"), "{said}");
    let (sent, said) = send(&[list, delete("rte-other")]);
    assert!(sent == 1 && said.contains("it is not known what the route rte-other is to"), "{said}");

    let google = ["cloud:google:compute:*"];
    let list = compute("GET", "projects/p/global/routes", &[], None);
    let delete = |route: &str| compute("DELETE", &format!("projects/p/global/routes/{route}"), &[], None);
    for known in ["17", "made-by-hand"] {
        let (sent, said) = send_with(&google, None, &[list.clone(), delete(known)]);
        assert_eq!((sent, said.as_str()), (2, ""), "{known}");
    }
    for other in ["18", "default-route", "flannel-10-5-8-0-24", "99", "unknown", "flannel-10-6-0-0-24"] {
        let (sent, said) = send_with(&google, None, &[list.clone(), delete(other)]);
        assert!(sent == 1 && said.contains(other), "{other}: {said}");
    }
    goes(&google, &delete("flannel-10-5-3-0-24"));
    is_refused(&google, &delete("17"), "it is not known what the route p/17 is to");
}

/// A route of Tencent's, the first of a request.
fn of_tencent(network: &str, hop: &str) -> Vec<(&'static str, String)> {
    vec![
        ("RouteTableId", "rtb-1".to_owned()),
        ("Routes.0.DestinationCidrBlock", network.to_owned()),
        ("Routes.0.GatewayType", "NORMAL_CVM".to_owned()),
        ("Routes.0.GatewayId", hop.to_owned()),
    ]
}

fn create(parameters: &[(&'static str, String)]) -> Value {
    let parameters: Vec<(&str, &str)> =
        parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    tencent("CreateRoutes", &parameters)
}

#[test]
fn tencents_routes_are_to_the_cluster_network_and_lead_to_this_machine() {
    let all = ["cloud:tencent:vpc:*"];
    goes(&all, &create(&of_tencent("10.5.3.0/24", "192.0.2.1")));
    goes(
        &["cloud:tencent:vpc:CreateRoutes?RouteTableId&Routes.0.GatewayType=NORMAL_CVM"],
        &create(&of_tencent("10.5.3.0/24", "192.0.2.1")),
    );
    for (network, hop, said) in [
        ("0.0.0.0/0", "192.0.2.1", "is not in the cluster network"),
        ("\"10.5.3.0/24\"", "192.0.2.1", "is no network"),
        ("10.5.3.0/24", "192.0.2.2", "is none of this machine's"),
        ("10.5.3.0/24", "\"192.0.2.1\"", "is none of this machine's"),
    ] {
        is_refused(&all, &create(&of_tencent(network, hop)), said);
    }
    for (name, value, said) in [
        ("Routes.1.DestinationCidrBlock", "0.0.0.0/0", "Routes.1.DestinationCidrBlock=0.0.0.0/0 is not in"),
        ("Routes.1.DestinationCidrBlock.0", "0.0.0.0/0", "right would be \"DestinationCidrBlock\""),
        ("Routes.0.DestinationIpv6CidrBlock", "::/0", "is not in the cluster network"),
        ("Routes.1.GatewayId", "192.0.2.1", "without DestinationCidrBlock or"),
        ("routes.0.RouteDescription", "x", "routes lead to this machine"),
        ("Routes", "x", "another one makes"),
        ("Routes.x.GatewayId", "192.0.2.1", "a list by some names"),
        ("Routes.00.GatewayId", "x", "names are words"),
        ("Region", "ap-beijing", "is reserved"),
        ("Token", "x", "is reserved"),
    ] {
        let mut parameters = of_tencent("10.5.3.0/24", "192.0.2.1");
        parameters.push((name, value.to_owned()));
        is_refused(&all, &create(&parameters), said);
    }
    let vpn = [of_tencent("10.5.3.0/24", "192.0.2.1"), vec![]].concat();
    let vpn: Vec<_> =
        vpn.into_iter().map(|(name, value)| (name, value.replace("NORMAL_CVM", "VPN"))).collect();
    is_refused(
        &["cloud:tencent:vpc:CreateRoutes?RouteTableId&Routes.0.GatewayType=NORMAL_CVM"],
        &create(&vpn),
        "is not granted, which is NORMAL_CVM",
    );
    is_refused(
        &all,
        &with(&create(&of_tencent("10.5.3.0/24", "192.0.2.1")), "region", "ap-beijing"),
        "is not this machine's",
    );
    is_refused(
        &all,
        &with(&create(&of_tencent("10.5.3.0/24", "192.0.2.1")), "version", "2018-01-01"),
        "is known for 2017-03-12",
    );
    is_refused(&all, &tencent("CreateRoutes", &[("RouteTableId", "rtb-1")]), "without Routes.0");
}

#[test]
fn tencents_routes_are_removed_by_what_the_cloud_has_shown_of_the_same_table() {
    let all = ["cloud:tencent:vpc:*"];
    let list =
        tencent("DescribeRouteTables", &[("Filters.0.Name", "vpc-id"), ("Filters.0.Values.0", "vpc-1")]);
    let by = |action: &str, table: &str, name: &str, id: &str| {
        tencent(action, &[("RouteTableId", table), (name, id)])
    };
    for action in ["DeleteRoutes", "DisableRoutes"] {
        let (number, name) = if action == "DeleteRoutes" {
            ("Routes.0.RouteId", "Routes.0.RouteItemId")
        } else {
            ("RouteIds.0", "RouteItemIds.0")
        };
        for request in [
            by(action, "rtb-1", number, "17"),
            by(action, "rtb-1", name, "rti-17"),
            by(action, "rtb-2", number, "19"),
        ] {
            assert_eq!(send_with(&all, None, &[list.clone(), request]), (2, String::new()));
        }
        for (request, words) in [
            (by(action, "rtb-1", number, "18"), "is to 0.0.0.0/0"),
            (by(action, "rtb-2", number, "17"), "is to 0.0.0.0/0"),
            (by(action, "rtb-1", number, "19"), "it is not known what the route rtb-1/19 is to"),
            (by(action, "rtb-1", number, "\"17\""), "it is not known"),
        ] {
            let (sent, said) = send_with(&all, None, &[list.clone(), request]);
            assert!(sent == 1 && said.contains(words), "{said}");
        }
        is_refused(&all, &tencent(action, &[("RouteTableId", "rtb-1")]), "without");
    }
}

#[test]
fn routes_lead_to_this_machine_unless_the_grant_names_another() {
    let row =
        |hop| ec2("CreateRoute", &[("RouteTableId", "rtb-1"), ("DestinationCidrBlock", "10.5.3.0/24"), hop]);
    let plain = ["cloud:aws:ec2:CreateRoute"];
    goes(&plain, &row(("InstanceId", "i-own")));
    let other = row(("NetworkInterfaceId", "eni-other"));
    is_refused(&plain, &other, "NetworkInterfaceId=\"eni-other\" is none of this machine's");
    is_refused(
        &["cloud:aws:ec2:CreateRoute?NetworkInterfaceId&RouteTableId"],
        &other,
        "is none of this machine's",
    );
    goes(&["cloud:aws:ec2:CreateRoute?NetworkInterfaceId=eni-other&RouteTableId"], &other);
    goes(&["cloud:aws:ec2:CreateRoute?NetworkInterfaceId=*&RouteTableId"], &other);
    let gateway = row(("GatewayId", "igw-1"));
    is_refused(&plain, &gateway, "GatewayId: routes lead to this machine");
    goes(&["cloud:aws:ec2:CreateRoute?GatewayId&RouteTableId"], &gateway);

    let google = ["cloud:google:compute:POST projects/*/global/routes"];
    let post = |more| compute("POST", "projects/p/global/routes", &[], Some(&route(&more)));
    is_refused(
        &google,
        &post(json!({ "nextHopInstance": OWN.replace("-1", "-2") })),
        "is none of this machine's",
    );
    is_refused(
        &google,
        &post(json!({ "nextHopInstance": null, "nextHopIp": "192.0.2.1" })),
        "nextHopIp: routes lead to",
    );
    is_refused(
        &google,
        &post(json!({ "network": "projects/p/global/networks/m" })),
        "is none of this machine's",
    );
}

#[test]
fn a_table_is_one_that_the_network_config_names_or_the_grant() {
    let row = ec2("DeleteRoute", &[("RouteTableId", "rtb-2"), ("DestinationCidrBlock", "10.5.3.0/24")]);
    let send = |grant: &str, tables: Value| send_with(&[grant], Some(tables), std::slice::from_ref(&row));
    let plain = "cloud:aws:ec2:DeleteRoute";
    for named in [json!("rtb-2"), json!(["rtb-1", "rtb-2"])] {
        assert_eq!(send(plain, named), (1, String::new()));
    }
    let (sent, said) = send(plain, json!("rtb-1"));
    assert!(sent == 0 && said.contains("is none of the network config's RouteTableID"), "{said}");
    assert_eq!(send("cloud:aws:ec2:DeleteRoute?RouteTableId=rtb-2", json!("rtb-1")), (1, String::new()));
    is_refused(
        &["cloud:aws:ec2:DeleteRoute?RouteTableId=rtb-1"],
        &row,
        "RouteTableId=\"rtb-2\" is not granted, which is rtb-1",
    );
}

#[test]
fn a_grant_with_parameters_is_for_these_and_says_so() {
    let attribute = |name, value| {
        ec2("ModifyNetworkInterfaceAttribute", &[("NetworkInterfaceId", "eni-own"), (name, value)])
    };
    let granted = ["cloud:aws:ec2:ModifyNetworkInterfaceAttribute?SourceDestCheck"];
    goes(&granted, &attribute("SourceDestCheck.Value", "false"));
    is_refused(
        &granted,
        &attribute("SecurityGroupId.1", "sg-1"),
        "the parameter SecurityGroupId.1 is none of those that are granted: SourceDestCheck",
    );
    is_refused(
        &granted,
        &attribute("SecurityGroupId.1", "sg-1"),
        "it is granted as \"cloud:aws:ec2:ModifyNetworkInterfaceAttribute?SourceDestCheck\"",
    );
    let other = [("NetworkInterfaceId", "eni-other"), ("SourceDestCheck.Value", "false")];
    is_refused(&granted, &ec2("ModifyNetworkInterfaceAttribute", &other), "is none of this machine's");
    let off = ["cloud:aws:ec2:ModifyNetworkInterfaceAttribute?SourceDestCheck.Value=false"];
    is_refused(&off, &attribute("SourceDestCheck.Value", "true"), "is not granted, which is false");
    // Each grant by itself is enough.
    let both = [granted[0], "cloud:aws:ec2:ModifyNetworkInterfaceAttribute?SecurityGroupId"];
    goes(&both, &attribute("SecurityGroupId.1", "sg-1"));
}

#[test]
fn regions_projects_and_zones_are_this_machines_unless_the_grant_names_others() {
    let describe = |region| with(&ec2("DescribeRouteTables", &[]), "region", region);
    goes(&[], &describe("europe-west3"));
    is_refused(
        &[],
        &describe("us-east-1"),
        "region \"us-east-1\" is not this machine's, and another has to be granted: ?@region=us-east-1",
    );
    for granted in ["us-east-1", "*"] {
        goes(&[&format!("cloud:aws:ec2:Describe*?@region={granted}")], &describe("us-east-1"));
    }
    is_refused(&["cloud:aws:ec2:*?@region=us-east-2"], &describe("us-east-1"), "is not this machine's");
    is_refused(
        &["cloud:aws:ec2:*"],
        &ec2("CopyImage", &[("SourceRegion", "us-east-1")]),
        "is not this machine's",
    );

    let alibaba = ["cloud:alibaba:vpc:*"];
    goes(&alibaba, &vpc("DescribeVpcs", &[("RegionId", "europe-west3")]));
    is_refused(
        &alibaba,
        &vpc("DescribeVpcs", &[("RegionId", "cn-beijing")]),
        "RegionId \"cn-beijing\" is not this machine's",
    );
    goes(&["cloud:alibaba:vpc:*?@region=cn-beijing"], &vpc("DescribeVpcs", &[("RegionId", "cn-beijing")]));

    let named = "cloud:alibaba:vpc:DescribeVpcs?RegionId=cn-beijing";
    goes(&[named], &vpc("DescribeVpcs", &[("RegionId", "cn-beijing")]));

    let get = |path| compute("GET", path, &[], None);
    let google = ["cloud:google:compute:*"];
    goes(&google, &get("projects/p/zones/europe-west3-a/instances/node-2"));
    for (path, said) in [
        ("projects/q/global/routes", "projects \"q\" is not this machine's"),
        ("projects/12/global/routes", "projects \"12\" is not"),
        ("projects/p/zones/europe-west3-b/instances/x", "zones \"europe-west3-b\" is not"),
        ("projects/p/regions/us-east1/routers", "regions \"us-east1\" is not"),
    ] {
        is_refused(&google, &get(path), said);
    }
    goes(&["cloud:google:compute:GET projects/q/global/routes"], &get("projects/q/global/routes"));
    goes(&["cloud:google:compute:GET projects/*/global/routes?@project=q"], &get("projects/q/global/routes"));
    goes(&["cloud:google:compute:*?@zone=*"], &get("projects/p/zones/europe-west3-b/instances/x"));
}
