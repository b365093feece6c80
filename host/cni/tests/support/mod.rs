//! A node for the plugin: a subnet file, a directory for what it keeps, and delegates that write down what they get.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A plugin that writes down its environment and configuration, and answers what lies ready for it, or nothing.
const DELEGATE: &str = r#"#!/bin/sh
heard="$0.$CNI_COMMAND.$CNI_CONTAINERID"
env > "$heard.env"
cat > "$heard.json"
answer="$0.answer.$CNI_COMMAND"
[ -e "$answer" ] || exit 0
cat "$answer"
exit "$(cat "$answer.status")"
"#;

/// The subnet file of a node with IPv4.
const SUBNET_FILE: &str =
    "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// A node, with the delegate `bridge`.
pub struct Node {
    directory: TempDir,
}

impl Node {
    pub fn new() -> Self {
        let node = Self { directory: tempfile::tempdir().expect("directory") };
        std::fs::create_dir(node.plugins()).expect("made");
        std::fs::write(node.subnet_file(), SUBNET_FILE).expect("written");
        node.install("bridge");
        node
    }

    pub fn top(&self) -> &Path {
        self.directory.path()
    }

    pub fn plugins(&self) -> PathBuf {
        self.top().join("plugins")
    }

    pub fn subnet_file(&self) -> PathBuf {
        self.top().join("subnet.env")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.top().join("data")
    }

    /// Where a container's rendered configuration is kept.
    pub fn saved(&self, container: &str) -> PathBuf {
        self.data_dir().join(container)
    }

    /// Puts something there.
    pub fn save(&self, container: &str, text: &str) {
        std::fs::create_dir_all(self.data_dir()).expect("made");
        std::fs::write(self.saved(container), text).expect("written");
    }

    /// Installs a delegate.
    pub fn install(&self, plugin: &str) {
        let program = self.plugins().join(plugin);
        std::fs::write(&program, DELEGATE).expect("written");
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("mode");
    }

    /// What a delegate answers to a command.
    pub fn answers(&self, plugin: &str, command: &str, status: i32, stdout: &str) {
        let answer = self.plugins().join(format!("{plugin}.answer.{command}"));
        std::fs::write(answer.with_extension(format!("{command}.status")), status.to_string())
            .expect("written");
        std::fs::write(answer, stdout).expect("written");
    }

    fn heard_in(&self, plugin: &str, command: &str, container: &str, what: &str) -> PathBuf {
        self.plugins().join(format!("{plugin}.{command}.{container}.{what}"))
    }

    /// The configuration that a delegate got with a command.
    pub fn heard(&self, plugin: &str, command: &str, container: &str) -> Value {
        let text =
            std::fs::read_to_string(self.heard_in(plugin, command, container, "json")).expect("it was run");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Whether a delegate got a command for a container.
    pub fn has_heard(&self, plugin: &str, command: &str, container: &str) -> bool {
        self.heard_in(plugin, command, container, "json").exists()
    }

    /// Whether a delegate got any command.
    pub fn has_run(&self, plugin: &str) -> bool {
        let mut entries = self.plugins().read_dir().expect("listing");
        let prefix = format!("{plugin}.");
        entries.any(|entry| {
            let name = PathBuf::from(entry.expect("entry").file_name());
            name.to_string_lossy().starts_with(&prefix) && name.extension().is_some_and(|it| it == "env")
        })
    }

    /// The environment that a delegate had for a command.
    pub fn environment(&self, plugin: &str, command: &str, container: &str) -> String {
        std::fs::read_to_string(self.heard_in(plugin, command, container, "env")).expect("it was run")
    }

    /// A configuration as Kubernetes' manifests have it, of a version.
    pub fn config(&self, version: &str) -> String {
        self.config_with(version, &json!({"delegate": {"hairpinMode": true}}))
    }

    /// One with other members.
    pub fn config_with(&self, version: &str, others: &Value) -> String {
        let mut config = json!({
            "cniVersion": version,
            "name": "cbr0",
            "type": "flannel",
            "subnetFile": self.subnet_file(),
            "dataDir": self.data_dir(),
        });
        for (key, value) in others.as_object().expect("an object") {
            config[key] = value.clone();
        }
        config.to_string()
    }

    /// A request of a runtime; of version 1.0.0, unless it is for a later one.
    pub fn request(&self, command: &str, container: &str) -> Request {
        let version = if ["STATUS", "GC"].contains(&command) { "1.1.0" } else { "1.0.0" };
        let plugins = self.plugins();
        let variables = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", plugins.to_str().expect("UTF-8")),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ];
        Request {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            config: self.config(version),
            is_disk_full: false,
        }
    }
}

/// A request.
pub struct Request {
    variables: BTreeMap<String, String>,
    config: String,
    is_disk_full: bool,
}

impl Request {
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    pub fn config(mut self, config: impl Into<String>) -> Self {
        self.config = config.into();
        self
    }

    /// No file can have as much as a byte.
    pub fn on_a_full_disk(mut self) -> Self {
        self.is_disk_full = true;
        self
    }

    /// Starts the plugin, and waits for its end.
    pub fn run(self) -> Answer {
        let plugin = env!("CARGO_BIN_EXE_flannel");
        let mut command = if self.is_disk_full {
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"trap "" XFSZ; ulimit -f 0; exec "$0""#, plugin]);
            shell
        } else {
            Command::new(plugin)
        };
        command.env_clear().envs(&self.variables);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        // One that refuses what its environment says does not read it.
        let _ = child.stdin.take().expect("a pipe").write_all(self.config.as_bytes());
        let output = child.wait_with_output().expect("the plugin ends");
        Answer {
            status: output.status.code().expect("no signal"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// What comes of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// What a request printed that has succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    /// The error of one that has failed.
    pub fn error(self) -> Value {
        assert_eq!(self.status, 1, "{self:?}");
        let error: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no error: {self:?}"));
        assert!(
            error["code"].is_u64() && error["msg"].is_string() && error["cniVersion"].is_string(),
            "{error}"
        );
        error
    }
}
