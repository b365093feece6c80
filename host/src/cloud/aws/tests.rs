//! The vendor against a metadata service and an STS of its own, and its signer beside botocore's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::credentials::Keys;
use super::*;
use crate::cloud::options::{Endpoint, Variables};
use crate::cloud::secret::Secret;
use crate::http::{Plain, Times};
use crate::observe::Timestamp;

const TOKEN: &str = "made-up-metadata-token";
const CANARY: &str = "made-up-canary-secret";

/// Answers by method and path, and remembers what it was asked.
#[derive(Clone, Default)]
struct Service {
    pages: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Whether it gives tokens, and whether it does without.
    versions: (bool, bool),
}

impl Service {
    fn new(v2: bool, v1: bool) -> Self {
        let service = Self { versions: (v2, v1), ..Self::default() };
        service.put(
            "dynamic/instance-identity/document",
            r#"{"instanceId":"i-1","region":"eu-central-1","availabilityZone":"eu-central-1a","accountId":"123456789012"}"#,
        );
        service.put("meta-data/network/interfaces/macs/", "02:00:00:00:00:02/\n02:00:00:00:00:01/\n");
        for (number, device) in [(1, "0"), (2, "1")] {
            let below =
                |name: &str| format!("meta-data/network/interfaces/macs/02:00:00:00:00:0{number}/{name}");
            service.put(&below("interface-id"), &format!("eni-{number}"));
            service.put(&below("local-ipv4s"), &format!("192.0.2.{number}\n192.0.2.10{number}"));
            service.put(&below("ipv6s"), "2001:db8::1");
            service.put(&below("subnet-id"), "subnet-1");
            service.put(&below("vpc-id"), "vpc-1");
            service.put(&below("device-number"), device);
        }
        service.put("meta-data/iam/security-credentials/", "node-role");
        service.put_session("ASIA1", 3600);
        service
    }

    fn put(&self, path: &str, text: &str) {
        let page = (200, text.to_owned());
        self.pages.lock().expect("pages").insert(format!("/latest/{path}"), page);
    }

    fn put_session(&self, id: &str, seconds: u64) {
        let end = SystemTime::now() + Duration::from_secs(seconds);
        let text = serde_json::json!({
            "Code": "Success", "AccessKeyId": id, "SecretAccessKey": CANARY, "Token": format!("{CANARY}-token"),
            "Expiration": Timestamp::from(end).to_string(),
        });
        self.put("meta-data/iam/security-credentials/node-role", &text.to_string());
    }

    fn asked(&self, what: &str) -> usize {
        self.asked.lock().expect("asked").iter().filter(|asked| asked.contains(what)).count()
    }

