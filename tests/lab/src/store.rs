//! Where the daemons of a lab keep their leases: a directory, a real etcd, or a real API server of Kubernetes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::Lab;
use crate::etcd::Etcd;
use crate::kube_store::KubeStore;
use crate::vtep::Vtep;

/// A lease store.
#[derive(Debug)]
pub enum Store {
    /// A directory that all nodes share.
    File(PathBuf),
    /// etcd, on the switch.
    Etcd(Etcd),
    /// The nodes' objects in Kubernetes.
    Kube(Box<KubeStore>),
}

/// What tells a daemon of an etcd.
pub fn etcd_flags(endpoint: &str) -> Vec<String> {
    vec!["--store=etcd".to_owned(), format!("--etcd-endpoints={endpoint}")]
}

/// A lease as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredLease {
    /// The last part of the key: `10.5.57.0-24`, or `10.5.57.0-24&fc00:5:0:8::-64`.
    pub key: String,
    /// The value.
    pub value: String,
}

impl StoredLease {
    /// The IPv4 lease of a vxlan node that there is not: 10.5.`number`.0/24, far away.
    pub fn invented(number: u8) -> Self {
        Self {
            key: format!("10.5.{number}.0-24"),
            value: format!(
                r#"{{"PublicIP":"192.168.78.{number}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"9e:00:00:00:00:{number:02x}"}}}}"#
            ),
        }
    }

    /// The subnets, as text, IPv4 first.
    pub fn subnets(&self) -> Vec<String> {
        let prefix =
            |text: &str| text.rsplit_once('-').map(|(address, length)| format!("{address}/{length}"));
        self.key.split('&').filter_map(prefix).filter(|subnet| subnet != "0.0.0.0/0").collect()
    }

    /// What a vxlan node published, for each family.
    pub fn vteps(&self) -> Result<Vec<Vtep>> {
        Vtep::of(self)
    }
}

impl Store {
    /// An empty directory of the lab.
    pub fn file(lab: &Lab) -> Result<Self> {
        Self::file_named(lab, "store")
    }

