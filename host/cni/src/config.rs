//! The network configuration that a runtime hands over: this plugin's options, and what is for its delegate.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::container_id::is_name;
use crate::error::{CniError, codes};
use crate::version;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// Where flanneld says what this node has.
const SUBNET_FILE: &str = "/run/flannel/subnet.env";
/// Where rendered configurations are kept.
const DATA_DIR: &str = "/var/lib/cni/flannel";
/// The key under which the specification has the attachments that are still there, and the one under which its first edition had them.
const VALID_ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// A network configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The version of the specification, if it names one; one that is supported.
    pub(crate) version: Option<String>,
    /// The network's name.
    pub(crate) name: String,
    /// The node's subnet file.
    pub(crate) subnet_file: PathBuf,
    /// The directory for rendered configurations.
    pub(crate) data_dir: PathBuf,
    /// What the delegate's configuration has besides.
    pub(crate) delegate: Object,
    /// What its part on addresses has besides.
    pub(crate) ipam: Object,
    /// What the runtime has for the capabilities that the configuration names.
    pub(crate) runtime: Option<Object>,
    /// For `GC`, as they were given.
    attachments: Object,
}

impl Config {
    /// Reads one. `version` is set as soon as it is known: errors are of that version, too.
    pub(crate) fn parse(text: &[u8], version: &mut Option<String>) -> Result<Self, CniError> {
        let mut object: Object = serde_json::from_slice(text).map_err(|error| {
            CniError::new(codes::DECODING, format!("the network configuration is no JSON object: {error}"))
        })?;
        let named = take_text(&mut object, "cniVersion")?;
        if let Some(named) = &named
            && !version::SUPPORTED.contains(&named.as_str())
        {
            let unknown =
                format!("cniVersion is {named:?}, and this plugin knows {}", version::SUPPORTED.join(", "));
            return Err(CniError::new(codes::INCOMPATIBLE_VERSION, unknown));
        }
        version.clone_from(&named);
        let name = take_text(&mut object, "name")?.unwrap_or_default();
        if !is_name(&name) {
            let wrong = format!(
                "the network's name is {name:?}: right would be a letter or digit, then letters, digits, '_', '.' or '-'"
            );
            return Err(CniError::new(codes::CONFIG, wrong));
        }
        Ok(Self {
            version: named,
            name,
            subnet_file: take_text(&mut object, "subnetFile")?
                .unwrap_or_else(|| SUBNET_FILE.to_owned())
                .into(),
            data_dir: take_text(&mut object, "dataDir")?.unwrap_or_else(|| DATA_DIR.to_owned()).into(),
            delegate: take_object(&mut object, "delegate")?.unwrap_or_default(),
            ipam: take_object(&mut object, "ipam")?.unwrap_or_default(),
            runtime: take_object(&mut object, "runtimeConfig")?,
            attachments: VALID_ATTACHMENTS
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), object.remove(key)?)))
                .collect(),
        })
    }

    /// The version of the specification that holds.
    pub(crate) fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(version::UNNAMED)
    }

    /// For `GC`: what delegates get of the attachments that are still there.
    pub(crate) fn attachments(&self) -> &Object {
        &self.attachments
    }

    /// For `GC`: container and interface of each attachment that is still there.
    pub(crate) fn valid_attachments(&self) -> Result<Vec<(String, String)>, CniError> {
        let [key, _] = VALID_ATTACHMENTS;
        let listed = VALID_ATTACHMENTS.into_iter().find_map(|key| self.attachments.get(key));
        let wrong = |what: &str| {
            CniError::new(
                codes::CONFIG,
                format!("{key} {what}: right would be an array of objects with containerID and ifname"),
            )
        };
        match listed {
            None => Err(wrong("is missing")),
            // What Go writes for an empty list.
            Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(attachments)) => {
                let part = |attachment: &Value, key: &str| Some(attachment.get(key)?.as_str()?.to_owned());
                let read = |it| Some((part(it, "containerID")?, part(it, "ifname")?));
                attachments.iter().map(|it| read(it).ok_or_else(|| wrong(&format!("has {it}")))).collect()
            }
            Some(other) => Err(wrong(&format!("is {other}"))),
        }
    }
}

/// A member that is a text; one that is empty or null is as good as none.
fn take_text(object: &mut Object, key: &str) -> Result<Option<String>, CniError> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => {
            Err(CniError::new(codes::DECODING, format!("{key} is {other}: right would be a text")))
        }
    }
}

/// A member that is an object; null is as good as none.
fn take_object(object: &mut Object, key: &str) -> Result<Option<Object>, CniError> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(other) => {
            Err(CniError::new(codes::DECODING, format!("{key} is {other}: right would be an object")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, CniError> {
        Config::parse(text.as_bytes(), &mut None)
    }

    #[test]
    fn what_is_not_given_is_as_upstream_has_it() {
        let config = parse(r#"{"name":"cbr0","type":"flannel"}"#).expect("a configuration");
        assert_eq!(config.subnet_file.to_str(), Some("/run/flannel/subnet.env"));
        assert_eq!(config.data_dir.to_str(), Some("/var/lib/cni/flannel"));
        assert_eq!((config.version(), &config.runtime), ("0.1.0", &None));
        assert!(config.delegate.is_empty() && config.ipam.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_code() {
        for (text, code, named) in [
            ("", codes::DECODING, "JSON"),
            ("[]", codes::DECODING, "JSON"),
            (r#"{"name":"a","cniVersion":"2.0.0"}"#, codes::INCOMPATIBLE_VERSION, "2.0.0"),
            (r#"{"name":"a","cniVersion":1}"#, codes::DECODING, "cniVersion is 1"),
            ("{}", codes::CONFIG, "name"),
            (r#"{"name":"../a"}"#, codes::CONFIG, "../a"),
            (r#"{"name":"a","delegate":"bridge"}"#, codes::DECODING, "delegate"),
            (r#"{"name":"a","ipam":[]}"#, codes::DECODING, "ipam"),
            (r#"{"name":"a","dataDir":5}"#, codes::DECODING, "dataDir is 5"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.code == code && error.msg.contains(named), "{text}: {error:?}");
        }
    }

    #[test]
    fn attachments_are_read_under_both_keys_and_no_list_is_not_an_empty_one() {
        let valid =
            |rest: &str| parse(&format!(r#"{{"name":"a"{rest}}}"#)).expect("parsed").valid_attachments();
        let one = r#"[{"containerID":"c","ifname":"eth0"}]"#;
        for key in VALID_ATTACHMENTS {
            assert_eq!(valid(&format!(r#","{key}":{one}"#)), Ok(vec![("c".to_owned(), "eth0".to_owned())]));
        }
        assert_eq!(valid(r#","cni.dev/valid-attachments":null"#), Ok(Vec::new()));
        for wrong in
            ["", r#","cni.dev/valid-attachments":{}"#, r#","cni.dev/valid-attachments":[{"ifname":"a"}]"#]
        {
            assert_eq!(valid(wrong).expect_err(wrong).code, codes::CONFIG);
        }
    }
}
