//! What a grant of an operation says of its parameters and places: what stands after `?`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use flannel_base::text::excerpt;
use flannel_cloud::{Provider, Reach, Target, is_parameter, is_reserved, percent, unpercent};

/// Conditions of one grant, and bytes of all of them.
const MOST: (usize, usize) = (64, 2048);

/// A value that is granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// `*`: any, also where the host would ask for the node's own.
    Any,
    /// This one.
    Text(String),
}

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// `@region`
    Region,
    /// `@zone`
    Zone,
    /// `@project`
    Project,
}

impl Place {
    const ALL: [Self; 3] = [Self::Region, Self::Zone, Self::Project];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Region => "@region",
            Self::Zone => "@zone",
            Self::Project => "@project",
        }
    }

    /// Whether a cloud's requests say it.
    fn is_of(self, provider: Provider) -> bool {
        self == Self::Region || provider == Provider::Google
    }
}

type Values = BTreeSet<Value>;

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conditions {
    /// The only parameters that may be there, each with its members; and what they have to be, if that is said. Empty: any may.
    parameters: BTreeMap<String, Values>,
    /// Places beside the node's own.
    places: BTreeMap<Place, Values>,
}

impl Conditions {
    /// Reads what stands after `?`. The error says what is wrong with it.
    pub(crate) fn parse(provider: Provider, text: &str) -> Result<Self, String> {
        let (count, bytes) = MOST;
        let parts = text.split('&');
        if text.len() > bytes || parts.clone().count() > count {
            return Err(format!("at most {count} conditions, of {bytes} bytes in all"));
        }
        let mut read = Self::default();
        for part in parts {
            read.add(provider, part)?;
        }
        Ok(read)
    }

    fn add(&mut self, provider: Provider, part: &str) -> Result<(), String> {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
        let value = value.map(|text| value_of(text).ok_or_else(|| format!("{text:?} is no value")));
        let value = value.transpose()?;
        if name.starts_with('@') {
            let known = Place::ALL.into_iter().filter(|place| place.is_of(provider));
            let all: Vec<&str> = known.clone().map(Place::name).collect();
            let place = known.into_iter().find(|place| place.name() == name);
            let place = place.ok_or_else(|| format!("{name:?} is none of {}", all.join(", ")))?;
            let value = value
                .ok_or_else(|| format!("{name} without a value; right would be {name}=VALUE or {name}=*"))?;
            self.places.entry(place).or_default().insert(value);
            return Ok(());
        }
        if !is_parameter(name) {
            return Err(format!("{name:?} is no parameter's name"));
        }
        if is_reserved(provider, name) {
            return Err(format!("{name:?} is reserved for the host, and cannot be granted"));
        }
        let is_new = !self.parameters.contains_key(name);
        let values = self.parameters.entry(name.to_owned()).or_default();
        if !is_new && (values.is_empty() || value.is_none()) {
            return Err(format!("{name} is there twice, and not each time with a value"));
        }
        values.extend(value);
        Ok(())
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.places.is_empty()
    }

    /// Whether parameters are as they have to be. Those by which the host knows what a request reaches need not be named. The error says
    /// what is not.
    pub(crate) fn check(&self, given: &[(String, String)], reached: &[Reach]) -> Result<(), String> {
        if self.parameters.is_empty() {
            return Ok(());
        }
        let is_checked = |name: &str| {
            let mut reached = reached.iter().filter(|reach| reach.segment.is_none());
            reached.any(|reach| reach.name == name && !matches!(reach.target, Target::Table | Target::Other))
        };
        for (name, value) in given {
            let mut named = self.naming(name).peekable();
            if named.peek().is_none() && !is_checked(name) {
                let all: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
                return Err(format!(
                    "the parameter {} is none of those that are granted: {}",
                    excerpt(name),
                    all.join(", ")
                ));
            }
            if let Some((_, values)) = named.find(|(_, values)| !values.is_empty() && !has(values, value)) {
                let granted: Vec<String> = values.iter().map(Value::to_string).collect();
                let (name, value) = (excerpt(name), excerpt(value));
                return Err(format!("{name}={value:?} is not granted, which is {}", granted.join(" or ")));
            }
        }
        let bound = self.parameters.iter().filter(|(_, values)| !values.is_empty());
        let missing =
            bound.map(|(name, _)| name).find(|name| !given.iter().any(|(given, _)| is_below(given, name)));
        missing.map_or(Ok(()), |name| Err(format!("the parameter {name} is missing, whose value is granted")))
    }

