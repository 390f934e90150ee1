//! Statements over many rows, in few texts: a database prepares each text once and keeps it.
use std::fmt::Write;

use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};

use crate::error::Result;

/// Below this many rows every count has a text of its own.
const EXACT_BELOW: usize = 16;
/// Below this many rows, what one moment's callers bring, counts go in steps of this; above, they are powers of two, so that there are few texts.
const STEPS: (usize, usize) = (128, 8);
/// Bind parameters of one statement. SQLite allows 32,766, but keeps some hundred bytes for each in every statement that it has prepared, and
/// hundreds of rows cost each no more than thousands do. PostgreSQL allows 65,535, and there every statement is a way there and back.
fn max_parameters(backend: DatabaseBackend) -> usize {
    if backend == DatabaseBackend::Postgres { 32_768 } else { 8_192 }
}

/// How many of `left` rows of `columns` columns go into the next statement.
fn chunk(left: usize, columns: usize, max_parameters: usize) -> usize {
    let most = left.min(max_parameters / columns);
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

/// Writes `($1,$2),($3,$4)…`. SQLite gets `?`: it looks named parameters up one after the other, which takes seconds for thousands of them.
fn push_rows(text: &mut String, backend: DatabaseBackend, rows: usize, columns: usize) {
    let mut number = 1;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            if column > 0 {
                text.push(',');
            }
            push_parameter(text, backend, number);
            number += 1;
        }
        text.push(')');
    }
}

fn push_parameter(text: &mut String, backend: DatabaseBackend, number: usize) {
    if backend == DatabaseBackend::Postgres {
        let _ = write!(text, "${number}");
    } else {
        text.push('?');
    }
}

/// Runs `into (…),(…) tail` over all rows, chunk by chunk in their order, where `into` is `INSERT INTO table (columns)`; how many rows were affected.
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

/// Runs `head (…),(…) tail` over all rows, chunk by chunk in their order; how many rows were affected.
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
    let mut affected = 0;
    while let Some(statement) = chunks.next() {
        affected += connection.execute_raw(statement).await?.rows_affected();
    }
    Ok(affected)
}

async fn fetch<C: ConnectionTrait, const N: usize>(
    connection: &C,
    mut chunks: Chunks<'_, impl ExactSizeIterator<Item = [Value; N]>>,
) -> Result<Vec<QueryResult>> {
    let mut found = Vec::new();
    while let Some(statement) = chunks.next() {
        found.extend(connection.query_all_raw(statement).await?);
    }
    Ok(found)
}

/// Runs the select `head (…),(…) tail` that asks for rows by their keys. Some are asked for twice, so that it takes one statement where [`query`]
/// would take several.
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
    if let Some(last) = keys.last().cloned() {
        let rest = keys.len() % (1 << (max_parameters(connection.get_database_backend()) / N).ilog2());
        keys.resize(keys.len() - rest + filled(rest), last);
    }
    query(connection, head, keys.into_iter(), tail).await
}

/// What the rows stand in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they are.
    Plain,
    /// In an INSERT: some rows of nulls may be among them, which it leaves out. So a moment's worth of rows takes one statement in one of few texts.
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

    fn next(&mut self) -> Option<Statement> {
        let most = max_parameters(self.backend);
        let left = self.rows.len();
        let fills = self.form == Form::Insert && (EXACT_BELOW..=STEPS.0).contains(&left);
        let (count, filled) = if fills { (left, filled(left)) } else { [chunk(left, N, most); 2].into() };
        if count == 0 {
            return None;
        }
        let mut text = String::with_capacity(self.head.len() + self.tail.len() + filled * N * 7 + 64);
        text.push_str(self.head);
        match self.form {
            Form::Plain => {}
            Form::Insert if fills => text.push_str(" SELECT * FROM (VALUES "),
            Form::Insert => text.push_str(" VALUES "),
        }
        push_rows(&mut text, self.backend, filled, N);
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
        Some(Statement::from_sql_and_values(self.backend, text, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_PARAMETERS: usize = 8_192;

    #[test]
    fn few_statement_texts_cover_every_count() {
        let texts: std::collections::BTreeSet<usize> = (1..=5_000)
            .flat_map(|rows| {
                let mut left = rows;
                std::iter::from_fn(move || {
                    let next = chunk(left, 8, MAX_PARAMETERS);
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
            assert!(filled >= rows && chunk(filled, 2, MAX_PARAMETERS) == filled, "{rows}: {filled}");
        }
    }

    /// The statements of so many rows of two columns: parameters, and whether it leaves out rows of nulls.
    fn inserts(backend: DatabaseBackend, rows: usize) -> Vec<(usize, bool)> {
        let rows = (0..rows).map(|number| [i64::try_from(number).unwrap().into(), "text".into()]);
        let mut chunks = Chunks { backend, form: Form::Insert, head: "INSERT INTO t (a, b)", rows, tail: "" };
        std::iter::from_fn(|| chunks.next())
            .map(|statement| (statement.values.unwrap().0.len(), statement.sql.contains("IS NOT NULL")))
            .collect()
    }

    #[test]
    fn a_moments_worth_of_rows_is_filled_up_to_one_statement() {
        for backend in [DatabaseBackend::Sqlite, DatabaseBackend::Postgres] {
            assert_eq!(inserts(backend, 15), [(30, false)]);
            assert_eq!(inserts(backend, 61), [(128, true)]);
            assert_eq!(inserts(backend, 128), [(256, true)]);
            assert_eq!(inserts(backend, 300), [(512, false), (96, true)]);
        }
    }

    #[test]
    fn parameters_are_numbered_on_postgres_only() {
        let mut text = String::new();
        push_rows(&mut text, DatabaseBackend::Postgres, 2, 2);
        assert_eq!(text, "($1,$2),($3,$4)");
        text.clear();
        push_rows(&mut text, DatabaseBackend::Sqlite, 2, 2);
        assert_eq!(text, "(?,?),(?,?)");
    }
}
