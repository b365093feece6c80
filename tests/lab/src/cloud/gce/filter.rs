//! The filter of lists, in both of its languages: `name eq "flannel-.*"`, whose values are regular expressions, and
//! `name = "flannel-1"`. Expressions stand in parentheses, with `AND`, `OR` or nothing between them.

use regex::Regex;
use serde_json::Value;

/// What is wanted: any of these, of each of which all must hold.
#[derive(Debug)]
pub(super) struct Filter(Vec<Vec<Condition>>);

#[derive(Debug)]
struct Condition {
    field: String,
    pattern: Regex,
    wanted: bool,
}

impl Filter {
    /// Reads a filter. None: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut alternatives = vec![Vec::new()];
        let mut rest = text.trim();
        while !rest.is_empty() {
            let expression;
            if let Some(inside) = rest.strip_prefix('(') {
                let end = closing(inside)?;
                (expression, rest) = (&inside[..end], &inside[end + 1..]);
            } else {
                (expression, rest) = (rest, "");
            }
            alternatives.last_mut()?.push(Condition::parse(expression.trim())?);
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix("AND ") {
                rest = behind.trim_start();
            } else if let Some(behind) = rest.strip_prefix("OR ") {
                rest = behind.trim_start();
                alternatives.push(Vec::new());
            }
        }
        Some(Self(alternatives))
    }

    /// Whether a resource is wanted.
    pub(super) fn wants(&self, resource: &Value) -> bool {
        self.0.iter().any(|all| all.iter().all(|condition| condition.holds(resource)))
    }
}

impl Condition {
    fn parse(text: &str) -> Option<Self> {
        let parts = Regex::new(r"^(\w+)\s*(eq\s|ne\s|!=|=)\s*(.*)$").ok()?.captures(text)?;
        let (operator, value) = (parts[2].trim(), parts[3].trim());
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        let pattern = if operator.ends_with('=') { regex::escape(value) } else { value.to_owned() };
        let pattern = Regex::new(&format!("^(?:{pattern})$")).ok()?;
        Some(Self { field: parts[1].to_owned(), pattern, wanted: matches!(operator, "eq" | "=") })
    }

    fn holds(&self, resource: &Value) -> bool {
        let value = match &resource[&self.field] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        self.pattern.is_match(&value) == self.wanted
    }
}

/// Where the parenthesis ends that was opened before this text.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quoted) = (1_usize, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_languages_of_filters_are_understood() {
        let route =
            json!({ "name": "flannel-10-5-3-0-24", "priority": 1000, "network": "https://x/networks/a" });
        for (filter, wanted) in [
            (r#"name eq "flannel-.*""#, true),
            ("name eq flannel-10-5-3-0-24", true),
            ("name eq flannel", false),
            (r#"name ne "flannel-.*""#, false),
            (r#"name = "flannel-10-5-3-0-24""#, true),
            (r#"name="flannel-10-5-3-0-24""#, true),
            (r#"name != "flannel-10-5-3-0-24""#, false),
            ("(priority = 1000) (name eq '.*-24')", true),
            ("(priority = 1) AND (name eq '.*-24')", false),
            ("(priority = 1) OR (name eq '.*-(24|25)')", true),
            ("network eq .*/networks/a", true),
        ] {
            assert_eq!(Filter::parse(filter).map(|filter| filter.wants(&route)), Some(wanted), "{filter}");
        }
        for wrong in ["name", "(name eq a", "name ~ a", "name eq *"] {
            assert!(Filter::parse(wrong).is_none(), "{wrong}");
        }
    }
}