    fn naming<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Values)> {
        self.parameters.iter().filter(move |(own, _)| is_below(name, own))
    }

    /// Whether a parameter is named, with or without a value.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.naming(name).next().is_some()
    }

    /// Whether a value is named for a parameter, so that it need not be the node's own.
    pub(crate) fn frees(&self, name: &str, value: &str) -> bool {
        self.naming(name).any(|(_, values)| has(values, value))
    }

    /// Whether a place is named.
    pub(crate) fn frees_place(&self, place: Place, value: &str) -> bool {
        self.places.get(&place).is_some_and(|values| has(values, value))
    }

    /// Whether each request that fulfils the other one's fulfils these, too.
    pub(crate) fn cover(&self, other: &Self) -> bool {
        let places = other.places.iter().all(|(place, values)| {
            self.places.get(place).is_some_and(|own| own.contains(&Value::Any) || values.is_subset(own))
        });
        places && self.cover_parameters(other)
    }

    fn cover_parameters(&self, other: &Self) -> bool {
        if self.parameters.is_empty() {
            return true;
        }
        let fits = |values: &Values, own: &Values| {
            own.is_empty() || own.contains(&Value::Any) || (!values.is_empty() && values.is_subset(own))
        };
        // What names nothing allows everything.
        let all_named = !other.parameters.is_empty()
            && other.parameters.iter().all(|(name, values)| {
                let mut named = self.naming(name).peekable();
                named.peek().is_some() && named.all(|(_, own)| fits(values, own))
            });
        let bound = self.parameters.iter().filter(|(_, values)| !values.is_empty());
        let needed = |name: &String| {
            other.parameters.iter().any(|(its, values)| is_below(its, name) && !values.is_empty())
        };
        all_named && bound.map(|(name, _)| name).all(needed)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            // As others write it: slashes and colons are no trouble.
            Self::Text(text) => f.write_str(&percent(text).replace("%2F", "/").replace("%3A", ":")),
        }
    }
}

impl fmt::Display for Conditions {
    /// With `?` in front; nothing where nothing is said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = self.parameters.iter().map(|(name, values)| (name.as_str(), values));
        let places = self.places.iter().map(|(place, values)| (place.name(), values));
        let mut separator = '?';
        for (name, values) in parameters.chain(places) {
            if values.is_empty() {
                write!(f, "{separator}{name}")?;
                separator = '&';
            }
            for value in values {
                write!(f, "{separator}{name}={value}")?;
                separator = '&';
            }
        }
        Ok(())
    }
}

fn value_of(text: &str) -> Option<Value> {
    if text == "*" {
        return Some(Value::Any);
    }
    let proper = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\\' | b'*' | b'?');
    let text = Some(text).filter(|text| text.bytes().all(proper))?;
    unpercent(text).map(Value::Text)
}

fn has(values: &Values, value: &str) -> bool {
    values.iter().any(|known| match known {
        Value::Any => true,
        Value::Text(text) => text == value,
    })
}

