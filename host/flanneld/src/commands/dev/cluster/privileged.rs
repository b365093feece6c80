//! The thread that has a cluster. Making namespaces and starting daemons takes privileges that a process which runs plugins gives up first, so
//! this thread begins before, and keeps them for itself: capabilities are a thread's own (capabilities(7)).

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use flanneld::cli::{ClusterFamilies, Options, PluginCommand};

use super::Cluster;

/// A component, and the network config's `Backend` object for it.
type Order = (PathBuf, String);

/// A cluster, in the hands of that thread. It is over when this is dropped.
pub(crate) struct PrivilegedCluster {
    /// None: no more will come.
    orders: Option<Sender<Order>>,
    answers: Receiver<anyhow::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PrivilegedCluster {
    /// Makes one if a command asks for it. The error is one line, and says what it takes.
    pub(crate) fn of(command: &PluginCommand, options: &Options) -> anyhow::Result<Option<Self>> {
        let PluginCommand::Dev { cluster: Some(families), trial, .. } = command else { return Ok(None) };
        Self::make(*families, trial.plugin_option.clone(), options.clone()).map(Some)
    }

    fn make(
        families: ClusterFamilies,
        plugin_options: Vec<(String, String)>,
        options: Options,
    ) -> anyhow::Result<Self> {
        let (orders, asked) = mpsc::channel::<Order>();
        let (answer, answers) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let made = Cluster::new(families, &plugin_options, &options);
            let (mut cluster, outcome) = match made {
                Ok(cluster) => (Some(cluster), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Nobody listens: it is over.
            let mut heard = answer.send(outcome).is_ok();
            while let (true, Some(cluster), Ok((component, backend))) = (heard, &mut cluster, asked.recv()) {
                heard = answer.send(cluster.run(&component, &backend)).is_ok();
            }
        });
        let cluster = Self { orders: Some(orders), answers, thread: Some(thread) };
        cluster.answer()?;
        Ok(cluster)
    }

    /// Has the nodes run a component for a `Backend` object of the network config, and says how that went.
    pub(crate) fn run(&self, component: PathBuf, backend: String) -> anyhow::Result<()> {
        let orders = self.orders.as_ref().context("the cluster is over")?;
        orders.send((component, backend)).map_err(|_| anyhow!("the cluster is over"))?;
        self.answer()
    }

    fn answer(&self) -> anyhow::Result<()> {
        self.answers.recv().context("the cluster is over")?
    }
}

impl Drop for PrivilegedCluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
