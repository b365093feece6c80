//! A node's files: the subnet file, and the state directory.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Area, Fault, Kind, name};
use crate::soak::scene::Scene;

pub const KINDS: &[Kind] = &[
    Kind::new("subnet file damaged", Area::Node, subnet_file),
    Kind::new("subnet file a directory", Area::Node, subnet_file_directory),
    Kind::new("cache emptied", Area::Node, cache),
    // A daemon that starts needs what is in it.
    Kind::new("state unwritable", Area::Control, state),
];

fn subnet_file(scene: &mut Scene, index: usize) -> Result<Fault> {
    let file = scene.cluster.node(index).subnet_file();
    let what = match scene.random.below(4) {
        0 => {
            remove(&file)?;
            "removed"
        }
        1 => write(&file, "", "emptied")?,
        2 => write(&file, "FLANNEL_SUBNET=10.5.99.1/24\n", "another subnet")?,
        _ => write(&file, "\u{0}\u{1}\n", "rubbish")?,
    };
    Ok(Fault::left_alone(format!("{}: {what}", name(index))))
}

fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| file.display().to_string())
}

fn write(file: &Path, text: &str, what: &'static str) -> Result<&'static str> {
    std::fs::write(file, text).with_context(|| file.display().to_string()).map(|()| what)
}

fn subnet_file_directory(scene: &mut Scene, index: usize) -> Result<Fault> {
    let file = scene.cluster.node(index).subnet_file();
    let aside = file.with_extension("aside");
    // The daemon writes it anew as soon as it is gone, so one takes the other's place at once.
    std::fs::create_dir_all(&aside)?;
    exchange(&file, &aside)?;
    remove(&aside)?;
    Ok(Fault::new(name(index), move |_| {
        if file.is_dir() {
            std::fs::remove_dir_all(&file).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }))
}

/// What it has compiled goes; who starts compiles it again.
fn cache(scene: &mut Scene, index: usize) -> Result<Fault> {
    let cache = scene.cluster.node(index).directory().join("cache");
    // Nobody may have compiled anything since the last time.
    if cache.exists() {
        std::fs::remove_dir_all(&cache).with_context(|| cache.display().to_string())?;
    }
    Ok(Fault::left_alone(name(index)))
}

fn exchange(one: &Path, other: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).with_context(|| one.display().to_string())
}

/// A file is where the state directory was: root can write to whatever is a directory.
fn state(scene: &mut Scene, index: usize) -> Result<Fault> {
    let state = scene.cluster.node(index).directory().join("state");
    let aside = state.with_extension("aside");
    std::fs::write(&aside, "")?;
    exchange(&state, &aside)?;
    Ok(Fault::new(name(index), move |_| {
        exchange(&state, &aside)?;
        remove(&aside)
    }))
}
