//! Answers by method and path, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use flannel_base::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::CANARY;

/// What the metadata service's token is.
const TOKEN: &str = "metadata-token";

/// The service.
#[derive(Clone)]
pub(super) struct Service {
    address: String,
    /// Whether there is version 2 of the metadata service, and nothing without a token.
    hardened: bool,
    pages: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Service {
    /// With the metadata of an instance of two interfaces and a role.
    pub(super) async fn start(hardened: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        let service = Self { address, hardened, pages: Arc::default(), asked: Arc::default() };
        for (path, text) in [
            ("instance-id", "i-0123456789abcdef0"),
            ("placement/region", "eu-central-1"),
            ("placement/availability-zone", "eu-central-1a"),
            ("mac", "02:00:00:00:00:02"),
            ("network/interfaces/macs/", "02:00:00:00:00:01/\n02:00:00:00:00:02/"),
            ("iam/security-credentials/", "node"),
        ] {
            service.put(&format!("/latest/meta-data/{path}"), 200, text);
        }
        for number in ["1", "2"] {
            let below = |name: &str| {
                format!("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:0{number}/{name}")
            };
            service.put(&below("interface-id"), 200, &format!("eni-{number}"));
            service.put(&below("local-ipv4s"), 200, &format!("192.0.2.{number}\n192.0.2.1{number}\n"));
            service.put(&below("subnet-id"), 200, "subnet-1");
            service.put(&below("vpc-id"), 200, "vpc-1");
        }
        service.put("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:02/ipv6s", 200, "2001:db8::2");
        let document = r#"{"accountId":"123456789012","region":"eu-central-1"}"#;
        service.put("/latest/dynamic/instance-identity/document", 200, document);
        service.put_role("ASIA1", 6 * 3600);
        let served = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = served.clone();
                tokio::spawn(async move { service.serve(stream).await });
            }
        });
        service
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn put(&self, path: &str, status: u16, text: &str) {
        self.pages.lock().expect("pages").insert(path.to_owned(), (status, text.to_owned()));
    }

    /// AccessKey of a session that lasts so many seconds from now on, as agents and the metadata service give them.
    pub(super) fn keys(id: &str, seconds: u64) -> String {
        let end = Timestamp::from(SystemTime::now() + Duration::from_secs(seconds));
        serde_json::json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id, "SecretAccessKey": format!("{CANARY}/secret"),
            "Token": format!("{CANARY}/token"), "Expiration": end.to_string(),
        })
        .to_string()
    }

    /// AccessKey of the instance's role.
    pub(super) fn put_role(&self, id: &str, seconds: u64) {
        self.put("/latest/meta-data/iam/security-credentials/node", 200, &Self::keys(id, seconds));
    }

    /// How often a path was asked for.
    pub(super) fn count(&self, path: &str) -> usize {
        self.asked.lock().expect("asked").iter().filter(|(asked, _)| asked == path).count()
    }

    /// Head and body of the last question.
    pub(super) fn last(&self) -> String {
        self.asked.lock().expect("asked").last().expect("asked").1.clone()
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let said = format!("{head}\n{}", String::from_utf8_lossy(&body));
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        self.asked.lock().expect("asked").push((path.to_owned(), said.clone()));
        let (status, text) = self.answer(method, path, &head);
        let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n", text.len());
        let _ = stream.write_all((head + &text).as_bytes()).await;
    }

    fn answer(&self, method: &str, path: &str, head: &str) -> (u16, String) {
        let page = self.pages.lock().expect("pages").get(path).cloned();
        if path == "/latest/api/token" && page.is_none() {
            let is_whole = method == "PUT" && head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60");
            return if self.hardened && is_whole { (200, TOKEN.to_owned()) } else { (404, String::new()) };
        }
        let is_allowed = !self.hardened
            || !path.starts_with("/latest/")
            || head.contains(&format!("x-aws-ec2-metadata-token: {TOKEN}"));
        if is_allowed { page.unwrap_or((404, String::new())) } else { (401, String::new()) }
    }
}
