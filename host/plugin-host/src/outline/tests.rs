//! Components in text form, and what is seen of them.

use super::*;

fn outline(text: &str) -> Result<Outline, String> {
    Outline::of(&wat::parse_str(text).expect("a component")).map_err(|error| error.to_string())
}

fn seen(text: &str) -> Outline {
    outline(text).expect("read")
}

fn excess(text: &str) -> String {
    seen(text).excess().expect("too much").to_string()
}

#[test]
fn names_are_those_of_the_component_and_not_of_what_is_inside_of_it() {
    let seen = seen(
        r#"(component
            (import "outside" (func $f))
            (component $inner (import "inside" (func)) (export "of-it" (func 0)))
            (instance $i (instantiate $inner (with "inside" (func $f))))
            (export "here" (instance $i)))"#,
    );
    assert_eq!((seen.imports, seen.exports), (vec!["outside".to_owned()], vec!["here".to_owned()]));
}

#[test]
fn each_instance_counts_with_all_that_is_in_it() {
    let seen = seen(
        "(component
            (core module $m (memory 2) (table 10 funcref) (table 5 externref) (global i32 (i32.const 0)) (func) (export \"f\" (func 0)))
            (core instance (instantiate $m)) (core instance (instantiate $m)))",
    );
    let found = seen.inventory;
    assert_eq!((found.instances, found.memories, found.memory), (2, 2, 4 << 16));
    assert_eq!((found.tables, found.elements, found.globals), (4, 30, 2));
    assert_eq!((seen.functions, seen.code), (1, 3), "functions are there once");
    assert_eq!(seen.excess(), None);
}

/// Ten instances in each of ten levels, of which the outermost names the one below.
fn nested(levels: u32, of: &str, alias: bool) -> String {
    let mut text = format!("(component $c0 {of})");
    for level in 1..=levels {
        let below = format!("$c{}", level - 1);
        let made = if alias {
            // By way of the component around it.
            let made = "(instance (instantiate $x))".repeat(10);
            format!(
                "(component $y (alias outer $c{level} {below} (component $x)) {made}) (instance (instantiate $y))"
            )
        } else {
            format!("(instance (instantiate {below}))").repeat(10)
        };
        text = format!("(component $c{level} {text} {made})");
    }
    text
}

#[test]
fn what_instantiates_itself_over_and_over_is_counted_and_not_made() {
    for alias in [false, true] {
        let text =
            nested(9, "(core module $m (global i32 (i32.const 0))) (core instance (instantiate $m))", alias);
        let said = excess(&text);
        assert!(said.contains("instances of modules and components before it has done anything"), "{said}");
        assert!(seen(&text).inventory.globals >= 1_000_000_000);
    }
    let endless = nested(30, "(core module $m) (core instance (instantiate $m))", false);
    assert_eq!(seen(&endless).inventory.instances, u64::MAX, "it does not wrap");
}

#[test]
fn each_thing_of_which_there_may_be_too_much_is_named() {
    let module = |what: &str| format!("(component (core module $m {what}) (core instance (instantiate $m)))");
    for (what, said) in [
        ("(memory 0)".repeat(17), "17 memories before it has done anything; a plugin may have 16"),
        ("(table 0 funcref)".repeat(65), "65 tables"),
        ("(table 200001 funcref)".to_owned(), "200001 elements of tables"),
        ("(global i32 (i32.const 0))".repeat(20_001), "20001 globals"),
        ("(memory 2049)".to_owned(), "bytes in memories, tables and records"),
        ("(func)".repeat(200_001), "200001 functions"),
        ((0..100_001).map(|_| "(type (func))").collect(), "100001 types"),
    ] {
        let text = excess(&module(&what));
        assert!(text.contains(said), "{text}");
    }
    let instances = "(core instance (instantiate $m))".repeat(257);
    let text = excess(&format!("(component (core module $m) {instances})"));
    assert!(text.contains("257 instances"), "{text}");
}

#[test]
fn what_is_handed_in_is_not_instantiated() {
    let said = outline(r#"(component (import "m" (core module $m)) (core instance (instantiate $m)))"#);
    assert!(said.expect_err("refused").starts_with("it instantiates a module that is handed in"));
    let said = outline(r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#);
    assert!(said.expect_err("refused").starts_with("it instantiates a component that is handed in"));
}

#[test]
fn what_is_damaged_is_answered_wherever_it_ends() {
    let whole = wat::parse_str(nested(3, "(core module (func) (memory 1))", false)).expect("a component");
    for length in 0..whole.len() {
        // Where a section ends, the rest may be missing.
        let _ = Outline::of(&whole[..length]);
    }
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x55;
        let _ = Outline::of(&damaged);
    }
}
