//! Our headers against those of botocore, which is a signer of its own: byte for byte.

use std::io::Write;
use std::path::PathBuf;
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
            "id": keys.id, "secret": keys.secret.reveal(), "token": case.token, "content_type": sign::FORM,
        }));
        ours.push(json!(headers));
    }
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
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
}
