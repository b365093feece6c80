//! Arguments in Go's syntax made into clap's: one dash is as good as two, the value of a flag may begin with a dash, and an
//! empty value is as good as none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use flannel_base::text::without_credentials;

/// Rewrites the arguments of the daemon itself; those of subcommands are left as they are.
pub fn normalised(
    definition: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, clap::Error> {
    let mut arguments = arguments.into_iter().peekable();
    let mut out: Vec<OsString> = arguments.next().into_iter().collect();
    let is_subcommand = |text: &OsStr| {
        text == "help" || definition.get_subcommands().any(|command| text == command.get_name())
    };
    if arguments.peek().is_some_and(|first| is_subcommand(first)) {
        out.extend(arguments);
        return Ok(out);
    }
    while let Some(argument) = arguments.next() {
        // As in Go it ends the flags, and nothing can follow.
        if argument == "--" && arguments.peek().is_none() {
            break;
        }
        let Some((name, value)) = flag(&argument) else {
            return Err(stray(definition, &argument, out.last()));
        };
        let known =
            definition.get_arguments().find(|known| known.get_long().is_some_and(|long| long == name));
        let takes_value = known.is_some_and(|known| takes_value(known) && !is_switch(known));
        let value = match value {
            None if takes_value => arguments.next(),
            other => other,
        };
        let mut text = OsString::from(format!("--{name}"));
        match value {
            // An empty text is what upstream's flags begin with: it means not given.
            Some(value) if value.is_empty() && takes_value => continue,
            Some(value) => {
                text.push("=");
                text.push(value);
            }
            None => {}
        }
        out.push(text);
    }
    Ok(out)
}

/// The name and the value, if there is one, of `-name`, `--name`, `-name=value` or `--name=value`.
fn flag(argument: &OsStr) -> Option<(String, Option<OsString>)> {
    let bytes = argument.as_bytes();
    let rest = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let end = rest.iter().position(|&byte| byte == b'=').unwrap_or(rest.len());
    let name = std::str::from_utf8(&rest[..end]).ok().filter(|name| !name.is_empty())?;
    let name = if name == "h" { "help" } else { name };
    let value = rest.get(end + 1..).map(|value| OsString::from_vec(value.to_vec()));
    Some((name.to_owned(), value))
}

fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// A switch takes its value only behind `=`.
fn is_switch(argument: &Arg) -> bool {
    argument.is_require_equals_set()
}

/// Upstream stops reading at the first argument that is no flag, and ignores all that follow. This is nearly always a switch's
/// value with a blank before it.
fn stray(definition: &Command, argument: &OsStr, before: Option<&OsString>) -> clap::Error {
    if argument.is_empty() {
        let text =
            "an argument is empty, where a flag or a command should be; is it a variable that is not set?";
        return definition.clone().error(ErrorKind::UnknownArgument, text);
    }
    let shown = without_credentials_in(&argument.to_string_lossy());
    let hint = before.map(|before| before.to_string_lossy()).and_then(|before| {
        let name = before.strip_prefix("--")?;
        let known = definition.get_arguments().find(|known| known.get_long() == Some(name))?;
        is_switch(known).then(|| format!(" (did you mean --{name}={shown}?)"))
    });
    let commands: Vec<&str> = definition.get_subcommands().map(Command::get_name).collect();
    let hint = hint.unwrap_or_else(|| format!("; the commands are: {}", commands.join(", ")));
    let text = if commands.contains(&shown.as_str()) {
        format!("the command {shown} comes before all flags, and takes its own only")
    } else {
        format!("{shown:?} is neither a flag nor a command{hint}")
    };
    definition.clone().error(ErrorKind::UnknownArgument, text)
}

fn without_credentials_in(argument: &str) -> String {
    if argument.contains("://") { without_credentials(argument) } else { argument.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(arguments: &[&str]) -> Vec<String> {
        let all = std::iter::once("flanneld").chain(arguments.iter().copied()).map(OsString::from);
        let out = normalised(&super::super::definition(), all).expect("accepted");
        out.into_iter().skip(1).map(|text| text.into_string().expect("text")).collect()
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        assert_eq!(
            rewritten(&["-iface", "eth1", "-ip-masq", "--v=4"]),
            ["--iface=eth1", "--ip-masq", "--v=4"]
        );
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        assert_eq!(
            rewritten(&["--etcd-password", "-x-", "--healthz-port", "-1"]),
            ["--etcd-password=-x-", "--healthz-port=-1"]
        );
    }

    #[test]
    fn an_empty_value_is_as_good_as_none() {
        assert_eq!(rewritten(&["--public-ip=", "--iface", "", "-v", "0"]), ["--v=0"]);
    }

    #[test]
    fn two_dashes_alone_end_the_flags() {
        assert_eq!(rewritten(&["--v=4", "--"]), ["--v=4"]);
        let more = ["flanneld", "--", "--v=4"].map(OsString::from);
        assert!(normalised(&super::super::definition(), more).is_err());
    }

    #[test]
    fn an_empty_argument_is_named_as_such() {
        for arguments in [&["flanneld", ""][..], &["flanneld", "--v=4", "", "--ip-masq"]] {
            let arguments = arguments.iter().map(OsString::from);
            let error = normalised(&super::super::definition(), arguments).expect_err("refused").to_string();
            assert!(error.contains("an argument is empty"), "{error}");
        }
    }

    #[test]
    fn a_subcommands_arguments_are_its_own() {
        assert_eq!(rewritten(&["docker-opts", "-f", "x", "-i"]), ["docker-opts", "-f", "x", "-i"]);
    }

    #[test]
    fn a_switchs_value_behind_a_blank_is_refused_with_what_was_meant() {
        let arguments = ["flanneld", "--ip-masq", "false"].map(OsString::from);
        let error = normalised(&super::super::definition(), arguments).expect_err("refused").to_string();
        assert!(error.contains("--ip-masq=false"), "{error}");
    }
}
