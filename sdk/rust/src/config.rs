//! A backend's options: a JSON object whose keys match without regard to case, as upstream reads it. Peers' published
//! data is read the same way.

use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Options by name. Each getter's error names the option and its value, and says what would be right. An option that is absent
/// or `null` has no value.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// In the order of the text; where a name comes twice, the last counts.
    options: Vec<(String, Value)>,
}

impl Config {
    /// Reads a JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read: Result<Options, _> = serde_json::from_str(text);
        read.map(|Options(options)| Self { options }).map_err(|error| {
            match serde_json::from_str::<Value>(text) {
                Ok(other) => format!("{other} is not a JSON object such as {{\"Key\": 1}}"),
                Err(_) => format!("not JSON: {error}"),
            }
        })
    }

    /// The value of an option; none if it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.options.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// A whole number within bounds.
    pub fn number(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        number.map(Some).ok_or_else(|| {
            format!("{name}: {value} is not a whole number from {} to {}", range.start(), range.end())
        })
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| format!("{name}: {value} is neither true nor false"))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| format!("{name}: {value} is not a text in quotes"))
    }
}

/// The members of an object as they come: there are few, and every lease has such an object, so that a map would cost more than it
/// saves.
struct Options(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Options;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Options, A::Error> {
                let mut options = Vec::new();
                while let Some(member) = map.next_entry()? {
                    options.push(member);
                }
                Ok(Options(options))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text).expect("an object")
    }

    #[test]
    fn keys_match_without_regard_to_case() {
        assert_eq!(config(r#"{"vNi": 7}"#).number("VNI", 0..=10), Ok(Some(7)));
    }

    #[test]
    fn an_absent_and_a_null_option_have_no_value() {
        assert_eq!(config("{}").boolean("GBP"), Ok(None));
        assert_eq!(config(r#"{"GBP": null}"#).boolean("GBP"), Ok(None));
    }

    #[test]
    fn an_error_names_option_value_and_what_would_be_right() {
        let config = config(r#"{"VNI": 16777216, "GBP": "yes", "Port": -1, "Name": 5}"#);
        let error = config.number("VNI", 0..=16_777_215).expect_err("too large");
        assert_eq!(error, "VNI: 16777216 is not a whole number from 0 to 16777215");
        assert_eq!(config.boolean("GBP").expect_err("a text"), "GBP: \"yes\" is neither true nor false");
        assert!(config.number("Port", 0..=65535).is_err());
        assert_eq!(config.text("Name").expect_err("a number"), "Name: 5 is not a text in quotes");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for wrong in ["", "[]", "7", "{", "null"] {
            assert!(Config::parse(wrong).is_err(), "{wrong}");
        }
    }
}
