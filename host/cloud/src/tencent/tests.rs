//! The vendor, with a metadata service that knows as much as it is told.

use std::collections::BTreeMap;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::Secret;
use crate::http::{CleartextPolicy, Timeouts};
use crate::options::Variables;

const ROLE: &str = "cam/security-credentials/";

/// An instance with two network interfaces and a role.
fn pages() -> BTreeMap<String, String> {
    let (first, second) =
        ("network/interfaces/macs/52:54:00:BF:B3:51/", "network/interfaces/macs/52:54:00:BF:B3:50/");
    let later = Timestamp::now().seconds() + 3600;
    let keys = serde_json::json!({ "Code": "Success", "TmpSecretId": "AKID-role", "TmpSecretKey": "made-up-canary-secret",
        "Token": "made-up-canary-token", "ExpiredTime": later, "Expiration": "2026-01-02T03:04:05Z" });
    let pages = [
        ("instance-id".to_owned(), "ins-1".to_owned()),
        ("placement/region".to_owned(), "ap-guangzhou".to_owned()),
        ("placement/zone".to_owned(), "ap-guangzhou-3".to_owned()),
        ("app-id".to_owned(), "1250000000".to_owned()),
        ("mac".to_owned(), "52:54:00:BF:B3:51".to_owned()),
        ("network/interfaces/macs/".to_owned(), "52:54:00:BF:B3:50/\n52:54:00:BF:B3:51/\n".to_owned()),
        (format!("{first}primary-local-ipv4"), "192.0.2.2".to_owned()),
        (format!("{first}local-ipv4s/"), "192.0.2.3/\n192.0.2.2/\n".to_owned()),
        (format!("{first}vpc-id"), "vpc-1".to_owned()),
        (format!("{first}subnet-id"), "subnet-1".to_owned()),
        (format!("{second}primary-local-ipv4"), "192.0.2.9".to_owned()),
        (ROLE.to_owned(), "Role".to_owned()),
        (format!("{ROLE}Role"), keys.to_string()),
    ];
    pages.into()
}

/// Serves it.
async fn serve(pages: BTreeMap<String, String>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut first = String::new();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 && line != "\r\n" {
                if first.is_empty() {
                    first.clone_from(&line);
                }
                line.clear();
            }
            let path = first.strip_prefix("GET /latest/meta-data/").and_then(|rest| rest.split(' ').next());
            let page = path.and_then(|path| pages.get(path));
            let (status, body) = page.map_or((404, ""), |body| (200, body.as_str()));
            let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    Url::parse(&format!("http://{address}/")).expect("a URL")
}

fn http() -> Http {
    Http::new(None, CleartextPolicy::Anywhere, Timeouts::default())
}

async fn vendor(variables: &[(&'static str, &str)], pages: BTreeMap<String, String>) -> Tencent {
    let variables = Variables::of(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let endpoints = [((Provider::Tencent, "metadata".to_owned()), serve(pages).await)].into();
    Tencent::new(CloudOptions { variables, endpoints, authorities: None, access_key: None })
}

fn request(region: Option<&str>) -> Request {
    let parameters =
        vec![("Filters.0.Name".to_owned(), "vpc-id".to_owned()), ("Limit".to_owned(), "\"100\"".to_owned())];
    Request {
        provider: Provider::Tencent,
        service: "vpc".to_owned(),
        version: "2017-03-12".to_owned(),
        region: region.map(ToOwned::to_owned),
        operation: Operation::Action { name: "DescribeRouteTables".to_owned(), parameters },
        idempotent: true,
    }
}

fn header<'a>(prepared: &'a Prepared, wanted: &str) -> &'a str {
    let found = prepared.headers.iter().find(|(name, _)| name == wanted);
    found.and_then(|(_, value)| value.to_str().ok()).unwrap_or_default()
}

/// Whose key a request is signed with.
fn key_of(prepared: &Prepared) -> &str {
    let (_, rest) = header(prepared, "authorization").split_once("Credential=").expect("a key");
    rest.split('/').next().unwrap_or_default()
}

#[tokio::test]
async fn the_instance_is_described_with_its_primary_interface_and_address_first() {
    let instance = vendor(&[], pages()).await.instance(&http()).await.expect("described");
    assert_eq!((instance.id.as_str(), instance.region.as_str()), ("ins-1", "ap-guangzhou"));
    assert_eq!((instance.zone.as_str(), instance.account.as_str()), ("ap-guangzhou-3", "1250000000"));
    let [first, second] = &instance.interfaces[..] else { panic!("{instance:?}") };
    assert_eq!((first.network.as_str(), first.subnet.as_str()), ("vpc-1", "subnet-1"));
    let shown =
        |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&first.addresses), ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(shown(&second.addresses), ["192.0.2.9"]);
    assert!(instance.is_node(Provider::Tencent, "192.0.2.3") && instance.is_node(Provider::Tencent, "ins-1"));
    for other in ["192.0.2.4", "", "192.0.2.3 "] {
        assert!(!instance.is_node(Provider::Tencent, other), "{other}");
    }
    assert!(!instance.is_node(Provider::Alibaba, "192.0.2.3"), "there it is no name");
}

#[tokio::test]
async fn metadata_that_makes_no_sense_is_refused_by_name() {
    for (path, text) in [("instance-id", "<html>"), ("placement/region", "AP/../x"), ("instance-id", "")] {
        let mut pages = pages();
        pages.insert(path.to_owned(), text.to_owned());
        let error = vendor(&[], pages).await.instance(&http()).await.expect_err("refused").to_string();
        assert!(error.contains(path) && !error.contains('<'), "{error}");
    }
}

