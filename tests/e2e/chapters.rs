//! `docs/languages.md`: what each chapter shows of a policy is part of one that is built in a project of that language, and that policy does
//! what the page says. Its commands are those that `flanneld plugin new` prints.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::{self, workspace};
use flannel_lab::{Cluster, ClusterOptions};

use super::built::Built;

/// A chapter of the page.
struct Chapter {
    /// Its heading.
    title: &'static str,
    /// What the language is called by `plugin new --lang`, and by what the page writes before its code.
    language: &'static str,
    /// The component, in `target/components/`.
    component: &'static str,
    /// The sources of which the chapter shows parts, from the top of the tree.
    sources: &'static [&'static str],
}

const RUST: Chapter = Chapter {
    title: "Rust",
    language: "rust",
    component: "tour",
    sources: &["tests/components/tour/src/lib.rs"],
};
const GO: Chapter = Chapter {
    title: "Go",
    language: "go",
    component: "tour-go",
    sources: &["tests/go/tour-go/policy.go", "tests/go/tour-go/host.go"],
};
const ZIG: Chapter = Chapter {
    title: "Zig",
    language: "zig",
    component: "tour-zig",
    sources: &["tests/zig/tour-zig/policy.zig"],
};
const C: Chapter =
    Chapter { title: "C", language: "c", component: "tour-c", sources: &["tests/c/tour-c/policy.c"] };
const CPP: Chapter = Chapter {
    title: "C++",
    language: "cpp",
    component: "tour-cpp",
    sources: &["tests/cpp/tour-cpp/policy.cpp"],
};
const PYTHON: Chapter = Chapter {
    title: "Python",
    language: "python",
    component: "tour-python",
    sources: &["tests/python/tour-python/policy.py"],
};
const JAVASCRIPT: Chapter = Chapter {
    title: "JavaScript",
    language: "js",
    component: "tour-js",
    sources: &["tests/js/tour-js/policy.js"],
};

/// The test program is one; each language is a test of its own, so that what is missing for one of them is no reason to skip another.
macro_rules! in_each_language {
    ($check:path: $rust:ident $go:ident $zig:ident $c:ident $cpp:ident $python:ident $javascript:ident) => {
        in_each_language!(@ $check, $rust RUST, $go GO, $zig ZIG, $c C, $cpp CPP, $python PYTHON, $javascript JAVASCRIPT);
    };
    (@ $check:path, $($name:ident $chapter:ident),*) => {
        $(#[test]
        fn $name() -> Result<()> {
            $check(&$chapter)
        })*
    };
}

impl Chapter {
    fn text(&self) -> Result<String> {
        let page = workspace().join("docs/languages.md");
        let page = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let begin = format!("\n## {}\n", self.title);
        let (_, rest) = page.split_once(&begin).with_context(|| format!("no chapter {}", self.title))?;
        Ok(rest.split_once("\n## ").map_or(rest, |(chapter, _)| chapter).to_owned())
    }

    /// The pieces of code in the chapter.
    fn code(&self) -> Result<Vec<String>> {
        let (text, begin) = (self.text()?, format!("```{}\n", self.language));
        let pieces = text.split(&begin).skip(1).map(|rest| rest.split("```").next().map(ToOwned::to_owned));
        pieces.collect::<Option<_>>().context("code that ends")
    }

    /// What runs it, or none: its toolchain is missing.
    fn built(&self) -> Result<Option<Built>> {
        Built::find(self.component)
    }
}

/// Lines without what all of them are indented by, and without what is at their ends.
fn lines(text: &str) -> Vec<String> {
    let written = || text.lines().filter(|line| !line.trim().is_empty());
    let indented = written().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    text.lines().map(|line| line.get(indented..).unwrap_or_default().trim_end().to_owned()).collect()
}

fn is_part_of(piece: &str, source: &str) -> bool {
    let (piece, source): (Vec<String>, Vec<&str>) = (lines(piece), source.lines().collect());
    source.windows(piece.len()).any(|window| lines(&window.join("\n")) == piece)
}

