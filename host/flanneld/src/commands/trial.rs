//! What a plugin is tried with, read: the same for `flanneld plugin run`, `check` and `bench`.

use std::sync::Arc;

use anyhow::Context as _;
use flannel_plugin_devkit::leases::{self, LeasesFile};
use flannel_plugin_devkit::{Families, Wanted};
use flannel_plugin_host::{Artifact, Loader, NodeInfo, PluginReference};
use flanneld::cli;

use super::plugin::load;
use crate::BUILT_IN;

/// Options without which a built-in plugin does not start. Here nobody is asked for what they name, and anything will do.
const NEEDED: [(&str, &str); 2] = [
    ("hetzner", r#"{"Type":"hetzner","NetworkID":1}"#),
    (
        "ipsec",
        r#"{"Type":"ipsec","PSK":"made-up-made-up-made-up-made-up-made-up-made-up-made-up-made-up-made-up-made-up-made-up-made-up-"}"#,
    ),
];

/// What a plugin is tried with.
pub(super) struct Trial {
    /// As which backend.
    pub wanted: Wanted,
    /// The leases, if they are not to be made up.
    pub leases: Option<LeasesFile>,
}

impl Trial {
    /// Reads what the command line names.
    pub(super) fn of(given: &cli::Trial) -> anyhow::Result<Self> {
        let cli::Trial { backend_type, backend, leases, plugin_option, node_label, ipv6 } = given;
        let about = NodeInfo::new("node".to_owned(), plugin_option.iter().cloned().collect());
        about.set_labels(&node_label.iter().cloned().collect());
        let (backend, backend_type) = (backend.clone(), backend_type.clone());
        let wanted = Wanted { backend, backend_type, about: Arc::new(about), calls: None };
        // What is wrong with the names is said before anything is loaded.
        wanted.named_type().map_err(anyhow::Error::msg)?;
        let families = if *ipv6 { Families::Dual } else { Families::Ipv4 };
        let leases = leases.as_ref().map(|file| {
            let shown = file.display();
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
            leases::read(&text, families).map_err(|error| anyhow::anyhow!("{shown}: {error}"))
        });
        Ok(Self { wanted, leases: leases.transpose()? })
    }

    /// As which backend a plugin is checked: a built-in one with what it needs, where nothing else is said.
    pub(super) fn wanted_of(&self, artifact: &Artifact) -> Wanted {
        let source = artifact.source().to_string();
        let needed = NEEDED.iter().find(|(name, _)| source == format!("built-in {name}"));
        let backend =
            self.wanted.backend.clone().or_else(|| needed.map(|(_, backend)| (*backend).to_owned()));
        Wanted { backend, ..self.wanted.clone() }
    }

    /// The plugin that is named, or the built-in one for the type that is.
    pub(super) fn artifact(
        &self,
        component: Option<&PluginReference>,
        loader: &Loader,
    ) -> anyhow::Result<Artifact> {
        if let Some(reference) = component {
            return load(reference, loader);
        }
        let named = self.wanted.named_type().map_err(anyhow::Error::msg)?;
        let named = named.context("which plugin? name a file, or a built-in plugin with --type")?;
        Ok(Artifact::built_in(&named, BUILT_IN)?)
    }
}
