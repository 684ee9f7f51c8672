//! Columns that stand under each other.

use crate::printable::printable;
use crate::say;

/// Prints a head and its rows; the last column is as long as it is.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) {
    for line in lines(head, rows) {
        say(line);
    }
}

pub(crate) fn lines(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    // Before it is measured: what is escaped is longer.
    let safe = |row: &Vec<String>| row.iter().map(|cell| printable(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(safe).collect();
    let rows = rows.as_slice();
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_whatever_stands_in_it() {
        let rows =
            [vec!["a\n9".to_owned(), "\x1b[2J".to_owned()], vec!["1".to_owned(), "x".to_owned()]];
        assert_eq!(
            lines(&["ID", "ORIGIN"], &rows),
            ["ID    ORIGIN", "a\\n9  \\u001b[2J", "1     x"]
        );
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["1", "größer", "x"], ["200", "b", ""]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(
            lines(&["ID", "WHAT", "WHY"], &rows),
            ["ID   WHAT    WHY", "1    größer  x", "200  b"]
        );
    }
}
