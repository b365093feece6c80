//! Signatures of Amazon's kind (version 4), for whatever API wants them.

use std::path::PathBuf;

use super::credentials::read_text;
use super::outside::Outside;
use crate::aws::{self, Signature};
use crate::vendor::Prepared;
use crate::{Answer, Failure, ResponseClass, percent, unpercent};

/// The headers that a signature is in.
pub(super) const HEADERS: [&str; 4] =
    ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];
/// What the parameters of a signature begin with: that of a request is in its headers, and nowhere else.
const PARAMETERS: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// What signs.
#[derive(Debug)]
pub(super) struct SigV4 {
    /// As signatures name it.
    pub service: String,
    /// None: this machine's.
    pub region: Option<String>,
    /// A file of the form of `~/.aws/credentials`, and the profile in it. None: keys are found as Amazon's own tools find them.
    pub profile: Option<(PathBuf, String)>,
}

impl SigV4 {
    /// Signs a request. Its path gets the one form that all sides agree on.
    pub(super) async fn sign(&self, outside: &Outside, prepared: &mut Prepared) -> Result<(), Failure> {
        let (path, query) = match prepared.url.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (prepared.url.path.as_str(), None),
        };
        let encoded: Option<Vec<String>> =
            path.split('/').map(|segment| Some(percent(&unpercent(segment)?))).collect();
        let mut path = encoded
            .ok_or_else(|| Failure::Invalid("the endpoint's path is not percent-encoded".to_owned()))?
            .join("/");
        path.extend(query.into_iter().flat_map(|query| ["?", query]));
        prepared.url.path = path;
        let keys = match &self.profile {
            None => None,
            Some((file, profile)) => {
                let none = || {
                    Failure::Credentials(format!(
                        "{}: the profile {profile:?} has no aws_access_key_id and aws_secret_access_key, or is not there",
                        file.display()
                    ))
                };
                Some(aws::keys_of_profile(&read_text(file)?, profile).ok_or_else(none)?)
            }
        };
        let whose = Signature { service: &self.service, region: self.region.as_deref(), keys };
        outside.aws.sign(&outside.for_aws, prepared, whose).await
    }

    /// What is not left to whoever asks.
    pub(super) fn check(query: &[(String, String)]) -> Result<(), Failure> {
        let reserved = |name: &str| PARAMETERS.contains(&&*name.to_ascii_lowercase());
        match query.iter().find(|(name, _)| reserved(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::Invalid(format!(
                "the parameter {name:?} is the signature's, which the host makes"
            ))),
        }
    }

    /// What an error's code means; none: nothing that is the same for all services.
    pub(super) fn verdict(answer: &Answer) -> Option<ResponseClass> {
        aws::verdict_of_code(answer)
    }
}
