//! Tells the story as it goes, and keeps a record of it.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::{DemoOptions, Outcome, StepOutcome};

/// Where words go: standard output, or, where that is for JSON, standard error.
#[derive(Clone, Copy, Debug)]
struct Voice {
    json: bool,
}

impl Voice {
    fn say(self, text: &str) {
        // Nobody listening is no reason to stop.
        let _ = if self.json {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }
}

/// The narrator.
pub struct Narrator {
    voice: Voice,
    steps: Vec<StepOutcome>,
}

/// A step that is being done.
pub struct Step {
    voice: Voice,
    figures: Map<String, Value>,
    detail: String,
    after: Vec<String>,
}

impl Narrator {
    /// With `json`, standard output is left for the one JSON object.
    pub fn new(json: bool) -> Self {
        Self { voice: Voice { json }, steps: Vec::new() }
    }

    /// What will be shown.
    pub fn heading(&self, options: &DemoOptions, component_bytes: u64) {
        let plugin = options.plugin.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        self.voice.say(&format!(
            "flanneld on {} nodes, {}, {}, leases in {}\nplugin {plugin}, {} KiB\n",
            options.nodes,
            options.backend,
            if options.ipv6 { "IPv4 and IPv6" } else { "IPv4" },
            match options {
                DemoOptions { kubernetes: true, .. } => "Kubernetes",
                DemoOptions { etcd: true, .. } => "etcd",
                _ => "a directory",
            },
            component_bytes.div_ceil(1024),
        ));
    }

    /// Says something.
    pub fn say(&self, text: &str) {
        self.voice.say(text);
    }

    /// Does a step. An error is a step that did not hold, and is told as that.
    pub fn step(&mut self, name: &str, work: impl FnOnce(&mut Step) -> Result<()>) -> bool {
        let mut step =
            Step { voice: self.voice, figures: Map::new(), detail: String::new(), after: Vec::new() };
        let begin = Instant::now();
        let outcome = work(&mut step);
        let seconds = (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        let (ok, detail) = match outcome {
            Ok(()) => (true, step.detail),
            Err(error) => (false, format!("{error:#}")),
        };
        self.voice.say(&format!("{} {name:<36} {detail}", if ok { " ok " } else { "FAIL" }));
        for text in step.after {
            self.voice.say(&text);
        }
        self.steps.push(StepOutcome { name: name.to_owned(), ok, seconds, figures: step.figures, detail });
        ok
    }

    /// The steps so far.
    pub fn steps(&self) -> &[StepOutcome] {
        &self.steps
    }

    /// The end: a line for people, or the JSON object.
    pub fn summary(&self, outcome: &Outcome) -> Result<()> {
        let failed: Vec<&str> =
            outcome.steps.iter().filter(|step| !step.ok).map(|step| step.name.as_str()).collect();
        let count = outcome.steps.len();
        if failed.is_empty() {
            self.say(&format!("\nAll {count} steps held, in {:.1} s.", outcome.seconds));
        } else {
            self.say(&format!("\n{} of {count} steps did not hold: {}.", failed.len(), failed.join(", ")));
        }
        self.object(outcome)
    }

    /// The JSON object, where one was asked for.
    pub fn object(&self, outcome: &Outcome) -> Result<()> {
        if self.voice.json {
            let text = serde_json::to_string(outcome).context("the outcome as JSON")?;
            writeln!(std::io::stdout(), "{text}").context("standard output")?;
        }
        Ok(())
    }
}

impl Step {
    /// Says that something is under way.
    pub fn progress(&self, text: &str) {
        self.voice.say(&format!("     … {text}"));
    }

    /// Notes a figure; the unit is the end of its name.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Sums the step up in words.
    pub fn detail(&mut self, text: impl Into<String>) {
        self.detail = text.into();
    }

    /// Shows a table below the step's line.
    pub fn show(&mut self, table: String) {
        self.after.push(table);
    }
}
