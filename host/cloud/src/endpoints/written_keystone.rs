//! A user, or an application credential, of a Keystone, in the words of `clouds.yaml`:
//! <https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html>.

use std::path::PathBuf;

use serde::Deserialize;

use super::address::address;
use super::credentials::Credentials;
use super::keystone::{Identity, InDomain, Keystone, Named, Scope};
use super::written::Place;
use crate::access_token::Kept;
use crate::http::Url;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenKeystone {
    auth_url: String,
    user_id: Option<String>,
    username: Option<String>,
    user_domain_id: Option<String>,
    user_domain_name: Option<String>,
    password_file: Option<PathBuf>,
    application_credential_id: Option<String>,
    application_credential_name: Option<String>,
    application_credential_secret_file: Option<PathBuf>,
    project_id: Option<String>,
    project_name: Option<String>,
    project_domain_id: Option<String>,
    project_domain_name: Option<String>,
    domain_id: Option<String>,
    domain_name: Option<String>,
}

impl WrittenKeystone {
    /// The error says what is wrong, and what would be right.
    pub(super) fn read(self, place: &Place) -> Result<Credentials, String> {
        let base = address("auth-url", &self.auth_url, place.insecure)?;
        let root = base.path.strip_suffix("/v3").unwrap_or(&base.path);
        let tokens_url = Url { path: format!("{root}/v3/auth/tokens?nocatalog"), ..base };
        let user = in_domain(
            "user",
            named(("user-id", self.user_id), ("username", self.username))?,
            named(("user-domain-id", self.user_domain_id), ("user-domain-name", self.user_domain_name))?,
        )?;
        let project = in_domain(
            "project",
            named(("project-id", self.project_id), ("project-name", self.project_name))?,
            named(
                ("project-domain-id", self.project_domain_id),
                ("project-domain-name", self.project_domain_name),
            )?,
        )?;
        let domain = named(("domain-id", self.domain_id), ("domain-name", self.domain_name))?;
        let scope = match (project, domain) {
            (None, None) => None,
            (Some(project), None) => Some(Scope::Project(project)),
            (None, Some(domain)) => Some(Scope::Domain(domain)),
            (Some(_), Some(_)) => {
                return Err("a token is good for a project or for a domain (domain-id, domain-name), and not for both".to_owned());
            }
        };
        let credential = named(
            ("application-credential-id", self.application_credential_id),
            ("application-credential-name", self.application_credential_name),
        )?;
        let (identity, secret_file) = match (self.password_file, self.application_credential_secret_file) {
            (Some(file), None) => {
                if credential.is_some() {
                    return Err("an application credential has no password; right would be application-credential-secret-file".to_owned());
                }
                let user = user.ok_or(
                    "whose password is it? right would be user-id, or username with user-domain-name",
                )?;
                (Identity::User(user), file)
            }
            (None, Some(file)) => {
                let credential =
                    credential.ok_or("right would be application-credential-id beside its secret")?;
                if scope.is_some() {
                    return Err("an application credential is for its own project; right would be no project and no domain beside it".to_owned());
                }
                let user = match (&credential, user) {
                    (Named::Name(_), None) => {
                        return Err("an application credential's name is its user's; right would be user-id, or username with \
                                    user-domain-name, or else application-credential-id"
                            .to_owned());
                    }
                    (Named::Id(_), Some(_)) => {
                        return Err("an application-credential-id needs no user beside it".to_owned());
                    }
                    (_, user) => user,
                };
                (Identity::ApplicationCredential(credential, user), file)
            }
            (Some(_), Some(_)) => {
                return Err("there are two secrets; right would be password-file or application-credential-secret-file".to_owned());
            }
            (None, None) => {
                return Err("the secret is missing; right would be password-file or application-credential-secret-file".to_owned());
            }
        };
        let secret_file = place.file(secret_file);
        let kept = Kept::default();
        Ok(Credentials::Keystone(Keystone { tokens_url, identity, secret_file, scope, kept }))
    }
}

type Key = (&'static str, Option<String>);

fn named((id_key, id): Key, (name_key, name): Key) -> Result<Option<Named>, String> {
    for (key, value) in [(id_key, &id), (name_key, &name)] {
        if value.as_ref().is_some_and(String::is_empty) {
            return Err(format!("{key} is empty"));
        }
    }
    match (id, name) {
        (None, None) => Ok(None),
        (Some(id), None) => Ok(Some(Named::Id(id))),
        (None, Some(name)) => Ok(Some(Named::Name(name))),
        (Some(_), Some(_)) => {
            Err(format!("{id_key} and {name_key} are both there; right would be one of them"))
        }
    }
}

/// A name is one in a domain; a number needs none.
fn in_domain(what: &str, named: Option<Named>, domain: Option<Named>) -> Result<Option<InDomain>, String> {
    match (&named, &domain) {
        (None, Some(_)) => Err(format!("the {what}'s domain is there, and no {what}")),
        (Some(Named::Name(name)), None) => Err(format!(
            "the {what} {name:?} is in a domain; right would be {what}-domain-name beside it, such as \"Default\", or {what}-id in \
             its place"
        )),
        (Some(Named::Id(_)), Some(_)) => Err(format!("{what}-id needs no domain beside it")),
        _ => Ok(named.map(|named| InDomain { named, domain })),
    }
}