fn what_is_shown_is_part_of_what_is_tested(chapter: &Chapter) -> Result<()> {
    let read =
        |place: &&str| std::fs::read_to_string(workspace().join(place)).with_context(|| (*place).to_owned());
    let sources: Vec<String> = chapter.sources.iter().map(read).collect::<Result<_>>()?;
    let code = chapter.code()?;
    // An option with its error and a refusal, state, a device, a peer's lease and entries.
    ensure!(code.len() >= 4, "{} pieces of code", code.len());
    for piece in &code {
        ensure!(
            sources.iter().any(|source| is_part_of(piece, source)),
            "{:?} has no\n{piece}",
            chapter.sources
        );
    }
    let all = code.concat();
    for word in ["VNI", "16", "tour tunnels IPv4", "starts", "VtepMAC"] {
        ensure!(all.contains(word), "nothing shown has {word}");
    }
    Ok(())
}

in_each_language!(what_is_shown_is_part_of_what_is_tested:
    the_code_shown_in_rust_is_part_of_what_is_tested
    the_code_shown_in_go_is_part_of_what_is_tested
    the_code_shown_in_zig_is_part_of_what_is_tested
    the_code_shown_in_c_is_part_of_what_is_tested
    the_code_shown_in_cpp_is_part_of_what_is_tested
    the_code_shown_in_python_is_part_of_what_is_tested
    the_code_shown_in_javascript_is_part_of_what_is_tested
);

fn its_commands_are_those_of_a_new_project(chapter: &Chapter) -> Result<()> {
    let place = tempfile::tempdir()?;
    let code = |text: &str| -> Vec<String> {
        let shown = text.lines().filter_map(|line| line.strip_prefix("    "));
        let commands = shown.map(|line| line.split("  #").next().unwrap_or(line).trim_end().to_owned());
        commands.filter(|line| !line.is_empty()).collect()
    };
    let text = chapter.text()?;
    let outside = text.split("```").step_by(2).collect::<Vec<_>>().concat();
    let shown = code(&outside);
    let (first, rest) = shown.split_first().context("commands")?;
    let mut words = first.split(' ');
    ensure!(words.next() == Some("flanneld"), "{first}");
    let mut new = Command::new(artifacts::flanneld()?);
    let output = new.args(words).current_dir(&place).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // That these work as they are is what the tests of READMEs are for.
    assert_eq!(rest, code(&String::from_utf8(output.stdout)?), "what `plugin new` prints");
    Ok(())
}

in_each_language!(its_commands_are_those_of_a_new_project:
    the_commands_of_the_chapter_on_rust_are_those_of_a_new_project
    the_commands_of_the_chapter_on_go_are_those_of_a_new_project
    the_commands_of_the_chapter_on_zig_are_those_of_a_new_project
    the_commands_of_the_chapter_on_c_are_those_of_a_new_project
    the_commands_of_the_chapter_on_cpp_are_those_of_a_new_project
    the_commands_of_the_chapter_on_python_are_those_of_a_new_project
    the_commands_of_the_chapter_on_javascript_are_those_of_a_new_project
);

const LEASES: &str = r#"[
    {"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"tour","BackendData":{"VtepMAC":"9e:00:00:00:00:03"}},
    {"Subnet":"10.5.4.0/24","PublicIP":"192.168.0.4","BackendType":"tour","BackendData":{"VNI":1}},
    {"Subnet":"10.5.5.0/24","PublicIP":"192.168.0.5","BackendType":"tour","BackendData":{"vtepmac":"9e:00"}},
    {"Subnet":"10.5.6.0/24","PublicIP":"192.168.0.6","BackendType":"tour"},
    {"Subnet":"10.5.7.0/24","PublicIP":"192.168.0.7","BackendType":"vxlan","BackendData":{"VtepMAC":"9e:00:00:00:00:07"}}]"#;