#[tokio::test]
async fn a_request_has_its_parameters_as_json_and_its_region_in_a_header() {
    let vendor = vendor(&[], pages()).await;
    for (region, sent) in [(None, "ap-guangzhou"), (Some("ap-beijing"), "ap-beijing")] {
        let prepared = vendor.prepare(&http(), &request(region)).await.expect("signed");
        assert_eq!(prepared.url.shown(), "https://vpc.tencentcloudapi.com/");
        assert_eq!(prepared.body, r#"{"Filters":[{"Name":"vpc-id"}],"Limit":"100"}"#);
        assert_eq!(header(&prepared, "x-tc-region"), sent);
        assert_eq!(header(&prepared, "x-tc-action"), "DescribeRouteTables");
        assert_eq!(header(&prepared, "x-tc-version"), "2017-03-12");
        assert_eq!(
            (key_of(&prepared), header(&prepared, "x-tc-token")),
            ("AKID-role", "made-up-canary-token")
        );
        let shown = format!("{prepared:?}");
        assert!(!shown.contains("canary"), "{shown}");
        let has = |text: &str| prepared.secrets.iter().any(|secret| text.contains(secret.reveal()));
        assert!(has("made-up-canary-secret") && has("made-up-canary-token"));
        assert!(has(header(&prepared, "authorization")), "the signature");
    }
}

#[tokio::test]
async fn keys_are_the_network_configs_then_the_vendors_variables_then_upstreams_then_the_roles() {
    let todays = [("TENCENTCLOUD_SECRET_ID", "AKID-1"), ("TENCENTCLOUD_SECRET_KEY", "made-up-1")];
    let upstreams = [("ACCESS_KEY_ID", "AKID-2"), ("ACCESS_KEY_SECRET", "made-up-2")];
    for (variables, key) in
        [(&[todays, upstreams].concat()[..], "AKID-1"), (&upstreams[..], "AKID-2"), (&[][..], "AKID-role")]
    {
        let vendor = vendor(variables, pages()).await;
        assert_eq!(key_of(&vendor.prepare(&http(), &request(None)).await.expect("signed")), key);
        let access_key = Some(("AKID-3".to_owned(), Secret::new("made-up-3".to_owned())));
        let vendor = Tencent::new(CloudOptions { access_key, ..vendor.options });
        assert_eq!(key_of(&vendor.prepare(&http(), &request(None)).await.expect("signed")), "AKID-3");
    }
    let token = [todays[0], todays[1], ("TENCENTCLOUD_TOKEN", "made-up-token")];
    let prepared = vendor(&token, pages()).await.prepare(&http(), &request(None)).await.expect("signed");
    assert_eq!(header(&prepared, "x-tc-token"), "made-up-token");
}

#[tokio::test]
async fn errors_say_where_keys_were_looked_for_and_show_none() {
    let without = |path: &str| {
        let mut pages = pages();
        pages.remove(path);
        pages
    };
    let mut failed = pages();
    failed.insert(format!("{ROLE}Role"), r#"{"Code":"NotFound"}"#.to_owned());
    for (variables, pages, said) in [
        (&[][..], without(ROLE), "knows no CAM role"),
        (&[][..], without(&format!("{ROLE}Role")), "no CAM role Role"),
        (&[][..], failed, "no keys of the CAM role Role"),
        (&[("ACCESS_KEY_ID", "AKID-canary")], pages(), "ACCESS_KEY_SECRET is not"),
        (&[("TENCENTCLOUD_SECRET_KEY", "canary")], pages(), "TENCENTCLOUD_SECRET_ID is not"),
    ] {
        let vendor = vendor(variables, pages).await;
        let error = vendor.prepare(&http(), &request(None)).await.expect_err("no keys").to_string();
        assert!(error.contains(said) && !error.contains("canary") && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn answers_are_judged_by_the_codes_in_them() {
    let vendor = vendor(&[], pages()).await;
    let judged = |status: u16, code: &str| {
        let body = format!(r#"{{"Response":{{"Error":{{"Code":"{code}","Message":"m"}},"RequestId":"x"}}}}"#);
        vendor.classify(&Answer { status, headers: Vec::new(), body, attempts: 1 })
    };
    for code in ["RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded"] {
        assert_eq!(judged(200, code), ResponseClass::Throttled(None), "{code}");
    }
    for code in ["InternalError", "InternalServerError", "InternalError.ModuleError", "ServiceUnavailable"] {
        assert_eq!(judged(200, code), ResponseClass::Failed, "{code}");
    }
    for code in CREDENTIALS {
        assert_eq!(judged(200, code), ResponseClass::CredentialsRefused, "{code}");
    }
    for code in
        ["AuthFailure.SignatureFailure", "UnauthorizedOperation", "LimitExceeded", "ResourceInUse", "", "X"]
    {
        assert_eq!(judged(200, code), ResponseClass::Final, "{code}");
    }
    let answer = |status: u16, body: &str| {
        vendor.classify(&Answer { status, body: body.to_owned(), ..Answer::default() })
    };
    assert_eq!(answer(200, r#"{"Response":{"RequestId":"x"}}"#), ResponseClass::Final);
    assert_eq!(answer(502, "<html>"), ResponseClass::Failed);
    assert_eq!(answer(429, ""), ResponseClass::Throttled(None));
}
