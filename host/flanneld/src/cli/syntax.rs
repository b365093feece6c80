//! Values as Go's flag package reads them, which is what upstream's operators write.

use std::ops::RangeInclusive;

/// `1 t T TRUE true True 0 f F FALSE false False`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("a switch is true or false".to_owned()),
    }
}

/// Whole numbers within bounds, in any of Go's bases: `0x` hexadecimal, `0o` or a leading `0` octal, `0b` binary, with `_`
/// between digits.
pub(super) fn integer(range: RangeInclusive<i64>) -> impl Fn(&str) -> Result<i64, String> + Clone {
    move |text| {
        let wrong = || format!("a whole number from {} to {} is needed", range.start(), range.end());
        read_integer(text).filter(|number| range.contains(number)).ok_or_else(wrong)
    }
}

fn read_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        [b'_', ..] => return None,
        _ => (10, lower.as_str()),
    };
    // Behind a prefix there may be one.
    let bare = digits.strip_prefix('_').unwrap_or(digits);
    if bare.is_empty() || bare.starts_with(['-', '+', '_']) || bare.ends_with('_') || bare.contains("__") {
        return None;
    }
    let number = i64::from_str_radix(&bare.replace('_', ""), radix).ok()?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("60", 60),
            ("0x10", 16),
            ("010", 8),
            ("0o17", 15),
            ("0b11", 3),
            ("1_000", 1000),
            ("-5", -5),
            ("0", 0),
            ("+7", 7),
        ] {
            assert_eq!(read_integer(text), Some(number), "{text}");
        }
        for text in ["", "abc", "1.5", "09", "1__0", "1_", "_1", "0x__1", "--1", "0x", "+-1", "5s"] {
            assert_eq!(read_integer(text), None, "{text}");
        }
    }

    #[test]
    fn switches_are_read_as_go_reads_them() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("False"), Ok(false));
        for text in ["yes", "no", "on", "tRUE", ""] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }
}
