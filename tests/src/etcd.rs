//! A real etcd in a network namespace of its own, on the lab's switch.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Lab, Namespace, artifacts, nursery, wait};

/// Where it listens.
pub const ENDPOINT: &str = "http://192.168.77.250:2379";
const LAST_OCTET: u8 = 250;
/// Operations that etcd takes in one transaction (`--max-txn-ops`).
const OPERATIONS: usize = 128;
/// Where the daemons look if they are not told otherwise.
const PREFIX: &str = "/coreos.com/network";

/// A running etcd. It is killed when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    namespace: Namespace,
    client: PathBuf,
    child: Child,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The whole key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The number of the etcd lease on which the key depends; 0 if there is none.
    pub lease: i64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    kvs: Vec<Raw>,
}

#[derive(Deserialize)]
struct Raw {
    key: String,
    value: String,
    #[serde(default)]
    lease: i64,
}

impl Etcd {
    /// Starts it, and waits until it answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        let server = artifacts::etcd()?;
        let beside = server.with_file_name("etcdctl");
        let client = if beside.is_file() { beside } else { "etcdctl".into() };
        let namespace = lab.add_server("etcd", LAST_OCTET)?;
        let directory = lab.directory().join("etcd");
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let log = File::create(directory.join("etcd.log")).context("etcd's log")?;

        let mut command = namespace.command(&server);
        command.arg("--data-dir").arg(directory.join("data"));
        command.args(["--listen-client-urls", ENDPOINT, "--advertise-client-urls", ENDPOINT]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        // What is lost with the machine here was worth nothing, and the disk is slow.
        command.args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = nursery::spawn(command)?;
        let mut etcd = Self { namespace, client, child };
        wait::until_true("etcd answers", || {
            if let Some(status) = etcd.child.try_wait()? {
                let said = std::fs::read_to_string(directory.join("etcd.log")).unwrap_or_default();
                bail!("etcd ended ({status}); it said:\n{said}");
            }
            Ok(etcd.run(&["endpoint", "health"]).is_ok())
        })?;
        Ok(etcd)
    }

    /// A key under the prefix that the daemons use.
    pub fn key(&self, name: &str) -> String {
        format!("{PREFIX}/{name}")
    }

    /// Sets a key.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.run(&["put", "--", key, value]).map(drop)
    }

    /// Sets many keys, in transactions of as many as etcd allows.
    pub fn put_many(&self, pairs: &[(String, String)]) -> Result<()> {
        for part in pairs.chunks(OPERATIONS) {
            // Compares, then what to do if they hold, then what to do if not, with a blank line behind each.
            let mut script = String::from("\n");
            for (key, value) in part {
                // In double quotes, which it reads as JSON does.
                script.extend([
                    "put ",
                    &serde_json::to_string(key)?,
                    " ",
                    &serde_json::to_string(value)?,
                    "\n",
                ]);
            }
            script.push_str("\n\n");
            self.run_with(&["txn"], script.as_bytes())?;
        }
        Ok(())
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.run(&["del", key])?;
        if deleted.trim() != "1" {
            bail!("etcd has no key {key}");
        }
        Ok(())
    }

    /// All keys with a prefix.
    pub fn range(&self, prefix: &str) -> Result<Vec<Pair>> {
        let answer: Answer = serde_json::from_str(&self.run(&["get", "--prefix", prefix, "-w", "json"])?)?;
        let text = |encoded: &str| -> Result<String> { Ok(String::from_utf8(STANDARD.decode(encoded)?)?) };
        answer
            .kvs
            .iter()
            .map(|raw| Ok(Pair { key: text(&raw.key)?, value: text(&raw.value)?, lease: raw.lease }))
            .collect()
    }

    /// Seconds until an etcd lease ends.
    pub fn time_to_live(&self, lease: i64) -> Result<i64> {
        let answer: serde_json::Value = serde_json::from_str(&self.run(&[
            "lease",
            "timetolive",
            &format!("{lease:x}"),
            "-w",
            "json",
        ])?)?;
        answer["ttl"].as_i64().context("etcdctl lease timetolive: no ttl")
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(input)?;
        stdin.rewind()?;
        let output = self
            .namespace
            .command(&self.client)
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={ENDPOINT}"))
            .args(arguments)
            .stdin(stdin)
            .output()
            .context("cannot run etcdctl")?;
        if !output.status.success() {
            bail!("etcdctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("etcdctl: no text")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        nursery::end(&mut self.child);
    }
}
