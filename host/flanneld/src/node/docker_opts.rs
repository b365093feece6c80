//! Options for a Docker daemon, made of the subnet file: what upstream's `mk-docker-opts.sh` writes.

use std::io;
use std::path::Path;

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

/// The file's content. Docker masquerades exactly where flanneld does not.
pub fn content(variables: &[(String, String)], wanted: &DockerOpts) -> String {
    let value = |name: &str| {
        let found = variables.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let masq = value("FLANNEL_IPMASQ").filter(|_| wanted.ip_masq).map(|masq| (masq != "true").to_string());
    let options: Vec<(&str, String)> = [
        ("BIP", value("FLANNEL_SUBNET").map(|subnet| format!("--bip={subnet}"))),
        ("IPMASQ", masq.map(|masq| format!("--ip-masq={masq}"))),
        ("MTU", value("FLANNEL_MTU").map(|mtu| format!("--mtu={mtu}"))),
    ]
    .into_iter()
    .filter_map(|(name, option)| Some((name, option?)))
    .collect();
    let mut text = String::new();
    if wanted.individual {
        for (name, option) in &options {
            text.extend(["DOCKER_OPT_", name, "=\"", option, "\"\n"]);
        }
    }
    if let Some(key) = &wanted.combined {
        text.extend([key, "=\""]);
        for (_, option) in &options {
            text.extend([" ", option]);
        }
        text.push_str("\"\n");
    }
    text
}

/// Reads the subnet file and writes the options, as a whole or not at all.
pub fn write(subnet_file: &Path, output: &Path, wanted: &DockerOpts) -> Result<(), DockerOptsError> {
    let variables = subnet_file::variables(subnet_file)?;
    let text = content(&variables, wanted);
    subnet_file::replace(output, &text)
        .map_err(|error| DockerOptsError::Output { file: output.display().to_string(), error })
}

/// Why there are no options.
#[derive(Debug, thiserror::Error)]
pub enum DockerOptsError {
    /// The subnet file cannot be read.
    #[error("{0}")]
    SubnetFile(#[from] SubnetFileError),
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

    fn variables() -> Vec<(String, String)> {
        [("FLANNEL_SUBNET", "10.5.72.1/24"), ("FLANNEL_MTU", "1450"), ("FLANNEL_IPMASQ", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn both_forms_are_those_of_upstreams_script() {
        let wanted = DockerOpts { individual: true, combined: Some("DOCKER_OPTS".into()), ip_masq: true };
        assert_eq!(
            content(&variables(), &wanted),
            "DOCKER_OPT_BIP=\"--bip=10.5.72.1/24\"\n\
             DOCKER_OPT_IPMASQ=\"--ip-masq=false\"\n\
             DOCKER_OPT_MTU=\"--mtu=1450\"\n\
             DOCKER_OPTS=\" --bip=10.5.72.1/24 --ip-masq=false --mtu=1450\"\n"
        );
    }

    #[test]
    fn each_form_can_be_had_alone_and_without_masquerading() {
        let wanted = DockerOpts { individual: false, combined: Some("OPTS".into()), ip_masq: false };
        assert_eq!(content(&variables(), &wanted), "OPTS=\" --bip=10.5.72.1/24 --mtu=1450\"\n");
    }
}
