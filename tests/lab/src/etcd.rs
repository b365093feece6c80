//! A real etcd, of one member or of three, each in a network namespace of its own on the lab's switch.

use std::fs::File;
use std::io::{Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{self, PATIENCE};
use crate::{Lab, Namespace, artifacts, child_reaper, wait};

/// Where it listens; of three members, the first.
pub const ENDPOINT: &str = "http://192.168.77.250:2379";
const FIRST_OCTET: u8 = 250;
/// Operations that etcd takes in one transaction (`--max-txn-ops`).
const OPERATIONS: usize = 128;
/// How often it is asked for the same.
const ATTEMPTS: usize = 3;
/// Where the daemons look if they are not told otherwise.
const PREFIX: &str = "/coreos.com/network";

/// A running etcd. It is killed when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    server: PathBuf,
    client: PathBuf,
}

/// A member of the etcd cluster.
#[derive(Debug)]
struct Member {
    name: String,
    address: String,
    namespace: Namespace,
    directory: PathBuf,
    /// None: killed.
    child: Option<Child>,
    hangs: bool,
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
    header: Header,
    #[serde(default)]
    kvs: Vec<Raw>,
}

// Numbers are texts, as Protocol Buffers are written in JSON. What is empty, or 0, is left out.
#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    revision: String,
}

#[derive(Deserialize)]
struct Raw {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    lease: String,
}

