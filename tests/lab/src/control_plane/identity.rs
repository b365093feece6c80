//! Who may ask a control plane, and with which token: of a file that it reads at its start.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::manifest::{NAMESPACE, SERVICE_ACCOUNT};

/// The file, in its directory.
pub(super) const TOKENS: &str = "tokens.csv";
/// The file by which the controllers find the API server, and what they show it.
pub(super) const CONTROLLERS_KUBECONFIG: &str = "controllers.kubeconfig";
/// Who has made service accounts' tokens, by the tokens' own words.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// For so many nodes there are tokens: `node1`, …, which the lab calls its nodes.
const NODES: usize = 9;

/// Somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// May do everything.
    Admin,
    /// The controllers' own. They, too, may do everything: nobody has given them their usual roles.
    Controllers,
    /// May do what anybody may whose name is known.
    Nobody,
    /// A node's kubelet, by the node's name, of `node1` to `node9`.
    Kubelet(&'a str),
    /// kube-proxy, of all nodes.
    Proxy,
    /// The scheduler.
    Scheduler,
    /// Upstream's service account, as on a node, of `node1` to `node9`. A token that is bound to a pod says more: see
    /// [`pods`](super::pods).
    Flannel(&'a str),
    /// Without a token.
    Anonymous,
}

impl Identity<'_> {
    /// Its token; none: it has none.
    pub fn token(self) -> Option<String> {
        Some(match self {
            Self::Admin => "admin-token".to_owned(),
            Self::Controllers => "controllers-token".to_owned(),
            Self::Nobody => "nobody-token".to_owned(),
            Self::Proxy => "proxy-token".to_owned(),
            Self::Scheduler => "scheduler-token".to_owned(),
            Self::Kubelet(node) => format!("kubelet-{node}-token"),
            Self::Flannel(node) => format!("flannel-{node}-token"),
            Self::Anonymous => return None,
        })
    }

    /// The user's name, and the groups besides those that all have.
    fn user(self) -> (String, String) {
        let account = || format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
        match self {
            Self::Admin => ("admin".to_owned(), "system:masters".to_owned()),
            Self::Controllers => ("system:kube-controller-manager".to_owned(), "system:masters".to_owned()),
            Self::Nobody | Self::Anonymous => ("nobody".to_owned(), String::new()),
            Self::Proxy => ("system:kube-proxy".to_owned(), String::new()),
            Self::Scheduler => ("system:kube-scheduler".to_owned(), String::new()),
            Self::Kubelet(node) => (format!("system:node:{node}"), "system:nodes".to_owned()),
            Self::Flannel(_) => {
                (account(), format!("system:serviceaccounts,system:serviceaccounts:{NAMESPACE}"))
            }
        }
    }
}

/// Writes the file: a line each with the token, the user, an identifier, and the groups.
pub(super) fn write_tokens(directory: &Path) -> Result<()> {
    let nodes: Vec<String> = (1..=NODES).map(|number| format!("node{number}")).collect();
    let of_nodes = nodes.iter().flat_map(|node| [Identity::Kubelet(node), Identity::Flannel(node)]);
    let all =
        [Identity::Admin, Identity::Controllers, Identity::Nobody, Identity::Proxy, Identity::Scheduler];
    let all = all.into_iter().chain(of_nodes);
    let mut lines = String::new();
    for (number, identity) in all.enumerate() {
        let (user, groups) = identity.user();
        if let Some(token) = identity.token() {
            writeln!(lines, "{token},{user},{number},\"{groups}\"")?;
        }
    }
    let file = directory.join(TOKENS);
    std::fs::write(&file, lines).with_context(|| file.display().to_string())
}
