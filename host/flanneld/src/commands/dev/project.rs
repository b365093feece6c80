//! How a plugin's project is built, and what comes of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};

/// Projects of `flanneld plugin new`, by a file that they have, and the command that builds them.
const COMMANDS: [(&str, &str); 3] =
    [("build.sh", "./build.sh"), ("Makefile", "make"), ("package.json", "npm run --silent build")];

/// A project, and how it is built.
pub(super) struct Project {
    directory: PathBuf,
    command: String,
    /// None: the newest one in the directory.
    component: Option<PathBuf>,
}

impl Project {
    /// Looks at what is there, as far as it is not given.
    pub(super) fn find(
        directory: &Path,
        command: Option<String>,
        component: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let found = COMMANDS.iter().find(|(file, _)| directory.join(file).is_file());
        let Some(command) = command.or_else(|| found.map(|(_, command)| (*command).to_owned())) else {
            let files: Vec<&str> = COMMANDS.iter().map(|(file, _)| *file).collect();
            bail!(
                "{} has no {}: name the command that builds it with --build",
                directory.display(),
                files.join(", ")
            );
        };
        Ok(Self {
            directory: directory.to_owned(),
            component: component.map(|component| directory.join(component)),
            command,
        })
    }

    /// The command that builds it.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// Builds it; what the command prints is seen. Answers what came of it.
    pub(super) fn build(&self) -> anyhow::Result<PathBuf> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &self.command]).current_dir(&self.directory);
        if std::env::var_os("FLANNELD").is_none() {
            // Builds make components with this very program.
            shell.env("FLANNELD", std::env::current_exe().context("cannot say what this program is")?);
        }
        let place = self.directory.display();
        let status = shell.status().with_context(|| format!("cannot run sh in {place}"))?;
        ensure!(status.success(), "{}: it ended with {status}", self.command);
        let newest = || components(&self.directory).max_by_key(|(changed, _)| *changed).map(|(_, path)| path);
        let Some(component) = self.component.clone().or_else(newest) else {
            bail!("{} has made no component in {place}: name it with --component", self.command);
        };
        Ok(component)
    }
}

/// What builds leave: `module.wasm`, and whatever else is a module, is on the way to a component.
fn components(directory: &Path) -> impl Iterator<Item = (SystemTime, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let path = entry.path();
        let is_wasm = path.extension().is_some_and(|extension| extension == "wasm");
        let changed = entry.metadata().ok().filter(std::fs::Metadata::is_file)?.modified().ok()?;
        (is_wasm && is_component(&path)).then_some((changed, path))
    })
}

/// A component's first bytes are others than a module's.
fn is_component(path: &Path) -> bool {
    use std::io::Read as _;
    let mut begin = [0; 8];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"\0asm\x0d\0\x01\0"
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn projects_are_built_as_their_files_say() {
        let directory = tempfile::tempdir().expect("directory");
        let find = |command: Option<&str>| Project::find(directory.path(), command.map(str::to_owned), None);
        let error = find(None).err().expect("nothing is there").to_string();
        assert!(error.ends_with(
            "has no build.sh, Makefile, package.json: name the command that builds it with --build"
        ));
        assert_eq!(find(Some("true")).expect("a command").command(), "true");
        for (file, command) in
            [("package.json", "npm run --silent build"), ("Makefile", "make"), ("build.sh", "./build.sh")]
        {
            std::fs::write(directory.path().join(file), "").expect("written");
            assert_eq!(find(None).expect("a project").command(), command);
        }
    }

    #[test]
    fn what_was_built_is_the_newest_component_or_the_one_that_is_named() {
        let directory = tempfile::tempdir().expect("directory");
        let place = directory.path();
        let build = |command: &str, component: Option<&str>| {
            let project = Project::find(place, Some(command.to_owned()), component.map(PathBuf::from));
            project.expect("a project").build().map_err(|error| error.to_string())
        };
        let error = build("echo >module.wasm", None).expect_err("no component");
        assert!(error.contains("has made no component in ") && error.contains("--component"), "{error}");
        std::fs::write(place.join("component"), COMPONENT).expect("written");
        assert_eq!(build("cp component one.wasm", None), Ok(place.join("one.wasm")));
        assert_eq!(
            build("sleep 0.1; cp component two.wasm; echo >module.wasm", None),
            Ok(place.join("two.wasm"))
        );
        assert_eq!(build("true", Some("one.wasm")), Ok(place.join("one.wasm")));
        let error = build("exit 3", None).expect_err("it fails");
        assert_eq!(error, "exit 3: it ended with exit status: 3");
    }
}
