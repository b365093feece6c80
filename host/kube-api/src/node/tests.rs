use serde::de::DeserializeSeed;

use super::*;

fn read(json: &str) -> Pieces {
    let mut json = serde_json::Deserializer::from_str(json);
    NodeSeed { prefix: "flannel.alpha.coreos.com/" }.deserialize(&mut json).expect("a node")
}

#[test]
fn a_node_is_reduced_to_what_is_looked_at() {
    let node = flannel_fake_kube::node(
        "n1",
        &["10.244.1.0/24", "fd00:1::/64"],
        &[("flannel.alpha.coreos.com/public-ip", "192.0.2.1"), ("other/key", "x")],
    );
    let mut node = node;
    node["metadata"]["uid"] = "u1".into();
    node["metadata"]["resourceVersion"] = "17".into();
    node["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z".into();
    node["status"]["conditions"] = serde_json::json!([
        {"type": "Ready", "status": "True"},
        {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp", "message": "m",
         "lastTransitionTime": "2026-01-02T03:04:06Z"},
    ]);
    let expected = Node {
        name: "n1".to_owned(),
        uid: "u1".to_owned(),
        resource_version: "17".to_owned(),
        created: "2026-01-02T03:04:05Z".to_owned(),
        annotations: [("flannel.alpha.coreos.com/public-ip".to_owned(), "192.0.2.1".to_owned())].into(),
        labels: [("kubernetes.io/hostname".to_owned(), "n1".to_owned())].into(),
        pod_cidrs: vec!["10.244.1.0/24".to_owned(), "fd00:1::/64".to_owned()],
        network_unavailable: Some(Condition {
            status: "False".to_owned(),
            reason: "FlannelIsUp".to_owned(),
            last_transition_time: "2026-01-02T03:04:06Z".to_owned(),
        }),
        addresses: vec![
            ("InternalIP".to_owned(), "192.0.2.1".to_owned()),
            ("Hostname".to_owned(), "n1".to_owned()),
        ],
        ..Node::default()
    };
    assert_eq!(read(&node.to_string()).node, expected);
}

#[test]
fn a_node_as_it_is_created_has_nothing() {
    let node = read(r#"{"metadata":{"name":"n1","annotations":null},"spec":{},"status":null}"#).node;
    assert_eq!(node, Node { name: "n1".to_owned(), ..Node::default() });
    assert!(!node.has_pod_cidrs());
    assert_eq!(read(r#"{"metadata":{"name":"n1"},"spec":{"podCIDR":"","podCIDRs":null}}"#).node, node);
}

#[test]
fn several_cidrs_count_before_a_single_one() {
    for (spec, cidrs) in [
        (r#"{"podCIDR":"10.244.7.0/24","podCIDRs":["10.244.1.0/24"]}"#, &["10.244.1.0/24"][..]),
        (r#"{"podCIDR":"10.244.1.0/24","podCIDRs":[]}"#, &["10.244.1.0/24"]),
        (r#"{"podCIDR":"10.244.1.0/24"}"#, &["10.244.1.0/24"]),
        (r#"{"podCIDR":""}"#, &[]),
    ] {
        let node = read(&format!(r#"{{"metadata":{{"name":"n1"}},"spec":{spec}}}"#)).node;
        assert_eq!(node.pod_cidrs, cidrs, "{spec}");
    }
}

#[test]
fn an_annotation_that_is_too_long_is_left_out_and_named() {
    let key = "flannel.alpha.coreos.com/backend-data";
    let with = |length: usize| {
        let node = flannel_fake_kube::node("n1", &[], &[(key, &"x".repeat(length))]);
        read(&node.to_string()).node
    };
    assert_eq!(with(LONGEST_ANNOTATION).annotations[key].len(), LONGEST_ANNOTATION);
    let node = with(LONGEST_ANNOTATION + 1);
    assert!(node.annotations.is_empty());
    let problem = NodeProblem::AnnotationTooLong { key: key.to_owned(), bytes: LONGEST_ANNOTATION + 1 };
    assert_eq!(node.problems, [problem]);
}

#[test]
fn a_node_that_is_being_deleted_says_so() {
    assert!(read(r#"{"metadata":{"name":"n1","deletionTimestamp":"2026-01-02T03:04:05Z"}}"#).node.deleting);
    assert!(!read(r#"{"metadata":{"name":"n1","deletionTimestamp":null}}"#).node.deleting);
}

#[test]
fn the_end_of_a_streamed_list_is_seen() {
    let bookmark =
        r#"{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}"#;
    assert!(read(bookmark).is_end_of_list);
    assert!(!read(r#"{"metadata":{"resourceVersion":"9"}}"#).is_end_of_list);
}
