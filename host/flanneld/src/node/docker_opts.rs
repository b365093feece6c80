//! Options for a Docker daemon, made of the subnet file: what upstream's `mk-docker-opts.sh` writes.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use flannel_base::text::excerpt;
use flannel_model::prefix;
use ipnet::Ipv4Net;

use super::inventory;
use super::subnet_file::{self, SubnetFileError};

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerOpts {
    /// Each option as a variable of its own.
    pub individual: bool,
    /// All options as one variable, of this name.
    pub combined: Option<String>,
    /// Whether to say anything about masquerading.
    pub ip_masq: bool,
}

/// What the name of a variable has in it whose value is an option for Docker.
const OPTION: &str = "DOCKER_OPT_";

/// The file's content, of the script's variables: those of the environment, and those of the subnet file, which is sourced. What the
/// operator has set for Docker in either stays: each `DOCKER_OPT_*` is an option, and what the combined variable has comes first.
/// Docker masquerades exactly where flanneld does not.
fn content(variables: &BTreeMap<String, String>, wanted: &DockerOpts) -> Result<String, DockerOptsError> {
    let value = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let masq = match value("FLANNEL_IPMASQ").filter(|_| wanted.ip_masq) {
        None => None,
        Some("true") => Some("--ip-masq=false".to_owned()),
        Some("false") => Some("--ip-masq=true".to_owned()),
        Some(other) => return Err(DockerOptsError::IpMasq(excerpt(other))),
    };
    let ours = [
        ("DOCKER_OPT_BIP", value("FLANNEL_SUBNET").map(|subnet| format!("--bip={subnet}"))),
        ("DOCKER_OPT_IPMASQ", masq),
        ("DOCKER_OPT_MTU", value("FLANNEL_MTU").map(|mtu| format!("--mtu={mtu}"))),
    ];
    // In the order of their names, as a shell's `set` has them.
    let mut options: BTreeMap<&str, String> = variables
        .iter()
        .filter(|(name, _)| is_name(name) && name.contains(OPTION))
        .map(|(name, value)| (name.as_str(), words(value)))
        .collect();
    options.extend(ours.into_iter().filter_map(|(name, option)| Some((name, option?))));
    let mut text = String::new();
    if wanted.individual {
        for (name, option) in &options {
            text.extend([name, "=\"", option, "\"\n"]);
        }
    }
    if let Some(key) = &wanted.combined {
        text.extend([key, "=\""]);
        if let Some(before) = value(key) {
            text.extend([before, " "]);
        }
        for option in options.values() {
            text.extend([" ", option]);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

/// A value as `echo` shows it without quotes.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a shell would have a variable of this name.
fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Reads the subnet file and writes the options, as a whole or not at all. `environment`: the variables of this process. Answers the
/// node's IPv4 subnet, if it has one, which is then to be looked at with [`is_not_routed_elsewhere`].
pub fn write(
    subnet_file: &Path,
    output: &Path,
    wanted: &DockerOpts,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Option<Ipv4Net>, DockerOptsError> {
    if let Some(key) = wanted.combined.as_ref().filter(|key| !is_name(key)) {
        return Err(DockerOptsError::Name(excerpt(key)));
    }
    let mut variables: BTreeMap<String, String> = environment.into_iter().collect();
    variables.extend(subnet_file::variables(subnet_file)?);
    let text = content(&variables, wanted)?;
    subnet_file::replace(output, &text)
        .map_err(|error| DockerOptsError::Output { file: output.display().to_string(), error })?;
    let subnet = variables.get("FLANNEL_SUBNET").and_then(|subnet| prefix::ipv4(subnet));
    Ok(subnet.map(|subnet| subnet.trunc()))
}

/// Docker's bridge could not have a subnet that a route leads away from this node; as upstream's, this comes after the file. Where
/// the kernel does not say, nothing is known to be wrong.
pub async fn is_not_routed_elsewhere(subnet: Ipv4Net) -> Result<(), DockerOptsError> {
    match inventory::gateway_to(subnet).await {
        Ok(Some(gateway)) => Err(DockerOptsError::Routed { subnet, gateway }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Why there are no options.
#[derive(Debug, thiserror::Error)]
pub enum DockerOptsError {
    /// The subnet file cannot be read.
    #[error(transparent)]
    SubnetFile(#[from] SubnetFileError),
    /// Nobody knows who masquerades.
    #[error("FLANNEL_IPMASQ is {0:?}: right would be true or false")]
    IpMasq(String),
    /// No variable can have this name.
    #[error("{0:?} is no name of a variable; right would be one such as DOCKER_NETWORK_OPTIONS")]
    Name(String),
    /// The subnet is somebody else's.
    #[error(
        "the routing table already has a route to {subnet}, via {gateway}: Docker's bridge cannot have this subnet"
    )]
    Routed {
        /// The subnet.
        subnet: Ipv4Net,
        /// Where the route leads.
        gateway: IpAddr,
    },
    /// The output cannot be written.
    #[error("{file}: cannot be written: {error}")]
    Output {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: DockerOpts = DockerOpts { individual: true, combined: None, ip_masq: true };

    /// With those of a subnet file.
    fn variables(others: &[(&str, &str)]) -> BTreeMap<String, String> {
        let file = [("FLANNEL_SUBNET", "10.5.72.1/24"), ("FLANNEL_MTU", "1450"), ("FLANNEL_IPMASQ", "true")];
        let all = file.iter().chain(others);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn combined(name: &str) -> DockerOpts {
        DockerOpts { combined: Some(name.to_owned()), ..BOTH }
    }

    fn text(others: &[(&str, &str)], wanted: &DockerOpts) -> String {
        content(&variables(others), wanted).expect("options")
    }

    #[test]
    fn both_forms_are_those_of_upstreams_script() {
        assert_eq!(
            text(&[], &combined("DOCKER_OPTS")),
            "DOCKER_OPT_BIP=\"--bip=10.5.72.1/24\"\n\
             DOCKER_OPT_IPMASQ=\"--ip-masq=false\"\n\
             DOCKER_OPT_MTU=\"--mtu=1450\"\n\
             DOCKER_OPTS=\" --bip=10.5.72.1/24 --ip-masq=false --mtu=1450\"\n"
        );
    }

    #[test]
    fn each_form_can_be_had_alone_and_without_masquerading() {
        let wanted = DockerOpts { individual: false, ip_masq: false, ..combined("OPTS") };
        assert_eq!(text(&[], &wanted), "OPTS=\" --bip=10.5.72.1/24 --mtu=1450\"\n");
    }

    #[test]
    fn what_the_combined_variable_has_already_comes_first() {
        let wanted = DockerOpts { individual: false, ..combined("DOCKER_NETWORK_OPTIONS") };
        assert_eq!(
            text(&[("DOCKER_NETWORK_OPTIONS", "--debug -H fd://"), ("DOCKER_OPTS", "--other")], &wanted),
            "DOCKER_NETWORK_OPTIONS=\"--debug -H fd://  --bip=10.5.72.1/24 --ip-masq=false --mtu=1450\"\n"
        );
    }

    #[test]
    fn the_operators_own_options_are_among_the_others_by_name() {
        let own =
            [("DOCKER_OPT_LOG", "--log-driver  journald"), ("DOCKER_OPT_A", "--a"), ("DOCKER_HOST", "x")];
        assert_eq!(
            text(&own, &combined("DOCKER_OPTS")),
            "DOCKER_OPT_A=\"--a\"\n\
             DOCKER_OPT_BIP=\"--bip=10.5.72.1/24\"\n\
             DOCKER_OPT_IPMASQ=\"--ip-masq=false\"\n\
             DOCKER_OPT_LOG=\"--log-driver journald\"\n\
             DOCKER_OPT_MTU=\"--mtu=1450\"\n\
             DOCKER_OPTS=\" --a --bip=10.5.72.1/24 --ip-masq=false --log-driver journald --mtu=1450\"\n"
        );
    }

    #[test]
    fn an_option_of_the_operators_stands_where_flannel_has_none_of_its_own() {
        let own = [("DOCKER_OPT_IPMASQ", "--ip-masq=true"), ("DOCKER_OPT_MTU", "--mtu=9000")];
        assert_eq!(
            text(&own, &DockerOpts { ip_masq: false, ..BOTH }),
            "DOCKER_OPT_BIP=\"--bip=10.5.72.1/24\"\n\
             DOCKER_OPT_IPMASQ=\"--ip-masq=true\"\n\
             DOCKER_OPT_MTU=\"--mtu=1450\"\n"
        );
    }

    #[test]
    fn who_masquerades_has_to_be_known() {
        let unknown = variables(&[("FLANNEL_IPMASQ", "maybe")]);
        let error = content(&unknown, &BOTH).expect_err("neither true nor false").to_string();
        assert!(error.contains("FLANNEL_IPMASQ") && error.contains("maybe"), "{error}");
        assert!(content(&unknown, &DockerOpts { ip_masq: false, ..BOTH }).is_ok());
    }

    #[test]
    fn the_subnet_file_comes_before_the_environment() {
        let directory = tempfile::tempdir().expect("directory");
        let (subnet, output) = (directory.path().join("subnet.env"), directory.path().join("docker.env"));
        std::fs::write(&subnet, "FLANNEL_MTU=1450\nDOCKER_OPTS=\"--file\"\n").expect("written");
        let environment =
            [("FLANNEL_MTU", "1400"), ("FLANNEL_SUBNET", "10.5.1.1/24"), ("DOCKER_OPTS", "--env")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let wanted = DockerOpts { individual: false, ..combined("DOCKER_OPTS") };
        write(&subnet, &output, &wanted, environment).expect("written");
        let text = std::fs::read_to_string(&output).expect("a file");
        assert_eq!(text, "DOCKER_OPTS=\"--file  --bip=10.5.1.1/24 --mtu=1450\"\n");
    }

    #[test]
    fn a_name_that_no_variable_can_have_is_refused() {
        for wrong in ["", "1A", "A-B", "A B", "A=\"x\"\nB"] {
            let error = write(Path::new("/nowhere"), Path::new("/nowhere"), &combined(wrong), []);
            assert!(matches!(error, Err(DockerOptsError::Name(_))), "{wrong:?}");
        }
    }
}
