//! What is counted of a component, beside what an instance of it takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::Outline;
use crate::engine;

/// The system's allocator, which counts what each thread has taken and not given back.
struct Counting;

thread_local! {
    static TAKEN: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: i64) {
    // A thread that is about to end counts no more.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + sign * i64::try_from(bytes).unwrap_or(i64::MAX)));
}

// SAFETY: all is the system's allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that an instance of a component takes of the heap, and those that are counted for it.
fn measure(engine: &Engine, text: &str) -> (i64, i64) {
    let bytes = wat::parse_str(text).expect("a component");
    let counted = Outline::of(&bytes).expect("read").inventory.bytes();
    let component = Component::new(engine, bytes).expect("compiled");
    let linker = Linker::new(engine);
    let mut store = Store::new(engine, ());
    let before = TAKEN.get();
    linker.instantiate(&mut store, &component).expect("an instance");
    (TAKEN.get() - before, i64::try_from(counted).expect("a size"))
}

/// So many of something, which has a number.
fn many(count: usize, what: impl Fn(usize) -> String) -> String {
    (0..count).map(what).collect::<Vec<_>>().concat()
}

#[test]
fn what_is_counted_is_what_an_instance_takes() {
    let engine = engine::native().expect("an engine");
    let (least, nothing) = measure(&engine, "(component)");
    assert_eq!(nothing, 0);
    let module = |inside: &str, count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!("(component (core module $m {inside}) {instances})")
    };
    let functions = many(5000, |n| format!(r#"(func (export "{n}"))"#));
    let globals = many(5000, |n| format!(r#"(global (import "" "{n}") i32)"#));
    let given = many(5000, |n| format!(r#"(global (export "{n}") i32 (i32.const 0))"#));
    let lowered = many(500, |n| format!("(core func $l{n} (canon lower (func $f)))"));
    let handed = many(500, |n| format!(r#"(export "{n}" (func $l{n}))"#));
    let taken = many(500, |n| format!(r#"(import "" "{n}" (func))"#));
    let cases = [
        ("instances", module("", 240)),
        ("globals", module(&"(global i64 (i64.const 0))".repeat(15_000), 1)),
        ("globals of many", module(&"(global i64 (i64.const 0))".repeat(60), 240)),
        ("functions", module(&functions, 1)),
        ("tables", module(&"(table 3000 funcref)".repeat(60), 1)),
        (
            "imported globals",
            format!(
                r#"(component (core module $g {given}) (core instance $g (instantiate $g))
                    (core module $m {globals}) (core instance (instantiate $m (with "" (instance $g)))))"#
            ),
        ),
        (
            "lowered functions",
            format!(
                r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                    (func $f (canon lift (core func $i "f"))) {lowered} (core module $n {taken})
                    (core instance (instantiate $n (with "" (instance {handed})))))"#
            ),
        ),
        (
            "components",
            format!(
                "(component (component $c (core module $m) (core instance (instantiate $m))) {})",
                "(instance (instantiate $c))".repeat(120)
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, text) in cases {
        let (taken, counted) = measure(&engine, &text);
        let taken = taken - least;
        eprintln!("{what}: {taken} taken, {counted} counted");
        if (taken - counted).abs() * 5 > taken {
            wrong.push(format!("{what}: {taken} bytes taken, {counted} counted"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
