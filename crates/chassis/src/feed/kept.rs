//! Tables of what a peer says, and how its news changes them.
use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use super::Newest;
use crate::{
    db::{Columns, Tx, bulk, sql},
    error::Result,
};

/// The columns of a table that one feed fills, `N` with the key. The table has a column `customer_id`, which may be the key.
#[derive(Debug)]
pub struct Kept<const N: usize> {
    /// The table.
    pub table: &'static str,
    /// The column of its key.
    pub key: &'static str,
    /// The column of the revision: positive, by the publisher's count.
    pub revision: &'static str,
    /// All that comes behind the key, the revision included.
    pub columns: &'static [&'static str],
}

impl<const N: usize> Kept<N> {
    /// Writes news in the order of its keys, so that two followers of the same rows cannot lock each other out: what is newer than what is
    /// kept, and what a snapshot says wherever it is different. `row` gives the key and the columns. The customers whose rows changed.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put<T>(
        &self,
        tx: &Tx<'_>,
        news: &BTreeMap<Uuid, Newest<'_, T>>,
        row: impl Fn(Uuid, &Newest<'_, T>) -> [Value; N],
    ) -> Result<BTreeSet<Uuid>> {
        let Self { table, key, revision, columns } = self;
        let rows: Vec<_> = news.iter().map(|(id, news)| (news.authoritative, row(*id, news))).collect();
        let each = |write: fn(&str, &str) -> String, between: &str| {
            columns.iter().map(|column| write(table, column)).collect::<Vec<_>>().join(between)
        };
        let head = format!("INSERT INTO {table} ({key}, {}) VALUES ", columns.join(", "));
        let set = each(|_, column| format!("{column} = excluded.{column}"), ", ");
        let differs = each(|table, column| format!("{table}.{column} IS DISTINCT FROM excluded.{column}"), " OR ");
        let mut changed = BTreeSet::new();
        // In runs, not in two passes: the order of keys stays.
        for run in rows.chunk_by(|(one, _), (next, _)| one == next) {
            let wins = match run.first() {
                Some((true, _)) => differs.clone(),
                _ => format!("{table}.{revision} < excluded.{revision}"),
            };
            let tail = format!(" ON CONFLICT ({key}) DO UPDATE SET {set} WHERE {wins} RETURNING customer_id");
            let rows = bulk::query(&**tx, &head, run.iter().map(|(_, row)| row.clone()), &tail).await?;
            changed.extend(customers(&rows)?);
        }
        Ok(changed)
    }

    /// Marks all rows as not named by a snapshot yet, at its beginning. They stay as they are but for the revision: it turns negative, and
    /// positive again by whatever comes of them.
    ///
    /// # Errors
    /// `Database`.
    pub async fn doubt(&self, tx: &Tx<'_>) -> Result<()> {
        let Self { table, revision, .. } = self;
        let text = format!("UPDATE {table} SET {revision} = -{revision} WHERE {revision} > 0");
        tx.execute_unprepared(&text).await?;
        Ok(())
    }

    /// Deletes the rows that are still marked, at the end of a snapshot: their publisher has lost them. The customers whose they were.
    ///
    /// # Errors
    /// `Database`.
    pub async fn drop_doubted(&self, tx: &Tx<'_>) -> Result<BTreeSet<Uuid>> {
        let Self { table, revision, .. } = self;
        let text = format!("DELETE FROM {table} WHERE {revision} < 0 RETURNING customer_id");
        customers(&tx.query_all_raw(sql(&**tx, text, [])).await?)
    }
}

fn customers(rows: &[QueryResult]) -> Result<BTreeSet<Uuid>> {
    rows.iter().map(|row| Columns::of(row).take()).collect()
}
