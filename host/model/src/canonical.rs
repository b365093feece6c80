//! One way of writing a `Backend` section, so that two that say the same are the same text: whether a backend changes is seen by comparing
//! them, and not by how they were written.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::network_config::fields;

/// Values that are nested deeper stay as they were written: what is in a lease may be a stranger's.
const DEPTH: u32 = 32;

/// Writes a `Backend` section without spaces and with its keys in order; its type in lower case, under the key `Type`.
///
/// Nothing is filled in, and numbers stay as they were written. As in Go, options whose names differ by case only are one, and the last of
/// several counts, but none of the types that are null. What is no JSON object stays as it is.
pub fn canonical(raw: &str) -> String {
    let Ok(fields) = fields(raw) else { return raw.trim().to_owned() };
    let (mut options, mut seen) = (Vec::with_capacity(fields.len()), HashSet::new());
    for (key, value) in fields.into_iter().rev() {
        let is_type = key.eq_ignore_ascii_case("Type");
        if is_type && value.get() == "null" || !seen.insert(key.to_ascii_lowercase()) {
            continue;
        }
        options.push(if is_type {
            ("Type".to_owned(), backend_type(&value))
        } else {
            (key, of(&value, DEPTH))
        });
    }
    object(options)
}

/// A type as it is compared: in lower case.
fn backend_type(value: &RawValue) -> String {
    let name = serde_json::from_str::<String>(value.get());
    name.map_or_else(|_| of(value, DEPTH), |name| string(&name.to_lowercase()))
}

fn of(value: &RawValue, depth: u32) -> String {
    let text = value.get();
    let Some(depth) = depth.checked_sub(1) else { return text.to_owned() };
    let written = match text.as_bytes().first() {
        Some(b'{') => fields(text).ok().map(|fields| {
            let mut members: Vec<(String, String)> = Vec::with_capacity(fields.len());
            for (key, value) in fields {
                members.push((key, of(&value, depth)));
            }
            object(members)
        }),
        Some(b'[') => serde_json::from_str::<Vec<Box<RawValue>>>(text).ok().map(|items| {
            let items: Vec<String> = items.iter().map(|item| of(item, depth)).collect();
            format!("[{}]", items.join(","))
        }),
        Some(b'"') => serde_json::from_str::<String>(text).ok().map(|text| string(&text)),
        _ => None,
    };
    written.unwrap_or_else(|| text.to_owned())
}

/// An object with its keys in order, each once: the last value of several.
fn object(mut members: Vec<(String, String)>) -> String {
    // Stable: of one key the last stays the last.
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut written: Vec<String> = Vec::with_capacity(members.len());
    let mut members = members.into_iter().peekable();
    while let Some((key, value)) = members.next() {
        if members.peek().is_none_or(|(next, _)| *next != key) {
            written.push(format!("{}:{value}", string(&key)));
        }
    }
    format!("{{{}}}", written.join(","))
}

/// A text as JSON.
pub(crate) fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(texts: &[&str], expected: &str) {
        for text in texts {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn order_spaces_and_the_case_of_the_type_make_no_difference() {
        same(
            &[
                r#"{"Type":"vxlan","VNI":7,"Port":4789}"#,
                "{\n  \"VNI\": 7,\n  \"Port\": 4789,\n  \"type\": \"VXLAN\"\n}",
                r#"{"VNI":7,"TYPE":"\u0076xlan","Port":4789,"type":null}"#,
            ],
            r#"{"Port":4789,"Type":"vxlan","VNI":7}"#,
        );
    }

    #[test]
    fn of_several_the_last_counts_whatever_the_case_of_its_name() {
        same(
            &[
                r#"{"vni":1,"Type":"udp","VNI":2,"Type":"vxlan"}"#,
                r#"{"VNI":3,"Type":"vxlan","vni":1,"VNI":2}"#,
            ],
            r#"{"Type":"vxlan","VNI":2}"#,
        );
        same(&[r#"{"VNI":2,"vni":1,"Type":"vxlan"}"#], r#"{"Type":"vxlan","vni":1}"#);
    }

    #[test]
    fn what_is_nested_is_in_order_too_and_case_counts_there() {
        same(
            &[
                r#"{"Type":"x","Options":{"b":[ {"z":1, "a":2}, 1 ],"B":"é","b":[{"a":2,"z":1},1]}}"#,
                r#"{"Options":{"B":"\u00e9","b":[{"z":1,"a":2},1]},"Type":"x"}"#,
            ],
            r#"{"Options":{"B":"é","b":[{"a":2,"z":1},1]},"Type":"x"}"#,
        );
    }

    #[test]
    fn numbers_stay_as_they_were_written_and_nothing_is_filled_in() {
        for text in [
            r#"{"Big":18446744073709551617,"Exact":1.50,"Type":"x"}"#,
            r#"{"Big":1e3,"None":null,"Type":"x","Yes":true}"#,
            r#"{"Type":"vxlan"}"#,
            "{}",
        ] {
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for text in ["", "null", "[1]", "\"vxlan\"", "{\"Type\":", r#"{"Type":"x"} y"#] {
            assert_eq!(canonical(text), text);
        }
        assert_eq!(canonical(r#"{"Type": 7, "Lone": "\ud800"}"#), r#"{"Lone":"\ud800","Type":7}"#);
    }

    #[test]
    fn what_is_nested_without_an_end_costs_no_stack() {
        let deep = format!("{{\"Type\":\"x\",\"a\":{}{}}}", "[ ".repeat(100_000), " ]".repeat(100_000));
        let written = canonical(&deep);
        assert_eq!(canonical(&written), written);
        assert!(written.starts_with(r#"{"Type":"x","a":[[["#), "{}", &written[..40]);
    }

    #[test]
    fn it_says_what_it_said_before() {
        for text in [
            r#"{"VNI":2,"vni":1,"type":"VXLAN","a":{"x":[1,{"c":1,"b":2}]}}"#,
            r#"{"Type":"ÄB","Key":"a\"\\\u0001b"}"#,
        ] {
            let once = canonical(text);
            assert_eq!(canonical(&once), once);
        }
    }
}
