//! Which addresses pods and services get.

/// The families of a cluster. As in all clusters without a say in it, nodes get a /24 and a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// IPv4: pods in 10.244.0.0/16.
    Single,
    /// Both, IPv4 first: pods in 10.244.0.0/16 and fd00:10:244::/56.
    Dual,
    /// IPv6: pods in fd00:10:244::/56.
    Six,
}

impl Mode {
    /// The value of `--service-cluster-ip-range`.
    pub(super) fn services(self) -> &'static str {
        match self {
            Self::Single => "10.96.0.0/16",
            Self::Dual => "10.96.0.0/16,fd00:10:96::/112",
            Self::Six => "fd00:10:96::/112",
        }
    }

    /// What the controllers' command line says of pods' networks. Of one family, the flags for each family's mask are refused.
    pub(super) fn pod_networks(self) -> &'static [&'static str] {
        match self {
            Self::Single => &["--cluster-cidr=10.244.0.0/16", "--node-cidr-mask-size=24"],
            Self::Dual => &[
                "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
                "--node-cidr-mask-size-ipv4=24",
                "--node-cidr-mask-size-ipv6=64",
            ],
            Self::Six => &["--cluster-cidr=fd00:10:244::/56", "--node-cidr-mask-size=64"],
        }
    }
}
