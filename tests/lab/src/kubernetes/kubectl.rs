//! kubectl, of the cluster's own version, as the administrator.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::KubernetesCluster;
use crate::control_plane::Identity;

impl KubernetesCluster {
    /// `kubectl …`; arguments are separated by blanks. Answers its output.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        let output = self
            .kubectl_command()?
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .context("cannot run kubectl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {arguments}: {}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl apply` of objects, YAML or JSON.
    pub fn apply(&self, objects: &str) -> Result<()> {
        let file = self.lab().directory().join("applied.yaml");
        std::fs::write(&file, objects).with_context(|| file.display().to_string())?;
        self.kubectl(&format!("apply --filename {}", file.display())).map(drop)
    }

    /// kubectl, without arguments, in the switch's namespace.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut command = self.lab().switch().namespace().command(&self.programs.kubernetes);
        command.arg("kubectl").env("KUBECONFIG", self.kubeconfig()?).env("HOME", self.plane().directory());
        Ok(command)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        let file = self.plane().directory().join("admin.kubeconfig");
        let token = Identity::Admin.token();
        let text = self.plane().kubeconfig(self.plane().address(), token.as_deref()).to_string();
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        Ok(file)
    }
}
