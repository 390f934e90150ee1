//! What the tables of the books have in common: rows by (source, id), inserted, replaced and locked by their keys.
use std::collections::HashMap;

use chassis::{Result, Tx, db::bulk};
use sea_orm::{QueryResult, Value};

use crate::row::Row;

/// A row by its key.
pub type ByKey<R> = HashMap<(String, String), R>;

/// A kind of row as it is stored, in `N` columns.
pub trait Stored<const N: usize>: Row {
    /// The table.
    const TABLE: &'static str;
    /// Its columns: source, id in the source, customer, what else there is, and last when it was recorded, which is not read.
    const COLUMNS: [&'static str; N];

    /// Values of the columns.
    fn values(&self, record_time: i64) -> [Value; N];

    /// Reads all columns but the last.
    ///
    /// # Errors
    /// `Internal` for what cannot be read.
    fn read(row: &QueryResult) -> Result<Self>;

    /// The columns that are read, for a SELECT.
    fn columns() -> String {
        Self::COLUMNS[..N - 1].join(", ")
    }
}

async fn write<R: Stored<N>, const N: usize>(tx: &Tx<'_>, rows: &[&R], tail: &str) -> Result<u64> {
    let head = format!("INSERT INTO {} ({})", R::TABLE, R::COLUMNS.join(", "));
    let now = tx.clock().now_micros();
    bulk::insert(&**tx, &head, rows.iter().map(|row| row.values(now)), tail).await
}

/// Inserts rows that are not there; a duplicate key runs the transaction again.
pub async fn insert<R: Stored<N>, const N: usize>(tx: &Tx<'_>, rows: &[&R]) -> Result<()> {
    write(tx, rows, "").await.map(|_| ())
}

/// Replaces rows that are there.
pub async fn replace<R: Stored<N>, const N: usize>(tx: &Tx<'_>, rows: &[&R]) -> Result<()> {
    let [source, id, others @ ..] = R::COLUMNS.as_slice() else { return Ok(()) };
    let set: Vec<String> = others.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let tail = format!(" ON CONFLICT ({source}, {id}) DO UPDATE SET {}", set.join(", "));
    write(tx, rows, &tail).await.map(|_| ())
}

/// The rows that are there under the same source and id, locked.
pub async fn lock<R: Stored<N>, const N: usize>(tx: &Tx<'_>, like: &[&R]) -> Result<ByKey<R>> {
    let [source, id, ..] = R::COLUMNS.as_slice() else { return Ok(HashMap::new()) };
    let head = format!("SELECT {} FROM {} WHERE ({source}, {id}) IN (", R::columns(), R::TABLE);
    let keys = like.iter().map(|row| {
        let (source, id) = row.key();
        [source.into(), id.into()]
    });
    let rows = bulk::find(&**tx, &head, keys, &format!("){}", tx.for_update())).await?;
    rows.iter().map(|row| R::read(row).map(|row| (owned(row.key()), row))).collect()
}

/// A key to look up by.
pub fn owned((source, id): (&str, &str)) -> (String, String) {
    (source.to_owned(), id.to_owned())
}