impl Etcd {
    /// Starts one of a single member, and waits until it answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_members(lab, 1)
    }

    /// Starts one of three members, any two of which are enough, and waits until all answer.
    pub fn start_three(lab: &Lab) -> Result<Self> {
        Self::start_members(lab, 3)
    }

    fn start_members(lab: &Lab, count: u8) -> Result<Self> {
        let server = artifacts::etcd()?;
        let beside = server.with_file_name("etcdctl");
        let client = if beside.is_file() { beside } else { "etcdctl".into() };
        let members = (0..count).map(|index| Member::new(lab, index)).collect::<Result<_>>()?;
        let mut etcd = Self { members, server, client };
        for index in 0..etcd.members.len() {
            etcd.launch(index)?;
        }
        for index in 0..etcd.members.len() {
            etcd.wait_healthy(index)?;
        }
        Ok(etcd)
    }

    /// Kills a member, the first being 0, as `kill -9` does.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            child_reaper::end(&mut child);
        }
    }

    /// Stops a member, as a machine that hangs does: its connections stay, and nobody answers.
    pub fn pause(&mut self, index: usize) -> Result<()> {
        self.members[index].signal(Signal::STOP)?;
        self.members[index].hangs = true;
        Ok(())
    }

    /// Lets it go on.
    pub fn resume(&mut self, index: usize) -> Result<()> {
        self.members[index].signal(Signal::CONT)?;
        self.members[index].hangs = false;
        Ok(())
    }

    /// Starts a member that was killed, with the data that it has, and waits until it answers.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.launch(index)?;
        self.wait_healthy(index)
    }

    /// Loses all data of a member that was killed.
    pub fn wipe(&self, index: usize) -> Result<()> {
        let data = self.members[index].data();
        std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())
    }

    /// Which member leads.
    pub fn leader(&self) -> Result<usize> {
        let what = "the members of etcd agree on a leader";
        let (index, _) = wait::until(what, || {
            let answer: Value = serde_json::from_str(&self.run(&["endpoint", "status", "-w", "json"])?)?;
            let leads = |status: &&Value| {
                let status = &status["Status"];
                status["leader"] == status["header"]["member_id"]
            };
            let leader = answer.as_array().into_iter().flatten().find(leads);
            let endpoint = leader.and_then(|status| status["Endpoint"].as_str());
            Ok(endpoint.and_then(|endpoint| self.members.iter().position(|m| m.endpoint() == endpoint)))
        })?;
        Ok(index)
    }

    /// What tells a daemon where all members are.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<String> = self.members.iter().map(Member::endpoint).collect();
        endpoints.join(",")
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

    /// Deletes a key, which has to be there.
    pub fn delete(&self, key: &str) -> Result<()> {
        // Not by what the deletion answers: it may have been asked twice.
        if self.run(&["get", "--keys-only", key])?.trim().is_empty() {
            bail!("etcd has no key {key}");
        }
        self.run(&["del", key]).map(drop)
    }

    /// All keys with a prefix.
    pub fn range(&self, prefix: &str) -> Result<Vec<Pair>> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().context("a prefix")? += 1;
        let answer =
            self.get(&json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end) }))?;
        let text = |encoded: &str| -> Result<String> { Ok(String::from_utf8(STANDARD.decode(encoded)?)?) };
        let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse() };
        let pairs = answer.kvs.iter().map(|raw| {
            Ok(Pair { key: text(&raw.key)?, value: text(&raw.value)?, lease: number(&raw.lease)? })
        });
        pairs.collect()
    }

    /// The present revision: how many writes there have been.
    pub fn revision(&self) -> Result<i64> {
        let answer = self.get(&json!({ "key": STANDARD.encode("/") }))?;
        answer.header.revision.parse().context("etcd: no revision")
    }

    /// Asks for keys: without etcdctl, whose start takes longer than the answer, as whoever waits for a key would again and again. Of several
    /// members each that lives is asked until one answers.
    fn get(&self, range: &Value) -> Result<Answer> {
        let body = range.to_string();
        let mut outcome = Err(anyhow!("no member of etcd lives"));
        for _ in 0..ATTEMPTS {
            for member in self.members.iter().filter(|member| member.answers()) {
                outcome = member.post("/v3/kv/range", &body);
                if outcome.is_ok() {
                    return outcome;
                }
            }
        }
        outcome
    }

    /// Forgets all revisions before the present one. Answers which that is.
    pub fn compact(&self) -> Result<i64> {
        let revision = self.revision()?;
        self.run(&["compact", &revision.to_string()])?;
        Ok(revision)
    }

    /// Seconds until an etcd lease ends.
    pub fn time_to_live(&self, lease: i64) -> Result<i64> {
        let answer: Value = serde_json::from_str(&self.run(&[
            "lease",
            "timetolive",
            &format!("{lease:x}"),
            "-w",
            "json",
        ])?)?;
        answer["ttl"].as_i64().context("etcdctl lease timetolive: no ttl")
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let cluster: Vec<String> =
            self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        self.members[index].launch(&self.server, &cluster.join(","))
    }

    fn wait_healthy(&mut self, index: usize) -> Result<()> {
        let endpoint = self.members[index].endpoint();
        wait::until_true("etcd answers", || {
            self.members[index].has_not_ended()?;
            Ok(self.ask(&endpoint, &["endpoint", "health"], &[]).is_ok())
        })?;
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, &[])
    }

    /// Asks the members that live. What is asked for may be done twice: etcd loses a proposal that is on its way to a leader that is no
    /// leader any more, and whoever asked hears of it by the end of his patience alone.
    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let living: Vec<String> =
            self.members.iter().filter(|member| member.answers()).map(Member::endpoint).collect();
        let living = living.join(",");
        for _ in 1..ATTEMPTS {
            match self.ask(&living, arguments, input) {
                Err(error) if error.to_string().contains("context deadline exceeded") => {}
                outcome => return outcome,
            }
        }
        self.ask(&living, arguments, input)
    }

    fn ask(&self, endpoints: &str, arguments: &[&str], input: &[u8]) -> Result<String> {
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(input)?;
        stdin.rewind()?;
        let output = self.members[0]
            .namespace
            .command(&self.client)
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={endpoints}"))
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

impl Member {
    fn new(lab: &Lab, index: u8) -> Result<Self> {
        let octet = FIRST_OCTET + index;
        let name = if index == 0 { "etcd".to_owned() } else { format!("etcd{}", index + 1) };
        let namespace = lab.add_server(&name, octet)?;
        let directory = lab.directory().join(&name);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self {
            name,
            address: format!("192.168.77.{octet}"),
            namespace,
            directory,
            child: None,
            hangs: false,
        })
    }

    fn endpoint(&self) -> String {
        format!("http://{}:2379", self.address)
    }

    fn peer_url(&self) -> String {
        format!("http://{}:2380", self.address)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("etcd.log")
    }

    fn launch(&mut self, server: &Path, cluster: &str) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log()).context("etcd's log")?;
        let (endpoint, peer_url) = (self.endpoint(), self.peer_url());
        let mut command = self.namespace.command(server);
        command.args(["--name", &self.name]).arg("--data-dir").arg(self.data());
        command.args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", cluster]);
        // What is lost with the machine here was worth nothing, and the disk is slow.
        command.args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(child_reaper::spawn(command)?);
        Ok(())
    }

    /// Asks by the JSON that etcd has in front of gRPC.
    fn post(&self, path: &str, body: &str) -> Result<Answer> {
        let address: SocketAddr = format!("{}:2379", self.address).parse()?;
        let length = body.len();
        let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
        let ask = || -> Result<http::Answer> {
            let mut stream = TcpStream::connect_timeout(&address, wait::scaled(PATIENCE))?;
            stream.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
            http::exchange(&mut stream, &head, body)
        };
        let answer = self.namespace.run(ask)?.with_context(|| format!("{}: {path}", self.name))?;
        ensure!(answer.status == 200, "{}: {path}: {} {}", self.name, answer.status, answer.body.trim());
        serde_json::from_str(&answer.body).with_context(|| format!("{}: {path}: {}", self.name, answer.body))
    }

    fn answers(&self) -> bool {
        self.child.is_some() && !self.hangs
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("this member of etcd was killed")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    fn has_not_ended(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("this member of etcd was killed")?;
        if let Some(status) = child.try_wait()? {
            let said = std::fs::read_to_string(self.log()).unwrap_or_default();
            bail!("{} ended ({status}); it said:\n{said}", self.name);
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child_reaper::end(child);
        }
    }
}
