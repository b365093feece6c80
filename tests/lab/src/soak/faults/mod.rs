//! The kinds of faults, and what each has in common with the others: it is made, and it is healed.

mod damage;
mod files;
mod interfaces;
mod leases;
mod process;
mod store;

use std::time::Duration;

use anyhow::Result;

use super::scene::Scene;
use super::setting::Setting;

/// What a fault concerns, which decides with which others it may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Leases of a store that answers.
    Leases,
    /// The store, or the network config.
    Store,
    /// A node's kernel or files.
    Node,
    /// A node's daemon, which is away or hangs.
    Daemon,
    /// A daemon that is asked for something, and has to answer.
    Control,
    /// All nodes.
    Alone,
}

/// What a fault may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// No packet.
    Nothing,
    /// What the daemon itself carries.
    Carried,
    /// Packets.
    Packets,
}

impl Cost {
    const fn of(area: Area) -> Self {
        match area {
            Area::Leases | Area::Store | Area::Control => Self::Nothing,
            Area::Daemon | Area::Alone => Self::Carried,
            Area::Node => Self::Packets,
        }
    }

    /// Whether lost packets need no other reason, where the daemon carries them or not.
    pub fn explains(self, carried: bool) -> bool {
        self == Self::Packets || self == Self::Carried && carried
    }
}

/// A kind of fault.
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// What it concerns.
    pub area: Area,
    /// What it may cost.
    pub cost: Cost,
    /// How long it may last before it is healed.
    pub longest: Duration,
    /// Whether there is such a fault in a setting.
    pub fits: fn(&Setting) -> bool,
    /// Makes it, on or around this node.
    pub begin: fn(&mut Scene, usize) -> Result<Fault>,
}

/// Most may last as long as it takes.
const ANY: Duration = Duration::from_secs(13);

impl Kind {
    const fn new(name: &'static str, area: Area, begin: fn(&mut Scene, usize) -> Result<Fault>) -> Self {
        Self { name, area, cost: Cost::of(area), longest: ANY, fits: |_| true, begin }
    }

    const fn costing_packets(self) -> Self {
        Self { cost: Cost::Packets, ..self }
    }

    const fn where_(self, fits: fn(&Setting) -> bool) -> Self {
        Self { fits, ..self }
    }
}

/// All kinds.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    let parts: [&'static [Kind]; 6] =
        [leases::KINDS, interfaces::KINDS, damage::KINDS, files::KINDS, store::KINDS, process::KINDS];
    parts.into_iter().flatten()
}

type Heal = Box<dyn FnOnce(&mut Scene) -> Result<()>>;

/// A fault that has been made.
pub struct Fault {
    told: String,
    heal: Heal,
}

impl Fault {
    /// One that somebody has to heal.
    fn new(told: impl Into<String>, heal: impl FnOnce(&mut Scene) -> Result<()> + 'static) -> Self {
        Self { told: told.into(), heal: Box::new(heal) }
    }

    /// One that the daemons have to get over by themselves.
    fn left_alone(told: impl Into<String>) -> Self {
        Self::new(told, |_| Ok(()))
    }

    /// What was done.
    pub fn told(&self) -> String {
        self.told.clone()
    }

    /// Takes it back.
    pub fn heal(self, scene: &mut Scene) -> Result<()> {
        (self.heal)(scene)
    }
}

/// What a node is called.
fn name(node: usize) -> String {
    format!("node{}", node + 1)
}

/// A node that is another one.
fn other(scene: &mut Scene, node: usize) -> usize {
    let count = scene.setting.nodes;
    (node + 1 + scene.random.below(count - 1)) % count
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn no_two_kinds_have_one_name() {
        let names: Vec<&str> = super::all().map(|kind| kind.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
