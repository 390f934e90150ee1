//! Statements over many rows, in few texts: a database prepares each text once and keeps it.
//!
//! On SQLite rows are parameters of `VALUES (?,?),(?,?)…`. On PostgreSQL, where parsing, binding and planning thousands of them takes longer than writing
//! the rows, each column is one parameter: an array, which `unnest` turns into rows. The text is then the same for every count.
use std::fmt::Write;

use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};

use crate::{
    error::{Error, Result},
    hex,
};

/// Below this many rows every count has a text of its own.
const EXACT_BELOW: usize = 16;
/// Below this many rows, what one moment's callers bring, counts go in steps of this; above, they are powers of two, so that there are few texts.
const STEPS: (usize, usize) = (128, 8);
/// Bind parameters of one statement on SQLite. It allows 32,766, but keeps some hundred bytes for each in every statement that it has prepared, and
/// hundreds of rows cost each no more than thousands do.
const MAX_PARAMETERS: usize = 8_192;
/// Rows of one statement on PostgreSQL: a few megabytes of arrays.
const MAX_ROWS: usize = 16_384;

/// How many of `left` rows of `columns` columns go into the next statement on SQLite.
fn chunk(left: usize, columns: usize) -> usize {
    let most = left.min(MAX_PARAMETERS / columns);
    let (below, step) = STEPS;
    match most {
        _ if most < EXACT_BELOW => most,
        _ if most < below => most - most % step,
        _ => 1 << most.ilog2(),
    }
}

/// The least count from `rows` on that one statement takes, of few columns.
fn filled(rows: usize) -> usize {
    let (below, step) = STEPS;
    match rows {
        _ if rows < EXACT_BELOW => rows,
        _ if rows < below => rows.next_multiple_of(step),
        _ => rows.next_power_of_two(),
    }
}

/// Writes `(?,?),(?,?)…`: named parameters SQLite would look up one after the other, which takes seconds for thousands of them.
fn push_places(text: &mut String, rows: usize, columns: usize) {
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            text.push_str(if column == 0 { "?" } else { ",?" });
        }
        text.push(')');
    }
}

/// A column on its way to PostgreSQL: its type, and its values as the text of an array.
struct Array {
    kind: &'static str,
    text: String,
}

impl Array {
    /// An array of what this value is.
    fn like(value: &Value) -> Result<Self> {
        let kind = match value {
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::BigInt(_) => "bigint",
            Value::Double(_) => "double precision",
            Value::String(_) => "text",
            Value::Bytes(_) => "bytea",
            Value::Uuid(_) => "uuid",
            // Not the value itself: it may be of a person.
            _ => return Err(Error::Internal("a column of this kind is not written in bulk".to_owned())),
        };
        Ok(Self { kind, text: "{".to_owned() })
    }

    fn push(&mut self, value: &Value) {
        let text = &mut self.text;
        if text.len() > 1 {
            text.push(',');
        }
        // Writing to a string never fails.
        let _ = match value {
            Value::Bool(Some(value)) => write!(text, "{value}"),
            Value::Int(Some(value)) => write!(text, "{value}"),
            Value::BigInt(Some(value)) => write!(text, "{value}"),
            Value::Double(Some(value)) => write!(text, "{value}"),
            Value::Uuid(Some(value)) => write!(text, "{value}"),
            Value::String(Some(value)) => {
                push_quoted(text, value);
                Ok(())
            }
            Value::Bytes(Some(value)) => {
                push_hex(text, value);
                Ok(())
            }
            _ => write!(text, "NULL"),
        };
    }

    fn done(mut self) -> Value {
        self.text.push('}');
        self.text.into()
    }
}

/// Between quotes everything stands for itself but quotes and backslashes.
fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    for part in value.split_inclusive(['"', '\\']) {
        match part.strip_suffix(['"', '\\']) {
            Some(plain) => {
                text.push_str(plain);
                text.push('\\');
                text.push_str(&part[plain.len()..]);
            }
            None => text.push_str(part),
        }
    }
    text.push('"');
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    text.reserve(bytes.len() * 2 + 5);
    text.push_str("\"\\\\x");
    text.extend(bytes.iter().flat_map(|byte| hex(*byte)).map(char::from));
    text.push('"');
}

/// Runs `into rows tail` for all rows, chunk by chunk in their order, where `into` is `INSERT INTO table (columns)`; how many rows were affected.
/// The first column is never null.
///
/// # Errors
/// `Database`.
pub async fn insert<C: ConnectionTrait, const N: usize>(
    connection: &C,
    into: &str,
    rows: impl ExactSizeIterator<Item = [Value; N]>,
    tail: &str,
) -> Result<u64> {
    run(connection, Chunks::new(connection, Form::Insert, into, rows, tail)).await
}

/// The same with a tail that gives rows back.
///
/// # Errors
/// `Database`.
pub async fn insert_returning<C: ConnectionTrait, const N: usize>(
    connection: &C,
    into: &str,
    rows: impl ExactSizeIterator<Item = [Value; N]>,
    tail: &str,
) -> Result<Vec<QueryResult>> {
    fetch(connection, Chunks::new(connection, Form::Insert, into, rows, tail)).await
}