    /// An empty directory of the lab, of this name.
    pub fn file_named(lab: &Lab, name: &str) -> Result<Self> {
        let directory = lab.directory().join(name);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self::File(directory))
    }

    /// A new etcd on the lab's switch.
    pub fn etcd(lab: &Lab) -> Result<Self> {
        Ok(Self::Etcd(Etcd::start(lab)?))
    }

    /// A new control plane on the lab's switch, with an object for each of its nodes.
    pub fn kube(lab: &Lab) -> Result<Self> {
        Ok(Self::Kube(Box::new(KubeStore::start(lab)?)))
    }

    /// The Kubernetes cluster, where it is one.
    pub fn as_kube(&self) -> Result<&KubeStore> {
        match self {
            Self::Kube(kube) => Ok(kube),
            _ => bail!("it is no Kubernetes cluster"),
        }
    }

    /// A new etcd of three members on the lab's switch.
    pub fn etcd_of_three(lab: &Lab) -> Result<Self> {
        Ok(Self::Etcd(Etcd::start_three(lab)?))
    }

    /// The etcd, where it is one.
    pub fn as_etcd(&mut self) -> Result<&mut Etcd> {
        match self {
            Self::Etcd(etcd) => Ok(etcd),
            Self::File(directory) => bail!("{} is no etcd", directory.display()),
            Self::Kube(_) => bail!("Kubernetes' etcd is its own"),
        }
    }

    /// What tells a daemon of it.
    pub fn flags(&self) -> Vec<String> {
        match self {
            Self::File(directory) => vec![format!("--store=file:{}", directory.display())],
            Self::Etcd(etcd) => etcd_flags(&etcd.endpoints()),
            Self::Kube(kube) => kube.flags(),
        }
    }

    /// The same with upstream's flags alone, which know of etcd only.
    pub fn upstream_flags(&self) -> Result<Vec<String>> {
        match self {
            Self::File(directory) => bail!("upstream knows no directories such as {}", directory.display()),
            Self::Etcd(etcd) => Ok(vec![format!("--etcd-endpoints={}", etcd.endpoints())]),
            Self::Kube(kube) => Ok(kube.flags()),
        }
    }

    /// Writes the network config.
    pub fn put_config(&self, json: &str) -> Result<()> {
        match self {
            Self::File(directory) => write(&directory.join("config"), json),
            Self::Etcd(etcd) => etcd.put(&etcd.key("config"), json),
            Self::Kube(kube) => write(kube.config(), json),
        }
    }

    /// The network config.
    pub fn config(&self) -> Result<String> {
        match self {
            Self::File(directory) => {
                let file = directory.join("config");
                std::fs::read_to_string(&file).with_context(|| file.display().to_string())
            }
            Self::Etcd(etcd) => {
                let key = etcd.key("config");
                let pair = etcd.range(&key)?.into_iter().find(|pair| pair.key == key);
                Ok(pair.with_context(|| format!("etcd has no key {key}"))?.value)
            }
            Self::Kube(kube) => {
                std::fs::read_to_string(kube.config()).with_context(|| kube.config().display().to_string())
            }
        }
    }

    /// All leases, in the order of their keys.
    pub fn leases(&self) -> Result<Vec<StoredLease>> {
        let mut leases = match self {
            Self::File(directory) => files(&directory.join("subnets"))?,
            Self::Etcd(etcd) => {
                let prefix = etcd.key("subnets/");
                let strip = |key: String| key.strip_prefix(&prefix).map(ToOwned::to_owned);
                let pairs = etcd.range(&prefix)?;
                pairs
                    .into_iter()
                    .filter_map(|pair| Some(StoredLease { key: strip(pair.key)?, value: pair.value }))
                    .collect()
            }
            Self::Kube(kube) => kube.leases()?,
        };
        leases.sort();
        Ok(leases)
    }

    /// The lease of a node, by its subnets.
    pub fn lease_of(&self, subnets: &[String]) -> Result<StoredLease> {
        let leases = self.leases()?;
        let found = leases.iter().find(|lease| lease.subnets() == subnets);
        found.cloned().with_context(|| format!("no lease for {subnets:?} among {leases:?}"))
    }

    /// Writes a lease, as a node would; in etcd without an end, unlike a node.
    pub fn put(&self, lease: &StoredLease) -> Result<()> {
        match self {
            Self::File(directory) => {
                let directory = directory.join("subnets");
                // Nobody is to see half of it.
                let (new, file) = (directory.join(format!(".{}", lease.key)), directory.join(&lease.key));
                write(&new, &lease.value)?;
                std::fs::rename(&new, &file).with_context(|| file.display().to_string())
            }
            Self::Etcd(etcd) => etcd.put(&etcd.key(&format!("subnets/{}", lease.key)), &lease.value),
            Self::Kube(kube) => kube.put(lease),
        }
    }

    /// Removes a lease, as an administrator would, or its expiry.
    pub fn remove(&self, lease: &StoredLease) -> Result<()> {
        match self {
            Self::File(directory) => {
                let file = directory.join("subnets").join(&lease.key);
                std::fs::remove_file(&file).with_context(|| file.display().to_string())
            }
            Self::Etcd(etcd) => etcd.delete(&etcd.key(&format!("subnets/{}", lease.key))),
            Self::Kube(kube) => kube.remove(lease),
        }
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    // Who waits for it must not read half of it.
    let new = file.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| file.display().to_string())
}

/// The files of a directory, without the hidden ones, which somebody is still writing.
fn files(directory: &Path) -> Result<Vec<StoredLease>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| directory.display().to_string()),
    };
    let mut leases = Vec::new();
    for entry in entries {
        let Ok(key) = entry?.file_name().into_string() else { bail!("a file name that is no text") };
        if key.starts_with('.') {
            continue;
        }
        match std::fs::read_to_string(directory.join(&key)) {
            Ok(value) => leases.push(StoredLease { key, value }),
            // It was there a moment ago.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(key),
        }
    }
    Ok(leases)
}
