//! A project to begin with: `flanneld plugin new`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flannel_plugin_host::is_name;

use crate::toolchain::Tool;

/// What there is for authors in one language.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// As it is called on the command line.
    pub name: &'static str,
    /// What it is called there, too; empty: nothing.
    pub alias: &'static str,
    /// What its projects are built with.
    pub tools: &'static [Tool],
    /// What the backend is called in the files; also with `_` for `-`.
    pub placeholder: &'static str,
    /// The files: where each goes, and what is in it.
    pub files: &'static [(&'static str, &'static [u8])],
}

impl Language {
    /// Whether it is called so.
    pub fn is(&self, wanted: &str) -> bool {
        !wanted.is_empty() && [self.name, self.alias].contains(&wanted)
    }
}

/// All languages with what they take, and whether that is here.
pub fn list(languages: &[Language]) -> String {
    let mut text = String::new();
    for language in languages {
        for (index, tool) in language.tools.iter().enumerate() {
            let name = if index == 0 { language.name } else { "" };
            let _ = writeln!(text, "{name:<8}{tool}");
        }
    }
    text
}

/// The commands of a project's README, in order: the lines that it shows as code. The daemon's own, for which it takes a node, are not
/// among them.
pub fn commands(readme: &str) -> impl Iterator<Item = &str> {
    readme.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.trim().is_empty())
}

/// Writes a project into a directory that is not there yet; answers with the commands that its README begins with. The error is for an
/// operator.
pub fn write(language: &Language, name: &str, directory: &Path) -> Result<Vec<String>, String> {
    if !is_name(name) {
        return Err(format!("{name:?} is no name for a backend: 1 to 64 of a-z, 0-9, `-` are possible"));
    }
    let shown = directory.display();
    std::fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{shown} is there already; name another place with --dir"),
        _ => format!("cannot make {shown}: {error}"),
    })?;
    for (file, content) in language.files {
        let path = directory.join(file);
        put(&path, &named(language, name, content))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let readme = language.files.iter().find(|(file, _)| *file == "README.md");
    let readme = named(language, name, readme.map(|(_, content)| *content).unwrap_or_default());
    Ok(commands(&String::from_utf8_lossy(&readme)).map(str::to_owned).collect())
}

/// Files that are text have the name put in.
fn named(language: &Language, name: &str, content: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(content) else { return content.to_vec() };
    let underscored = |text: &str| text.replace('-', "_");
    let text = text.replace(language.placeholder, name);
    text.replace(&underscored(language.placeholder), &underscored(name)).into_bytes()
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mode = if content.starts_with(b"#!") { 0o777 } else { 0o666 };
    std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content)
}
