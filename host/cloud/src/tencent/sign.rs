//! Signature `TC3-HMAC-SHA256`: <https://www.tencentcloud.com/document/api/213/33224>.

use flannel_base::Timestamp;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::Secret;
use crate::access_key::{AccessKey, hmac};
use crate::http::Url;
use crate::request::Failure;
use crate::vendor::{Prepared, header_value};

const ALGORITHM: &str = "TC3-HMAC-SHA256";
const JSON: &str = "application/json; charset=utf-8";
/// The headers that are signed, in their order.
const SIGNED: &str = "content-type;host;x-tc-action";
/// What all signatures are for.
const REQUEST: &str = "tc3_request";
/// `2026-01-02` in `2026-01-02T03:04:05Z`.
const DATE: usize = 10;

/// What is called.
pub(super) struct Action<'a> {
    /// `vpc`
    pub service: &'a str,
    /// `DescribeRouteTables`
    pub name: &'a str,
    /// `2017-03-12`
    pub version: &'a str,
    /// `ap-guangzhou`
    pub region: &'a str,
    /// JSON text.
    pub body: String,
}

/// The request as it is sent.
pub(super) fn signed(
    endpoint: Url,
    action: Action,
    keys: &AccessKey,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let Action { service, name, version, region, body } = action;
    let path = endpoint.path.split('?').next().unwrap_or("/").to_owned();
    let (host, called) = (endpoint.authority(), name.to_ascii_lowercase());
    let digest = hex::encode(Sha256::digest(&body));
    let headers = format!("content-type:{JSON}\nhost:{host}\nx-tc-action:{called}\n");
    let canonical = format!("POST\n{path}\n\n{headers}\n{SIGNED}\n{digest}");
    let (seconds, date) = (now.seconds().to_string(), now.to_string());
    let date = date.get(..DATE).unwrap_or_default();
    let scope = format!("{date}/{service}/{REQUEST}");
    let to_sign = format!("{ALGORITHM}\n{seconds}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let secret = Secret::new(format!("TC3{}", keys.secret.reveal()));
    let mut key = hmac(secret.reveal().as_bytes(), date.as_bytes())?;
    for part in [service, REQUEST] {
        key = hmac(&key, part.as_bytes())?;
    }
    let signature = hex::encode(hmac(&key, to_sign.as_bytes())?);
    let authorization =
        format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}", keys.id);

    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static(JSON))];
    let said = [
        ("x-tc-action", name),
        ("x-tc-version", version),
        ("x-tc-region", region),
        ("x-tc-timestamp", &seconds),
    ];
    for (name, value) in said {
        headers.push((HeaderName::from_static(name), header_value(name, value)?));
    }
    let token = keys.token.as_ref().map(|token| ("x-tc-token", token.reveal().as_str()));
    for (name, value) in token.into_iter().chain([(AUTHORIZATION.as_str(), authorization.as_str())]) {
        let mut value = header_value(name, value)?;
        value.set_sensitive(true);
        let name = if name == AUTHORIZATION.as_str() {
            AUTHORIZATION
        } else {
            HeaderName::from_static("x-tc-token")
        };
        headers.push((name, value));
    }
    let mut secrets = vec![keys.secret.clone(), Secret::new(signature)];
    secrets.extend(keys.token.clone());
    Ok(Prepared {
        method: Method::POST,
        url: Url { path, ..endpoint },
        headers,
        body: Bytes::from(body),
        secrets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(host: &str, action: Action, token: Option<&str>, now: &str) -> String {
        let keys = AccessKey {
            id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3*******".to_owned(),
            secret: Secret::new("Gu5t9xGARNpq86cd98joQYCN3*******".to_owned()),
            token: token.map(|token| Secret::new(token.to_owned())),
            expires: None,
        };
        let endpoint = Url::parse(&format!("https://{host}")).expect("a URL");
        let prepared = signed(endpoint, action, &keys, now.parse().expect("a time")).expect("signed");
        let sent =
            |wanted: &str| prepared.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        assert_eq!(sent("x-tc-token").is_some(), token.is_some());
        assert!(sent("x-tc-token").is_none_or(HeaderValue::is_sensitive));
        let value = sent("authorization").expect("a signature");
        assert!(value.is_sensitive());
        value.to_str().expect("text").to_owned()
    }

    /// The vendor's own example: <https://www.tencentcloud.com/document/api/213/33224>.
    #[test]
    fn a_request_is_signed_as_the_vendor_documents_it() {
        let action = Action {
            service: "cvm",
            name: "DescribeInstances",
            version: "2017-03-12",
            region: "ap-guangzhou",
            body: r#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#
                .to_owned(),
        };
        assert_eq!(
            authorization("cvm.tencentcloudapi.com", action, None, "2019-02-25T16:44:25Z"),
            "TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3*******/2019-02-25/cvm/tc3_request, \
             SignedHeaders=content-type;host;x-tc-action, \
             Signature=be4f67d323c78ab9acb7395e43c0dbcf822a9cfac32fea2449a7bc7726b770a3"
        );
    }

    #[test]
    fn a_sessions_token_is_sent_and_not_signed() {
        let action = || Action {
            service: "vpc",
            name: "CreateRoutes",
            version: "2017-03-12",
            region: "ap-beijing",
            body: "{}".to_owned(),
        };
        let of = |token| authorization("vpc.tencentcloudapi.com", action(), token, "2026-01-02T03:04:05Z");
        assert_eq!(of(None), of(Some("made-up-token")));
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_not_shown() {
        let keys = AccessKey {
            id: "AKIDmadeup".to_owned(),
            secret: Secret::new("made-up".to_owned()),
            token: Some(Secret::new("made-up\ntoken".to_owned())),
            expires: None,
        };
        let action = Action {
            service: "vpc",
            name: "X",
            version: "2017-03-12",
            region: "ap-beijing",
            body: "{}".to_owned(),
        };
        let endpoint = Url::parse("https://vpc.tencentcloudapi.com").expect("a URL");
        let error = signed(endpoint, action, &keys, Timestamp::now()).expect_err("refused").to_string();
        assert!(error.contains("x-tc-token") && !error.contains("made-up"), "{error}");
    }
}
