//! Every query. sea-orm stays in here.
pub mod customer;
pub mod in_force;
pub mod operation;
pub mod purchase;

mod bulk;

use chassis::Result;
use sea_orm::{QueryResult, TryGetable};

/// The columns of a row from the left, one after the other.
struct Columns<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> Columns<'a> {
    fn of(row: &'a QueryResult) -> Self {
        Self { row, next: 0 }
    }

    fn take<T: TryGetable>(&mut self) -> Result<T> {
        let value = self.row.try_get_by_index(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// A whole number, where the type that it stands for is narrower than the column.
    fn narrow<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let value: i64 = self.take()?;
        T::try_from(value).map_err(|_| chassis::Error::Internal(format!("column {} holds {value}", self.next - 1)))
    }
}