/// Runs `head rows tail` for all rows, chunk by chunk in their order, where the rows are a query of their own with the columns `column1`, `column2` and
/// so on: `… WHERE key IN (` and `)`. How many rows were affected.
///
/// # Errors
/// `Database`.
pub async fn execute<C: ConnectionTrait, const N: usize>(
    connection: &C,
    head: &str,
    rows: impl ExactSizeIterator<Item = [Value; N]>,
    tail: &str,
) -> Result<u64> {
    run(connection, Chunks::new(connection, Form::Plain, head, rows, tail)).await
}

/// The same for a statement that gives rows back.
///
/// # Errors
/// `Database`.
pub async fn query<C: ConnectionTrait, const N: usize>(
    connection: &C,
    head: &str,
    rows: impl ExactSizeIterator<Item = [Value; N]>,
    tail: &str,
) -> Result<Vec<QueryResult>> {
    fetch(connection, Chunks::new(connection, Form::Plain, head, rows, tail)).await
}

async fn run<C: ConnectionTrait, const N: usize>(
    connection: &C,
    mut chunks: Chunks<'_, impl ExactSizeIterator<Item = [Value; N]>>,
) -> Result<u64> {
    let (mut affected, mut next) = (0, chunks.next()?);
    while let Some(statement) = next {
        // The next statement is made while the database is busy with this one.
        let (done, made) = futures::join!(connection.execute_raw(statement), async { chunks.next() });
        affected += done?.rows_affected();
        next = made?;
    }
    Ok(affected)
}

async fn fetch<C: ConnectionTrait, const N: usize>(
    connection: &C,
    mut chunks: Chunks<'_, impl ExactSizeIterator<Item = [Value; N]>>,
) -> Result<Vec<QueryResult>> {
    let (mut found, mut next) = (Vec::new(), chunks.next()?);
    while let Some(statement) = next {
        let (done, made) = futures::join!(connection.query_all_raw(statement), async { chunks.next() });
        found.append(&mut done?);
        next = made?;
    }
    Ok(found)
}

/// Runs the select `head rows tail` that asks for rows by their keys. On SQLite some are asked for twice, so that it takes one statement where
/// [`query`] would take several.
///
/// # Errors
/// `Database`.
pub async fn find<C: ConnectionTrait, const N: usize>(
    connection: &C,
    head: &str,
    keys: impl Iterator<Item = [Value; N]>,
    tail: &str,
) -> Result<Vec<QueryResult>> {
    let mut keys: Vec<_> = keys.collect();
    if connection.get_database_backend() != DatabaseBackend::Postgres
        && let Some(last) = keys.last().cloned()
    {
        let rest = keys.len() % (1 << (MAX_PARAMETERS / N).ilog2());
        keys.resize(keys.len() - rest + filled(rest), last);
    }
    query(connection, head, keys.into_iter(), tail).await
}

/// What the rows stand in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they are.
    Plain,
    /// In an INSERT: on SQLite some rows of nulls may be among them, which it leaves out. So a moment's worth of rows takes one statement in one of few
    /// texts.
    Insert,
}

/// Rows on their way into statements.
struct Chunks<'a, I> {
    backend: DatabaseBackend,
    form: Form,
    head: &'a str,
    rows: I,
    tail: &'a str,
}

impl<'a, I: ExactSizeIterator<Item = [Value; N]>, const N: usize> Chunks<'a, I> {
    fn new<C: ConnectionTrait>(connection: &C, form: Form, head: &'a str, rows: I, tail: &'a str) -> Self {
        Self { backend: connection.get_database_backend(), form, head, rows, tail }
    }

    fn next(&mut self) -> Result<Option<Statement>> {
        let left = self.rows.len();
        if self.backend == DatabaseBackend::Postgres {
            return self.arrays(left.min(MAX_ROWS));
        }
        let fills = self.form == Form::Insert && (EXACT_BELOW..=STEPS.0).contains(&left);
        let (count, filled) = if fills { (left, filled(left)) } else { [chunk(left, N); 2].into() };
        Ok((count > 0).then(|| self.places(count, filled, fills)))
    }

    /// So many rows as parameters, in a text that has room for `filled`.
    fn places(&mut self, count: usize, filled: usize, fills: bool) -> Statement {
        let mut text = String::with_capacity(self.head.len() + self.tail.len() + filled * (2 * N + 2) + 64);
        text.push_str(self.head);
        text.push_str(if fills { " SELECT * FROM (VALUES " } else { " VALUES " });
        push_places(&mut text, filled, N);
        if fills {
            text.push_str(") AS filled WHERE column1 IS NOT NULL");
        }
        text.push_str(self.tail);
        let mut values = Vec::with_capacity(filled * N);
        for row in self.rows.by_ref().take(count) {
            values.extend(row);
        }
        let nulls: Vec<Value> = values.iter().take(N).map(Value::as_null).collect();
        values.extend(nulls.iter().cycle().take((filled - count) * N).cloned());
        Statement::from_sql_and_values(self.backend, text, values)
    }

