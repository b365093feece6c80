//! What a request gives its operation, as one list of names and values, whichever way they are sent.

use flannel_base::text::excerpt;
use serde_json::Value;

use super::json;
use super::request::{Failure, Operation, Request};

/// Members of a body, and bytes of the name of one: both together are the memory that it takes to compare them.
const MOST: (usize, usize) = (4096, 1024);

impl Request {
    /// Parameters; of a REST call those of the query, and the members of the body by their path: `tags.1`, `labels.a`. What has nothing
    /// in it (`[]`, `{}`, `null`) is an empty text. The error says what is wrong with the body.
    pub fn given(&self) -> Result<Vec<(String, String)>, Failure> {
        match &self.operation {
            Operation::Action { parameters, .. } => Ok(parameters.clone()),
            Operation::Rest { query, .. } => {
                let mut given = query.clone();
                given.extend(self.members()?);
                Ok(given)
            }
        }
    }

    /// The members of the body alone.
    pub(crate) fn members(&self) -> Result<Vec<(String, String)>, Failure> {
        let Operation::Rest { body: Some(body), .. } = &self.operation else { return Ok(Vec::new()) };
        let body = json::read(body)
            .map_err(|error| Failure::Invalid(format!("the body is not JSON as it should be: {error}")))?;
        let Value::Object(members) = body else {
            return Err(Failure::Invalid("the body is no JSON object".to_owned()));
        };
        let mut all = Vec::new();
        members.into_iter().try_for_each(|(name, value)| flatten(part(&name), value, &mut all))?;
        Ok(all)
    }
}

fn flatten(name: String, value: Value, all: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let (count, bytes) = MOST;
    if all.len() >= count || name.len() > bytes {
        let name = excerpt(&name);
        return Err(Failure::Invalid(format!(
            "the body, at {name:?}: at most {count} members, with names of {bytes} bytes"
        )));
    }
    let text = match value {
        Value::Object(members) if !members.is_empty() => {
            let mut members = members.into_iter();
            return members
                .try_for_each(|(member, value)| flatten(format!("{name}.{}", part(&member)), value, all));
        }
        Value::Array(values) if !values.is_empty() => {
            let mut values = (1..).zip(values);
            return values.try_for_each(|(at, value)| flatten(format!("{name}.{at}"), value, all));
        }
        Value::String(text) => text,
        Value::Null | Value::Object(_) | Value::Array(_) => String::new(),
        scalar => scalar.to_string(),
    };
    all.push((name, text));
    Ok(())
}

/// A member's name in a path: a dot of its own does not divide.
fn part(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2E")
}

#[cfg(test)]
mod tests {
    use super::super::request::{Method, Provider};
    use super::*;

    fn post(body: &str) -> Request {
        let operation = Operation::Rest {
            method: Method::Post,
            path: "projects/p/global/routes".to_owned(),
            query: vec![("requestId".to_owned(), "1".to_owned())],
            body: Some(body.to_owned()),
        };
        Request {
            provider: Provider::Google,
            service: "compute".to_owned(),
            version: "v1".to_owned(),
            region: None,
            operation,
            idempotent: false,
        }
    }

    #[test]
    fn members_of_a_body_have_the_names_of_their_places() {
        let given = post(r#"{"a":{"b":[1,"x"],"c.d":true},"e":[],"f":null}"#).given().expect("an object");
        let given: Vec<(&str, &str)> = given.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            given,
            [("requestId", "1"), ("a.b.1", "1"), ("a.b.2", "x"), ("a.c%2Ed", "true"), ("e", ""), ("f", "")]
        );
    }

    #[test]
    fn a_body_that_is_no_object_or_has_too_much_in_it_is_refused() {
        let many = format!(r#"{{"a":[1{}]}}"#, ",1".repeat(5000));
        let deep = format!("{}1{}", format!(r#"{{"{}":"#, "a".repeat(100)).repeat(20), "}".repeat(20));
        for wrong in ["[]", "1", "{", r#"{"a":1,"A":2}"#, &many, &deep] {
            assert!(matches!(post(wrong).given(), Err(Failure::Invalid(_))), "{wrong}");
        }
    }
}
