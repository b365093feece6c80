//! Text in columns.

use std::fmt;

/// Writes rows below each other; a cell has two blanks behind it, but for the last of a row. A row may be shorter than the others:
/// its last cell then stands for the rest, and makes no column wider.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let is_cell = |row: &&Vec<String>| row.len() == columns || column + 1 < row.len();
        let cells = rows.iter().filter(is_cell).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let wide = cell.chars().count();
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(wide) + 2));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