    /// So many rows as arrays.
    fn arrays(&mut self, count: usize) -> Result<Option<Statement>> {
        let mut rows = self.rows.by_ref().take(count);
        let Some(first) = rows.next() else { return Ok(None) };
        let mut arrays = first.iter().map(Array::like).collect::<Result<Vec<_>>>()?;
        for row in std::iter::once(first).chain(rows) {
            arrays.iter_mut().zip(&row).for_each(|(array, value)| array.push(value));
        }
        let mut text = format!("{} SELECT * FROM unnest(", self.head);
        // An array has no type that its text would tell, so it is sent as text and made one there.
        for (number, array) in (1..).zip(&arrays) {
            let _ = write!(text, "{}${number}::text::{}[]", if number == 1 { "" } else { ", " }, array.kind);
        }
        text.push_str(") AS given(");
        for number in 1..=N {
            let _ = write!(text, "{}column{number}", if number == 1 { "" } else { ", " });
        }
        text.push(')');
        text.push_str(self.tail);
        let values: Vec<Value> = arrays.into_iter().map(Array::done).collect();
        Ok(Some(Statement::from_sql_and_values(self.backend, text, values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_statement_texts_cover_every_count() {
        let texts: std::collections::BTreeSet<usize> = (1..=5_000)
            .flat_map(|rows| {
                let mut left = rows;
                std::iter::from_fn(move || {
                    let next = chunk(left, 8);
                    left -= next;
                    (next > 0).then_some(next)
                })
            })
            .collect();
        assert!(texts.len() <= 40, "{texts:?}");
        assert!(texts.iter().all(|rows| rows * 8 <= MAX_PARAMETERS));
    }

    #[test]
    fn keys_that_are_filled_up_take_one_statement() {
        for rows in 1..=MAX_PARAMETERS / 2 {
            let filled = filled(rows);
            assert!(filled >= rows && chunk(filled, 2) == filled, "{rows}: {filled}");
        }
    }

    /// The statements of so many rows of two columns.
    fn inserts(backend: DatabaseBackend, rows: usize) -> Vec<Statement> {
        let rows = (0..rows).map(|number| [i64::try_from(number).unwrap().into(), "text".into()]);
        let mut chunks = Chunks { backend, form: Form::Insert, head: "INSERT INTO t (a, b)", rows, tail: " TAIL" };
        std::iter::from_fn(|| chunks.next().unwrap()).collect()
    }

    #[test]
    fn a_moments_worth_of_rows_is_filled_up_to_one_statement() {
        let inserts = |rows| -> Vec<_> {
            let shape =
                |statement: Statement| (statement.values.unwrap().0.len(), statement.sql.contains("IS NOT NULL"));
            inserts(DatabaseBackend::Sqlite, rows).into_iter().map(shape).collect()
        };
        assert_eq!(inserts(15), [(30, false)]);
        assert_eq!(inserts(61), [(128, true)]);
        assert_eq!(inserts(128), [(256, true)]);
        assert_eq!(inserts(300), [(512, false), (96, true)]);
    }

    #[test]
    fn on_postgres_every_count_has_the_same_text_and_a_parameter_for_each_column() {
        let text = "INSERT INTO t (a, b) SELECT * FROM unnest($1::text::bigint[], $2::text::text[]) AS given(column1, column2) TAIL";
        for (rows, statements) in [(0, 0), (1, 1), (2, 1), (MAX_ROWS, 1), (MAX_ROWS + 1, 2)] {
            let inserts = inserts(DatabaseBackend::Postgres, rows);
            assert_eq!(inserts.len(), statements);
            assert!(inserts.iter().all(|insert| insert.sql == text && insert.values.as_ref().unwrap().0.len() == 2));
        }
        let two = inserts(DatabaseBackend::Postgres, 2).remove(0).values.unwrap().0;
        assert_eq!(two, ["{0,1}".into(), r#"{"text","text"}"#.into()]);
    }

    #[test]
    fn what_would_end_a_text_in_an_array_is_escaped() {
        let mut array = Array::like(&"".into()).unwrap();
        for value in ["", "NULL", r#"a "b" \ c"#, "{d,e}"] {
            array.push(&value.into());
        }
        array.push(&Value::String(None));
        assert_eq!(array.done(), r#"{"","NULL","a \"b\" \\ c","{d,e}",NULL}"#.into());
        let mut array = Array::like(&Value::Bytes(None)).unwrap();
        array.push(&vec![0_u8, 0xab, 0xff].into());
        assert_eq!(array.done(), r#"{"\\x00abff"}"#.into());
        assert!(Array::like(&Value::Char(Some('c'))).is_err());
    }

    #[test]
    fn parameters_of_sqlite_have_no_names() {
        let mut text = String::new();
        push_places(&mut text, 2, 2);
        assert_eq!(text, "(?,?),(?,?)");
    }
}
