//! Tables without lines, fitted to the terminal.
//!
//! On a terminal that is too narrow, ids are shortened in the middle and other text at its end;
//! where even that does not do, each row becomes a few lines of its own. Without a terminal
//! nothing is shortened: a script may look for what is there.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as Layout};
use serde_json::Value;

use super::terminal::{HEAD, Terminal, printable};

/// Columns between two columns.
const GAP: usize = 2;
/// What a shortened cell has at least.
const SHORT_MIN: usize = 8;

/// A column: its head, and how its cells are shown.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    head: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Id,
    Number,
}

impl Column {
    /// Text, which is shortened at its end.
    pub(crate) fn text(head: impl Into<String>) -> Self {
        Self::new(head, Kind::Text)
    }

    /// An id, of which both ends tell something.
    pub(crate) fn id(head: impl Into<String>) -> Self {
        Self::new(head, Kind::Id)
    }

    /// A number with its unit, which is never shortened.
    pub(crate) fn number(head: impl Into<String>) -> Self {
        Self::new(head, Kind::Number)
    }

    fn new(head: impl Into<String>, kind: Kind) -> Self {
        Self {
            head: head.into(),
            kind,
        }
    }
}

/// Rows under their heads.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    /// Whether it may be shortened.
    fits: bool,
}

