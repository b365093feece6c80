//! Signature version 3, `ACS3-HMAC-SHA256`: <https://help.aliyun.com/document_detail/315526.html>.

use std::fmt::Write;

use flannel_base::Timestamp;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::Secret;
use crate::access_key::{AccessKey, hmac};
use crate::http::Url;
use crate::percent;
use crate::request::Failure;
use crate::vendor::{Prepared, header_value};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// What is called.
pub(super) struct Action<'a> {
    /// `DescribeVpcs`
    pub name: &'a str,
    /// `2016-04-28`
    pub version: &'a str,
    /// Not encoded, in any order.
    pub parameters: &'a [(String, String)],
}

/// What makes each signature another one.
pub(super) struct SigningParams {
    /// `2026-01-02T03:04:05Z`
    pub date: String,
    /// Never the same again.
    pub nonce: String,
}

impl SigningParams {
    pub(super) fn now() -> Result<Self, Failure> {
        let mut bytes = [0; 16];
        let no_luck = |error| Failure::Unreachable(format!("no random number for a signature: {error}"));
        getrandom::fill(&mut bytes).map_err(no_luck)?;
        Ok(Self { date: Timestamp::now().to_string(), nonce: hex::encode(bytes) })
    }
}

/// The request as it is sent: all parameters in the query, all headers but `User-Agent` signed.
pub(super) fn signed(
    endpoint: Url,
    action: &Action,
    keys: &AccessKey,
    moment: &SigningParams,
) -> Result<Prepared, Failure> {
    let body = Bytes::new();
    let digest = hex::encode(Sha256::digest(&body));
    let path = endpoint.path.split('?').next().unwrap_or("/").to_owned();
    let query = query(action.parameters);
    let authority = endpoint.authority();
    let mut headers = vec![
        ("accept", "application/json"),
        ("host", &authority),
        ("x-acs-action", action.name),
        ("x-acs-content-sha256", &digest),
        ("x-acs-date", &moment.date),
        ("x-acs-signature-nonce", &moment.nonce),
        ("x-acs-version", action.version),
    ];
    if let Some(token) = &keys.token {
        headers.push(("x-acs-accesskey-id", &keys.id));
        headers.push(("x-acs-security-token", token.reveal()));
    }
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!("POST\n{path}\n{query}\n");
    for (name, value) in &headers {
        // Writing into a string does not fail.
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{digest}");
    let canonical = hex::encode(Sha256::digest(canonical));
    let to_sign = format!("{ALGORITHM}\n{canonical}");
    let signature = hex::encode(hmac(keys.secret.reveal().as_bytes(), to_sign.as_bytes())?);
    let authorization =
        format!("{ALGORITHM} Credential={},SignedHeaders={names},Signature={signature}", keys.id);

    let sent = headers.into_iter().filter(|(name, _)| *name != "host");
    let mut sent: Vec<(HeaderName, HeaderValue)> = sent
        .map(|(name, value)| {
            let mut header = header_value(name, value)?;
            header.set_sensitive(name == "x-acs-security-token");
            Ok((HeaderName::from_static(name), header))
        })
        .collect::<Result<_, Failure>>()?;
    let mut header = header_value("authorization", &authorization)?;
    header.set_sensitive(true);
    sent.push((AUTHORIZATION, header));
    let mut secrets = vec![keys.secret.clone(), Secret::new(signature)];
    secrets.extend(keys.token.clone());
    let path = if query.is_empty() { path } else { format!("{path}?{query}") };
    Ok(Prepared { method: Method::POST, url: Url { path, ..endpoint }, headers: sent, body, secrets })
}

/// Parameters as they are signed and sent: encoded, and sorted by name. A name that comes several times stays in its order.
fn query(parameters: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = parameters.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let pairs = sorted.into_iter().map(|(name, value)| format!("{}={}", percent(name), percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;
    use crate::Secret;

    fn keys(token: Option<&str>) -> AccessKey {
        let secret = Secret::new("made-up/secret+1".to_owned());
        let token = token.map(|token| Secret::new(token.to_owned()));
        AccessKey { id: "LTAImadeup".to_owned(), secret, token, expires: None }
    }

    fn moment() -> SigningParams {
        let nonce = "3156853299f313e23d1673dc12e1703d".to_owned();
        SigningParams { date: "2026-01-02T03:04:05Z".to_owned(), nonce }
    }

    fn authorization(parameters: &[(&str, &str)], keys: &AccessKey) -> String {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let action = Action { name: "CreateRouteEntry", version: "2016-04-28", parameters: &parameters };
        let endpoint = Url::parse("https://vpc.cn-beijing.aliyuncs.com").expect("a URL");
        let prepared = signed(endpoint, &action, keys, &moment()).expect("signed");
        let (_, value) =
            prepared.headers.iter().find(|(name, _)| *name == AUTHORIZATION).expect("a signature");
        assert!(value.is_sensitive());
        value.to_str().expect("text").to_owned()
    }

    /// What the vendor's own library for Python makes of the same; none: it is not there.
    fn of_vendor(parameters: &[(&str, &str)], keys: &AccessKey) -> Option<String> {
        const SCRIPT: &str = r#"
import json, sys
from types import SimpleNamespace
from alibabacloud_tea_openapi.utils import Utils
asked = json.load(sys.stdin)
algorithm = "ACS3-HMAC-SHA256"
digest = Utils.hash(b"", algorithm).hex()
headers = {"host": "vpc.cn-beijing.aliyuncs.com", "accept": "application/json", "x-acs-action": "CreateRouteEntry",
           "x-acs-version": "2016-04-28", "x-acs-date": asked["date"], "x-acs-signature-nonce": asked["nonce"],
           "x-acs-content-sha256": digest}
if asked["token"]:
    headers.update({"x-acs-accesskey-id": asked["id"], "x-acs-security-token": asked["token"]})
request = SimpleNamespace(method="POST", pathname="/", query=asked["query"], headers=headers)
print(Utils.get_authorization(request, algorithm, digest, asked["id"], asked["secret"]))
"#;
        let tools = std::env::var_os("FLANNELD_TEST_CLOUDS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/clouds"),
            PathBuf::from,
        );
        let interpreter = tools.join("bin/python");
        if !interpreter.is_file() {
            flannel_test_support::skip(format_args!(
                "{} is not there: `cargo xtask clouds` makes it",
                interpreter.display()
            ));
            return None;
        }
        let query: serde_json::Map<String, serde_json::Value> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let moment = moment();
        let asked = serde_json::json!({
            "id": keys.id,
            "secret": keys.secret.reveal(),
            "token": keys.token.as_ref().map(Secret::reveal),
            "date": moment.date,
            "nonce": moment.nonce,
            "query": query,
        });
        let input = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(input.path(), asked.to_string()).expect("written");
        let mut command = Command::new(interpreter);
        let output =
            command.args(["-c", SCRIPT]).stdin(input.reopen().expect("a file")).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).expect("text").trim().to_owned())
    }

    const CASES: [&[(&str, &str)]; 4] = [
        &[],
        &[("RegionId", "cn-beijing"), ("DestinationCidrBlock", "10.5.3.0/24"), ("ClientToken", "a-b_c.d~e")],
        &[("b", "blanks and + and = and &"), ("a", "Umlaute: äöü, 路由"), ("A", "*'()!"), ("B", "")],
        &[("DestinationCidrBlock", "fc00:5:0:3::/64"), ("a.2", "x"), ("a.10", "y"), ("a.1", "z")],
    ];

    #[test]
    fn signatures_are_those_of_the_vendors_own_library() {
        for parameters in CASES {
            for keys in [keys(None), keys(Some("made-up/token=="))] {
                let Some(theirs) = of_vendor(parameters, &keys) else { return };
                assert_eq!(authorization(parameters, &keys), theirs, "{parameters:?}");
            }
        }
    }

    /// As the vendor's library has made it.
    #[test]
    fn a_known_signature() {
        let signature = "a499d76c3364723bd1fc229ba1bd20ac0f8a531a8851651f89413c5d994cfdc4";
        assert_eq!(authorization(CASES[1], &keys(None)).rsplit('=').next(), Some(signature));
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_not_shown() {
        let keys = keys(Some("made-up\ntoken"));
        let action = Action { name: "DescribeVpcs", version: "2016-04-28", parameters: &[] };
        let endpoint = Url::parse("https://vpc.cn-beijing.aliyuncs.com").expect("a URL");
        let error = signed(endpoint, &action, &keys, &moment()).expect_err("refused").to_string();
        assert!(error.contains("x-acs-security-token") && !error.contains("made-up"), "{error}");
    }
}
