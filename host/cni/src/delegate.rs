//! Other plugins: where they are, how they are run, and what their answers mean (section 4 of the specification).

use std::fs::File;
use std::io::{self, ErrorKind, Seek as _, Write};
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Object;
use crate::environment::{COMMAND, Environment, PATH};
use crate::error::{CniError, codes};

/// While a plugin is being installed it cannot be started; it is tried again so often, after so long each time.
const BUSY_RETRIES: u32 = 50;
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// A plugin in one of the runtime's directories.
#[derive(Clone, Debug)]
pub(crate) struct Delegate<'a> {
    name: &'a str,
    program: PathBuf,
}

impl<'a> Delegate<'a> {
    /// Looks for it where the runtime says.
    pub(crate) fn find(name: &'a str, environment: &Environment) -> Result<Self, CniError> {
        if name.is_empty() || name.contains('/') || [".", ".."].contains(&name) {
            let wrong = format!("the delegate's type is {name:?}: right would be the file name of a plugin");
            return Err(CniError::new(codes::CONFIG, wrong));
        }
        let Some(path) = environment.get(PATH) else {
            let wrong = format!(
                "{PATH} is not set: the delegate {name} is looked for in the directories that it lists"
            );
            return Err(CniError::new(codes::ENVIRONMENT, wrong));
        };
        let directories = std::env::split_paths(path).filter(|directory| !directory.as_os_str().is_empty());
        let program = directories.map(|directory| directory.join(name)).find(|program| program.is_file());
        let program = program.ok_or_else(|| {
            let missing = format!(
                "the plugin {name}, to which flannel delegates, is not in {}: install the CNI project's plugins there",
                path.display()
            );
            CniError::new(codes::CONFIG, missing)
        })?;
        Ok(Self { name, program })
    }

    /// Runs it with a configuration; answers what it prints. What it writes to standard error goes to `stderr`. An error of its own is
    /// passed on as it is.
    pub(crate) fn run(
        &self,
        command: &str,
        config: &Object,
        environment: &Environment,
        stderr: &mut dyn Write,
    ) -> Result<Vec<u8>, CniError> {
        let output = self.output(command, config, environment).map_err(|error| {
            CniError::new(codes::IO, format!("the plugin {} cannot be run: {error}", self.program.display()))
        })?;
        let _ = stderr.write_all(&output.stderr);
        if output.status.success() { Ok(output.stdout) } else { Err(self.failure(&output)) }
    }

    /// The same for a command that came with version 1.1 of the specification. Older plugins are told from those that have a reason.
    pub(crate) fn run_newer(
        &self,
        command: &str,
        version: &str,
        config: &Object,
        environment: &Environment,
        stderr: &mut dyn Write,
    ) -> Result<(), CniError> {
        let Err(error) = self.run(command, config, environment, stderr) else { return Ok(()) };
        let may_be_older = [codes::INCOMPATIBLE_VERSION, codes::ENVIRONMENT].contains(&error.code);
        match self
            .versions(version, environment)
            .filter(|versions| may_be_older && !versions.iter().any(|it| it == version))
        {
            Some(versions) => Err(CniError::new(
                codes::INCOMPATIBLE_VERSION,
                format!(
                    "the plugin {} knows the CNI versions {}, and the network's cniVersion is {version}: update the plugin, or give the network an older cniVersion",
                    self.program.display(),
                    versions.join(", ")
                ),
            )),
            None => Err(error),
        }
    }

    /// The versions that it says it knows.
    fn versions(&self, version: &str, environment: &Environment) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "supportedVersions")]
            supported: Vec<String>,
        }
        let config = Object::from_iter([("cniVersion".to_owned(), json!(version))]);
        let answer = self.run("VERSION", &config, environment, &mut io::sink()).ok()?;
        let answer: Answer = serde_json::from_slice(&answer).ok()?;
        Some(answer.supported)
    }

    fn output(&self, command: &str, config: &Object, environment: &Environment) -> io::Result<Output> {
        let mut busy = 0;
        loop {
            // A file, not a pipe: a plugin that answers before it has read cannot make us wait for each other.
            let mut stdin = File::from(memfd_create("cni-config", MemfdFlags::CLOEXEC)?);
            stdin.write_all(Value::Object(config.clone()).to_string().as_bytes())?;
            stdin.rewind()?;
            let environment = environment.clone().with(COMMAND, command);
            let output = Command::new(&self.program)
                .env_clear()
                .envs(environment.iter())
                .stdin(Stdio::from(stdin))
                .output();
            match output {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && busy < BUSY_RETRIES => {
                    busy += 1;
                    std::thread::sleep(BUSY_WAIT);
                }
                outcome => return outcome,
            }
        }
    }

    /// What a failed plugin has said, or what there is to say of one that has not.
    fn failure(&self, output: &Output) -> CniError {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let said =
                [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
            CniError::new(
                codes::INTERNAL,
                format!("the plugin {} failed ({})", self.program.display(), output.status),
            )
            .with_details(said.join("\n").trim())
        })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Where it is.
    #[cfg(test)]
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_has_the_plugin_counts() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("directory"));
        std::fs::create_dir(first.path().join("bridge")).expect("made");
        std::fs::write(second.path().join("bridge"), "").expect("written");
        let path = format!(":{}:{}", first.path().display(), second.path().display());
        let environment = Environment::from_iter([(PATH, path)]);
        let found = Delegate::find("bridge", &environment).expect("found");
        assert_eq!(found.program(), second.path().join("bridge"), "a directory is no plugin");
        let error = Delegate::find("ptp", &environment).expect_err("not there");
        assert!(
            error.msg.contains("ptp") && error.msg.contains(&first.path().display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_type_that_leads_elsewhere_is_no_plugin() {
        let environment = Environment::from_iter([(PATH, "/usr/bin")]);
        for wrong in ["", ".", "..", "../bin/true", "/usr/bin/true", "a/b"] {
            assert_eq!(Delegate::find(wrong, &environment).expect_err(wrong).code, codes::CONFIG);
        }
        assert_eq!(
            Delegate::find("true", &Environment::default()).expect_err("no path").code,
            codes::ENVIRONMENT
        );
    }
}
