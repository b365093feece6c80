//! What the daemon asks the API of Kubernetes: which node it is on, what nodes there are and how they change; and the two things that
//! it writes into its own node. How requests get there (kubeconfig, exec plugins, TLS) is `kube`'s; lists and watches are read here, since
//! kube would have whole lists in memory and its watches do not fall back.

#![warn(unreachable_pub)]

mod api;
mod connection;
mod error;
mod list;
mod node;
mod query;
mod random;
mod reflector;
mod request;
mod status;
mod watch;

pub use api::{KubeApi, ListVersion, WatchForm};
pub use connection::{ClusterAccess, ConnectionError, Place, PodEnvironment};
pub use error::KubeError;
pub use list::ListEnd;
pub use node::{Condition, LONGEST_ANNOTATION, Node, NodeProblem};
pub use reflector::{
    CidrsAnnotation, NodeEvent, Pace, Phase, Reflector, ReflectorOptions, ReflectorState, Strategy,
};
pub use request::Patience;
pub use watch::{NodeWatch, WatchEvent};

// kube is what uses it, and does not compile unless some version of Kubernetes is chosen.
use k8s_openapi as _;
