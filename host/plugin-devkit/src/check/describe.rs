//! Who the plugin says that it is.

use flannel_plugin_host::is_name;

use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// The name and the types are such as the contract has them.
pub(super) fn proper(subject: &Subject) -> Outcome {
    let described = &subject.described;
    let (name, types) = (&described.name, &described.backend_types);
    if !is_name(name) {
        return Err(Stop::Failed(format!("the name {name:?}; 1 to 64 of a-z, 0-9, `-` are possible")));
    }
    if described.version.is_empty() {
        return Err(Stop::Failed("the version is empty".to_owned()));
    }
    if types.is_empty() {
        return Err(Stop::Failed("it is for no backend type".to_owned()));
    }
    match types.iter().find(|name| !is_name(name)) {
        Some(wrong) => Err(Stop::Failed(format!(
            "the backend type {wrong:?}; 1 to 64 of a-z, 0-9, `-` are possible, in lower case"
        ))),
        None => Ok(format!("{name}, for {}", types.join(", "))),
    }
}

/// Other instances say the same, and so does this one when it has been registered and has seen leases.
pub(super) fn constant(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=3))?;
    let again = session.policy.describe_again().map_err(|error| error.to_string())?;
    let others = [Some(subject::describe(subject.artifact)?), again];
    for other in others.into_iter().flatten() {
        if other != subject.described {
            return Err(Stop::Failed(format!("once {:?}, and once {other:?}", subject.described)));
        }
    }
    Ok(String::new())
}
