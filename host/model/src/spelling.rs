//! What somebody may have meant who wrote a name that there is not.

/// The known name that is nearest to a word, if two letters or less make the difference; upper and lower case make none.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    let distances = known.iter().map(|name| (distance(&word, &name.to_ascii_lowercase()), *name));
    let (least, name) = distances.min_by_key(|(distance, _)| *distance)?;
    // Of a short word two letters are most of it.
    (least <= 2 && least * 2 < name.chars().count()).then_some(name)
}

/// How many letters have to be put in, taken out, exchanged, or swapped with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, letter) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, against) in other.iter().enumerate() {
            let exchanged = rows[i][j] + usize::from(letter != against);
            let mut least = exchanged.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == other[j - 1] && one[i - 1] == *against {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood_and_another_word_is_not() {
        let known = ["Network", "Backend", "SubnetLen", "SubnetMin", "VNI", "Port"];
        for (written, meant) in [
            ("Netwrok", Some("Network")),
            ("Bakcend", Some("Backend")),
            ("backends", Some("Backend")),
            ("subnet_len", Some("SubnetLen")),
            ("SubnetMn", Some("SubnetMin")),
            ("Prot", Some("Port")),
            ("VIN", Some("VNI")),
            ("XYZ", None),
            ("Comment", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), meant, "{written}");
        }
        assert_eq!(nearest("Network", &[]), None);
    }
}