/// It declares and rejects what the page says, and keeps to the contract.
fn the_policy_does_what_the_page_says(chapter: &Chapter) -> Result<()> {
    let Some(built) = chapter.built()? else { return Ok(()) };
    let place = tempfile::tempdir()?;
    let run = |leases: &str, more: &[&str]| -> Result<String> {
        let file: PathBuf = place.path().join("leases.json");
        std::fs::write(&file, leases)?;
        let output = built.plugin("run")?.arg("--leases").arg(&file).args(more).output()?;
        Ok([output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
    };
    let said = run(LEASES, &["--backend", r#"{"vni":7}"#])?;
    let has = |words: &[&str]| said.lines().any(|line| words.iter().all(|word| line.contains(word)));
    for row in [
        &["10.5.3.0/24", "192.168.0.3", "route", "flannel.7", "via 10.5.3.0 onlink"][..],
        &["fdb", "flannel.7", "9e:00:00:00:00:03", "is at 192.168.0.3"],
        &["neighbour", "flannel.7", "10.5.3.0", "9e:00:00:00:00:03"],
        &["10.5.4.0/24", "rejected: there is no VtepMAC"],
        &["10.5.5.0/24", "rejected: ", "\"9e:00\" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b"],
        &["10.5.6.0/24", "rejected: there is no VtepMAC"],
        &["10.5.7.0/24", "nothing"],
        &[r#""VNI":7,"VtepMAC":""#],
    ] {
        ensure!(has(row), "{row:?}: {said}");
    }
    for wrong in ["0", "16777216", "-1", r#""7""#, "1.5"] {
        let said = run(LEASES, &["--backend", &format!(r#"{{"VNI":{wrong}}}"#)])?;
        let words = format!("VNI: {wrong} is not a whole number from 1 to 16777215");
        ensure!(said.contains(&words), "{said}");
    }
    let v6 = r#"{"Node":{"IPv6Subnet":"fc00:5:0:48::/64","IPv6Network":"fc00:5::/48"},"Leases":[]}"#;
    let said = run(v6, &[])?;
    ensure!(said.contains("tour tunnels IPv4, which this cluster does not have"), "{said}");
    let output = built.plugin("check")?.arg("--quick").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

in_each_language!(the_policy_does_what_the_page_says:
    the_policy_shown_in_rust_does_what_the_page_says
    the_policy_shown_in_go_does_what_the_page_says
    the_policy_shown_in_zig_does_what_the_page_says
    the_policy_shown_in_c_does_what_the_page_says
    the_policy_shown_in_cpp_does_what_the_page_says
    the_policy_shown_in_python_does_what_the_page_says
    the_policy_shown_in_javascript_does_what_the_page_says
);

/// On nodes: packets pass, and a daemon that starts again finds what it had kept.
fn on_nodes_it_counts_its_starts(chapter: &Chapter) -> Result<()> {
    let Some(built) = chapter.built()? else { return Ok(()) };
    let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"tour"}}"#.to_owned();
    let plugin = Some(built.component.clone());
    let mut cluster = Cluster::prepare(&ClusterOptions { config, plugin, ..ClusterOptions::default() })?;
    cluster.set_options(cluster.options().clone().cache(&built.cache));
    cluster.bring_up()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    for starts in ["1", "2"] {
        let counted = format!("started starts={starts}");
        cluster.daemon(0)?.wait_log("the start is counted", |line| line.message() == counted)?;
        if starts == "1" {
            let status = cluster.take_daemon(0)?.terminate()?;
            ensure!(status.success(), "{status}");
            cluster.launch(0)?.wait_ready()?;
        }
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

in_each_language!(on_nodes_it_counts_its_starts:
    on_nodes_the_policy_shown_in_rust_counts_its_starts
    on_nodes_the_policy_shown_in_go_counts_its_starts
    on_nodes_the_policy_shown_in_zig_counts_its_starts
    on_nodes_the_policy_shown_in_c_counts_its_starts
    on_nodes_the_policy_shown_in_cpp_counts_its_starts
    on_nodes_the_policy_shown_in_python_counts_its_starts
    on_nodes_the_policy_shown_in_javascript_counts_its_starts
);
