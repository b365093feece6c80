//! Which requests to clouds a plugin asks for, and which it is granted: `cloud:PROVIDER:SERVICE:OPERATION`, and after `?` which of its
//! parameters.

use std::fmt;

use flannel_cloud::{Provider, Request, is_label};

use super::bindings::cloud_permissions::exports::flannel::backend::cloud_permissions as wit;
use super::conditions::Conditions;

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
    conditions: Conditions,
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
    /// Reads `cloud:PROVIDER:SERVICE:OPERATION[?CONDITION&…]`. The error says what is wrong with it.
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
        let (operation, conditions) = split(operation);
        let mut read = Self::checked(provider, service, operation).ok_or_else(form)?;
        if let Some(conditions) = conditions {
            read.conditions =
                Conditions::parse(provider, conditions).map_err(|reason| format!("{text:?}: {reason}"))?;
        }
        Ok(read)
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
            conditions: Conditions::default(),
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

    /// What it says of parameters and places.
    pub(crate) fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Whether all that the other one names is among what this one names.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_operation(other) && self.conditions.cover(&other.conditions)
    }

    /// Whether a plugin that asks for the other one may start with this one. One that says nothing of parameters does with what is
    /// granted of them: what goes beyond is refused when it is sent.
    pub fn serves(&self, need: &Self) -> bool {
        let says_nothing = need.conditions.is_empty();
        self.covers_operation(need) && (says_nothing || self.conditions.cover(&need.conditions))
    }

    fn covers_operation(&self, other: &Self) -> bool {
        self.provider == other.provider
            && self.service == other.service
            && covers(&self.operation, &other.operation)
    }

    /// Whether it names the operation of a request, whatever its parameters.
    pub fn names(&self, request: &Request) -> bool {
        self.provider == request.provider
            && self.service == request.service
            // A star in there would be one of the request's own.
            && covers(&self.operation, &request.operation.to_string())
    }

    /// Whether a segment of its path, counted from 0, is this one and no star.
    pub(crate) fn has_segment(&self, at: usize, text: &str) -> bool {
        let path = self.operation.split_once(' ').map(|(_, path)| path);
        path.and_then(|path| path.split('/').nth(at)).is_some_and(|segment| segment == text && text != "*")
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, service, operation, conditions } = self;
        write!(f, "{CLOUD}:{provider}:{service}:{operation}{conditions}")
    }
}

/// An operation, and its conditions.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(operation, conditions)| (operation, Some(conditions)))
}

fn covers(pattern: &str, operation: &str) -> bool {
    match (pattern.split_once(' '), operation.split_once(' ')) {
        (Some((method, path)), Some((its_method, its_path))) => {
            let (mut segments, mut its) = (path.split('/'), its_path.split('/'));
            let last =
                covers_last(segments.next_back().unwrap_or_default(), its.next_back().unwrap_or_default());
            method == its_method
                && last
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

/// Whether the last segment of a path is named. What comes after a colon there makes another operation of it
/// (`…/instances/i:delete`): a star stands for what is before it, and never for a colon.
fn covers_last(pattern: &str, segment: &str) -> bool {
    if pattern == segment {
        return true;
    }
    match pattern.strip_prefix('*') {
        Some(verb) if verb.is_empty() || verb.starts_with(':') => {
            let name = segment.strip_suffix(verb).unwrap_or_default();
            !name.is_empty() && !name.contains(':')
        }
        _ => false,
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
    let (operation, conditions) = split(&operation);
    let mut pattern = Pattern::checked(provider, &service, operation)
        .ok_or_else(|| format!("{provider}:{}:{} is no operation", named(&service), named(operation)))?;
    if let Some(conditions) = conditions {
        pattern.conditions =
            Conditions::parse(provider, conditions).map_err(|reason| format!("{pattern}: {reason}"))?;
    }
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
            (
                "google:run:POST projects/*/locations/*/services/*",
                &["google:run:POST projects/example.com:p/locations/l/services/s"],
                &["google:run:POST projects/p/locations/l/services/s:setIamPolicy"],
            ),
            (
                "google:run:POST projects/p/services/*:stop",
                &["google:run:POST projects/p/services/s:stop"],
                &[
                    "google:run:POST projects/p/services/s:start",
                    "google:run:POST projects/p/services/s:a:stop",
                ],
            ),
            (
                "aws:ec2:CreateRoute?RouteTableId",
                &["aws:ec2:CreateRoute?RouteTableId=rtb-1"],
                &["aws:ec2:CreateRoute", "aws:ec2:CreateRoute?GatewayId", "aws:ec2:DeleteRoute?RouteTableId"],
            ),
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
    fn a_plugin_that_says_nothing_of_parameters_does_with_a_grant_that_does() {
        let granted = pattern("cloud:aws:ec2:ModifyNetworkInterfaceAttribute?SourceDestCheck");
        for (need, serves) in [
            ("ModifyNetworkInterfaceAttribute", true),
            ("ModifyNetworkInterfaceAttribute?SourceDestCheck.Value=false", true),
            ("ModifyNetworkInterfaceAttribute?SecurityGroupId", false),
            ("ModifyInstanceAttribute", false),
        ] {
            assert_eq!(granted.serves(&pattern(&format!("cloud:aws:ec2:{need}"))), serves, "{need}");
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
            "cloud:aws:ec2:x?",
            "cloud:aws:ec2:?A",
            "cloud:aws:ec2:x?Action",
            "cloud:aws:ec2:x?A=b c",
        ] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
