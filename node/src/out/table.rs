//! Tables for people: cells under their headings, numbers to the right, and no more columns than the terminal has room
//! for.

use super::width;

/// Between two columns.
const GAP: usize = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its heading.
    pub name: &'a str,
    /// How much it matters: where there is no room for all, the lowest goes first, and of equals the last.
    pub matters: u8,
}

impl<'a> Column<'a> {
    /// One that is always there.
    #[must_use]
    pub const fn always(name: &'a str) -> Self {
        Self { name, matters: u8::MAX }
    }
}

/// The heading, then the rows, each as a line of at most `within` columns where leaving columns out can achieve that.
pub(super) fn lines(columns: &[Column<'_>], rows: &[Vec<String>], within: Option<usize>) -> Vec<String> {
    let shapes: Vec<Shape> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| Shape::of(index, column, rows))
        .collect();
    let shown = fitting(shapes, within);
    let heading = shown.iter().map(|shape| shape.cell(columns[shape.index].name));
    let mut lines = vec![line(heading)];
    lines.extend(rows.iter().map(|row| {
        let cell = |shape: &Shape| shape.cell(row.get(shape.index).map_or("", String::as_str));
        line(shown.iter().map(cell))
    }));
    lines
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
    line.trim_end().to_owned()
}

/// How one column is laid out.
struct Shape {
    index: usize,
    matters: u8,
    width: usize,
    numeric: bool,
}

impl Shape {
    fn of(index: usize, column: &Column<'_>, rows: &[Vec<String>]) -> Self {
        let cells = || rows.iter().filter_map(|row| row.get(index));
        let widest = cells().map(|cell| width(cell)).max().unwrap_or(0);
        Self {
            index,
            matters: column.matters,
            width: widest.max(width(column.name)),
            numeric: !rows.is_empty() && cells().all(|cell| is_number(cell)),
        }
    }

    fn cell(&self, text: &str) -> String {
        let padding = " ".repeat(self.width.saturating_sub(width(text)));
        if self.numeric {
            padding + text
        } else {
            text.to_owned() + &padding
        }
    }
}

fn fitting(mut shapes: Vec<Shape>, within: Option<usize>) -> Vec<Shape> {
    let Some(within) = within else { return shapes };
    let needed = |shapes: &[Shape]| shapes.iter().map(|shape| shape.width + GAP).sum::<usize>();
    while needed(&shapes).saturating_sub(GAP) > within {
        let least = shapes
            .iter()
            .enumerate()
            .min_by_key(|(at, shape)| (shape.matters, usize::MAX - at));
        match least {
            Some((at, shape)) if shape.matters < u8::MAX => drop(shapes.remove(at)),
            _ => break,
        }
    }
    shapes
}

/// Numbers with their units, and the words that stand for none.
fn is_number(cell: &str) -> bool {
    matches!(cell, "-" | "free")
        || cell.starts_with(|c: char| c.is_ascii_digit() || c == '$')
            && cell.chars().all(|c| c.is_ascii_digit() || "$.,% ms/kM".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        rows.iter().map(row).collect()
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let columns = ["name", "price"].map(Column::always);
        let lines = lines(&columns, &rows(&[&["ab", "$1.25"], &["語", "free"]]), None);
        assert_eq!(lines, ["name  price", "ab    $1.25", "語     free"]);
        assert!(is_number("$0.25") && is_number("12 ms") && is_number("-") && is_number("32k"));
        assert!(!is_number("completed") && !is_number("ab12"));
    }

    #[test]
    fn columns_leave_in_the_order_of_what_they_matter() {
        let column = |name, matters| Column { name, matters };
        let columns = [
            Column::always("model"),
            column("speed", 2),
            column("words", 1),
            column("bits", 1),
        ];
        let rows = rows(&[&["m", "1", "a", "b"]]);
        let heading = |within| lines(&columns, &rows, Some(within))[0].clone();
        assert_eq!(heading(25), "model  speed  words  bits");
        assert_eq!(heading(24), "model  speed  words");
        assert_eq!(heading(18), "model  speed");
        assert_eq!(heading(11), "model");
        assert_eq!(heading(1), "model", "what always stands is not cut");
    }
}
