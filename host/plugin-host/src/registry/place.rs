//! Where a registry is.

use flannel_cloud::http::{Url, is_loopback};

use crate::reference::RegistryReference;

/// Docker's own registry has another name than its references say.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A path at a registry. CleartextPolicy HTTP is spoken on loopback, where nobody listens in, and nowhere else.
pub(super) fn url(registry: &RegistryReference, path: String) -> Url {
    let host = registry.host.trim_matches(['[', ']']).to_ascii_lowercase();
    let host = if host == DOCKER_HUB.0 { DOCKER_HUB.1.to_owned() } else { host };
    let secure = !is_loopback(&host);
    Url { secure, host, port: registry.port.unwrap_or(if secure { 443 } else { 80 }), path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(registry: &str) -> Url {
        let reference = format!("oci://{registry}/p:t").parse().expect("a reference");
        url(&reference, "/v2/p/manifests/t".to_owned())
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (registry, shown) in [
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/p/manifests/t"),
            ("localhost", "http://localhost/v2/p/manifests/t"),
            ("[::1]:5000", "http://[::1]:5000/v2/p/manifests/t"),
            ("192.168.77.1:5000", "https://192.168.77.1:5000/v2/p/manifests/t"),
            ("localhost.example.com", "https://localhost.example.com/v2/p/manifests/t"),
            ("docker.io", "https://registry-1.docker.io/v2/p/manifests/t"),
            ("GHCR.io", "https://ghcr.io/v2/p/manifests/t"),
        ] {
            assert_eq!(at(registry).shown(), shown);
        }
    }
}
