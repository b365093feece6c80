//! What unit tests of the daemon's crates share.
//!
//! A test that cannot be made on this machine says so, and is written down: `cargo xtask test` makes it elsewhere, or fails. A skip that
//! nobody hears of would be a proof of nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The variable with the file in which skips are written down, a line each: the test program's name, the test's, and the reason,
/// with a tabulator between them.
pub const VARIABLE: &str = "FLANNELD_TEST_SKIPS";

/// Says that the test which calls this cannot be made here, wholly or in part, and why.
///
/// # Panics
/// If it cannot be written down.
pub fn skip(reason: impl std::fmt::Display) {
    println!("skipped: {reason}");
    let Some(file) = std::env::var_os(VARIABLE) else { return };
    let line = format!("{}\t{}\t{}\n", program(), test(), one_line(&reason.to_string()));
    let written = File::options().create(true).append(true).open(&file);
    let written = written.and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("a skip cannot be written down in {}: {error}", Path::new(&file).display());
    }
}

/// A component that `cargo xtask plugins` made.
///
/// # Panics
/// If it is not there.
pub fn component(name: &str) -> PathBuf {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fixtures = std::env::var_os("FLANNELD_TEST_COMPONENTS")
        .map_or_else(|| top.join("target/components"), PathBuf::from);
    let found = [top.join("plugins"), fixtures].map(|dir| dir.join(name).with_extension("wasm"));
    found.into_iter().find(|file| file.is_file()).expect("the component is built: run `cargo xtask plugins`")
}

/// The test program's file, by whose name who counts tells programs apart.
fn program() -> String {
    let file = std::env::current_exe().unwrap_or_default();
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The test, after which its thread is called.
fn test() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
