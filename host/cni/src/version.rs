//! Versions of the CNI specification.

/// Those that this plugin speaks: what it gets and answers itself is the same in all of them.
pub(crate) const SUPPORTED: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", NEWEST];
/// The newest of them.
pub(crate) const NEWEST: &str = "1.1.0";
/// What a configuration is of that names none.
pub(crate) const UNNAMED: &str = "0.1.0";

/// Whether a version that is supported has `CHECK`.
pub(crate) fn has_check(version: &str) -> bool {
    place(version) >= place("0.4.0")
}

/// Whether a version that is supported has `STATUS` and `GC`.
pub(crate) fn has_status(version: &str) -> bool {
    place(version) >= place("1.1.0")
}

fn place(version: &str) -> Option<usize> {
    SUPPORTED.iter().position(|supported| *supported == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_with_their_versions() {
        let with = |has: fn(&str) -> bool| SUPPORTED.into_iter().filter(|it| has(it)).collect::<Vec<_>>();
        assert_eq!(with(has_check), ["0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(with(has_status), ["1.1.0"]);
        assert!(!has_check("nonsense") && !has_status("9.0.0"));
    }
}
