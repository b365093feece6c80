//! The options of the network config's `Backend` object.

use flannel_backend::Config;
use flannel_backend::serde_json::Value;

/// More than a node's row is ever wanted in; each may cost requests of its own, and a tick has 64.
const MOST: usize = 32;

/// Options with upstream's names and defaults.
#[derive(Debug, Default)]
pub struct Options {
    /// `RouteTableID`, one or several: the route tables that get this node's rows. Empty: the one that the node's subnet uses.
    pub tables: Vec<String>,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config) -> Result<Self, String> {
        let all = match config.get("RouteTableID") {
            None => return Ok(Self::default()),
            Some(Value::Array(all)) if !all.is_empty() => all.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut tables: Vec<String> = Vec::new();
        for value in all {
            let table = table(value)?;
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        if tables.len() > MOST {
            return Err(format!("RouteTableID: these are {} route tables; at most {MOST}", tables.len()));
        }
        Ok(Self { tables })
    }
}

fn table(value: &Value) -> Result<String, String> {
    let is_id = |text: &&str| {
        let name = text.strip_prefix("rtb-").unwrap_or_default();
        (1..=60).contains(&name.len()) && name.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    value.as_str().filter(is_id).map(ToOwned::to_owned).ok_or_else(|| {
        format!("RouteTableID: {value} is no route table; right would be \"rtb-…\", or a list of them")
    })
}
