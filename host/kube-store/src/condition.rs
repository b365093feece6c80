//! The condition `NetworkUnavailable` of this node: as long as it is not `False`, Kubernetes keeps pods away.

use flannel_base::Timestamp;

use flannel_kube_api::{Condition, Node};

/// What the condition's reason is when the network is up.
const UP: &str = "FlannelIsUp";
/// What a cloud's route controller says while it has made no route to the node.
const NO_ROUTE: &str = "NoRouteCreated";

/// What is to be done about the condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be written: [`patch`].
    Write,
    /// It says that there is a network.
    Leave,
    /// A cloud's route controller waits for routes of its own, and would write over whatever is written here.
    RouteControllers,
}

/// What is to be done about the condition of a node whose network is up.
///
/// `written`: whether this daemon has written it since its start; each start writes it once, as upstream's does.
pub fn verdict(node: &Node, written: bool) -> Verdict {
    match &node.network_unavailable {
        _ if !written => Verdict::Write,
        Some(condition) if condition.status == "False" => Verdict::Leave,
        Some(condition) if condition.reason == NO_ROUTE => Verdict::RouteControllers,
        None | Some(_) => Verdict::Write,
    }
}

/// The body of a strategic merge patch of `nodes/NAME/status` that says that the network is up, byte for byte upstream's.
///
/// Since when is kept if the node says so already; upstream says now at each start.
pub fn patch(node: &Node, now: Timestamp) -> String {
    let since = node.network_unavailable.as_ref().and_then(up_since).unwrap_or(now);
    format!(
        "{{\"status\":{{\"conditions\":[{{\"type\":\"NetworkUnavailable\",\"status\":\"False\",\"lastHeartbeatTime\":\"{now}\",\"lastTransitionTime\":\"{since}\",\"reason\":\"{UP}\",\"message\":\"Flannel is running on this node\"}}]}}}}"
    )
}

/// Since when a condition says that the network is up; none if it does not, or nobody can read since when.
fn up_since(condition: &Condition) -> Option<Timestamp> {
    let is_up = condition.status == "False" && condition.reason == UP;
    is_up.then(|| condition.last_transition_time.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(status: &str, reason: &str, since: &str) -> Node {
        let condition = Condition {
            status: status.to_owned(),
            reason: reason.to_owned(),
            last_transition_time: since.to_owned(),
        };
        Node { network_unavailable: Some(condition), ..Node::default() }
    }

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    #[test]
    fn since_when_the_network_is_up_is_kept_over_restarts() {
        let patch = patch(&node("False", UP, "2026-11-01T00:00:00Z"), at("2026-11-27T13:11:00Z"));
        assert_eq!(
            patch,
            r#"{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","lastHeartbeatTime":"2026-11-27T13:11:00Z","lastTransitionTime":"2026-11-01T00:00:00Z","reason":"FlannelIsUp","message":"Flannel is running on this node"}]}}"#
        );
    }

    #[test]
    fn what_was_no_network_is_one_from_now_on() {
        let now = at("2026-11-27T13:11:00Z");
        for node in [
            Node::default(),
            node("True", NO_ROUTE, "2026-11-01T00:00:00Z"),
            node("True", UP, "2026-11-01T00:00:00Z"),
            node("False", "RouteCreated", "2026-11-01T00:00:00Z"),
            node("False", UP, "yesterday\",\"reason\":\"x"),
            node("False", UP, ""),
        ] {
            let patch = patch(&node, now);
            assert_eq!(patch.matches("2026-11-27T13:11:00Z").count(), 2, "{patch}");
        }
    }

    #[test]
    fn the_condition_is_written_at_each_start_and_again_when_it_is_missing() {
        let up = node("False", UP, "2026-11-01T00:00:00Z");
        assert_eq!(verdict(&up, false), Verdict::Write);
        assert_eq!(verdict(&up, true), Verdict::Leave);
        assert_eq!(verdict(&Node::default(), true), Verdict::Write);
        assert_eq!(verdict(&node("Unknown", "NodeStatusNeverUpdated", ""), true), Verdict::Write);
    }

    #[test]
    fn a_route_controller_is_not_fought() {
        let waits = node("True", NO_ROUTE, "2026-11-01T00:00:00Z");
        assert_eq!(verdict(&waits, false), Verdict::Write, "once at the start, as upstream");
        assert_eq!(verdict(&waits, true), Verdict::RouteControllers);
        assert_eq!(verdict(&node("False", "RouteCreated", ""), true), Verdict::Leave);
    }
}