/// Whether a parameter is one of that name, or a member of it: `Filter.1.Name` of `Filter`.
fn is_below(name: &str, whole: &str) -> bool {
    name.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Conditions {
        Conditions::parse(Provider::Google, text).expect("conditions")
    }

    fn check(conditions: &str, given: &[(&str, &str)]) -> Result<(), String> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        of(conditions).check(&given, &[])
    }

    #[test]
    fn what_is_not_named_is_refused_and_what_is_bound_has_that_value() {
        let both = [("SourceDestCheck.Value", "false"), ("Id", "eni-1")];
        for conditions in [
            "SourceDestCheck&Id",
            "SourceDestCheck=false&Id",
            "SourceDestCheck.Value=false&Id=*",
            "SourceDestCheck.Value=false&SourceDestCheck.Value=true&Id=eni-1",
            "@region=*",
        ] {
            assert_eq!(check(conditions, &both), Ok(()), "{conditions}");
        }
        for (conditions, said) in [
            ("SourceDestCheck", "the parameter Id is none of those that are granted: SourceDestCheck"),
            ("SourceDest&Id", "the parameter SourceDestCheck.Value is none of"),
            ("sourcedestcheck&Id", "the parameter SourceDestCheck.Value is none of"),
            ("SourceDestCheck=true&Id", "SourceDestCheck.Value=\"false\" is not granted, which is true"),
            ("SourceDestCheck&Id&DryRun=true", "the parameter DryRun is missing"),
            ("SourceDestCheck&SourceDestCheck.Value=true&Id", "is not granted, which is true"),
        ] {
            let error = check(conditions, &both).expect_err(conditions);
            assert!(error.contains(said), "{conditions}: {error}");
        }
    }

    #[test]
    fn what_the_host_compares_itself_need_not_be_named_and_a_table_has_to_be() {
        let reach = |target| Reach { name: "A".to_owned(), value: "x".to_owned(), target, segment: None };
        let given = [("A".to_owned(), "x".to_owned())];
        assert_eq!(of("B").check(&given, &[reach(Target::Node)]), Ok(()));
        for target in [Target::Table, Target::Other] {
            assert!(of("B").check(&given, &[reach(target)]).is_err(), "{target:?}");
        }
        // What is bound has to be it, also there.
        assert!(of("A=y").check(&given, &[reach(Target::Node)]).is_err());
    }

    #[test]
    fn conditions_are_written_as_they_are_read() {
        for text in ["?A", "?A&B.C=x", "?A=%2A&A=x%2Cy%26z/:", "?A=*", "?A&@region=eu-west-1&@zone=*"] {
            assert_eq!(of(&text[1..]).to_string(), text);
        }
        assert_eq!(Conditions::default().to_string(), "");
    }

    #[test]
    fn what_is_no_condition_is_named() {
        for (wrong, said) in [
            ("", "\"\" is no parameter's name"),
            ("A&", "\"\" is no parameter's name"),
            ("A&A=1", "A is there twice"),
            ("A=1&A", "A is there twice"),
            ("A&A", "A is there twice"),
            ("A=a,b", "\"a,b\" is no value"),
            ("A=x*", "\"x*\" is no value"),
            ("A=%zz", "\"%zz\" is no value"),
            ("alt=json", "\"alt\" is reserved"),
            ("@region", "@region without a value"),
            ("@account=1", "\"@account\" is none of @region, @zone, @project"),
        ] {
            let error = Conditions::parse(Provider::Google, wrong).expect_err(wrong);
            assert!(error.contains(said), "{wrong}: {error}");
        }
        let error = Conditions::parse(Provider::Aws, "@project=p").expect_err("no project");
        assert!(error.contains("is none of @region"), "{error}");
    }

    #[test]
    fn conditions_cover_what_is_narrower_and_nothing_else() {
        for (wide, narrow) in [
            ("A", "A"),
            ("A&B", "A"),
            ("A", "A.B=1"),
            ("A=1&A=2", "A=1"),
            ("A=*", "A=1"),
            ("A=1", "A.B=1"),
            ("A&@region=*", "A&@region=x"),
            ("A&@region=x", "A"),
            ("@region=x", "A"),
        ] {
            assert!(of(wide).cover(&of(narrow)), "{wide} {narrow}");
        }
        for (narrow, wide) in [
            ("A", "B"),
            ("A", "A&B"),
            ("A=1", "A"),
            ("A=1", "A=1&A=2"),
            ("A=1&B", "B"),
            ("A", "@region=x"),
            ("A", "A&@region=x"),
            ("A&@region=x", "A&@region=*"),
        ] {
            assert!(!of(narrow).cover(&of(wide)), "{narrow} {wide}");
        }
        assert!(Conditions::default().cover(&of("A")) && !of("A").cover(&Conditions::default()));
    }
}
