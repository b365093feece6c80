//! What version 1.1 of the specification has brought: whether the node is ready for pods, and what forgotten ones have left.

mod support;

use serde_json::{Value, json};

use support::Node;

/// How old plugins of the CNI project answer to what they do not know.
const OLDER: &str = r#"{"code":4,"msg":"unknown CNI_COMMAND: STATUS"}"#;
const OLDER_VERSIONS: &str = r#"{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}"#;

fn status_error(node: &Node) -> Value {
    let error = node.request("STATUS", "").run().error();
    assert_eq!(error["code"], 50, "{error}");
    error
}

#[test]
fn a_node_is_ready_when_its_subnet_file_is_whole_and_the_delegate_says_so() {
    let node = Node::new();
    assert_eq!(node.request("STATUS", "").run().ok(), "");
    assert_eq!(node.heard("bridge", "STATUS", "")["ipam"]["ranges"], json!([[{"subnet": "10.244.7.0/24"}]]));
    assert!(!node.data_dir().exists(), "a question leaves nothing");
}

#[test]
fn a_node_is_not_ready_as_long_as_its_subnet_file_is_not() {
    let node = Node::new();
    for (text, named) in [
        (
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\n",
            "is missing FLANNEL_MTU, FLANNEL_IPMASQ",
        ),
        ("FLANNEL_SUBNET=10.244.7/24\n", "FLANNEL_SUBNET is \"10.244.7/24\""),
        ("", "FLANNEL_NETWORK"),
    ] {
        std::fs::write(node.subnet_file(), text).expect("written");
        let error = status_error(&node);
        assert!(error["msg"].as_str().is_some_and(|msg| msg.contains(named)), "{error}");
    }
    std::fs::remove_file(node.subnet_file()).expect("removed");
    let error = status_error(&node);
    assert!(error["msg"].as_str().is_some_and(|msg| msg.contains("no such file")), "{error}");
    std::fs::create_dir(node.subnet_file()).expect("made");
    assert!(status_error(&node)["msg"].as_str().is_some_and(|msg| msg.contains("cannot be read")));
    assert!(!node.has_run("bridge"));
}

#[test]
fn a_node_is_not_ready_without_the_delegate_or_with_a_configuration_that_no_pod_can_have() {
    let node = Node::new();
    for (others, named) in
        [(json!({"delegate": {"type": "ptp"}}), "ptp"), (json!({"delegate": {"ipam": {}}}), "delegate.ipam")]
    {
        let error = node.request("STATUS", "").config(node.config_with("1.1.0", &others)).run().error();
        assert!(error["code"] == 50 && error.to_string().contains(named), "{error}");
    }
}

