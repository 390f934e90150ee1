//! Rows of raw queries.
use futures::TryStreamExt;
use sea_orm::{QueryResult, StreamTrait, TryGetable, Value};
use tracing::{Dispatch, instrument::WithSubscriber};

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

/// The rows of a query, each read as it comes: thousands that are gathered first are far from the processor when they are read, and are memory that
/// the next ones cannot use again.
///
/// # Errors
/// `Database`; those of `read`.
pub async fn each<C: StreamTrait, T>(
    connection: &C,
    text: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
    read: impl Fn(&QueryResult) -> Result<T>,
) -> Result<Vec<T>> {
    let statement = super::statement(connection.get_database_backend(), text, values);
    let all = async {
        let mut rows = std::pin::pin!(connection.stream_raw(statement).await?);
        let mut all = Vec::new();
        while let Some(row) = rows.try_next().await? {
            all.push(read(&row)?);
        }
        Ok(all)
    };
    untraced(all).await
}

/// Lets many rows come without a look at the span that they come in: on PostgreSQL sqlx enters and leaves it twice for each of them, which is a fifth of
/// what reading them costs.
pub(super) fn untraced<F: Future>(rows: F) -> impl Future<Output = F::Output> {
    rows.with_subscriber(Dispatch::none())
}
