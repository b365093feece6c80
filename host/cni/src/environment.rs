//! The variables by which a runtime says what it wants.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::error::{CniError, codes};

/// The variable that says what is to be done.
pub const COMMAND: &str = "CNI_COMMAND";
pub(crate) const CONTAINER_ID: &str = "CNI_CONTAINERID";
pub(crate) const NETNS: &str = "CNI_NETNS";
pub(crate) const IFNAME: &str = "CNI_IFNAME";
pub(crate) const PATH: &str = "CNI_PATH";

/// Characters of the longest name of an interface: Linux' IFNAMSIZ without the zero.
const LONGEST_IFNAME: usize = 15;

/// All variables of a process.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// That of this process.
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable's value; one that is empty is as good as none.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }

    /// A variable's value, as text.
    pub(crate) fn text(&self, name: &str) -> Result<&str, CniError> {
        let missing = || CniError::new(codes::ENVIRONMENT, format!("{name} is not set"));
        self.get(name)
            .ok_or_else(missing)?
            .to_str()
            .ok_or_else(|| CniError::new(codes::ENVIRONMENT, format!("{name} is no text in UTF-8")))
    }

    /// The name that the interface has in the container.
    pub(crate) fn ifname(&self) -> Result<&str, CniError> {
        let name = self.text(IFNAME)?;
        let is_wrong = name.len() > LONGEST_IFNAME
            || [".", ".."].contains(&name)
            || name.contains(|character: char| "/:".contains(character) || character.is_whitespace());
        if is_wrong {
            let wrong = format!(
                "{IFNAME} is {name:?}: right would be at most {LONGEST_IFNAME} characters without '/', ':' and blanks"
            );
            return Err(CniError::new(codes::ENVIRONMENT, wrong));
        }
        Ok(name)
    }

    /// The same with one variable changed.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The same without one variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(OsStr::new(name));
        self
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(variables: T) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_empty_is_missing() {
        let environment = Environment::from_iter([(NETNS, ""), (PATH, "/opt/cni/bin")]);
        assert_eq!(environment.text(PATH), Ok("/opt/cni/bin"));
        for name in [NETNS, COMMAND] {
            let error = environment.text(name).expect_err("missing");
            assert_eq!((error.code, error.msg), (codes::ENVIRONMENT, format!("{name} is not set")));
        }
    }

    #[test]
    fn only_names_that_an_interface_can_have_are_taken() {
        let of = |name: &str| Environment::from_iter([(IFNAME, name)]).ifname().map(str::to_owned);
        assert_eq!(of("eth0.100"), Ok("eth0.100".to_owned()));
        for wrong in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-chars-is"] {
            assert!(of(wrong).expect_err(wrong).msg.contains(IFNAME), "{wrong:?}");
        }
    }
}
