//! Rows of raw queries.
use sea_orm::{QueryResult, TryGetable};

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
