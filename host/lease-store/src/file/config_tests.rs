//! What only a directory does with the network config: files that are being written, links, modes and owners.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;

use super::FileStore;
use crate::conformance::{next, put_config};
use crate::store::{ConfigWritten, LeaseStore as _, StoreError};

fn directory() -> (TempDir, Arc<FileStore>) {
    let directory = tempfile::tempdir().expect("directory");
    let store = FileStore::open(directory.path()).expect("store");
    (directory, Arc::new(store))
}

fn names(directory: &Path) -> Vec<String> {
    let name = |file: std::io::Result<fs::DirEntry>| file.expect("file").file_name().display().to_string();
    let mut names: Vec<String> = directory.read_dir().expect("listing").map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_that_is_written_in_pieces_is_told_of_in_the_end() {
    let (directory, store) = directory();
    let config = directory.path().join("config");
    put_config(directory.path(), "before");
    let mut configs = store.watch_config();
    assert_eq!(next(&mut configs).await, "before");
    for pause in [0, 10, 200] {
        let mut file = File::create(&config).expect("emptied");
        for piece in 0..5 {
            sleep(Duration::from_millis(pause)).await;
            write!(file, "{pause}-{piece} ").expect("written");
        }
        drop(file);
        let whole = format!("{pause}-0 {pause}-1 {pause}-2 {pause}-3 {pause}-4 ");
        let mut told = next(&mut configs).await;
        while told != whole {
            assert!(whole.starts_with(&told), "{told:?} is no part of {whole:?}");
            told = next(&mut configs).await;
        }
    }
}

#[tokio::test]
async fn editors_and_mounts_that_put_another_file_there_are_followed() {
    let (directory, store) = directory();
    let file = |name: &str| directory.path().join(name);
    put_config(directory.path(), "one");
    let mut configs = Arc::clone(&store).watch_config();
    assert_eq!(next(&mut configs).await, "one");
    put_config(directory.path(), "two");
    assert_eq!(next(&mut configs).await, "two");
    // Moved away, and made anew.
    fs::rename(file("config"), file("config~")).expect("moved");
    put_config(directory.path(), "three");
    assert_eq!(next(&mut configs).await, "three");
    // A link to a link to a directory that another one takes the place of, as in a mounted ConfigMap.
    for (number, text) in [(1, "four"), (2, "five")] {
        let made = file(&format!("..{number}"));
        fs::create_dir(&made).and_then(|()| fs::write(made.join("config"), text)).expect("written");
        symlink(format!("..{number}"), file("..new")).expect("link");
        fs::rename(file("..new"), file("..data")).expect("moved");
        if number == 1 {
            symlink("..data/config", file("..link")).expect("link");
            fs::rename(file("..link"), file("config")).expect("moved");
        }
        assert_eq!(next(&mut configs).await, text);
    }
    // Written by way of the link, which stays.
    let written = store.write_network_config("six", Some("five")).await;
    assert_eq!(written, Ok(ConfigWritten::Written));
    assert_eq!(fs::read_link(file("config")).expect("a link"), Path::new("..data/config"));
    assert_eq!(fs::read_to_string(file("..2/config")).expect("read"), "six");
    assert_eq!(store.network_config().await.as_deref(), Ok("six"));
}

#[tokio::test]
async fn a_directory_that_another_one_takes_the_place_of_is_followed() {
    let (directory, store) = directory();
    put_config(directory.path(), "one");
    let mut configs = store.watch_config();
    assert_eq!(next(&mut configs).await, "one");
    let away = directory.path().with_extension("away");
    fs::rename(directory.path(), &away).expect("moved");
    put_config(&away, "elsewhere");
    fs::create_dir(directory.path()).expect("made");
    put_config(directory.path(), "two");
    assert_eq!(next(&mut configs).await, "two");
    fs::remove_dir_all(away).expect("removed");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_told_of() {
    let (directory, store) = directory();
    let config = directory.path().join("config");
    fs::write(&config, b"\xff").expect("written");
    let mut configs = Arc::clone(&store).watch_config();
    sleep(Duration::from_millis(200)).await;
    put_config(directory.path(), "one");
    assert_eq!(next(&mut configs).await, "one");
    fs::remove_file(&config).and_then(|()| fs::create_dir(&config)).expect("made");
    sleep(Duration::from_millis(200)).await;
    let error = store.write_network_config("two", Some("one")).await.expect_err("a directory").to_string();
    assert!(error.contains("`config` cannot be read: it is no regular file"), "{error}");
    fs::remove_dir(&config).expect("removed");
    put_config(directory.path(), "two");
    assert_eq!(next(&mut configs).await, "two");
}

#[tokio::test]
async fn a_file_that_is_replaced_keeps_its_mode_and_its_owner() {
    let (directory, store) = directory();
    let config = directory.path().join("config");
    fs::write(&config, "one").expect("written");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).expect("mode");
    let before = fs::metadata(&config).expect("metadata");
    // Who is not root has files of his own only.
    let owner = if before.uid() == 0 { (1234, 5678) } else { (before.uid(), before.gid()) };
    chown(&config, Some(owner.0), Some(owner.1)).expect("owner");
    let written = store.write_network_config("two", Some("one")).await;
    assert_eq!(written, Ok(ConfigWritten::Written));
    let after = fs::metadata(&config).expect("metadata");
    assert_ne!(after.ino(), before.ino(), "another file");
    assert_eq!((after.mode() & 0o7777, after.uid(), after.gid()), (0o640, owner.0, owner.1));
    assert_eq!(names(directory.path()), [".lock", "config", "subnets"]);
}

#[tokio::test]
async fn whoever_reads_while_it_is_written_has_one_text_or_the_other() {
    let (directory, store) = directory();
    let text = |number: u32| number.to_string().repeat(10_000);
    fs::write(directory.path().join("config"), text(0)).expect("written");
    let config = directory.path().join("config");
    let reader = std::thread::spawn(move || {
        loop {
            let found = fs::read_to_string(&config).expect("always there");
            let first = &found[..1];
            assert!(found == first.repeat(10_000), "a part of a text");
            if first == "9" {
                return;
            }
        }
    });
    for number in 1..10 {
        let written = store.write_network_config(&text(number), Some(&text(number - 1))).await;
        assert_eq!(written, Ok(ConfigWritten::Written));
    }
    reader.join().expect("reader");
}

#[tokio::test]
async fn a_writer_waits_for_the_lock_and_what_cannot_be_written_is_said() {
    let (directory, store) = directory();
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(directory.path().join(".lock"));
    let lock = lock.expect("lock");
    lock.lock().expect("locked");
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move { writer.write_network_config("one", None).await });
    sleep(Duration::from_millis(100)).await;
    assert_eq!(names(directory.path()), [".lock", "subnets"]);
    drop(lock);
    assert_eq!(writing.await.expect("writer"), Ok(ConfigWritten::Written));
    fs::remove_dir_all(directory.path()).expect("removed");
    let error = store.write_network_config("two", Some("one")).await.expect_err("nothing there");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("it cannot be opened"), "{error}");
}
