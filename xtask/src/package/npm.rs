//! `flannel-backend` for npm.

use std::process::Command;

use anyhow::{Context, Result};

use super::{check_content, staged};
use crate::cargo::{output, root, run};
use crate::languages::node;

/// Packs it, has npm go through all of a publication but the last step, installs it elsewhere, and runs its tests there.
pub fn check() -> Result<()> {
    node::prepare()?;
    let parts = ["package.json", "index.js", "index.d.ts", "README.md", "LICENSE", "wit"];
    let place = staged("js", &root().join("sdk/js/flannel-backend"), &parts)?;
    let source = place.join("source");
    let mut pack = node::npm()?;
    let packed = output(pack.args(["pack", "--silent", "--pack-destination", ".."]).current_dir(&source))?;
    let mut publish = node::npm()?;
    run(publish.args(["publish", "--dry-run", "--silent", "--tag", "next"]).current_dir(&source))?;
    let user = place.join("user");
    std::fs::create_dir_all(&user)?;
    std::fs::write(user.join("package.json"), r#"{"private":true,"type":"module"}"#)?;
    let mut install = node::npm()?;
    install.args(["install", "--no-audit", "--no-fund", "--silent", "--offline"]);
    run(install.arg(place.join(packed.trim())).current_dir(&user))?;
    let installed = user.join("node_modules/flannel-backend");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(installed.join("package.json"))?).context("package.json")?;
    check_content(&installed.join("wit"), manifest["version"].as_str().unwrap_or_default())?;
    // The tests are those of a project, which has it as a file of its own.
    std::fs::write(user.join("support.js"), "export * from 'flannel-backend';\n")?;
    std::fs::copy(root().join("sdk/js/example/support.test.js"), user.join("support.test.js"))?;
    run(Command::new("node")
        .args(["--test", "--test-reporter", "dot"])
        .current_dir(&user)
        .env("PATH", node::path()?))
}
