use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;

use super::*;
use crate::{DAEMON, effective, give_up_all_but};

/// What a confined thread makes of something.
fn confined<T: Send + 'static>(profile: Profile, work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_confined("confined", profile, work).expect("a thread").join().expect("no panic")
}

/// A line of the kernel's description of this thread.
fn own_status(name: &str) -> String {
    // The thread itself may be unable to open anything.
    let tid = rustix::thread::gettid().as_raw_nonzero();
    let status = with_privileges(|| fs::read_to_string(format!("/proc/self/task/{tid}/status")));
    let status = status.expect("a description");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("a line").trim().to_owned()
}

#[test]
fn a_confined_thread_has_no_capabilities_and_a_filter_and_the_others_keep_what_they_have() {
    let before = effective();
    let lines = confined(Profile::Plugin, || {
        ["CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp"].map(own_status)
    });
    let none = "0000000000000000";
    assert_eq!(lines, [none, none, none, none, "1", "2"]);
    assert_eq!(effective(), before);
}

#[test]
fn a_thread_that_runs_a_plugin_opens_nothing_connects_to_nobody_and_starts_nothing() {
    let kinds = confined(Profile::Plugin, || {
        [
            fs::read("/etc/hostname").map(drop),
            fs::write("/tmp/flannel-privileges-must-not-be-there", "x"),
            fs::remove_file("/nonexistent"),
            TcpStream::connect("127.0.0.1:1").map(drop),
            Command::new("/bin/true").status().map(drop),
        ]
        .map(|outcome| outcome.expect_err("refused").kind())
    });
    assert_eq!(kinds, [ErrorKind::PermissionDenied; 5]);
}

#[test]
fn a_thread_that_runs_a_plugin_makes_no_memory_executable() {
    let (written, executable) = confined(Profile::Plugin, || {
        let map = |protection| {
            // SAFETY: a mapping of its own, of which nothing is read or written.
            let mapped = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    protection,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            mapped != libc::MAP_FAILED
        };
        (map(libc::PROT_READ | libc::PROT_WRITE), map(libc::PROT_READ | libc::PROT_EXEC))
    });
    assert_eq!((written, executable), (true, false));
}

#[test]
fn threads_that_a_confined_one_starts_are_confined() {
    let line = confined(Profile::Plugin, || {
        let inner = std::thread::spawn(|| fs::read("/etc/hostname").expect_err("refused").kind());
        inner.join().expect("no panic")
    });
    assert_eq!(line, ErrorKind::PermissionDenied);
}

#[test]
fn a_thread_that_a_confined_one_starts_has_nothing_to_give_up() {
    for profile in [Profile::Plugin, Profile::Network] {
        assert!(confined(profile, || std::thread::spawn(is_inherited).join().expect("no panic")));
    }
    assert!(!std::thread::spawn(is_inherited).join().expect("no panic"), "nobody has confined this one");
}

#[test]
fn a_thread_that_talks_to_servers_reads_files_and_writes_none() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("file");
    fs::write(&file, "text").expect("written");
    let (read, written, connected) = confined(Profile::Network, move || {
        let connected = TcpStream::connect("127.0.0.1:1").expect_err("nobody listens").kind();
        (fs::read_to_string(&file), fs::write(&file, "other"), connected)
    });
    assert_eq!(read.expect("read"), "text");
    assert_eq!(written.expect_err("refused").kind(), ErrorKind::PermissionDenied);
    assert_eq!(connected, ErrorKind::ConnectionRefused);
}

#[test]
fn what_the_host_does_for_a_confined_thread_is_done_with_what_the_process_has() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("file");
    let path = file.clone();
    confined(Profile::Plugin, move || with_privileges(|| fs::write(&path, "text"))).expect("written");
    assert_eq!(fs::read_to_string(&file).expect("read"), "text");
}

#[test]
fn what_is_given_up_is_given_up_for_good() {
    // On a thread of its own: the others keep what they have.
    let kept = std::thread::spawn(|| {
        let before = effective();
        give_up_all_but(DAEMON).expect("given up");
        let after = effective();
        assert!(DAEMON.contains(after) && before.contains(after), "{after:?}");
        let bounding = own_status("CapBnd");
        give_up_all_but(before).expect("nothing more to give up");
        assert_eq!(effective(), after, "nothing comes back");
        bounding
    });
    let bounding = u64::from_str_radix(&kept.join().expect("no panic"), 16).expect("a number");
    if rustix::process::geteuid().is_root() {
        assert_eq!(bounding & !DAEMON.bits(), 0, "{bounding:x}");
    }
}
