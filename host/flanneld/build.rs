//! Lists the plugins to embed: for each crate `plugins/<backend type>/` the component `plugins/<backend type>.wasm` and its
//! compiled form `plugins/<backend type>.cwasm`, as far as `cargo xtask build` has made them. A build without them works, with
//! `--plugin FILE` only.
//!
//! What the files contain is no business of this script: the compiler notices when a file that it has included changes, and
//! then builds the binary crate again and not the library.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    // `cargo xtask` says here which plugins there are, so that a new one is noticed.
    println!("cargo:rerun-if-env-changed=FLANNELD_PLUGINS");
    // And where their compiled forms are, if those beside them are for another processor.
    println!("cargo:rerun-if-env-changed=FLANNELD_COMPILED");
    let plugins = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../plugins").canonicalize()?;
    let compiled = std::env::var_os("FLANNELD_COMPILED").map_or_else(|| plugins.clone(), Into::into);
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&plugins)? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let mut code =
        String::from("/// The plugins that are part of this binary.\npub static BUILT_IN: &[BuiltIn] = &[\n");
    for name in names {
        let file = |directory: &Path, extension: &str| -> Option<String> {
            let path = directory.join(format!("{name}.{extension}"));
            if !path.is_file() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
            path.is_file().then(|| path.display().to_string())
        };
        let Some(component) = file(&plugins, "wasm") else {
            println!("cargo:warning=the plugin {name} is not built in: `cargo xtask build` does that");
            continue;
        };
        let compiled = file(&compiled, "cwasm")
            .map_or_else(|| "None".to_owned(), |path| format!("Some(include_bytes!({path:?}))"));
        writeln!(
            code,
            "    BuiltIn {{ backend_type: {name:?}, component: include_bytes!({component:?}), compiled: {compiled} }},"
        )?;
    }
    code.push_str("];\n");
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("built_in.rs"), code)?;
    std::fs::write(Path::new(&out).join("languages.rs"), languages(&plugins.join(".."))?)?;
    Ok(())
}

/// A language for `flanneld plugin new`.
struct Template {
    name: &'static str,
    alias: &'static str,
    /// What it is built with, and where that comes from.
    tools: &'static [(&'static str, &'static str)],
    /// What the backend is called in its files.
    placeholder: &'static str,
    /// Where these are in this repository, and in the project.
    sources: &'static [(&'static str, &'static str)],
}

/// What the examples in other languages than Rust are called.
const EXAMPLE: &str = "example-host-gw";

const LANGUAGES: [Template; 7] = [
    Template {
        name: "rust",
        alias: "",
        tools: &[
            ("cargo", "Rust 1.95 or later, by rustup"),
            ("wasm32-unknown-unknown", "rustup target add wasm32-unknown-unknown"),
        ],
        placeholder: "my-backend",
        sources: &[
            ("sdk/rust/template", ""),
            ("sdk/rust/Cargo.toml", "sdk/rust/Cargo.toml"),
            ("sdk/rust/src", "sdk/rust/src"),
            ("wit", "sdk/rust/wit"),
        ],
    },
    Template {
        name: "go",
        alias: "golang",
        tools: &[("go", "Go 1.24 or later")],
        placeholder: EXAMPLE,
        sources: &[("sdk/go/example", "")],
    },
    Template {
        name: "c",
        alias: "",
        tools: &[
            ("clang", "clang 14 or later; Debian's clang"),
            ("wasm-ld", "LLVM's linker; Debian's lld"),
            ("make", "Debian's make"),
        ],
        placeholder: EXAMPLE,
        sources: &[("sdk/c/example", "")],
    },
    Template {
        name: "cpp",
        alias: "c++",
        tools: &[
            ("clang++", "clang 14 or later; Debian's clang"),
            ("wasm-ld", "LLVM's linker; Debian's lld"),
            ("make", "Debian's make"),
        ],
        placeholder: EXAMPLE,
        sources: &[("sdk/cpp/example", "")],
    },
    Template {
        name: "zig",
        alias: "",
        tools: &[(
            "zig",
            "Zig 0.15; also from PyPI: pip install ziglang==0.15.1, and ZIG=\"python3 -m ziglang\"",
        )],
        placeholder: EXAMPLE,
        sources: &[("sdk/zig/example", "")],
    },
    Template {
        name: "python",
        alias: "py",
        tools: &[(
            "python3",
            "Python 3.10 or later with venv; componentize-py comes from PyPI with the first build",
        )],
        placeholder: EXAMPLE,
        sources: &[("sdk/python/example", "")],
    },
    Template {
        name: "js",
        alias: "javascript",
        tools: &[
            ("node", "Node.js 20 or later"),
            ("npm", "comes with Node.js; componentize-js comes from its registry with the first build"),
        ],
        placeholder: EXAMPLE,
        sources: &[("sdk/js/example", "")],
    },
];

/// The list of all languages with their files, as source.
fn languages(top: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let top = top.canonicalize()?;
    let mut code =
        String::from("/// What `flanneld plugin new` writes.\nstatic LANGUAGES: &[Language] = &[\n");
    for Template { name, alias, tools, placeholder, sources } in LANGUAGES {
        writeln!(
            code,
            "    Language {{ name: {name:?}, alias: {alias:?}, placeholder: {placeholder:?}, tools: &["
        )?;
        for (name, hint) in tools {
            writeln!(code, "        Tool {{ name: {name:?}, hint: {hint:?} }},")?;
        }
        writeln!(code, "    ], files: &[")?;
        for (from, to) in sources {
            let mut files = Vec::new();
            collect(&top.join(from), Path::new(to), &mut files)?;
            files.sort();
            for (path, place) in files {
                let (place, path) = (place.display().to_string(), path.display().to_string());
                writeln!(code, "        ({place:?}, include_bytes!({path:?})),")?;
            }
        }
        code.push_str("    ] },\n");
    }
    code.push_str("];\n");
    Ok(code)
}

/// All files below a path; each with its place in the project.
fn collect(path: &Path, place: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> std::io::Result<()> {
    if path.is_file() {
        files.push((path.to_owned(), place.to_owned()));
        return Ok(());
    }
    // So that a new file is noticed.
    println!("cargo:rerun-if-changed={}", path.display());
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // Left there by somebody who has built the project in its place.
        let name = entry.file_name();
        let built = ["target", "Cargo.lock", "node_modules", ".tools", "__pycache__"];
        if built.iter().any(|built| name == *built)
            || Path::new(&name).extension().is_some_and(|e| e == "wasm" || e == "o")
        {
            continue;
        }
        collect(&entry.path(), &place.join(entry.file_name()), files)?;
    }
    Ok(())
}
