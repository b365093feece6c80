//! What a plugin publishes in its node's lease, checked.

use serde_json::value::RawValue;

/// Data for each family.
#[derive(Clone, Debug, Default)]
pub(crate) struct PublishedData {
    /// `BackendData`.
    pub data: Option<Box<RawValue>>,
    /// `BackendV6Data`.
    pub v6_data: Option<Box<RawValue>>,
}

/// Why data cannot be published. The text says which, and why.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// They are too long.
    TooLong(String),
    /// They are not JSON.
    NoJson(String),
}

impl Unfit {
    /// For the operator.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::TooLong(text) | Self::NoJson(text) => text,
        }
    }
}

impl PublishedData {
    /// Checks texts, each of which has at most so many bytes.
    pub(crate) fn check(data: Option<String>, v6_data: Option<String>, limit: usize) -> Result<Self, Unfit> {
        let checked = |field, text| check(field, text, limit);
        Ok(Self { data: checked("backend-data", data)?, v6_data: checked("backend-v6-data", v6_data)? })
    }
}

fn check(field: &str, text: Option<String>, limit: usize) -> Result<Option<Box<RawValue>>, Unfit> {
    let Some(text) = text else { return Ok(None) };
    if text.len() > limit {
        return Err(Unfit::TooLong(format!("{field} of {} bytes; at most {limit}", text.len())));
    }
    let not_json = |error| Unfit::NoJson(format!("{field} is not JSON: {error}"));
    RawValue::from_string(text).map(Some).map_err(not_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_json_of_so_many_bytes_for_each_family_or_none() {
        let check = |data: Option<&str>, v6_data: Option<&str>| {
            PublishedData::check(data.map(str::to_owned), v6_data.map(str::to_owned), 10)
        };
        assert!(check(None, None).is_ok() && check(Some("\"12345678\""), Some("null")).is_ok());
        for (data, v6_data, words) in [
            (Some("\"123456789\""), None, "backend-data of 11 bytes; at most 10"),
            (None, Some("[1,2,3,4,5]"), "backend-v6-data of 11 bytes; at most 10"),
            (Some(""), None, "backend-data is not JSON"),
            (None, Some("{} {}"), "backend-v6-data is not JSON"),
        ] {
            let said = check(data, v6_data).expect_err("refused").into_text();
            assert!(said.starts_with(words), "{said}");
        }
    }
}
