//! Any bytes as the subnet file that an earlier run, an older version or somebody else left: subnets come out of it, or none do.

#![no_main]

use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use flannel_fuzz::node::subnet_file::{SubnetFile, variables};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FILE: std::cell::RefCell<std::fs::File> =
        std::cell::RefCell::new(tempfile::tempfile_in("/dev/shm").expect("a file in memory"));
}

fuzz_target!(|content: &[u8]| FILE.with_borrow_mut(|file| {
    file.set_len(0).and_then(|()| file.rewind()).expect("emptied");
    file.write_all(content).expect("written");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if let Some(previous) = SubnetFile::read_previous(&path) {
        assert!(previous.v4.is_some() || previous.v6.is_some());
        assert!(previous.iter().all(|subnet| subnet.trunc() == subnet));
    }
    for (key, value) in variables(&path).expect("it can be read") {
        assert!(!key.contains('\n') && !value.contains('\n'), "{key:?}={value:?}");
    }
}));
