//! Workload identities: a token of the cluster's own, of a file that is replaced before it ends, for one of Microsoft Entra ID.
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential>

use std::path::Path;
use std::time::Instant;

use super::super::address::address_of_variable;
use super::super::credentials::read;
use super::given;
use crate::access_token::{Question, Token, is_passing};
use crate::http::{Http, Url};
use crate::imds::is_name;
use crate::options::Variables;
use crate::{Failure, Secret};

const FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
/// Of the public cloud.
const PUBLIC: &str = "https://login.microsoftonline.com/";
/// What a token of the file's kind is called (RFC 7523, section 2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What the variables say, which the webhook of Kubernetes sets.
pub(super) struct Workload {
    file: String,
    client: String,
    token_url: Url,
}

impl Workload {
    /// None: there is no such file. `client`: what the operator's file says.
    pub(super) fn of(variables: &Variables, client: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(file) = variables.get(FILE) else { return Ok(None) };
        let missing = |name: &str| Failure::Credentials(format!("{FILE} is set, and {name} is not"));
        let tenant = variables.get(TENANT).ok_or_else(|| missing(TENANT))?;
        if !is_name(&tenant) {
            return Err(Failure::Credentials(format!("{TENANT}: {tenant:?} is no tenant")));
        }
        let client =
            client.map(str::to_owned).or_else(|| variables.get(CLIENT)).ok_or_else(|| missing(CLIENT))?;
        let authority = variables.get(AUTHORITY).unwrap_or_else(|| PUBLIC.to_owned());
        let base = address_of_variable(AUTHORITY, &authority).map_err(Failure::Credentials)?;
        let token_url = Url { path: format!("{}/{tenant}/oauth2/v2.0/token", base.path), ..base };
        Ok(Some(Self { file, client, token_url }))
    }

    pub(super) async fn token(&self, http: &Http, resource: &str) -> Result<(Token, Vec<Secret>), Failure> {
        let assertion = read(Path::new(&self.file))
            .map_err(|error| Failure::Credentials(format!("{FILE}: {}", reason(&error))))?;
        let open = |text: &str| Secret::new(text.to_owned());
        let form = [
            ("grant_type", open("client_credentials")),
            ("client_id", open(&self.client)),
            ("client_assertion_type", open(ASSERTION)),
            ("client_assertion", assertion.clone()),
            // A slash at the resource's end is part of its name: two of them are right then.
            ("scope", Secret::new(format!("{resource}/.default"))),
        ];
        let who = format!("the workload identity {}: {}", self.client, self.token_url.shown());
        let asked = Instant::now();
        let reply = Question::form(&self.token_url, None, &form).ask_patiently(http, is_passing).await;
        let reply = reply.map_err(|error| Failure::Credentials(format!("{who}: {error}")))?;
        given(&who, &reply, asked, vec![assertion])
    }
}

/// What is wrong, without the kind of failure in front.
fn reason(error: &Failure) -> String {
    match error {
        Failure::Credentials(text) => text.clone(),
        other => other.to_string(),
    }
}
