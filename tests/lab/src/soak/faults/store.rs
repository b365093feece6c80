//! The store, and the network config in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Area, Fault, Kind};
use crate::Store;
use crate::soak::StoreKind;
use crate::soak::scene::Scene;
use crate::soak::setting::Setting;

pub const KINDS: &[Kind] = &[
    Kind::new("etcd killed", Area::Store, etcd_killed).where_(is_etcd),
    Kind::new("etcd hangs", Area::Store, etcd_hangs).where_(is_etcd),
    Kind::new("etcd's cable pulled", Area::Store, etcd_unplugged).where_(is_etcd),
    Kind::new("etcd compacted", Area::Store, etcd_compacted).where_(is_etcd),
    Kind::new("etcd without its data", Area::Store, etcd_wiped).where_(is_etcd),
    Kind::new("directory away", Area::Store, directory_away).where_(is_file),
    Kind::new("a file as directory", Area::Store, directory_a_file).where_(is_file),
    Kind::new("lock held", Area::Store, lock_held).where_(is_file),
    Kind::new("a FIFO as lease", Area::Store, fifo).where_(is_file),
    Kind::new("a directory as lease", Area::Store, lease_a_directory).where_(is_file),
    Kind::new("config garbage", Area::Store, config_garbage),
    Kind::new("config written again", Area::Store, config_again),
];

fn is_etcd(setting: &Setting) -> bool {
    setting.store == StoreKind::Etcd
}

fn is_file(setting: &Setting) -> bool {
    !is_etcd(setting)
}

fn etcd_killed(scene: &mut Scene, _: usize) -> Result<Fault> {
    scene.cluster.etcd()?.kill(0);
    Ok(Fault::new("etcd", |scene| scene.cluster.etcd()?.restart(0)))
}

fn etcd_hangs(scene: &mut Scene, _: usize) -> Result<Fault> {
    scene.cluster.etcd()?.pause(0)?;
    Ok(Fault::new("etcd", |scene| scene.cluster.etcd()?.resume(0)))
}

fn etcd_unplugged(scene: &mut Scene, _: usize) -> Result<Fault> {
    scene.cluster.lab().switch().set_port("etcd", false)?;
    Ok(Fault::new("etcd", |scene| scene.cluster.lab().switch().set_port("etcd", true)))
}

fn etcd_wiped(scene: &mut Scene, _: usize) -> Result<Fault> {
    let etcd = scene.cluster.etcd()?;
    etcd.kill(0);
    etcd.wipe(0)?;
    Ok(Fault::new("etcd", |scene| {
        scene.cluster.etcd()?.restart(0)?;
        scene.cluster.store().put_config(&scene.setting.config())
    }))
}

/// Revisions go that a watch, or a daemon that is away, might still ask for.
fn etcd_compacted(scene: &mut Scene, _: usize) -> Result<Fault> {
    let times = 1 + scene.random.below(20);
    let etcd = scene.cluster.etcd()?;
    for count in 0..times {
        etcd.put("/elsewhere", &count.to_string())?;
    }
    let revision = etcd.compact()?;
    Ok(Fault::left_alone(format!("up to revision {revision}")))
}

fn directory(scene: &Scene) -> Result<PathBuf> {
    match scene.cluster.store() {
        Store::File(directory) => Ok(directory.clone()),
        Store::Etcd(_) | Store::Kube(_) => bail!("the store is no directory"),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| from.display().to_string())
}

/// As where a file system is not mounted for a while: what is written meanwhile is below it, and out of sight afterwards.
fn directory_away(scene: &mut Scene, _: usize) -> Result<Fault> {
    let subnets = directory(scene)?.join("subnets");
    let aside = subnets.with_extension("aside");
    rename(&subnets, &aside)?;
    Ok(Fault::new("subnets", move |_| {
        // Daemons may write into it while it is being emptied.
        let below = subnets.with_extension("below");
        if subnets.exists() {
            rename(&subnets, &below)?;
        }
        rename(&aside, &subnets)?;
        if below.exists() {
            std::fs::remove_dir_all(&below)?;
        }
        Ok(())
    }))
}

fn directory_a_file(scene: &mut Scene, _: usize) -> Result<Fault> {
    let subnets = directory(scene)?.join("subnets");
    let aside = subnets.with_extension("aside");
    rename(&subnets, &aside)?;
    std::fs::write(&subnets, "no directory")?;
    Ok(Fault::new("subnets", move |_| {
        std::fs::remove_file(&subnets).with_context(|| subnets.display().to_string())?;
        rename(&aside, &subnets)
    }))
}

/// Somebody holds the writers' lock, and writes nothing.
fn lock_held(scene: &mut Scene, _: usize) -> Result<Fault> {
    let file = directory(scene)?.join(".lock");
    let lock = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
    lock.lock().with_context(|| file.display().to_string())?;
    Ok(Fault::new("by nobody that writes", move |_| {
        drop(lock);
        Ok(())
    }))
}

fn fifo(scene: &mut Scene, _: usize) -> Result<Fault> {
    let file = directory(scene)?.join("subnets/10.5.251.0-24");
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .with_context(|| file.display().to_string())?;
    Ok(Fault::new("10.5.251.0-24", move |_| std::fs::remove_file(&file).context("the FIFO")))
}

fn lease_a_directory(scene: &mut Scene, _: usize) -> Result<Fault> {
    let file = directory(scene)?.join("subnets/10.5.252.0-24");
    std::fs::create_dir(&file).with_context(|| file.display().to_string())?;
    Ok(Fault::new("10.5.252.0-24", move |_| std::fs::remove_dir(&file).context("the directory")))
}

fn config_garbage(scene: &mut Scene, _: usize) -> Result<Fault> {
    let text = *scene.random.one_of(&["", "{", "null", "[]", r#"{"Network":"10.5.0.0/16","Backend":7}"#]);
    scene.cluster.store().put_config(text)?;
    Ok(Fault::new(format!("{text:?}"), |scene| scene.cluster.store().put_config(&scene.setting.config())))
}

fn config_again(scene: &mut Scene, _: usize) -> Result<Fault> {
    scene.cluster.store().put_config(&scene.setting.config())?;
    Ok(Fault::left_alone("as it was"))
}
