//! The options of the network config's `Backend` object. `AccessKeyID` and `AccessKeySecret` are the host's business.

use flannel_backend::Config;
use flannel_backend::serde_json::Value;

/// Options. Upstream has none of these.
#[derive(Debug, Default)]
pub struct Options {
    /// `RouteTableID`, one or several: the route tables that get this node's row. Empty: the one that the node's vSwitch uses.
    pub tables: Vec<String>,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config) -> Result<Self, String> {
        let tables = match config.get("RouteTableID") {
            None => Vec::new(),
            Some(Value::Array(all)) if !all.is_empty() => all.iter().map(table).collect::<Result<_, _>>()?,
            Some(one) => vec![table(one)?],
        };
        Ok(Self { tables })
    }
}

fn table(value: &Value) -> Result<String, String> {
    let is_id = |text: &&str| {
        let name = text.strip_prefix("vtb-").unwrap_or_default();
        (1..=60).contains(&name.len()) && name.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    let id = value.as_str().filter(is_id);
    id.map(ToOwned::to_owned).ok_or_else(|| {
        format!("RouteTableID: {value} is no route table; right would be \"vtb-…\", or a list of them")
    })
}
