//! A way in for `fuzz/`: readers of what strangers write, without what surrounds them.

use crate::debuginfo::Lines;
use crate::{grant_file, registry};

/// A grants file. The error is what an operator is told.
pub fn grants(text: &str) -> Result<(), String> {
    grant_file::check_text(text)
}

/// What registries and their token servers answer. Errors are what an operator is told.
pub fn registry_answer(bytes: &[u8]) -> Vec<String> {
    registry::read_answers(bytes)
}

/// The line tables of a component, looked into at a place of it. What is found, as it is shown.
pub fn lines(component: &[u8], offset: usize) -> Vec<String> {
    let spots = Lines::of(component).at(offset);
    spots.into_iter().filter_map(|spot| Some(spot.place?.to_string())).collect()
}
