//! Which requests to clouds a plugin asks for, and which it is granted: `cloud:PROVIDER:SERVICE:OPERATION`.

use std::fmt;

use flannel_cloud::{Provider, Request, is_label};

use super::bindings::cloud_permissions::exports::flannel::backend::cloud_permissions as wit;

/// What grants of operations begin with; the interface's own name.
pub(crate) const CLOUD: &str = "cloud";
/// Needs of one plugin.
const MAX_NEEDS: usize = 64;
/// Characters of an operation.
const MAX_NEED_CHARS: usize = 256;
/// Permissions of one operation.
const PERMISSIONS: usize = 8;

/// An operation, or several by a pattern: `*` in place of a segment of a REST call's path, or at the end of an action's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    provider: Provider,
    service: String,
    operation: String,
}

/// An operation that a plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub pattern: Pattern,
    /// What the cloud calls the permissions for it.
    pub permissions: Vec<String>,
}

impl Pattern {
    /// Reads `cloud:PROVIDER:SERVICE:OPERATION`. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "{text:?} is no operation: cloud:PROVIDER:SERVICE:OPERATION, such as cloud:aws:ec2:Describe*"
            )
        };
        let mut parts = text.splitn(4, ':');
        if parts.next() != Some(CLOUD) {
            return Err(form());
        }
        let (Some(provider), Some(service), Some(operation)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        let provider = provider.parse().map_err(|reason| format!("{text:?}: {reason}"))?;
        Self::checked(provider, service, operation).ok_or_else(form)
    }

    fn checked(provider: Provider, service: &str, operation: &str) -> Option<Self> {
        let proper = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '"' | '\\');
        let words = operation.split(' ');
        let is_operation = operation.len() <= MAX_NEED_CHARS
            && words.clone().count() <= 2
            && words.into_iter().all(|word| !word.is_empty() && word.chars().all(proper));
        (is_label(service) && is_operation).then(|| Self {
            provider,
            service: service.to_owned(),
            operation: operation.to_owned(),
        })
    }

    /// By whose rules.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The operation alone.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Whether all that the other one names is among what this one names.
    pub fn covers(&self, other: &Self) -> bool {
        self.provider == other.provider
            && self.service == other.service
            && covers(&self.operation, &other.operation)
    }

    /// Whether it names what a request asks for.
    pub fn allows(&self, request: &Request) -> bool {
        self.provider == request.provider
            && self.service == request.service
            // A star in there would be one of the request's own.
            && covers(&self.operation, &request.operation.to_string())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CLOUD}:{}:{}:{}", self.provider, self.service, self.operation)
    }
}

fn covers(pattern: &str, operation: &str) -> bool {
    match (pattern.split_once(' '), operation.split_once(' ')) {
        (Some((method, path)), Some((its_method, its_path))) => {
            let (segments, its) = (path.split('/'), its_path.split('/'));
            method == its_method
                && segments.clone().count() == its.clone().count()
                && segments.zip(its).all(|(segment, its)| segment == "*" || segment == its)
        }
        (None, None) => match pattern.strip_suffix('*') {
            Some(begin) => operation.starts_with(begin),
            None => pattern == operation,
        },
        // All of a service.
        (None, Some(_)) => pattern == "*",
        (Some(_), None) => false,
    }
}

/// What a plugin has declared. The error says what is wrong with it.
pub(crate) fn check(declared: Vec<wit::RequiredOperation>) -> Result<Vec<Need>, String> {
    if declared.len() > MAX_NEEDS {
        return Err(format!("{} needs; at most {MAX_NEEDS}", declared.len()));
    }
    declared.into_iter().map(checked).collect()
}

fn checked(need: wit::RequiredOperation) -> Result<Need, String> {
    let wit::RequiredOperation { provider, service, operation, permissions } = need;
    let named = |text: &str| super::convert::shown(text, 80);
    let provider: Provider = named(&provider).parse().map_err(|error| format!("the provider {error}"))?;
    let pattern = Pattern::checked(provider, &service, &operation)
        .ok_or_else(|| format!("{provider}:{}:{} is no operation", named(&service), named(&operation)))?;
    let proper = |text: &String| {
        text.len() <= MAX_NEED_CHARS && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
    };
    match permissions.iter().find(|text| !proper(text)) {
        Some(wrong) => Err(format!("{:?} is no permission", named(wrong))),
        None if permissions.len() > PERMISSIONS => {
            Err(format!("{pattern}: {} permissions; at most {PERMISSIONS}", permissions.len()))
        }
        None => Ok(Need { pattern, permissions }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_pattern_covers_what_it_names_and_nothing_else() {
        for (pattern_text, covered, others) in [
            (
                "aws:ec2:CreateRoute",
                &["aws:ec2:CreateRoute"][..],
                &["aws:ec2:CreateRouteTable", "aws:iam:CreateRoute", "alibaba:ec2:CreateRoute"][..],
            ),
            (
                "aws:ec2:Describe*",
                &["aws:ec2:DescribeRouteTables", "aws:ec2:Describe*"],
                &["aws:ec2:CreateRoute", "aws:ec2:*"],
            ),
            ("aws:ec2:*", &["aws:ec2:CreateRoute", "aws:ec2:*"], &["aws:sts:AssumeRole"]),
            (
                "google:compute:GET projects/*/global/routes/*",
                &[
                    "google:compute:GET projects/*/global/routes/*",
                    "google:compute:GET projects/p/global/routes/r",
                ],
                &[
                    "google:compute:DELETE projects/p/global/routes/r",
                    "google:compute:GET projects/p/global/routes",
                    "google:compute:GET projects/p/global/routes/r/x",
                    "google:compute:GET projects/p/global/networks/n",
                ],
            ),
            ("google:compute:*", &["google:compute:GET projects/p"], &["google:iam:GET projects/p"]),
        ] {
            let granted = pattern(&format!("cloud:{pattern_text}"));
            for other in covered {
                assert!(granted.covers(&pattern(&format!("cloud:{other}"))), "{pattern_text} and {other}");
            }
            for other in others {
                assert!(!granted.covers(&pattern(&format!("cloud:{other}"))), "{pattern_text} and {other}");
            }
        }
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        for wrong in [
            "cloud",
            "cloud:aws",
            "cloud:aws:ec2",
            "cloud:aws:ec2:",
            "cloud:azure:x:y",
            "cloud:aws:E C:x",
            "cloud:aws:ec2:a b c",
            "x:aws:ec2:y",
        ] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
