//! Rows of raw queries.
use futures::TryStreamExt;
use sea_orm::{ConnectionTrait, QueryResult, StreamTrait, TryGetable, Value};

use super::sql;
use crate::error::{Error, Result};

/// The columns of a row from the left, one after the other.
#[derive(Debug)]
pub struct Columns<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> Columns<'a> {
    /// Begins at the left.
    pub fn of(row: &'a QueryResult) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    ///
    /// # Errors
    /// `Database` where there is none, or it holds something else.
    pub fn take<T: TryGetable>(&mut self) -> Result<T> {
        let value = self.row.try_get_by_index(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// A whole number, where the type that it stands for is narrower than the column.
    ///
    /// # Errors
    /// `Internal` where it does not fit; otherwise as [`Columns::take`].
    pub fn narrow<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let value: i64 = self.take()?;
        T::try_from(value).map_err(|_| Error::Internal(format!("column {} holds {value}", self.next - 1)))
    }
}

/// Rows that [`each`] reads before others have a turn: some tenths of a millisecond. Where the database keeps ahead, nothing else would make it wait.
const READ_AT_ONCE: usize = 128;

/// What rows can be read from as they come: a connection, or a transaction.
pub trait Streams: ConnectionTrait + StreamTrait {}

impl<C: ConnectionTrait + StreamTrait> Streams for C {}

/// The rows of a query, each read as it comes: thousands that are gathered first are far from the processor when they are read, and are memory that
/// the next ones cannot use again. Where they come by the million, see [`Db::read_apart`](crate::Db::read_apart).
///
/// # Errors
/// `Database`; those of `read`, which end the query.
pub async fn each<C: Streams, T>(
    connection: &C,
    text: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
    read: impl Fn(&QueryResult) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = std::pin::pin!(connection.stream_raw(sql(connection, text, values)).await?);
    let mut all = Vec::new();
    while let Some(row) = rows.try_next().await? {
        all.push(read(&row)?);
        if all.len() % READ_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(all)
}
