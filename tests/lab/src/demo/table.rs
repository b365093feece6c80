//! Tables for people.

/// Lays rows out in columns, the first row being the headings, with a blank line before and after.
pub fn lay_out(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str("\n     ");
        text.push_str(cells.join("  ").trim_end());
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = super::lay_out(&[row(["node", "mtu"]), row(["n1", "1450"])]);
        assert_eq!(text, "\n     node  mtu\n     n1    1450\n");
    }
}
