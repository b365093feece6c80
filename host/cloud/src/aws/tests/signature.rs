//! Our headers against those of botocore, which is a signer of its own: byte for byte.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::Secret;
use crate::access_key::AccessKey;

struct Case {
    url: &'static str,
    region: &'static str,
    seconds: u64,
    token: Option<&'static str>,
    parameters: Vec<(&'static str, &'static str)>,
}

fn cases() -> Vec<Case> {
    let plain = || Case {
        url: "https://ec2.eu-central-1.amazonaws.com/",
        region: "eu-central-1",
        seconds: 1_767_323_045,
        token: None,
        parameters: vec![("RouteTableId.1", "rtb-0123456789abcdef0")],
    };
    vec![
        plain(),
        Case { token: Some("made/up+token=="), ..plain() },
        Case { url: "http://192.168.77.1:5000/", ..plain() },
        Case { url: "http://[fd77::1]:80/", region: "us-gov-west-1", ..plain() },
        Case { url: "https://ec2.cn-north-1.amazonaws.com.cn:8443/base", region: "cn-north-1", ..plain() },
        Case { seconds: 951_782_400, parameters: Vec::new(), ..plain() },
        Case {
            parameters: vec![("A b", "x y+z&=%/~*'()"), ("é", "€ \u{1F980}"), ("A b", ""), ("", "\n\t\"")],
            ..plain()
        },
    ]
}

/// The interpreter with Amazon's library; none, with the reason on standard output: it cannot be had here.
fn python() -> Option<PathBuf> {
    let usual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/clouds");
    let tools = std::env::var_os("FLANNELD_TEST_CLOUDS").map_or(usual, PathBuf::from);
    if let Ok(reason) = std::fs::read_to_string(tools.with_extension("skipped")) {
        flannel_test_support::skip(&reason);
        return None;
    }
    let python = tools.join("bin/python");
    assert!(python.is_file(), "{} is not there: `cargo xtask clouds` makes it", python.display());
    Some(python)
}

#[test]
fn all_headers_are_those_of_botocore() {
    let Some(python) = python() else { return };
    let (mut asked, mut ours) = (Vec::new(), Vec::new());
    for case in cases() {
        let parameters: Vec<(String, String)> =
            case.parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = sign::form("DescribeRouteTables", "2016-11-15", &parameters);
        let keys = AccessKey {
            id: "AKIAMADEUP".to_owned(),
            secret: Secret::new("made/up+secret".to_owned()),
            token: case.token.map(|token| Secret::new(token.to_owned())),
            expires: None,
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(case.seconds);
        let scope = sign::Scope { region: case.region, service: "ec2", time };
        let url = Url::parse(case.url).expect("a URL");
        let prepared = sign::signed(url, body.clone(), &keys, &scope).expect("signed");
        let headers: BTreeMap<String, String> = prepared
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        asked.push(json!({
            "url": case.url, "region": case.region, "service": "ec2", "seconds": case.seconds, "body": body,
            "id": keys.id, "secret": keys.secret.reveal(), "token": case.token, "method": "POST",
            "headers": { "Content-Type": sign::FORM },
        }));
        ours.push(json!(headers));
    }
    compare(&python, &asked, &ours);
}

#[test]
fn headers_of_all_kinds_of_requests_are_those_of_botocore() {
    let Some(python) = python() else { return };
    let (mut asked, mut ours) = (Vec::new(), Vec::new());
    for service in ["execute-api", "s3"] {
        for (method, path, content, body) in [
            ("GET", "/", None, ""),
            ("GET", "/prod/routes/a%3Ab%40c?z=1&a%20b=c%26d%3D%2F%C3%A9~&lifecycle=", None, ""),
            ("HEAD", "/routes/%2A%2B%3D", None, ""),
            ("PUT", "/routes/10.5.3.0", Some(("Content-Type", "application/json")), "{\"a\":\"\u{e9}\"}"),
            ("POST", "/", Some(("X-Amz-Target", "Routes.Put")), "{}"),
            ("DELETE", "/routes/1", None, ""),
        ] {
            let url = format!("http://127.0.0.1:9000{path}");
            let keys = AccessKey {
                id: "AKIAMADEUP".to_owned(),
                secret: Secret::new("made/up+secret".to_owned()),
                token: Some(Secret::new("made/up+token==".to_owned())),
                expires: None,
            };
            let headers =
                content.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
            let mut prepared = Prepared {
                method: method.parse().expect("a method"),
                url: Url::parse(&url).expect("a URL"),
                headers: headers.into_iter().collect(),
                body: hyper::body::Bytes::from(body),
                secrets: Vec::new(),
            };
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
            let scope = sign::Scope { region: "eu-central-1", service, time };
            sign::sign(&mut prepared, &keys, &scope).expect("signed");
            let text = |value: &hyper::header::HeaderValue| value.to_str().expect("text").to_owned();
            let headers = prepared.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
            ours.push(json!(headers.collect::<BTreeMap<String, String>>()));
            let content: BTreeMap<&str, &str> = content.into_iter().collect();
            asked.push(json!({
                "url": url, "region": "eu-central-1", "service": service, "seconds": 1_767_323_045, "body": body,
                "id": keys.id, "secret": keys.secret.reveal(), "token": "made/up+token==", "method": method,
                "headers": content,
            }));
        }
    }
    compare(&python, &asked, &ours);
}

/// What botocore makes of the same requests is what we have made of them.
fn compare(python: &Path, asked: &[Value], ours: &[Value]) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/clouds/sigv4.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an interpreter");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(json!(asked).to_string().as_bytes()).expect("written");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success());
    let theirs: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!(theirs, ours);
    }
}

/// A request's signature, at a time, with the keys of Amazon's documentation.
fn signature(url: &str, keys: (&str, &str), scope: &sign::Scope) -> String {
    let keys = AccessKey {
        id: keys.0.to_owned(),
        secret: Secret::new(keys.1.to_owned()),
        token: None,
        expires: None,
    };
    let url = Url::parse(url).expect("a URL");
    let mut prepared = Prepared {
        method: hyper::Method::GET,
        url,
        headers: Vec::new(),
        body: hyper::body::Bytes::new(),
        secrets: Vec::new(),
    };
    sign::sign(&mut prepared, &keys, scope).expect("signed");
    let header = prepared.headers.iter().find(|(name, _)| name == "authorization").expect("signed");
    let (_, signature) = header.1.to_str().expect("text").split_once("Signature=").expect("a signature");
    signature.to_owned()
}

fn moment(text: &str) -> SystemTime {
    let read: flannel_base::Timestamp = text.parse().expect("a time");
    SystemTime::UNIX_EPOCH + Duration::from_secs(read.seconds())
}

#[test]
fn signatures_are_those_of_amazons_documentation() {
    // <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
    let s3 = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let time = moment("2013-05-24T00:00:00Z");
    let scope = sign::Scope { region: "us-east-1", service: "s3", time };
    for (query, wanted) in [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ] {
        assert_eq!(
            signature(&format!("https://examplebucket.s3.amazonaws.com/?{query}"), s3, &scope),
            wanted
        );
    }
    // The suite of tests of Signature Version 4: get-vanilla, get-vanilla-query-order-key-case
    let suite = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let time = moment("2015-08-30T12:36:00Z");
    let scope = sign::Scope { region: "us-east-1", service: "service", time };
    for (path, wanted) in [
        ("/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ] {
        assert_eq!(signature(&format!("https://example.amazonaws.com{path}"), suite, &scope), wanted);
    }
}
