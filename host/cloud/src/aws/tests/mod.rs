//! The vendor against services of its own on loopback: metadata in both versions, the token service, a container's agent.

mod chain;
mod metadata;
mod service;
mod signature;

use std::collections::BTreeMap;

use super::*;
use crate::http::{CleartextPolicy, Timeouts};
use crate::options::Variables;
use service::Service;

/// No secret of these tests is other than made up; all have this in them.
const CANARY: &str = "madeup-canary";

fn http() -> Http {
    Http::new(None, CleartextPolicy::Anywhere, Timeouts::default())
}

/// A vendor that sees these variables and nothing of this machine.
fn vendor(variables: &[(&'static str, &str)]) -> Aws {
    let all = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let options = CloudOptions {
        variables: Variables::of(all),
        endpoints: BTreeMap::new(),
        authorities: None,
        access_key: None,
    };
    Aws::new(options)
}

/// One whose metadata service is this one, and who sees more variables besides.
fn on(service: &Service, more: &[(&'static str, &str)]) -> Aws {
    let endpoint = service.url();
    let mut variables = vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str())];
    variables.extend(more);
    vendor(&variables)
}

fn request(service: &str, region: Option<&str>) -> Request {
    let parameters = vec![("Filter.1.Name".to_owned(), "vpc-id".to_owned())];
    Request {
        provider: Provider::Aws,
        service: service.to_owned(),
        version: "2016-11-15".to_owned(),
        region: region.map(ToOwned::to_owned),
        operation: Operation::Action { name: "DescribeRouteTables".to_owned(), parameters },
        idempotent: true,
    }
}

/// The access key that a request is signed with.
async fn signed_by(vendor: &Aws) -> Result<String, Failure> {
    let prepared = vendor.prepare(&http(), &request("ec2", None)).await?;
    let header = prepared.headers.iter().find(|(name, _)| name == "authorization").expect("signed");
    assert!(header.1.is_sensitive());
    let text = header.1.to_str().expect("text");
    let (_, rest) = text.split_once("Credential=").expect("a credential");
    Ok(rest.split('/').next().expect("a key").to_owned())
}

#[tokio::test]
async fn requests_go_to_the_regions_endpoint_in_its_partition() {
    let vendor = vendor(&[("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", CANARY)]);
    for (region, host) in [
        ("eu-central-1", "ec2.eu-central-1.amazonaws.com"),
        ("cn-north-1", "ec2.cn-north-1.amazonaws.com.cn"),
        ("us-iso-east-1", "ec2.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "ec2.us-isob-east-1.sc2s.sgov.gov"),
        ("us-gov-west-1", "ec2.us-gov-west-1.amazonaws.com"),
    ] {
        let prepared = vendor.prepare(&http(), &request("ec2", Some(region))).await.expect("prepared");
        assert_eq!((prepared.url.host.as_str(), prepared.url.secure), (host, true));
    }
}

#[tokio::test]
async fn a_services_own_endpoint_comes_before_the_one_for_all() {
    let vendor = vendor(&[
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", "http://192.0.2.1:1"),
        ("AWS_ENDPOINT_URL_EC2", "http://192.0.2.2:2"),
        ("AWS_ACCESS_KEY_ID", "AKIA1"),
        ("AWS_SECRET_ACCESS_KEY", CANARY),
    ]);
    for (service, host) in [("ec2", "192.0.2.2"), ("sts", "192.0.2.1")] {
        let prepared = vendor.prepare(&http(), &request(service, None)).await.expect("prepared");
        assert_eq!(prepared.url.host, host);
    }
}

#[tokio::test]
async fn the_region_is_that_of_the_environment_else_that_of_the_metadata_service() {
    let service = Service::start(true).await;
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", CANARY)];
    let mut variables = keys.to_vec();
    for (name, region) in
        [(None, "eu-central-1"), (Some("AWS_DEFAULT_REGION"), "b-1"), (Some("AWS_REGION"), "a-1")]
    {
        variables.extend(name.map(|name| (name, region)));
        let prepared = on(&service, &variables).prepare(&http(), &request("ec2", None)).await;
        assert_eq!(prepared.expect("prepared").url.host, format!("ec2.{region}.amazonaws.com"));
    }
}

#[tokio::test]
async fn a_region_that_would_lead_elsewhere_is_refused() {
    let wrong =
        [("AWS_REGION", "x.example.com/"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", CANARY)];
    let error = vendor(&wrong).prepare(&http(), &request("ec2", None)).await.expect_err("refused");
    assert!(error.to_string().starts_with("AWS_REGION: "), "{error}");
}
