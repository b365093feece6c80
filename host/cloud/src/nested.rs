//! Parameters as a JSON object, for clouds that take one: names lead to members and elements, counted from 0. `Filters.0.Values.0` is
//! `{"Filters":[{"Values":[…]}]}`, the way in which Tencent's own query form writes it.

use std::collections::BTreeMap;

use flannel_base::text::excerpt;
use serde_json::{Map, Value};

use super::request::Failure;

/// Words of a name.
const DEPTH: usize = 16;

/// A member while others may come.
enum Part<'a> {
    Scalar(Value),
    Parts(BTreeMap<&'a str, Part<'a>>),
}

/// The object that parameters are. The error says which name contradicts another one.
pub(crate) fn object(parameters: &[(String, String)]) -> Result<Value, Failure> {
    let mut all = BTreeMap::new();
    for (name, value) in parameters {
        put(&mut all, name, value)?;
    }
    match value(Part::Parts(all), "")? {
        object @ Value::Object(_) => Ok(object),
        _ => Err(invalid("0", "parameters have names, and are no list")),
    }
}

fn invalid(name: &str, reason: &str) -> Failure {
    Failure::Invalid(format!("the parameter {:?}: {reason}", excerpt(name)))
}

fn put<'a>(all: &mut BTreeMap<&'a str, Part<'a>>, name: &'a str, text: &str) -> Result<(), Failure> {
    let contradicts = || invalid(name, "another one makes a text, a list or an object of the same thing");
    if name.split('.').count() > DEPTH {
        return Err(invalid(name, &format!("at most {DEPTH} words")));
    }
    let (place, last) = name.rsplit_once('.').map_or((None, name), |(place, last)| (Some(place), last));
    let mut parts = all;
    for word in place.iter().flat_map(|place| place.split('.')) {
        match parts.entry(word).or_insert_with(|| Part::Parts(BTreeMap::new())) {
            Part::Parts(inner) => parts = inner,
            Part::Scalar(_) => return Err(contradicts()),
        }
    }
    match parts.insert(last, Part::Scalar(scalar(text))) {
        None => Ok(()),
        Some(_) => Err(contradicts()),
    }
}

/// A whole number, `true`, `false`, and what stands in quotation marks are what JSON takes them for; everything else is a text.
fn scalar(text: &str) -> Value {
    let read = serde_json::from_str(text).unwrap_or_default();
    let is_so = match &read {
        Value::Bool(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::String(_) => {
            return if text.starts_with('"') && text.ends_with('"') { read } else { text.into() };
        }
        _ => false,
    };
    // There is one way to write each.
    let written = read.to_string();
    if is_so && written == text { read } else { text.into() }
}

fn value(part: Part, place: &str) -> Result<Value, Failure> {
    let parts = match part {
        Part::Scalar(value) => return Ok(value),
        Part::Parts(parts) => parts,
    };
    let below = |word: &str| if place.is_empty() { word.to_owned() } else { format!("{place}.{word}") };
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = parts.keys().filter(|word| is_number(word)).count();
    if numbers == 0 {
        let members = parts.into_iter().map(|(word, part)| Ok((word.to_owned(), value(part, &below(word))?)));
        return Ok(Value::Object(members.collect::<Result<Map<_, _>, Failure>>()?));
    }
    if numbers < parts.len() {
        return Err(invalid(place, "it is a list by some names, and an object by others"));
    }
    let mut parts = parts;
    let elements = (0..numbers).map(|at| {
        let word = at.to_string();
        let part = parts.remove(word.as_str());
        let missing =
            || invalid(&below(&word), "elements of a list are counted from 0, and none is left out");
        value(part.ok_or_else(missing)?, &below(&word))
    });
    Ok(Value::Array(elements.collect::<Result<_, Failure>>()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(parameters: &[(&str, &str)]) -> Result<Value, Failure> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        object(&parameters.collect::<Vec<_>>())
    }

    #[test]
    fn names_lead_to_members_and_elements() {
        assert_eq!(made(&[]), Ok(json!({})));
        let many: Vec<String> = (0..12).map(|at| format!("A.{at}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(made(&many), Ok(json!({ "A": vec!["x"; 12] })));
        let filters = [
            ("Filters.0.Name", "vpc-id"),
            ("Filters.1.Values.1", "b"),
            ("Filters.0.Values.0", "vpc-1"),
            ("Filters.1.Values.0", "a"),
            ("Limit", "\"100\""),
        ];
        let object = json!({ "Filters": [{ "Name": "vpc-id", "Values": ["vpc-1"] }, { "Values": ["a", "b"] }], "Limit": "100" });
        assert_eq!(made(&filters), Ok(object));
    }

    #[test]
    fn numbers_and_truths_are_no_texts_unless_they_are_quoted() {
        for (text, value) in [
            ("true", json!(true)),
            ("7", json!(7)),
            ("-7", json!(-7)),
            ("18446744073709551615", json!(u64::MAX)),
            ("\"7\"", json!("7")),
            ("\"a\\u0062\"", json!("ab")),
            ("007", json!("007")),
            ("1.5", json!("1.5")),
            ("1e3", json!("1e3")),
            ("-0", json!("-0")),
            (" 7", json!(" 7")),
            (" \"7\"", json!(" \"7\"")),
            ("null", json!("null")),
            ("{}", json!("{}")),
            ("[1]", json!("[1]")),
            ("", json!("")),
            ("10.5.3.0/24", json!("10.5.3.0/24")),
            ("\"", json!("\"")),
        ] {
            assert_eq!(made(&[("A", text)]), Ok(json!({ "A": value })), "{text}");
        }
    }

    #[test]
    fn names_that_contradict_each_other_are_refused() {
        for names in [
            &["A", "A.B"][..],
            &["A.B", "A"],
            &["A.0", "A.B"],
            &["A.1"],
            &["A.0", "A.2"],
            &["0"],
            &["a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"],
            &["A.B.0.C", "A.B.0"],
            &["A.99999999999999999999"],
        ] {
            let parameters: Vec<(&str, &str)> = names.iter().map(|name| (*name, "x")).collect();
            let refused = made(&parameters);
            assert!(matches!(refused, Err(Failure::Invalid(_))), "{names:?}: {refused:?}");
        }
    }
}
