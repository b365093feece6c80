//! Any bytes as a request at the control socket: one line of JSON comes back, an answer or an error.

#![no_main]

use std::cell::RefCell;

use flannel_telemetry::control::answer_line;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

fuzz_target!(|line: &[u8]| {
    let answer = RUNTIME.with_borrow(|runtime| runtime.block_on(answer_line(line)));
    assert!(!answer.contains(&b'\n'));
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let answer = answer.as_object().expect("an object");
    assert!(answer.len() == 1 && (answer.contains_key("ok") || answer.contains_key("error")), "{answer:?}");
});
