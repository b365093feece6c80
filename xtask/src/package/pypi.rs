//! `flannel-backend` for PyPI.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{check_content, staged};
use crate::cargo::{output, root, run, target};
use crate::languages::copy_over;
use crate::{pinned, setup};

/// What builds it, and what looks at it as PyPI does.
const TOOLS: &str = "xtask/src/package/requirements.txt";

/// Builds both forms of it, has them looked at, installs it elsewhere, and runs its tests there.
pub fn check() -> Result<()> {
    let tools = target().join("tools/pypi");
    let requirements = root().join(TOOLS);
    pinned::fetched(&tools, &requirements, || setup::environment(&tools, &requirements))
        .context("its build needs tools from PyPI")?;
    let sdk = root().join("sdk/python");
    let place = staged("python", &sdk, &["pyproject.toml", "README.md", "LICENSE", "flannel_backend"])?;
    copy_over(&root().join("wit"), &place.join("source/flannel_backend/wit"))?;
    let (python, built) = (tools.join("bin/python"), place.join("dist"));
    let mut build = Command::new(&python);
    run(build.args(["-m", "build", "--quiet", "--outdir"]).arg(&built).arg(place.join("source")))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&built)? {
        files.push(entry?.path());
    }
    run(Command::new(&python).args(["-m", "twine", "check", "--strict"]).args(&files))?;
    let wheel = files.iter().find(|file| file.extension().is_some_and(|extension| extension == "whl"));
    let installed = place.join("installed");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    run(pip.arg(&installed).arg(wheel.context("there is no wheel")?))?;
    let code = "import importlib.metadata as m; print(m.version('flannel-backend'))";
    let version = output(Command::new(&python).args(["-c", code]).env("PYTHONPATH", &installed))?;
    check_content(&installed.join("flannel_backend/wit"), version.trim())?;
    run_tests(&python, &sdk.join("example"), &place, &installed)
}

/// Without the project that they are part of, which has its own.
fn run_tests(python: &Path, example: &Path, place: &Path, installed: &Path) -> Result<()> {
    let tests = place.join("tests");
    std::fs::create_dir_all(&tests)?;
    for name in ["test_options.py", "test_addresses.py"] {
        std::fs::copy(example.join(name), tests.join(name)).with_context(|| name.to_owned())?;
    }
    let mut unittest = Command::new(python);
    run(unittest.args(["-m", "unittest", "--quiet"]).current_dir(&tests).env("PYTHONPATH", installed))
}