#[test]
fn what_keeps_the_delegate_from_being_ready_is_passed_on() {
    let node = Node::new();
    node.answers("bridge", "STATUS", 1, r#"{"code":51,"msg":"no addresses left"}"#);
    let error = node.request("STATUS", "").run().error();
    assert_eq!((&error["code"], &error["msg"]), (&json!(51), &json!("no addresses left")));
    node.answers("bridge", "STATUS", 1, r#"{"code":7,"msg":"no","details":"why"}"#);
    assert_eq!(
        status_error(&node)["msg"],
        "the plugin bridge, to which flannel delegates, is not ready: no: why"
    );
}

#[test]
fn a_delegate_that_is_older_than_the_networks_version_is_told_from_one_that_is_not_ready() {
    let node = Node::new();
    node.answers("bridge", "STATUS", 1, OLDER);
    node.answers("bridge", "VERSION", 0, OLDER_VERSIONS);
    let error = status_error(&node);
    let text = error["msg"].as_str().expect("a message");
    assert!(text.contains("knows the CNI versions 0.4.0, 1.0.0") && text.contains("update"), "{text}");
}

#[test]
fn a_runtime_that_says_no_path_hears_of_the_subnet_file_alone() {
    let node = Node::new();
    assert_eq!(node.request("STATUS", "").without("CNI_PATH").run().ok(), "");
    assert!(!node.has_run("bridge"));
}

fn valid(attachments: &[(&str, &str)]) -> Value {
    let listed =
        attachments.iter().map(|(container, ifname)| json!({"containerID": container, "ifname": ifname}));
    json!({"cni.dev/valid-attachments": listed.collect::<Vec<_>>()})
}

/// A node with three pods.
fn with_pods() -> Node {
    let node = Node::new();
    for (container, ifname) in [("c1", "eth0"), ("c2", "eth0"), ("c3", "net1")] {
        let request = node.request("ADD", container).variable("CNI_IFNAME", ifname);
        request.config(node.config("1.1.0")).run().ok();
    }
    node
}

fn gc(node: &Node, others: &Value) -> support::Request {
    node.request("GC", "").without("CNI_IFNAME").config(node.config_with("1.1.0", others))
}

#[test]
fn what_is_kept_of_attachments_that_are_not_valid_is_undone_with_their_interface() {
    let node = with_pods();
    assert_eq!(gc(&node, &valid(&[("c1", "eth0")])).run().ok(), "");
    let there = ["c1", "c2", "c3"].map(|container| node.saved(container).exists());
    assert_eq!(there, [true, false, false]);
    assert!(!node.has_heard("bridge", "DEL", "c1"));
    let environment = node.environment("bridge", "DEL", "c3");
    assert!(environment.contains("CNI_IFNAME=net1\n") && !environment.contains("CNI_NETNS"), "{environment}");
    assert_eq!(node.heard("bridge", "DEL", "c3"), node.heard("bridge", "ADD", "c3"));
}

#[test]
fn an_attachment_is_its_container_and_its_interface() {
    let node = with_pods();
    gc(&node, &valid(&[("c1", "eth0"), ("c2", "net1"), ("c3", "net1")])).run().ok();
    assert_eq!(["c1", "c2", "c3"].map(|container| node.saved(container).exists()), [true, false, true]);
}

#[test]
fn of_what_upstreams_plugin_has_saved_the_container_counts() {
    let node = Node::new();
    for container in ["c1", "c2"] {
        node.save(container, r#"{"cniVersion":"1.1.0","name":"cbr0","type":"bridge"}"#);
    }
    gc(&node, &valid(&[("c1", "net1")])).run().ok();
    assert_eq!(["c1", "c2"].map(|container| node.saved(container).exists()), [true, false]);
    assert!(node.environment("bridge", "DEL", "c2").contains("CNI_IFNAME=eth0\n"));
}

#[test]
fn the_delegate_is_asked_to_do_the_same_with_its_own_configuration() {
    let node = with_pods();
    gc(&node, &valid(&[("c1", "eth0")])).run().ok();
    let heard = node.heard("bridge", "GC", "");
    assert_eq!(heard["cni.dev/valid-attachments"], json!([{"containerID": "c1", "ifname": "eth0"}]));
    assert_eq!((&heard["type"], &heard["ipam"]["type"]), (&json!("bridge"), &json!("host-local")));
    assert!(heard.get("flannel.ifname").is_none(), "that is ours");
}

#[test]
fn without_a_subnet_file_the_delegate_gets_what_a_pod_had() {
    let node = with_pods();
    std::fs::remove_file(node.subnet_file()).expect("removed");
    gc(&node, &valid(&[("c1", "eth0")])).run().ok();
    assert_eq!(node.heard("bridge", "GC", "")["ipam"], node.heard("bridge", "ADD", "c1")["ipam"]);
    let empty = Node::new();
    std::fs::remove_file(empty.subnet_file()).expect("removed");
    gc(&empty, &valid(&[])).run().ok();
    assert!(!empty.has_run("bridge"));
}

#[test]
fn other_networks_attachments_and_what_is_no_configuration_stay() {
    let node = with_pods();
    node.save("other", r#"{"name":"another","type":"bridge"}"#);
    node.save("broken", "{");
    node.save(".c4tmp", r#"{"name":"cbr0","type":"bridge"}"#);
    let answer = gc(&node, &valid(&[])).run();
    assert!(answer.stderr.contains("broken"), "{answer:?}");
    answer.ok();
    for name in ["other", "broken", ".c4tmp"] {
        assert!(node.saved(name).exists(), "{name}");
    }
    assert!(!node.saved("c1").exists());
}

#[test]
fn a_failure_is_told_and_does_not_keep_the_others() {
    let node = with_pods();
    node.save("c2", r#"{"name":"cbr0","type":"ptp"}"#);
    node.answers("bridge", "GC", 1, r#"{"code":101,"msg":"and more"}"#);
    let error = gc(&node, &valid(&[])).run().error();
    assert!(error["msg"].as_str().is_some_and(|msg| msg.contains("ptp")), "{error}");
    assert!(error["details"].as_str().is_some_and(|details| details.contains("and more")), "{error}");
    assert_eq!(["c1", "c2", "c3"].map(|container| node.saved(container).exists()), [false, true, false]);
}

#[test]
fn without_a_list_nothing_is_removed() {
    let node = with_pods();
    let error = gc(&node, &json!({})).run().error();
    assert!(error["code"] == 7 && error.to_string().contains("cni.dev/valid-attachments"), "{error}");
    assert!(node.saved("c1").exists() && !node.has_heard("bridge", "GC", ""));
}
