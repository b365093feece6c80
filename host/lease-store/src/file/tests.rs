//! What only a directory does: ends of leases by modification time, odd files, directories that come and go.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flannel_model::codec::{self, key_name};
use tempfile::TempDir;

use super::FileStore;
use crate::conformance::{CONFIG, View, acquire, attributes, raw, request, subnets};
use crate::store::{LEASE_TTL, LeaseStore, Renewed, StoreError};

fn directory() -> (TempDir, Arc<dyn LeaseStore>) {
    let directory = tempfile::tempdir().expect("directory");
    let store = FileStore::open(directory.path()).expect("store");
    (directory, Arc::new(store))
}

fn write(directory: &TempDir, name: &str, node: u8, modified: SystemTime) {
    let file = directory.path().join("subnets").join(name);
    fs::write(&file, codec::encode(&attributes(node))).expect("written");
    File::open(file).and_then(|file| file.set_modified(modified)).expect("modified");
}

fn long_ago() -> SystemTime {
    SystemTime::now() - LEASE_TTL - Duration::from_mins(1)
}

#[tokio::test]
async fn a_lease_that_is_over_is_gone_and_its_subnet_is_free() {
    let (directory, store) = directory();
    write(&directory, "10.5.0.4-30", 1, long_ago());
    write(&directory, "10.5.0.8-30", 2, SystemTime::now());
    let mut view = View::new(Arc::clone(&store)).await;
    assert_eq!(view.leases.len(), 1);
    let config = r#"{"Network":"10.5.0.0/28"}"#;
    let third = acquire(&store, &request(config, 3)).await;
    let fourth = acquire(&store, &request(config, 4)).await;
    assert!([third.subnets, fourth.subnets].contains(&subnets("10.5.0.4-30")));
    view.until(|view| view.leases.len() == 3).await;
    File::open(directory.path().join("subnets/10.5.0.8-30"))
        .and_then(|file| file.set_modified(long_ago()))
        .expect("modified");
    view.until(|view| view.leases.len() == 2).await;
}

#[tokio::test]
async fn a_node_that_was_off_for_long_has_its_lease_again_if_nobody_took_it() {
    let (directory, store) = directory();
    write(&directory, "10.5.7.0-24", 1, long_ago());
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    assert_eq!(lease.subnets, subnets("10.5.7.0-24"));
    assert!(lease.expires.is_some_and(|end| end > SystemTime::now()));
}

#[tokio::test]
async fn a_modification_time_in_the_future_is_not_set_back() {
    let (directory, store) = directory();
    let future = SystemTime::now() + 100 * LEASE_TTL;
    write(&directory, "10.5.7.0-24", 1, future);
    let mut again = request(CONFIG, 1);
    again.attributes.backend_data = raw("{\"VNI\":9}");
    let lease = acquire(&store, &again).await;
    assert!(lease.expires.is_some_and(|end| end > future));
    assert!(matches!(store.renew(&lease).await, Ok(Renewed::Until(Some(end))) if end > future));
}

#[tokio::test]
async fn pipes_links_and_large_files_disturb_nobody() {
    let (directory, store) = directory();
    let subnets_dir = directory.path().join("subnets");
    rustix::fs::mkfifoat(rustix::fs::CWD, subnets_dir.join("10.5.1.0-24"), 0o644.into()).expect("pipe");
    std::os::unix::fs::symlink("/etc/passwd", subnets_dir.join("10.5.2.0-24")).expect("link");
    fs::create_dir(subnets_dir.join("10.5.3.0-24")).expect("directory");
    File::create(subnets_dir.join("10.5.4.0-24")).and_then(|file| file.set_len(1 << 40)).expect("large");
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    assert_eq!(store.leases().await.expect("leases").leases, [lease]);
}

#[tokio::test]
async fn a_directory_that_disappears_takes_no_leases_with_it() {
    let (directory, store) = directory();
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    let mut view = View::new(Arc::clone(&store)).await;
    let (here, away) = (directory.path().join("subnets"), directory.path().join("away"));
    fs::rename(&here, &away).expect("moved");
    let error = store.renew(&lease).await.expect_err("nothing can be said");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    fs::create_dir(directory.path().join("new")).expect("directory");
    for (name, node) in [(key_name(&lease.subnets).as_str(), 1), ("10.5.255.0-24", 9)] {
        fs::write(directory.path().join("new").join(name), codec::encode(&attributes(node)))
            .expect("written");
    }
    fs::rename(directory.path().join("new"), &here).expect("moved");
    view.until(|view| view.attributes("10.5.255.0-24").is_some()).await;
    assert_eq!(view.attributes(&key_name(&lease.subnets)), Some(&lease.attributes));
    assert_eq!((view.leases.len(), view.snapshots), (2, 1));
}

#[tokio::test]
async fn what_a_crash_left_is_removed() {
    let (directory, store) = directory();
    fs::write(directory.path().join(".unfinished-0123"), "{").expect("written");
    acquire(&store, &request(CONFIG, 1)).await;
    let mut files: Vec<String> = directory
        .path()
        .read_dir()
        .expect("listing")
        .map(|file| file.expect("file").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, [".lock", "subnets"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_in_one_line() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    let blocked = directory.path().join("blocked");
    fs::create_dir(&blocked).and_then(|()| fs::write(blocked.join("subnets"), "")).expect("written");
    for (path, expected) in [
        (Path::new("/nonexistent/leases"), "it does not exist: make it"),
        (&file, "it is no directory"),
        (&blocked, "`subnets` in it cannot be made or read"),
    ] {
        let error = FileStore::open(path).err().expect(expected).to_string();
        assert!(error.contains(expected) && error.contains(&path.display().to_string()), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_holds_up_nobody() {
    let (directory, store) = directory();
    let pipe = |name: &str| {
        let path = directory.path().join(name);
        let _ = fs::remove_file(&path);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o644.into()).expect("pipe");
    };
    pipe("config");
    let error = store.network_config().await.expect_err("no config").to_string();
    assert!(error.contains("`config` cannot be read: it is no regular file"), "{error}");
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    pipe(".lock");
    let error = store.renew(&lease).await.expect_err("no lock").to_string();
    assert!(error.contains("`.lock` cannot be locked: it is no regular file"), "{error}");
    assert_eq!(store.leases().await.expect("leases").leases.len(), 1);
    fs::remove_file(directory.path().join(".lock")).expect("removed");
    pipe(&format!("subnets/{}", key_name(&lease.subnets)));
    assert!(store.renew(&lease).await.is_err());
    assert_eq!(store.leases().await.expect("leases").leases, []);
}
