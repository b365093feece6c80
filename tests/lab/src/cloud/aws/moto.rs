//! Calls of moto: a question is passed on, or asked by the cloud itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Namespace, wait};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where moto is.
#[derive(Clone, Debug)]
pub(super) struct Moto {
    namespace: Namespace,
    address: SocketAddr,
    region: String,
}

impl Moto {
    pub(super) fn new(namespace: &Namespace, port: u16, region: &str) -> Self {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Self { namespace: namespace.clone(), address, region: region.to_owned() }
    }

    /// Sends a form. Answers status and body.
    pub(super) fn post(&self, form: &[u8]) -> Result<(u16, String)> {
        // It finds account, region and service in the signature, which it does not check.
        let head = format!(
            "POST / HTTP/1.0\r\nHost: ec2.{region}.amazonaws.com\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=proxy/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            form.len(),
            region = self.region
        );
        let mut stream = self
            .namespace
            .run(|| TcpStream::connect_timeout(&self.address, wait::scaled(PATIENCE)))?
            .context("moto does not listen")?;
        stream.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(form)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("moto's answer")?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {text:?}"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        Ok((status, body.to_owned()))
    }

    /// Asks something that has to be answered.
    pub(super) fn ask(&self, action: &str) -> Result<String> {
        let (status, body) = self.post(format!("Action={action}&Version=2016-11-15").as_bytes())?;
        anyhow::ensure!(status == 200, "moto: {action}: {status} {body}");
        Ok(body)
    }
}
