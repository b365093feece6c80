//! The vendor against a metadata service of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flannel_base::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::Secret;
use crate::http::{CleartextPolicy, Timeouts};
use crate::options::Variables;

/// A metadata service: pages by path, and what was asked.
#[derive(Clone, Default)]
struct Service {
    pages: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    hardened: bool,
}

const TOKEN: &str = "made-up-metadata-token";

impl Service {
    /// Of an instance with one interface and a role.
    fn new(hardened: bool) -> Self {
        let service = Self { hardened, ..Self::default() };
        for (path, text) in [
            ("region-id", "cn-beijing"),
            ("zone-id", "cn-beijing-b\n"),
            ("instance-id", "i-1"),
            ("owner-account-id", "1234567890123456"),
            ("mac", "00:16:3e:00:00:02"),
            ("network/interfaces/macs/", "00:16:3e:00:00:01/\n00:16:3e:00:00:02/"),
            ("ram/security-credentials/", "Role"),
        ] {
            service.put(path, text);
        }
        for (number, addresses) in [("1", "[\"192.0.2.9\"]"), ("2", "[\"192.0.2.3\", \"192.0.2.2\"]")] {
            let below = |name: &str| format!("network/interfaces/macs/00:16:3e:00:00:0{number}/{name}");
            service.put(&below("network-interface-id"), &format!("eni-{number}"));
            service.put(&below("private-ipv4s"), addresses);
            service.put(&below("primary-ip-address"), &format!("192.0.2.{number}"));
            service.put(&below("ipv6s"), "[2001:db8::1,2001:db8::2]");
            service.put(&below("vswitch-id"), "vsw-1");
            service.put(&below("vpc-id"), "vpc-1");
        }
        service.put_session("STS.1", 3600);
        service
    }

    fn put(&self, path: &str, text: &str) {
        self.pages.lock().expect("pages").insert(format!("/latest/meta-data/{path}"), text.to_owned());
    }

    fn put_session(&self, key: &str, seconds: u64) {
        let end = std::time::SystemTime::now() + Duration::from_secs(seconds);
        let text = serde_json::json!({
            "Code": "Success",
            "AccessKeyId": key,
            "AccessKeySecret": "made-up-canary-secret",
            "SecurityToken": "made-up-canary-token",
            "Expiration": Timestamp::from(end).to_string(),
            "LastUpdated": Timestamp::now().to_string(),
        });
        self.put("ram/security-credentials/Role", &text.to_string());
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().expect("asked").iter().filter(|asked| asked.ends_with(path)).count()
    }

    fn answer(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        self.asked.lock().expect("asked").push(path.to_owned());
        match (method, path) {
            ("PUT", "/latest/api/token") if self.hardened => (200, TOKEN.to_owned()),
            ("GET", _) if !self.hardened || token == Some(TOKEN) => {
                let pages = self.pages.lock().expect("pages");
                pages.get(path).map_or((404, String::new()), |text| (200, text.clone()))
            }
            ("GET", _) => (403, String::new()),
            _ => (404, String::new()),
        }
    }

    async fn serve(self) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    lines.push(line.trim_end().to_owned());
                }
                let words: Vec<&str> = lines.first().map_or(Vec::new(), |line| line.split(' ').collect());
                let token = lines.iter().find_map(|line| line.strip_prefix("x-aliyun-ecs-metadata-token: "));
                let (status, body) = self.answer(words[0], words[1], token);
                let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Url::parse(&format!("http://{address}/")).expect("a URL")
    }
}

fn http() -> Http {
    Http::new(None, CleartextPolicy::Anywhere, Timeouts::default())
}

