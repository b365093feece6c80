//! What a daemon writes to its standard error: JSON lines, and whatever else comes out of a process.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A line.
#[derive(Clone, Debug)]
pub struct LogLine {
    raw: String,
    json: Value,
}

impl LogLine {
    fn new(raw: &str) -> Self {
        Self { raw: raw.to_owned(), json: serde_json::from_str(raw).unwrap_or(Value::Null) }
    }

    /// As it was written.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// `INFO`, `WARN`, …; empty for a line that is no log line.
    pub fn level(&self) -> &str {
        self.json["level"].as_str().unwrap_or_default()
    }

    /// The message; the whole line where it is no log line.
    pub fn message(&self) -> &str {
        if self.json.is_null() { &self.raw } else { self.field("message").as_str().unwrap_or_default() }
    }

    /// A field; null if there is none of that name.
    pub fn field(&self, name: &str) -> &Value {
        &self.json["fields"][name]
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name).as_u64()
    }
}

/// The log of one run of a daemon: the part of the file that came since it started.
#[derive(Clone, Debug)]
pub struct Log {
    file: PathBuf,
    begin: usize,
}

impl Log {
    /// What will be appended to a file from now on.
    pub fn from_now(file: &Path) -> Self {
        let begin = std::fs::metadata(file).map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(0));
        Self { file: file.to_owned(), begin }
    }

    /// All that is in a file, of one run or of several.
    pub fn whole(file: &Path) -> Self {
        Self { file: file.to_owned(), begin: 0 }
    }

    /// All complete lines.
    pub fn lines(&self) -> Vec<LogLine> {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(self.begin..).unwrap_or_default()).into_owned();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().filter(|line| !line.trim().is_empty()).map(LogLine::new).collect()
    }

    /// The first line with exactly this message.
    pub fn find(&self, message: &str) -> Option<LogLine> {
        self.lines().into_iter().find(|line| line.message() == message)
    }

    /// The lines of a level.
    pub fn of_level(&self, level: &str) -> Vec<LogLine> {
        self.lines().into_iter().filter(|line| line.level() == level).collect()
    }

    /// The last lines, for people.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let last = &lines[lines.len().saturating_sub(15)..];
        let text: Vec<&str> = last.iter().map(LogLine::raw).collect();
        if text.is_empty() { "(it wrote nothing)".to_owned() } else { text.join("\n") }
    }
}