impl Table {
    /// Rows under these heads.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>, rows: Vec<Vec<String>>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows,
            fits: true,
        }
    }

    /// Names and values, all of them whole: one may be a secret that is shown once.
    pub(crate) fn fields(rows: Vec<Vec<String>>) -> Self {
        Self {
            columns: Vec::new(),
            rows,
            fits: false,
        }
    }

    /// Returns the text, a line or more for each row.
    pub(crate) fn render(&self, terminal: &Terminal) -> String {
        if self.columns.is_empty() {
            return self.laid_out(&self.rows, terminal);
        }
        let width = terminal.width.filter(|_| self.fits);
        let Some(width) = width else {
            return self.laid_out(&self.rows, terminal);
        };
        let mut widths = self.widths();
        match self.shrink(&mut widths, width) {
            true => self.laid_out(&self.shortened(&widths), terminal),
            false => self.cards(terminal, width),
        }
    }

    /// Returns the text, with columns that do not fit in a table of their own below, where the
    /// first column stands again.
    pub(crate) fn in_parts(&self, terminal: &Terminal) -> String {
        let widths = self.widths();
        let most = terminal.width.unwrap_or(usize::MAX);
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut used = usize::MAX;
        for (at, width) in widths.iter().enumerate() {
            let wider = used.saturating_add(GAP + width);
            match parts.last_mut().filter(|_| wider <= most) {
                Some(part) => {
                    part.push(at);
                    used = wider;
                }
                None if at == 0 => {
                    parts.push(vec![0]);
                    used = *width;
                }
                None => {
                    parts.push(vec![0, at]);
                    used = widths[0] + GAP + width;
                }
            }
        }
        let part = |columns: &Vec<usize>| {
            let of = |row: &Vec<String>| columns.iter().map(|at| row[*at].clone()).collect();
            let heads = columns.iter().map(|at| self.columns[*at].clone());
            let part = Self::new(heads, self.rows.iter().map(of).collect());
            part.laid_out(&part.rows, terminal)
        };
        parts.iter().map(part).collect::<Vec<_>>().join("\n")
    }

    /// Of the widest cell of each column.
    fn widths(&self) -> Vec<usize> {
        let layout = self.layout(&self.rows);
        let widths = layout.column_max_content_widths();
        widths.into_iter().map(usize::from).collect()
    }

    /// Takes columns away from the widest ones until the table fits. Returns whether it does.
    fn shrink(&self, widths: &mut [usize], most: usize) -> bool {
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > most {
            let columns = self.columns.iter().zip(widths.iter_mut());
            let shrinkable = columns.filter(|(column, width)| {
                let head = column.head.chars().count();
                column.kind != Kind::Number && **width > SHORT_MIN.max(head)
            });
            let Some((_, widest)) = shrinkable.max_by_key(|(_, width)| **width) else {
                return false;
            };
            *widest -= 1;
        }
        true
    }

    fn shortened(&self, widths: &[usize]) -> Vec<Vec<String>> {
        let short = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.columns).zip(widths);
            cells
                .map(|((cell, column), width)| match column.kind {
                    Kind::Id => in_the_middle(cell, *width),
                    _ => at_the_end(cell, *width),
                })
                .collect()
        };
        self.rows.iter().map(short).collect()
    }

    /// Each row as lines of head and cell.
    fn cards(&self, terminal: &Terminal, most: usize) -> String {
        let heads = self
            .columns
            .iter()
            .map(|column| column.head.chars().count());
        let left = most.saturating_sub(heads.max().unwrap_or_default() + GAP);
        let widths = vec![left.max(SHORT_MIN); self.columns.len()];
        let card = |row: &Vec<String>| {
            let columns = self.columns.iter().zip(row);
            let lines = columns.map(|(column, cell)| vec![column.head.clone(), cell.clone()]);
            Self::fields(lines.collect()).render(terminal)
        };
        let cards = self.shortened(&widths);
        cards.iter().map(card).collect::<Vec<_>>().join("\n")
    }

    fn layout(&self, rows: &[Vec<String>]) -> Layout {
        let mut layout = Layout::new();
        layout.load_style(NOTHING);
        if !self.columns.is_empty() {
            layout.set_header(self.columns.iter().map(|column| column.head.as_str()));
        }
        layout.add_rows(rows.iter().cloned());
        for (at, column) in layout.column_iter_mut().enumerate() {
            column.set_padding((0, GAP as u16));
            if self.columns.get(at).map(|it| it.kind) == Some(Kind::Number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        layout
    }

    fn laid_out(&self, rows: &[Vec<String>], terminal: &Terminal) -> String {
        if rows.is_empty() && self.columns.is_empty() {
            return String::new();
        }
        let mut text = String::new();
        for (at, line) in self.layout(rows).lines().enumerate() {
            let line = line.trim_end();
            if at == 0 && !self.columns.is_empty() {
                text += &terminal.styled(HEAD, line);
            } else {
                text += line;
            }
            text.push('\n');
        }
        text
    }
}

/// A text of so many characters at most, without its middle.
pub(super) fn in_the_middle(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most || most == 0 {
        return text.to_owned();
    }
    let tail = (most - 1) / 2;
    let head: String = text.chars().take(most - 1 - tail).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

/// A text of so many characters at most, without its end.
pub(super) fn at_the_end(text: &str, most: usize) -> String {
    if text.chars().count() <= most || most == 0 {
        return text.to_owned();
    }
    let head: String = text.chars().take(most - 1).collect();
    format!("{head}…")
}

/// A value in one line.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        value => printable(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [
            Column::id("KEY"),
            Column::text("NAME"),
            Column::number("CONNECTIONS"),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        Table::new(
            columns,
            vec![
                row(["pk_live_0123456789abcdef", "The shop of Ä", "1.2 k"]),
                row(["sk_id_a", "", "7"]),
            ],
        )
    }

    #[track_caller]
    fn check(width: Option<usize>, expected: &str) {
        let terminal = Terminal {
            width,
            ..Terminal::default()
        };
        assert_eq!(table().render(&terminal), expected, "{width:?}");
    }

    #[test]
    fn without_a_terminal_everything_is_whole() {
        let expected = "\
KEY                       NAME           CONNECTIONS
pk_live_0123456789abcdef  The shop of Ä        1.2 k
sk_id_a                                            7
";
        check(None, expected);
        check(Some(52), expected);
    }

    #[test]
    fn ids_are_shortened_in_the_middle() {
        let expected = "\
KEY             NAME           CONNECTIONS
pk_live…abcdef  The shop of Ä        1.2 k
sk_id_a                                  7
";
        check(Some(42), expected);
        let expected = "\
KEY       NAME      CONNECTIONS
pk_l…def  The sho…        1.2 k
sk_id_a                       7
";
        check(Some(31), expected);
    }

    #[test]
    fn what_does_not_fit_at_all_becomes_lines() {
        let expected = "\
KEY          pk_live_…89abcdef
NAME         The shop of Ä
CONNECTIONS  1.2 k

KEY          sk_id_a
NAME
CONNECTIONS  7
";
        check(Some(30), expected);
    }

    #[test]
    fn heads_have_colour_where_there_is_any() {
        let terminal = Terminal {
            color: true,
            ..Terminal::default()
        };
        let text = table().render(&terminal);
        assert!(text.starts_with("\u{1b}[1mKEY"), "{text:?}");
    }

    #[test]
    fn a_table_without_rows_has_its_heads() {
        let table = Table::new([Column::text("A"), Column::number("B")], Vec::new());
        assert_eq!(table.render(&Terminal::default()), "A  B\n");
        let none = Table::fields(Vec::new());
        assert_eq!(none.render(&Terminal::default()), "");
    }
}
