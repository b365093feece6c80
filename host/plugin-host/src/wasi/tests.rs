//! What a component finds in the empty world: nothing. The one that looks is in Python (`tests/python/snoop/`), whose toolchain
//! gives it all that there is of WASI.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;
use wasmtime::component::Component;
use wasmtime::{Store, Trap};
use wasmtime_wasi::cli::StdoutStream as _;

use super::*;
use crate::engine;
use crate::log_rate::LogRate;
use crate::series::PluginSeries;
use crate::tests::environment;
use crate::watchdog::Watchdog;
use crate::{Compiler, DirState, Limits, Loader, PluginError, Policy};

/// What was logged.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Starts the component that looks around; answers how that ended, and the log. None: its toolchain is missing.
fn snoop(deed: &str, limits: Limits) -> Option<(Result<(), PluginError>, Vec<String>)> {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let components = std::env::var_os("FLANNELD_TEST_COMPONENTS")
        .map_or_else(|| top.join("target/components"), std::path::PathBuf::from);
    let file = components.join("snoop.wasm");
    if let Ok(reason) = std::fs::read_to_string(file.with_extension("skipped")) {
        flannel_test_support::skip(&reason);
        return None;
    }
    assert!(file.is_file(), "build it first: cargo xtask languages");
    let directory = tempfile::tempdir().expect("directory");
    // Compiling an interpreter takes ten seconds, which are spent once.
    let artifact = Loader::new(&components.join("cache"), &components.join("cache"), Compiler::Here)
        .load_here(&file)
        .expect("loads");
    let environment = environment(&format!(r#"{{"Type":"snoop","Do":"{deed}"}}"#));
    let log = Captured::default();
    let subscriber =
        tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(log.clone()).finish();
    let outcome = tracing::subscriber::with_default(subscriber, || {
        let state = Arc::new(DirState::open(directory.path()));
        Policy::start(&artifact, environment, limits, state).map(drop)
    });
    let log = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Some((outcome, String::from_utf8_lossy(&log).lines().map(str::to_owned).collect()))
}

#[test]
fn there_are_no_files_no_networks_no_names_no_environment_and_no_arguments() {
    let Some((outcome, log)) = snoop("look", Limits::default()) else { return };
    outcome.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    let fails = [
        "read /etc/hostname",
        "read /proc/self/environ",
        "read a relative path",
        "read with dots",
        "write /tmp/snoop",
        "list /",
        "list .",
        "make a directory",
        "look up localhost",
        "connect with TCP",
        "connect with UDP",
        "listen",
    ];
    let empty = ["environment: {}", "arguments: []", "standard input: ''"];
    let works = [
        "randomness differs: True",
        "the year is later than 2024: True",
        "a short sleep is one: True",
        "random.random works: True",
    ];
    let expected = fails.map(|deed| format!("{deed}: failed: ")).into_iter();
    for said in expected.chain(empty.map(str::to_owned)).chain(works.map(str::to_owned)) {
        assert!(log.iter().any(|line| line.contains(&said)), "{said}: {log:#?}");
    }
    assert!(!log.iter().any(|line| line.contains(": got ")), "{log:#?}");
}

#[test]
fn what_it_prints_is_in_the_log_with_its_name() {
    let Some((outcome, log)) = snoop("look", Limits::default()) else { return };
    outcome.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    for (level, text) in [
        ("INFO", "printed to standard output"),
        ("WARN", "printed to standard error"),
        ("INFO", "printed without an end of line"),
    ] {
        let line = log.iter().find(|line| line.contains(text)).expect(text);
        assert!(line.contains(level) && line.contains(r#"plugin="snoop" function="register""#), "{line}");
    }
}

#[test]
fn what_it_prints_is_limited_in_lines_and_in_length() {
    let limits = Limits { log_lines: 10, text: 100, ..Limits::default() };
    let Some((outcome, log)) = snoop("print", limits) else { return };
    outcome.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    let printed = |line: &&String| line.contains(": xxx") || line.contains(": line ");
    assert_eq!(log.iter().filter(printed).count(), 10, "{log:#?}");
    let long = log.iter().find(|line| line.contains("xxx")).expect("the long line");
    assert!(long.contains(&format!(": {}…", "x".repeat(100))), "{long}");
}

#[test]
fn an_exception_is_named_in_the_failure() {
    let Some((outcome, log)) = snoop("raise", Limits::default()) else { return };
    let error = outcome.expect_err("fails").to_string();
    assert!(
        error.starts_with("plugin snoop: register: trapped: ValueError: the deed was asked for"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(log.iter().any(|line| line.contains("Traceback")), "{log:#?}");
}

#[test]
fn of_what_a_runtime_leaves_behind_the_line_that_says_what_went_wrong_is_kept() {
    for (written, told) in [
        ("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/my-net/main.go:5 +0x2\n", "panic: boom"),
        (
            "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\n",
            "fatal error: all goroutines are asleep - deadlock!",
        ),
        ("Traceback (most recent call last):\n  File \"policy.py\"\nValueError: boom\n", "ValueError: boom"),
    ] {
        let console = Console::new(&Limits::default(), LogRate::new(Instant::now()));
        let mut stream = console.stderr().p2_stream();
        stream.write(written.to_owned().into()).expect("written");
        assert_eq!(console.panic_message().as_deref(), Some(told));
    }
}

#[test]
fn an_hour_of_sleep_ends_when_the_time_of_the_call_does() {
    let limits = Limits { call_time: Duration::from_secs(2), ..Limits::default() };
    let Some((outcome, _)) = snoop("sleep", limits) else { return };
    let error = outcome.expect_err("fails").to_string();
    assert_eq!(error, "plugin snoop: register: stopped after running for 2000 ms");
}

/// Waits for an hour, by the two ways that there are.
const WAITS: [&str; 2] = [
    "(call $block (call $subscribe (i64.const 3600000000000)))",
    "(i32.store (i32.const 8) (call $subscribe (i64.const 3600000000000)))
     (call $poll (i32.const 8) (i32.const 1) (i32.const 16))",
];

fn waiting(how: &str) -> String {
    format!(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
                (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $its))
                (export "pollable" (type $own (eq $its)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
            (core module $memory
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
            (core instance $memory (instantiate $memory))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core func $poll (canon lower (func $poll "poll")
                (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core module $waits
                (import "" "memory" (memory 1))
                (import "" "block" (func $block (param i32)))
                (import "" "poll" (func $poll (param i32 i32 i32)))
                (import "" "subscribe" (func $subscribe (param i64) (result i32)))
                (func $start {how})
                (start $start))
            (core instance (instantiate $waits (with "" (instance
                (export "memory" (memory $memory "memory"))
                (export "block" (func $block))
                (export "poll" (func $poll))
                (export "subscribe" (func $subscribe)))))))"#
    )
}

#[test]
fn no_way_of_waiting_holds_the_thread_beyond_the_deadline() {
    let engine = engine::native().expect("engine");
    let mut linker = Linker::new(&engine);
    link(&mut linker).expect("links");
    let directory = tempfile::tempdir().expect("directory");
    for how in WAITS {
        let component =
            Component::new(&engine, wat::parse_str(waiting(how)).expect("a component")).expect("compiles");
        let state = Arc::new(DirState::open(directory.path()));
        let environment = environment(r#"{"Type":"napper"}"#);
        let watchdog = Watchdog::start(engine.clone()).expect("a thread");
        let mut host = HostState::new(
            "waits".to_owned(),
            Limits::default(),
            environment,
            state,
            watchdog.pauser(),
            LogRate::new(Instant::now()),
            PluginSeries::default(),
        );
        host.begin(Duration::from_millis(200));
        let mut store = Store::new(&engine, host);
        // The engine's own clock stands still here: only the wait itself can end.
        store.set_epoch_deadline(1);
        let error = linker.instantiate(&mut store, &component).expect_err("ends with a trap");
        assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::Interrupt), "{error:?}");
    }
}