    fn answer(&self, question: &str) -> (u16, String) {
        let line = question.lines().next().unwrap_or_default().to_owned();
        let body = question.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        self.asked.lock().expect("asked").push(format!("{line} {body}"));
        let path = line.split(' ').nth(1).unwrap_or_default();
        let has_token = question.to_ascii_lowercase().contains(&format!("x-aws-ec2-metadata-token: {TOKEN}"));
        if line.starts_with("PUT ") {
            return if self.versions.0 { (200, TOKEN.to_owned()) } else { (405, String::new()) };
        }
        if line.starts_with("GET ") && !has_token && !self.versions.1 {
            return (401, String::new());
        }
        self.pages.lock().expect("pages").get(path).cloned().unwrap_or((404, String::new()))
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = Vec::new();
                loop {
                    let mut part = [0; 4096];
                    let length = stream.read(&mut part).await.unwrap_or(0);
                    question.extend_from_slice(&part[..length]);
                    let text = String::from_utf8_lossy(&question);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let head = head.to_ascii_lowercase();
                    let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if length == 0 || wanted.is_none_or(|wanted| body.len() >= wanted.parse().unwrap_or(0)) {
                        break;
                    }
                }
                let (status, body) = service.answer(&String::from_utf8_lossy(&question));
                let head = format!(
                    "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        format!("http://{address}")
    }
}

fn http() -> Http {
    Http::new(None, Plain::Anywhere, Times::default())
}

fn aws(variables: &[(&'static str, &str)], endpoints: &[&str]) -> Aws {
    let endpoints = endpoints.iter().map(|text| text.parse::<Endpoint>().expect("an endpoint"));
    Aws::new(CloudOptions {
        variables: Variables::of(variables.iter().map(|(name, value)| (*name, (*value).to_owned()))),
        endpoints: endpoints.map(|e| ((e.provider, e.service), e.url)).collect(),
        authorities: None,
        access_key: None,
    })
}

fn request() -> Request {
    Request {
        provider: Provider::Aws,
        service: "ec2".to_owned(),
        version: "2016-11-15".to_owned(),
        region: None,
        operation: Operation::Action {
            name: "DescribeRouteTables".to_owned(),
            parameters: vec![("Filter.1.Name".to_owned(), "vpc id+ü".to_owned())],
        },
        repeatable: true,
    }
}

/// The id of the key that a request is signed with.
async fn key(aws: &Aws) -> Result<String, Failure> {
    let prepared = aws.prepare(&http(), &request()).await?;
    let header = prepared.headers.iter().find(|(name, _)| name == "authorization");
    let text = header.and_then(|(_, value)| value.to_str().ok()).expect("a signature");
    let (_, rest) = text.split_once("Credential=").expect("a credential");
    Ok(rest.split('/').next().expect("an id").to_owned())
}

const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

#[tokio::test]
async fn an_instance_is_described_by_both_versions_of_the_metadata_service() {
    for (v2, v1) in [(true, false), (true, true), (false, true)] {
        let service = Service::new(v2, v1);
        let base = service.serve().await;
        let aws = aws(&[(METADATA, &base)], &[]);
        let instance = aws.instance(&http()).await.expect("described");
        assert_eq!((instance.id.as_str(), instance.region.as_str()), ("i-1", "eu-central-1"));
        assert_eq!((instance.zone.as_str(), instance.account.as_str()), ("eu-central-1a", "123456789012"));
        let ids: Vec<&str> = instance.interfaces.iter().map(|interface| interface.id.as_str()).collect();
        assert_eq!(ids, ["eni-1", "eni-2"], "the primary one first");
        let first = &instance.interfaces[0];
        assert_eq!((first.subnet.as_str(), first.network.as_str()), ("subnet-1", "vpc-1"));
        assert_eq!(first.addresses.len(), 3);
        if v2 {
            assert_eq!(service.asked("PUT "), 1, "a token is used again");
        }
    }
}

#[tokio::test]
async fn keys_come_from_the_first_place_that_has_them() {
    let service = Service::new(true, false);
    let base = service.serve().await;
    let sts = "<AssumeRoleWithWebIdentityResponse><Credentials><AccessKeyId>ASIASTS</AccessKeyId>\
               <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
               <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResponse>";
    service.pages.lock().expect("pages").insert("/".to_owned(), (200, sts.to_owned()));
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let shared = file(
        "credentials",
        "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n# no key\n[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key = y\n",
    );
    let identity = file("token", "made-up-identity\n");
    let metadata = (METADATA, base.as_str());
    let environment = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "z")];
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    let of_file = [("AWS_SHARED_CREDENTIALS_FILE", shared.as_str())];
    let endpoint = format!("aws:sts={base}");
    let all = |parts: &[&[(&'static str, &str)]]| aws(&parts.concat(), &[&endpoint]);
    let (metadata, profile) = ([metadata], [("AWS_PROFILE", "other")]);
    for (aws, wanted) in [
        (all(&[&metadata, &environment, &web, &of_file]), "AKIAENV"),
        (all(&[&metadata, &web, &of_file]), "ASIASTS"),
        (all(&[&metadata, &of_file]), "AKIAFILE"),
        (all(&[&metadata, &of_file, &profile]), "AKIAOTHER"),
        (all(&[&metadata]), "ASIA1"),
    ] {
        assert_eq!(key(&aws).await.expect("signed"), wanted);
    }
    assert_eq!(service.asked("WebIdentityToken=made-up-identity"), 1);
}

#[tokio::test]
async fn a_sessions_keys_are_kept_until_shortly_before_their_end_or_until_they_are_refused() {
    let service = Service::new(true, false);
    let base = service.serve().await;
    let aws = aws(&[(METADATA, &base)], &[]);
    let of_role = "security-credentials/node-role";
    for _ in 0..3 {
        assert_eq!(key(&aws).await.expect("signed"), "ASIA1");
    }
    assert_eq!(service.asked(of_role), 1);
    service.put_session("ASIA2", 200);
    aws.forget_credentials();
    assert_eq!(key(&aws).await.expect("signed"), "ASIA2");
    // Its end is near: the next one is fetched, and while there is none, this one goes on.
    service.put("meta-data/iam/security-credentials/node-role", "{}");
    assert_eq!(key(&aws).await.expect("signed"), "ASIA2");
    service.put_session("ASIA3", 3600);
    assert_eq!(key(&aws).await.expect("signed"), "ASIA3");
}

#[tokio::test]
async fn without_keys_it_says_where_it_has_looked_and_nothing_secret() {
    let service = Service::new(true, false);
    service
        .put("meta-data/iam/security-credentials/node-role", &format!(r#"{{"SecretAccessKey":"{CANARY}"}}"#));
    let base = service.serve().await;
    let error = key(&aws(&[(METADATA, &base)], &[])).await.expect_err("no keys").to_string();
    for said in
        ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE", "node-role"]
    {
        assert!(error.contains(said), "{error}");
    }
    assert!(!error.contains(CANARY) && !error.contains(TOKEN), "{error}");
    let half = key(&aws(&[("AWS_REGION", "eu-west-1"), ("AWS_SECRET_ACCESS_KEY", CANARY)], &[])).await;
    let half = half.expect_err("a half").to_string();
    assert!(
        half.contains("AWS_ACCESS_KEY_ID is not") || half.contains("AWS_SECRET_ACCESS_KEY is set"),
        "{half}"
    );
    assert!(!half.contains(CANARY), "{half}");
    let off = key(&aws(&[("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "eu-west-1")], &[])).await;
    let off = off.expect_err("switched off").to_string();
    assert!(off.contains("AWS_EC2_METADATA_DISABLED says not to ask"), "{off}");
}

#[tokio::test]
async fn the_endpoint_is_where_the_operator_says_else_the_regions() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "z")];
    let region = [("AWS_REGION", "eu-central-1")];
    let at = |variables: Vec<(&'static str, &'static str)>,
              endpoints: Vec<&'static str>,
              of: Option<&'static str>| async move {
        let request = Request { region: of.map(str::to_owned), ..request() };
        let prepared = aws(&variables, &endpoints).prepare(&http(), &request).await.expect("prepared");
        prepared.url.shown()
    };
    let all = |more: &[(&'static str, &'static str)]| [&keys[..], &region[..], more].concat();
    assert_eq!(at(all(&[]), vec![], None).await, "https://ec2.eu-central-1.amazonaws.com/");
    assert_eq!(at(all(&[]), vec![], Some("cn-north-1")).await, "https://ec2.cn-north-1.amazonaws.com.cn/");
    let general = ("AWS_ENDPOINT_URL", "http://192.0.2.1:1");
    assert_eq!(at(all(&[general]), vec![], None).await, "http://192.0.2.1:1/");
    let own = ("AWS_ENDPOINT_URL_EC2", "http://192.0.2.2:2");
    assert_eq!(at(all(&[general, own]), vec![], None).await, "http://192.0.2.2:2/");
    assert_eq!(
        at(all(&[general, own]), vec!["aws:ec2=http://192.0.2.3:3"], None).await,
        "http://192.0.2.3:3/"
    );
}

#[test]
fn answers_are_judged_by_their_codes() {
    let aws = aws(&[], &[]);
    let judge = |status, code: &str| {
        let body = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>"
        );
        aws.judge(&Answer { status, body, ..Answer::default() })
    };
    assert_eq!(judge(503, "RequestLimitExceeded"), Verdict::Throttled(None));
    assert_eq!(judge(429, ""), Verdict::Throttled(None));
    assert_eq!(judge(500, "InternalError"), Verdict::Failed);
    assert_eq!(judge(503, "Unavailable"), Verdict::Failed);
    for code in ["RequestExpired", "ExpiredToken", "AuthFailure"] {
        assert_eq!(judge(400, code), Verdict::CredentialsRefused);
    }
    assert_eq!(judge(403, "UnauthorizedOperation"), Verdict::Final);
    assert_eq!(judge(200, "RequestLimitExceeded"), Verdict::Final, "a word in a good answer is no error");
}

#[test]
fn signatures_are_those_of_botocore() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let tools = std::env::var_os("FLANNELD_TEST_CLOUDS")
        .map_or_else(|| top.join("target/tools/clouds"), PathBuf::from);
    let interpreter = tools.join("bin/python");
    if !interpreter.is_file() {
        println!("skipped: {} is not there: `cargo xtask clouds` makes it", interpreter.display());
        return;
    }
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for (url, token, parameters) in [
        ("https://ec2.eu-central-1.amazonaws.com/", None, vec![]),
        (
            "https://ec2.eu-central-1.amazonaws.com/",
            Some("made-up/session+token=="),
            vec![("Filter.1.Value.1", "a b+c/d=&~ü")],
        ),
        ("http://192.168.77.1:5000/", None, vec![("Empty", ""), ("RouteTableId", "rtb-1")]),
    ] {
        let parameters: Vec<(String, String)> =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let form = sign::form("DescribeRouteTables", "2016-11-15", &parameters);
        cases.push(serde_json::json!({
            "url": url, "body": form, "region": "eu-central-1", "service": "ec2", "time": 1_700_000_000,
            "id": "AKIAMADEUP", "secret": CANARY, "token": token,
        }));
        let keys = Keys {
            id: "AKIAMADEUP".to_owned(),
            secret: Secret::new(CANARY.to_owned()),
            token: token.map(|token| Secret::new(token.to_owned())),
            expires: None,
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let scope = sign::Scope { region: "eu-central-1", service: "ec2", time };
        let prepared = sign::signed(Url::parse(url).expect("a URL"), form, &keys, &scope).expect("signed");
        let headers = prepared.headers.iter();
        let headers: BTreeMap<String, String> = headers
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        ours.push(headers);
    }
    let mut python = Command::new(interpreter);
    python.arg(top.join("tests/python/clouds/aws_sign.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("python runs");
    let text = serde_json::Value::from(cases).to_string();
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("python ends");
    assert!(output.status.success());
    let theirs: Vec<BTreeMap<String, String>> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(ours, theirs);
}
