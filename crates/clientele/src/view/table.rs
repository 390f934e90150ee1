//! Tables that a terminal of any width can show: words and figures are never broken.
use std::io::{self, IsTerminal};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, TableComponent, Width, presets};

/// Width of tables that go to a file or a pipe, in characters: a page of a report, on its side.
const WIDTH: u16 = 140;
/// Longest word that a column of text is kept wide enough for: an id as long as a UUID still stands on one line.
const LONGEST_WORD: usize = 36;
/// What comfy-table leaves free on both sides of a cell.
const PADDING: usize = 2;
/// Stands for a blank at which nothing is broken, and is a blank again when the table is printed.
const FIRM: &str = "\u{a0}";

/// Names with their figures, parted by two blanks, each name kept with its figure: `r 0.243  alpha 4.414`.
pub fn firm(pairs: &str) -> String {
    pairs.split("  ").map(|pair| pair.replace(' ', FIRM)).collect::<Vec<_>>().join("  ")
}

/// A table with a header; columns named in `right` (by index) hold numbers, which are never broken. A last column without a title holds bars,
/// which are left out where there is no room; where a row has no room at all, each becomes a table of its own.
pub fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let width = (!io::stdout().is_terminal()).then_some(WIDTH);
    within(width, header, right, &rows)
}

/// The same for a terminal of this width, or of that which there is.
fn within(width: Option<u16>, header: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let (fits, text) = try_within(width, header, right, rows);
    if fits || header.len() < 3 {
        return text;
    }
    if header.last() == Some(&"") {
        let header = &header[..header.len() - 1];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().take(header.len()).cloned().collect()).collect();
        return within(width, header, right, &rows);
    }
    let cards = rows.iter().map(|row| {
        let title = row.first().map_or("", String::as_str);
        let lines = header.iter().zip(row).skip(1).map(|(name, cell)| vec![(*name).to_owned(), cell.clone()]);
        try_within(width, &[header[0], title], &[], &lines.collect::<Vec<_>>()).1
    });
    cards.collect::<Vec<_>>().join("\n")
}

/// Whether it fits, and the table.
fn try_within(width: Option<u16>, header: &[&str], right: &[usize], rows: &[Vec<String>]) -> (bool, String) {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    // Lines above, below and under the header; rows and columns stand close, so that a page holds many.
    for line in [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
        // Without them no blank parts the columns, whose cells have blanks of their own.
        TableComponent::TopBorderIntersections,
        TableComponent::MiddleHeaderIntersections,
        TableComponent::BottomBorderIntersections,
        TableComponent::LeftBorderIntersections,
        TableComponent::RightBorderIntersections,
    ] {
        table.remove_style(line);
    }
    if let Some(width) = width {
        table.set_width(width);
    }
    for row in rows {
        table.add_row(row.iter().enumerate().map(|(index, cell)| {
            let cell = if right.contains(&index) { cell.replace(' ', FIRM) } else { cell.clone() };
            Cell::new(cell)
        }));
    }
    let room = table.width().map(usize::from);
    let columns: Vec<Column> = (0..header.len())
        .map(|index| Column::of(header[index], right.contains(&index), rows.iter().filter_map(|row| row.get(index))))
        .collect();
    let widths = share_out(&columns, room.unwrap_or(usize::MAX));
    for (index, width) in widths.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(u16::try_from(*width).unwrap_or(u16::MAX))));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let wide: usize = widths.iter().sum();
    // Borders are drawn with a blank between the columns all the same.
    let whole = |line: &str| if line.starts_with('─') { "─".repeat(wide) } else { line.replace(FIRM, " ") };
    let text: Vec<String> = table.lines().map(|line| whole(&line)).collect();
    (room.is_none_or(|room| wide <= room), text.join("\n"))
}

/// What a column needs so that nothing in it is broken that must not be, and what it would take.
struct Column {
    least: usize,
    most: usize,
}

impl Column {
    fn of<'a>(title: &str, number: bool, cells: impl Iterator<Item = &'a String>) -> Self {
        let longest =
            |text: &str, marks: &[char]| text.split(marks).map(|part| part.chars().count()).max().unwrap_or(0);
        let words = |text: &str| longest(text, &[' ', '\n']).min(LONGEST_WORD);
        let mut column = Self { least: words(title), most: longest(title, &['\n']) };
        for cell in cells {
            column.least = column.least.max(if number { cell.chars().count() } else { words(cell) });
            column.most = column.most.max(longest(cell, &['\n']));
        }
        Self { least: column.least + PADDING, most: column.most + PADDING }
    }
}

/// The width of each column: what it needs, and of what is left a share, until it has what it would take.
fn share_out(columns: &[Column], room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.least).collect();
    let mut left = room.saturating_sub(widths.iter().sum());
    loop {
        let hungry: Vec<usize> = (0..columns.len()).filter(|index| widths[*index] < columns[*index].most).collect();
        if left == 0 || hungry.is_empty() {
            return widths;
        }
        for index in hungry {
            let more = left.min(1);
            widths[index] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 6] = ["tier", "customers", "share of revenue", "lowest value, USD", "revenue, USD", ""];

    fn pyramid(width: u16) -> String {
        let row = |tier: &str, bar: usize| {
            let cells = [tier, "471", "43.4 %", "135.71", "100,035,525.16"].map(str::to_owned);
            cells.into_iter().chain(["█".repeat(bar)]).collect::<Vec<_>>()
        };
        within(Some(width), &HEADER, &[1, 2, 3, 4], &[row("important", 20), row("major", 3)])
    }

    #[test]
    fn no_figure_and_no_word_is_broken_however_narrow_the_terminal_is() {
        for width in [40, 50, 60, 70, 80, 100, 140] {
            let text = pyramid(width);
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{width}:\n{text}");
            for whole in ["100,035,525.16", "43.4 %", "important", "customers", "revenue"] {
                assert!(text.contains(whole), "{width}: {whole} is broken:\n{text}");
            }
            assert!(!text.contains(FIRM));
        }
        assert!(pyramid(100).contains('█') && !pyramid(60).contains('█'));
        // Too narrow for a row: one below the other, with their titles.
        assert_eq!([60, 40].map(|width| pyramid(width).matches("customers").count()), [1, 2]);
    }

    #[test]
    fn names_are_broken_between_their_words() {
        let rows = [["BG/NBD", &firm("r 0.243  alpha 4.414"), "Schmittlein, Morrison & Colombo 1987"]
            .map(str::to_owned)
            .into()];
        let text = within(Some(44), &["model", "fitted here", "paper"], &[], &rows);
        assert!(
            text.contains("alpha 4.414")
                && text.contains("Schmittlein,")
                && text.contains("Morrison")
                && text.contains("Colombo"),
            "{text}"
        );
    }
}
