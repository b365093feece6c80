use std::net::IpAddr;

use super::*;

#[tokio::test]
async fn both_versions_of_the_metadata_service_say_the_same() {
    let mut said = Vec::new();
    for hardened in [true, false] {
        let service = Service::start(hardened).await;
        said.push(on(&service, &[]).instance(&http()).await.expect("an instance"));
    }
    assert_eq!(said[0], said[1]);
    let instance = &said[0];
    assert_eq!((instance.id.as_str(), instance.region.as_str()), ("i-0123456789abcdef0", "eu-central-1"));
    assert_eq!((instance.zone.as_str(), instance.account.as_str()), ("eu-central-1a", "123456789012"));
    let ids: Vec<&str> = instance.interfaces.iter().map(|interface| interface.id.as_str()).collect();
    assert_eq!(ids, ["eni-2", "eni-1"], "the primary one first");
    let primary = &instance.interfaces[0];
    let wanted: Vec<IpAddr> =
        ["192.0.2.2", "192.0.2.12", "2001:db8::2"].map(|text| text.parse().expect("an address")).into();
    assert_eq!(primary.addresses, wanted);
    assert_eq!((primary.subnet.as_str(), primary.network.as_str()), ("subnet-1", "vpc-1"));
}

#[tokio::test]
async fn version_one_is_only_asked_where_there_is_no_version_two() {
    for status in [400, 403, 500] {
        let service = Service::start(false).await;
        service.put("/latest/api/token", status, "");
        let error = on(&service, &[]).instance(&http()).await.expect_err("not without a token");
        assert!(error.to_string().contains(&format!("answers {status}")), "{error}");
        assert_eq!(service.count("/latest/meta-data/instance-id"), 0);
    }
    let service = Service::start(false).await;
    service.put("/latest/api/token", 405, "");
    on(&service, &[]).instance(&http()).await.expect("version 1");
}

#[tokio::test]
async fn the_operator_can_rule_version_one_out_and_the_whole_service() {
    for (hardened, variable) in [(false, "AWS_EC2_METADATA_V1_DISABLED"), (true, "AWS_EC2_METADATA_DISABLED")]
    {
        let service = Service::start(hardened).await;
        let error = on(&service, &[(variable, "true")]).instance(&http()).await.expect_err("not asked");
        assert!(error.to_string().contains(variable), "{error}");
        assert_eq!(service.count("/latest/meta-data/instance-id"), 0);
    }
}

#[tokio::test]
async fn what_cannot_be_metadata_is_refused_with_its_path() {
    for (path, text) in [
        ("instance-id", "i-1\r\nX: y"),
        ("instance-id", ""),
        ("placement/region", "../x"),
        ("network/interfaces/macs/02:00:00:00:00:01/interface-id", "<html>"),
    ] {
        let service = Service::start(true).await;
        service.put(&format!("/latest/meta-data/{path}"), 200, text);
        let error = on(&service, &[]).instance(&http()).await.expect_err("refused");
        assert!(error.to_string().contains(path), "{error}");
    }
}