/// The vendor with these variables, and a metadata service.
async fn vendor(variables: &[(&'static str, &str)], service: &Service) -> Alibaba {
    let variables = Variables::of(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let plain = variables.get("ALIBABA_CLOUD_IMDSV1_DISABLED").is_none();
    let options = CloudOptions { variables, endpoints: BTreeMap::new(), authorities: None, access_key: None };
    let metadata = metadata::at(service.clone().serve().await, plain);
    Alibaba { metadata, ..Alibaba::new(options) }
}

fn request(service: &str, region: Option<&str>) -> Request {
    let parameters = vec![("RegionId".to_owned(), "cn-beijing".to_owned())];
    Request {
        provider: Provider::Alibaba,
        service: service.to_owned(),
        version: "2016-04-28".to_owned(),
        region: region.map(ToOwned::to_owned),
        operation: Operation::Action { name: "DescribeVpcs".to_owned(), parameters },
        idempotent: true,
    }
}

/// Whose key a request is signed with.
fn key_of(prepared: &Prepared) -> String {
    let authorization = prepared.headers.iter().find(|(name, _)| name == "authorization").expect("signed");
    let text = authorization.1.to_str().expect("text");
    let (_, rest) = text.split_once("Credential=").expect("a key");
    rest.split(',').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_instance_is_described_with_its_primary_interface_first() {
    for hardened in [false, true] {
        let vendor = vendor(&[], &Service::new(hardened)).await;
        let instance = vendor.instance(&http()).await.expect("described");
        assert_eq!((instance.id.as_str(), instance.region.as_str()), ("i-1", "cn-beijing"));
        assert_eq!((instance.zone.as_str(), instance.account.as_str()), ("cn-beijing-b", "1234567890123456"));
        let [first, second] = &instance.interfaces[..] else { panic!("{instance:?}") };
        assert_eq!((first.id.as_str(), second.id.as_str()), ("eni-2", "eni-1"));
        assert_eq!((first.subnet.as_str(), first.network.as_str()), ("vsw-1", "vpc-1"));
        let shown: Vec<String> = first.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]);
    }
}

#[tokio::test]
async fn where_interfaces_are_not_listed_the_instances_own_network_is_taken() {
    let service = Service::new(false);
    service.put("network/interfaces/macs/", "");
    for (path, text) in [("vpc-id", "vpc-7"), ("vswitch-id", "vsw-7"), ("private-ipv4", "192.0.2.7")] {
        service.put(path, text);
    }
    let instance = vendor(&[], &service).await.instance(&http()).await.expect("described");
    let only = &instance.interfaces[0];
    assert_eq!((only.network.as_str(), only.subnet.as_str()), ("vpc-7", "vsw-7"));
    assert_eq!(only.addresses[0].to_string(), "192.0.2.7");
}

#[tokio::test]
async fn metadata_that_makes_no_sense_is_refused_by_name() {
    for (path, text) in [("instance-id", "<html>"), ("region-id", "CN/../x"), ("instance-id", "")] {
        let service = Service::new(false);
        service.put(path, text);
        let error = vendor(&[], &service).await.instance(&http()).await.expect_err("refused").to_string();
        assert!(error.contains(path) && !error.contains('<'), "{error}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_asked_where_plain_metadata_is_disabled() {
    let vendor = vendor(&[("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")], &Service::new(false)).await;
    let error = vendor.instance(&http()).await.expect_err("refused").to_string();
    assert!(error.contains("ALIBABA_CLOUD_IMDSV1_DISABLED"), "{error}");
}

#[tokio::test]
async fn the_roles_keys_are_kept_until_shortly_before_their_end() {
    let service = Service::new(true);
    let vendor = vendor(&[], &service).await;
    for _ in 0..3 {
        assert_eq!(key_of(&vendor.prepare(&http(), &request("vpc", None)).await.expect("signed")), "STS.1");
    }
    assert_eq!(service.asked("/Role"), 1);
    // Its end is near: each request looks whether there are new ones.
    service.put_session("STS.2", 60);
    vendor.forget_credentials();
    for _ in 0..2 {
        assert_eq!(key_of(&vendor.prepare(&http(), &request("vpc", None)).await.expect("signed")), "STS.2");
    }
    service.put_session("STS.3", 3600);
    assert_eq!(key_of(&vendor.prepare(&http(), &request("vpc", None)).await.expect("signed")), "STS.3");
    assert_eq!(service.asked("/Role"), 4);
}

#[tokio::test]
async fn keys_that_are_still_good_are_used_while_there_are_no_new_ones() {
    let service = Service::new(false);
    service.put_session("STS.1", 60);
    let vendor = vendor(&[], &service).await;
    assert_eq!(key_of(&vendor.prepare(&http(), &request("vpc", None)).await.expect("signed")), "STS.1");
    service.put("ram/security-credentials/Role", "{\"Code\":\"Failed\"}");
    assert_eq!(key_of(&vendor.prepare(&http(), &request("vpc", None)).await.expect("signed")), "STS.1");
    vendor.forget_credentials();
    let error = vendor.prepare(&http(), &request("vpc", None)).await.expect_err("no keys").to_string();
    assert!(error.contains("no keys of the RAM role Role"), "{error}");
}

#[tokio::test]
async fn the_environment_comes_before_the_role_and_todays_variables_before_upstreams() {
    let todays =
        [("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI-1"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "made-up-1")];
    let upstreams = [("ACCESS_KEY_ID", "LTAI-2"), ("ACCESS_KEY_SECRET", "made-up-2")];
    for (variables, key) in [
        (&[todays, upstreams].concat()[..], "LTAI-1"),
        (&upstreams[..], "LTAI-2"),
        (&[("ALIBABA_CLOUD_ECS_METADATA", "Role")], "STS.1"),
    ] {
        let vendor = vendor(variables, &Service::new(false)).await;
        assert_eq!(key_of(&vendor.prepare(&http(), &request("vpc", None)).await.expect("signed")), key);
    }
}

#[tokio::test]
async fn keys_of_the_network_config_come_first() {
    let service = Service::new(false);
    let variables = [("ACCESS_KEY_ID", "LTAI-2"), ("ACCESS_KEY_SECRET", "made-up-2")];
    let mut options = vendor(&variables, &service).await.options;
    options.access_key = Some(("LTAI-3".to_owned(), Secret::new("made-up-3".to_owned())));
    let vendor = Alibaba::new(options);
    let prepared = vendor.prepare(&http(), &request("vpc", Some("cn-beijing"))).await.expect("signed");
    assert_eq!(key_of(&prepared), "LTAI-3");
}

#[tokio::test]
async fn errors_say_where_keys_were_looked_for_and_show_none() {
    let service = Service::new(false);
    service.put("ram/security-credentials/", "");
    for (variables, said) in [
        (&[][..], "knows no RAM role"),
        (&[("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")], "ALIBABA_CLOUD_ECS_METADATA_DISABLED"),
        (&[("ALIBABA_CLOUD_ECS_METADATA", "Other")], "no RAM role Other"),
        (&[("ALIBABA_CLOUD_ECS_METADATA", "../x")], "characters"),
        (&[("ACCESS_KEY_ID", "LTAI-canary")], "ACCESS_KEY_SECRET is not"),
        (&[("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canary")], "ALIBABA_CLOUD_ACCESS_KEY_ID is not"),
    ] {
        let vendor = vendor(variables, &service).await;
        let error = vendor.prepare(&http(), &request("vpc", None)).await.expect_err("no keys").to_string();
        assert!(error.contains(said) && !error.contains("canary") && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_service_is_at_its_regions_endpoint_unless_the_operator_says_otherwise() {
    let vendor = vendor(&[], &Service::new(true)).await;
    for (service, region, url) in [
        ("vpc", None, "https://vpc.cn-beijing.aliyuncs.com/"),
        ("vpc", Some("eu-central-1"), "https://vpc.eu-central-1.aliyuncs.com/"),
        ("vpc", Some("cn-hangzhou"), "https://vpc.aliyuncs.com/"),
        ("ecs", Some("cn-hangzhou"), "https://ecs.cn-hangzhou.aliyuncs.com/"),
    ] {
        let prepared = vendor.prepare(&http(), &request(service, region)).await.expect("signed");
        assert_eq!(prepared.url.shown(), url);
    }
    let mut options = vendor.options.clone();
    let said = Url::parse("https://vpc-vpc.cn-beijing.aliyuncs.com").expect("a URL");
    options.endpoints.insert((Provider::Alibaba, "vpc".to_owned()), said);
    let vendor = Alibaba { metadata: vendor.metadata, ..Alibaba::new(options) };
    let prepared = vendor.prepare(&http(), &request("vpc", None)).await.expect("signed");
    assert_eq!(prepared.url.shown(), "https://vpc-vpc.cn-beijing.aliyuncs.com/");
}

#[tokio::test]
async fn secrets_are_marked_so_that_nobody_shows_them() {
    let vendor = vendor(&[], &Service::new(true)).await;
    let prepared = vendor.prepare(&http(), &request("vpc", None)).await.expect("signed");
    // Key, signature and token: none of them comes back.
    let has = |text: &str| prepared.secrets.iter().any(|secret| text.contains(secret.reveal()));
    let sent = |wanted: &str| {
        let found = prepared.headers.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| value.to_str().ok()).expect("sent").to_owned()
    };
    assert!(has("made-up-canary-secret"));
    assert!(has(&sent("authorization")) && has(&sent("x-acs-security-token")));
    let shown = format!("{prepared:?}");
    assert!(!shown.contains("canary") && !prepared.url.path.contains("canary"), "{shown}");
}

#[test]
fn answers_are_judged_by_code_and_status() {
    let options = CloudOptions {
        variables: Variables::of([]),
        endpoints: BTreeMap::new(),
        authorities: None,
        access_key: None,
    };
    let vendor = Alibaba::new(options);
    let judged = |status: u16, code: &str, headers: &[(&str, &str)]| {
        let body = format!("{{\"RequestId\":\"x\",\"Code\":\"{code}\",\"Message\":\"m\"}}");
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        vendor.classify(&Answer { status, headers: headers.collect(), body, attempts: 1 })
    };
    assert_eq!(judged(400, "Throttling.User", &[]), ResponseClass::Throttled(None));
    let wait = Some(Duration::from_millis(700));
    assert_eq!(judged(400, "Throttling", &[("x-acs-retry-after", "700")]), ResponseClass::Throttled(wait));
    assert_eq!(judged(500, "InternalError", &[]), ResponseClass::Failed);
    assert_eq!(judged(503, "ServiceUnavailable", &[]), ResponseClass::Failed);
    for code in
        ["InvalidSecurityToken.Expired", "InvalidSecurityToken.Malformed", "InvalidAccessKeyId.NotFound"]
    {
        assert_eq!(judged(400, code, &[]), ResponseClass::CredentialsRefused, "{code}");
    }
    for (status, code) in
        [(403, "Forbidden.RAM"), (400, "TaskConflict"), (400, "QuotaExceeded"), (200, "200")]
    {
        assert_eq!(judged(status, code, &[]), ResponseClass::Final, "{code}");
    }
    let page = Answer { status: 502, body: "<html>".to_owned(), ..Answer::default() };
    assert_eq!(vendor.classify(&page), ResponseClass::Failed);
}
