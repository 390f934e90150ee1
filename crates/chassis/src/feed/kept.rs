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
    /// Whether a newer revision that says nothing else is worth writing: it is where somebody is shown the revision. Where it is not written, the kept
    /// one stays behind, which is as good: whatever comes next is newer than both.
    pub shows_revision: bool,
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
        let mut changed = BTreeSet::new();
        for (tail, rows) in self.runs(news, row) {
            let rows =
                bulk::insert_returning(&**tx, &self.head(), rows.into_iter(), &format!("{tail} RETURNING customer_id"))
                    .await?;
            changed.extend(customers(&rows)?);
        }
        Ok(changed)
    }

    /// The same for whoever need not know whose rows changed.
    ///
    /// # Errors
    /// `Database`.
    pub async fn keep<T>(
        &self,
        tx: &Tx<'_>,
        news: &BTreeMap<Uuid, Newest<'_, T>>,
        row: impl Fn(Uuid, &Newest<'_, T>) -> [Value; N],
    ) -> Result<()> {
        for (tail, rows) in self.runs(news, row) {
            bulk::insert(&**tx, &self.head(), rows.into_iter(), &tail).await?;
        }
        Ok(())
    }

    fn head(&self) -> String {
        format!("INSERT INTO {} ({}, {})", self.table, self.key, self.columns.join(", "))
    }

    /// The rows, and how they replace what is kept. In runs, not in two passes: the order of keys stays.
    fn runs<T>(
        &self,
        news: &BTreeMap<Uuid, Newest<'_, T>>,
        row: impl Fn(Uuid, &Newest<'_, T>) -> [Value; N],
    ) -> Vec<(String, Vec<[Value; N]>)> {
        let Self { table, key, revision, columns, shows_revision } = self;
        let set: Vec<_> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        let tail = format!(" ON CONFLICT ({key}) DO UPDATE SET {} WHERE ", set.join(", "));
        let differs = |columns: &mut dyn Iterator<Item = &&'static str>| {
            let each: Vec<_> =
                columns.map(|column| format!("{table}.{column} IS DISTINCT FROM excluded.{column}")).collect();
            each.join(" OR ")
        };
        let mut newer = format!("{table}.{revision} < excluded.{revision}");
        if !shows_revision {
            let others = differs(&mut columns.iter().filter(|column| *column != revision));
            // What is in doubt has a negative revision, which anything newer turns positive.
            newer = format!("{newer} AND ({table}.{revision} < 0 OR {others})");
        }
        let different = differs(&mut columns.iter());
        let rows: Vec<_> = news.iter().map(|(id, news)| (news.authoritative, row(*id, news))).collect();
        rows.chunk_by(|(one, _), (next, _)| one == next)
            .map(|run| {
                let authoritative = run.first().is_some_and(|(authoritative, _)| *authoritative);
                let wins = if authoritative { &different } else { &newer };
                (format!("{tail}{wins}"), run.iter().map(|(_, row)| row.clone()).collect())
            })
            .collect()
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
