//! Several daemons on a host, as upstream has them: each with a prefix in its store and a subnet file of its own. What upstream has none of, and only
//! one daemon can have, follows from the prefix unless it is given.

use super::options::{Options, Store};

/// The prefix of a host's only daemon.
pub(super) const DEFAULT_PREFIX: &str = "/coreos.com/network";

/// The prefix of the annotations of a cluster's only flannel.
pub(super) const DEFAULT_ANNOTATION_PREFIX: &str = "flannel.alpha.coreos.com";

/// Gives a daemon with a prefix of its own a state directory and a control socket of its own. `is_given`: whether an option was.
pub(super) fn separate(options: &mut Options, is_given: impl Fn(&str) -> bool) {
    let Some(name) = name(options) else { return };
    if !is_given("state_dir") {
        options.state_dir.push(&name);
    }
    if !is_given("control_socket") {
        let default = options.control_socket.clone();
        let stem = default.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        options.control_socket = default.with_file_name(format!("{stem}-{name}.sock"));
    }
}

/// What tells a daemon from one with the usual prefix: its prefix, as far as it can be part of a file's name.
fn name(options: &Options) -> Option<String> {
    let (prefix, default) = match options.store {
        Store::Etcd => (&options.etcd_prefix, DEFAULT_PREFIX),
        Store::Kube => (&options.kube_annotation_prefix, DEFAULT_ANNOTATION_PREFIX),
        Store::File(_) => return None,
    };
    let prefix = prefix.trim_matches('/');
    if prefix == default.trim_matches('/') {
        return None;
    }
    let part = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let name: String = prefix.chars().map(part).collect();
    Some(name.trim_matches('.').to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    fn paths(arguments: &[&str]) -> (String, String) {
        let all = std::iter::once("flanneld").chain(arguments.iter().copied()).map(OsString::from);
        let options = super::super::parse(all).expect("accepted").options;
        (options.state_dir.display().to_string(), options.control_socket.display().to_string())
    }

    #[test]
    fn in_kubernetes_it_is_the_annotations_prefix_that_tells_daemons_apart() {
        let socket = |arguments: &[&str]| paths(arguments).1;
        assert_eq!(socket(&["--store=kube"]), "/run/flannel/flanneld.sock");
        assert_eq!(socket(&["--store=kube", "--etcd-prefix=/blue"]), "/run/flannel/flanneld.sock");
        let other = ["--kube-subnet-mgr", "--kube-annotation-prefix=blue.example.com"];
        assert_eq!(socket(&other), "/run/flannel/flanneld-blue.example.com.sock");
    }

    #[test]
    fn a_daemon_with_a_prefix_of_its_own_has_state_and_socket_of_its_own() {
        let usual = ("/var/lib/flanneld".to_owned(), "/run/flannel/flanneld.sock".to_owned());
        assert_eq!(paths(&[]), usual);
        assert_eq!(paths(&["-etcd-prefix", "/coreos.com/network/"]), usual);
        let other = paths(&["-etcd-prefix=/blue/net"]);
        assert_eq!(
            other,
            ("/var/lib/flanneld/blue-net".into(), "/run/flannel/flanneld-blue-net.sock".into())
        );
        let given = ["-etcd-prefix=/blue/net", "--state-dir=/s", "--control-socket=/c.sock"];
        assert_eq!(paths(&given), ("/s".into(), "/c.sock".into()));
        assert_eq!(paths(&["-etcd-prefix=/blue/net", "--store=file:/leases"]), usual);
    }
}
