//! Statements over many rows, in few texts: a database prepares each text once and keeps it.
use std::fmt::Write;

use chassis::Result;
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};

/// Below this many rows every count has a text of its own; above, counts are powers of two, so that there are few texts.
const EXACT_BELOW: usize = 16;
/// Bind parameters of one statement: SQLite allows 32,766.
const MAX_PARAMETERS: usize = 32_000;

/// How many of `left` rows of `columns` columns go into the next statement.
fn chunk(left: usize, columns: usize) -> usize {
    if left < EXACT_BELOW {
        return left;
    }
    let most = left.min(MAX_PARAMETERS / columns);
    1 << most.ilog2()
}

/// Writes `($1,$2),($3,$4)…`. SQLite gets `?`: it looks named parameters up one after the other, which takes seconds for thousands of them.
fn push_rows(text: &mut String, backend: DatabaseBackend, first: usize, rows: usize, columns: usize) {
    let mut number = first;
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

/// Runs `head (…),(…) tail` over all rows; how many rows were affected.
pub(super) async fn insert<C: ConnectionTrait, const N: usize>(
    connection: &C,
    head: &str,
    rows: impl ExactSizeIterator<Item = [Value; N]>,
    tail: &str,
) -> Result<u64> {
    let backend = connection.get_database_backend();
    let mut rows = rows;
    let mut affected = 0;
    while rows.len() > 0 {
        let count = chunk(rows.len(), N);
        let mut text = String::with_capacity(head.len() + tail.len() + count * N * 7);
        text.push_str(head);
        push_rows(&mut text, backend, 1, count, N);
        text.push_str(tail);
        let mut values = Vec::with_capacity(count * N);
        for row in rows.by_ref().take(count) {
            values.extend(row);
        }
        let done = connection.execute_raw(Statement::from_sql_and_values(backend, text, values)).await?;
        affected += done.rows_affected();
    }
    Ok(affected)
}

/// Runs `head (VALUES (…),(…)) tail` over all keys and gathers what it gives, chunk by chunk in the order of the keys.
pub(super) async fn select<C: ConnectionTrait, const N: usize>(
    connection: &C,
    head: &str,
    keys: impl ExactSizeIterator<Item = [Value; N]>,
    tail: &str,
) -> Result<Vec<QueryResult>> {
    let backend = connection.get_database_backend();
    let mut keys = keys;
    let mut found = Vec::new();
    while keys.len() > 0 {
        let count = chunk(keys.len(), N);
        let mut text = String::with_capacity(head.len() + tail.len() + count * N * 7 + 10);
        text.push_str(head);
        text.push_str("(VALUES ");
        push_rows(&mut text, backend, 1, count, N);
        text.push(')');
        text.push_str(tail);
        let mut values = Vec::with_capacity(count * N);
        for key in keys.by_ref().take(count) {
            values.extend(key);
        }
        found.extend(connection.query_all_raw(Statement::from_sql_and_values(backend, text, values)).await?);
    }
    Ok(found)
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
        assert!(texts.len() <= 24, "{texts:?}");
        assert!(texts.iter().all(|rows| rows * 8 <= MAX_PARAMETERS));
    }

    #[test]
    fn parameters_are_numbered_on_postgres_only() {
        let mut text = String::new();
        push_rows(&mut text, DatabaseBackend::Postgres, 1, 2, 2);
        assert_eq!(text, "($1,$2),($3,$4)");
        text.clear();
        push_rows(&mut text, DatabaseBackend::Sqlite, 1, 2, 2);
        assert_eq!(text, "(?,?),(?,?)");
    }
}
