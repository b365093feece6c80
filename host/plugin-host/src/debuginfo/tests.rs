use proptest::prelude::*;

use super::*;
use flannel_test_support::component;

/// A code section that is long enough for every address below, after `tables`, as a core module.
fn module(tables: &[(&str, &[u8])]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let mut section = |id: u8, content: &[u8]| {
        module.push(id);
        number(&mut module, content.len());
        module.extend_from_slice(content);
    };
    section(1, b"\x01\x60\0\0");
    section(3, b"\x01\0");
    let body = [&[0][..], &[1; 120], &[0x0b]].concat();
    section(10, &[&[1, 122][..], &body].concat());
    for (name, table) in tables {
        section(0, &[&[u8::try_from(name.len()).expect("short")][..], name.as_bytes(), table].concat());
    }
    module
}

/// Appends a LEB128 number.
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f).to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Where the code of such a module begins.
fn start(module: &[u8]) -> usize {
    Lines::of(module).modules[0].code.start
}

/// Abbreviations: 1 is a unit with a line program, 2 a function, 3 one that is inlined; all cover what they say, and have children.
const ABBREVIATIONS: &[u8] = &[
    1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0x10, 0x17, 0, 0, // low_pc addr, high_pc data4, stmt_list
    2, 0x2e, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0, // name string, low_pc, high_pc
    3, 0x1d, 1, 0x11, 0x01, 0x12, 0x06, 0x58, 0x0b, 0x59, 0x0b, 0,
    0, // low_pc, high_pc, call_file, call_line
    0,
];

/// A line program: `directory/name.c`, line 7 from the first byte to the hundredth.
fn line_program(directory: &str, name: &str) -> Vec<u8> {
    let mut header = vec![1, 1, 1, 0xfb, 14, 10, 0, 1, 1, 1, 1, 0, 0, 0, 1];
    header.extend([directory.as_bytes(), b"\0\0", name.as_bytes(), b"\0\x01\0\0\0"].concat());
    let program = [&[0, 5, 2][..], &0_u32.to_le_bytes(), &[3, 6, 1, 2, 100, 0, 1, 1]].concat();
    let mut body = 4_u16.to_le_bytes().to_vec();
    body.extend((u32::try_from(header.len()).expect("short")).to_le_bytes());
    body.extend(header);
    body.extend(program);
    [&u32::try_from(body.len()).expect("short").to_le_bytes()[..], &body].concat()
}

/// A unit with a function, and as many as that inlined into each other, which cover a hundred bytes from `begin`.
fn unit(depth: usize, begin: u32) -> Vec<u8> {
    let covered = |begin: u32| [begin.to_le_bytes(), 100_u32.to_le_bytes()].concat();
    let (covered, inlined) = (covered(0), covered(begin));
    let mut body = [
        &4_u16.to_le_bytes()[..],
        &0_u32.to_le_bytes(),
        &[4, 1],
        &covered,
        &[0; 4],
        b"\x02outer\0",
        &covered,
    ]
    .concat();
    for level in 0..depth {
        body.extend([&[3][..], &inlined, &[1, u8::try_from(level % 100).expect("small") + 1]].concat());
    }
    body.extend(vec![0; depth + 2]);
    [&u32::try_from(body.len()).expect("fits").to_le_bytes()[..], &body].concat()
}

fn tables(depth: usize, begin: u32) -> Vec<u8> {
    let (lines, unit) = (line_program("some/where", "policy.c"), unit(depth, begin));
    module(&[(".debug_abbrev", ABBREVIATIONS), (".debug_info", &unit), (".debug_line", &lines)])
}

fn shown(spots: &[Spot]) -> Vec<String> {
    let text = |spot: &Spot| {
        let place = spot.place.as_ref().map(ToString::to_string);
        format!("{} {}", spot.function.as_deref().unwrap_or("?"), place.as_deref().unwrap_or("?"))
    };
    spots.iter().map(text).collect()
}

#[test]
fn a_function_has_its_file_and_line() {
    let module = tables(0, 0);
    let (lines, start) = (Lines::of(&module), start(&module));
    assert_eq!(shown(&lines.at(start)), ["outer some/where/policy.c:7"]);
    assert_eq!(shown(&lines.at(start + 99)), ["outer some/where/policy.c:7"]);
    assert!(lines.at(start + 100).is_empty(), "beyond the unit");
    assert!(lines.at(start - 1).is_empty() && lines.at(usize::MAX).is_empty(), "not in the code");
}

#[test]
fn what_is_inlined_comes_first_and_then_where_it_was_called() {
    let module = tables(2, 0);
    let found = Lines::of(&module).at(start(&module) + 5);
    let expected = ["? some/where/policy.c:7", "? some/where/policy.c:2", "outer some/where/policy.c:1"];
    assert_eq!(shown(&found), expected);
}

#[test]
fn tables_that_are_nested_without_end_do_not_cost_the_stack() {
    let module = tables(300_000, 0);
    assert!(Lines::of(&module).at(start(&module)).is_empty(), "nobody inlines so many");
    // All are gone through here. A machine that is busy may not get that far in time.
    let module = tables(300_000, 200);
    let found = shown(&Lines::of(&module).at(start(&module)));
    assert!(found.is_empty() || found == ["outer some/where/policy.c:7"], "{found:?}");
}

#[test]
fn what_has_no_tables_and_what_has_too_many_has_no_lines() {
    assert!(Lines::of(&module(&[])).modules.is_empty());
    assert!(Lines::of(b"no component").modules.is_empty());
    let (line, flood) = (line_program("", "policy.c"), vec![0; MAX_TABLE_BYTES]);
    assert!(Lines::of(&module(&[(".debug_line", &line), (".debug_str", &flood)])).modules.is_empty());
}

#[test]
fn of_a_path_the_end_is_shown() {
    for (directory, name, expected) in [
        ("", "policy.c", "policy.c"),
        ("src", "lib.rs", "src/lib.rs"),
        ("./my-net/src", "lib.rs", "my-net/src/lib.rs"),
        ("/home/somebody/projects/my-net/src", "lib.rs", "my-net/src/lib.rs"),
        ("src", "/home/somebody/projects/my-net/policy.c", "projects/my-net/policy.c"),
        (r"C:\projects\my-net", "policy.c", "projects/my-net/policy.c"),
    ] {
        assert_eq!(Place::new(directory, name, 3).to_string(), format!("{expected}:3"));
    }
    assert!(Place::new("/rustc/0123abcd/library/core/src", "option.rs", 1).library);
    assert!(!Place::new("core/src", "option.rs", 0).library);
}

#[test]
fn a_component_from_rust_has_its_lines() {
    let bytes = std::fs::read(component("hostile")).expect("read");
    let lines = Lines::of(&bytes);
    let [module] = &lines.modules[..] else { panic!("{} modules", lines.modules.len()) };
    let known = |at: &usize| {
        lines
            .at(*at)
            .iter()
            .any(|spot| spot.place.as_ref().is_some_and(|place| place.file == "hostile/src/lib.rs"))
    };
    assert!(module.code.clone().step_by(16).any(|at| known(&at)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the tables are, the search comes to an end, and says little.
    #[test]
    fn damaged_tables_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let whole = tables(3, 0);
        let start = start(&whole);
        let mut damaged = whole.clone();
        let tables = start + 123..whole.len();
        for (at, byte) in changes {
            damaged[tables.start + at.index(tables.len())] = byte;
        }
        for spot in Lines::of(&damaged).at(start + 5) {
            prop_assert!(spot.place.is_none_or(|place| place.file.len() < 5000));
        }
    }
}
