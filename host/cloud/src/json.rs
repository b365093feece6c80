//! Bodies: JSON in which each member of an object is there once. Readers do not agree which of two counts, so that what the host has
//! looked at could be another one than what the cloud takes.

use std::collections::BTreeSet;
use std::fmt;

use flannel_base::text::excerpt;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a body. The error says what is wrong with it, and where.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map(|Unique(value)| value).map_err(|error| error.to_string())
}

/// Any value, without members that are there twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = all.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let (mut members, mut names) = (Map::new(), BTreeSet::new());
        while let Some(name) = all.next_key::<String>()? {
            if !names.insert(name.to_lowercase()) {
                return Err(A::Error::custom(format!(
                    "the member {:?} is there twice: each name has one value, and case makes no other name",
                    excerpt(&name)
                )));
            }
            let Unique(value) = all.next_value()?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_there_twice_is_refused_wherever_it_is() {
        for wrong in [
            r#"{"destRange":"10.5.3.0/24","destRange":"0.0.0.0/0"}"#,
            r#"{"destRange":"10.5.3.0/24","DestRange":"0.0.0.0/0"}"#,
            r#"{"destRange":"10.5.3.0/24","dest\u0052ange":"0.0.0.0/0"}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
        ] {
            let error = read(wrong).expect_err("refused");
            assert!(error.contains("is there twice"), "{wrong}: {error}");
        }
    }

    #[test]
    fn all_other_json_is_what_it_is() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x"],"b":{"a":{}},"c_d":"","cd":""}"#;
        assert_eq!(read(text), Ok(serde_json::from_str(text).expect("JSON")));
        assert!(read("{").is_err());
    }
}
