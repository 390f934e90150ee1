//! What an import must remember of the rows behind it, in a file that goes with it: its memory stays the same however long the file is.
use std::collections::{BTreeMap, HashMap};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};

use crate::client::{Error, Result};

/// Memory that the file may take before it is one, in KiB: some two million ids and their customers, and little beside the batches in flight.
const CACHE_KIB: i64 = 64 * 1024;

/// How often each id came, and which customer each id of the other system is.
#[derive(Debug)]
pub(super) struct Scratch(SqliteConnection);

impl Scratch {
    /// An empty one.
    pub(super) async fn new() -> Result<Self> {
        // A database without a name is SQLite's own temporary file: nobody else sees it, and it is gone with this process, however that ends.
        // So nothing in it needs to be safe.
        let options = SqliteConnectOptions::new()
            .filename("")
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off)
            .locking_mode(SqliteLockingMode::Exclusive)
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(failed)?;
        for table in [
            "CREATE TABLE seen (key INTEGER PRIMARY KEY, times INTEGER NOT NULL)",
            "CREATE TABLE customer (external TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID",
        ] {
            sqlx::query(table).execute(&mut connection).await.map_err(failed)?;
        }
        Ok(Self(connection))
    }

    /// How often each of these ids has come by now, itself included, in order.
    pub(super) async fn count(&mut self, ids: &[String]) -> Result<Vec<u32>> {
        let keys: Vec<i64> = ids.iter().map(|id| key(id)).collect();
        let mut times = BTreeMap::<i64, u32>::new();
        for key in &keys {
            *times.entry(*key).or_default() += 1;
        }
        let pairs = serde_json::to_string(&times.iter().collect::<Vec<_>>()).map_err(failed)?;
        let rows = sqlx::query(
            "INSERT INTO seen SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true \
             ON CONFLICT DO UPDATE SET times = times + excluded.times RETURNING key, times",
        )
        .bind(pairs)
        .fetch_all(&mut self.0)
        .await
        .map_err(failed)?;
        // How often each came before these.
        let mut before = HashMap::with_capacity(rows.len());
        for row in rows {
            let (key, all): (i64, u32) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            before.insert(key, all.saturating_sub(times.get(&key).copied().unwrap_or(0)));
        }
        let next = |key: &i64| {
            let count = before.entry(*key).or_default();
            *count += 1;
            *count
        };
        Ok(keys.iter().map(next).collect())
    }

    /// The customers of these ids, of those that are known.
    pub(super) async fn customers(&mut self, external: &[&str]) -> Result<HashMap<String, String>> {
        let external = serde_json::to_string(external).map_err(failed)?;
        let rows = sqlx::query("SELECT external, id FROM customer WHERE external IN (SELECT value FROM json_each(?))")
            .bind(external)
            .fetch_all(&mut self.0)
            .await
            .map_err(failed)?;
        rows.into_iter().map(|row| Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?))).collect()
    }

    /// Takes note of customers.
    pub(super) async fn remember(&mut self, customers: &[(&str, &str)]) -> Result<()> {
        let customers = serde_json::to_string(customers).map_err(failed)?;
        sqlx::query("INSERT OR REPLACE INTO customer SELECT value ->> 0, value ->> 1 FROM json_each(?)")
            .bind(customers)
            .execute(&mut self.0)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// How many different customers there are, and the end of it.
    pub(super) async fn finish(mut self) -> Result<u64> {
        let row = sqlx::query("SELECT count(*) FROM customer").fetch_one(&mut self.0).await.map_err(failed)?;
        let count: i64 = row.try_get(0).map_err(failed)?;
        self.0.close().await.map_err(failed)?;
        Ok(count.unsigned_abs())
    }
}

/// A short id is its own key, so that ids that follow each other lie beside each other; a long one has that of its text.
fn key(id: &str) -> i64 {
    let mut short = [0; 8];
    let key = match short.get_mut(..id.len()) {
        Some(bytes) => {
            bytes.copy_from_slice(id.as_bytes());
            u64::from_be_bytes(short)
        }
        None => super::hash(id),
    };
    key.cast_signed()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(format!("the import's own notes, in the system's folder for temporary files: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ids_are_counted_in_the_order_they_come_within_a_batch_and_over_many() {
        let mut scratch = Scratch::new().await.unwrap();
        let ids = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(scratch.count(&ids("a b a 536365-a-long-one a")).await.unwrap(), [1, 1, 2, 1, 3]);
        assert_eq!(scratch.count(&ids("536365-a-long-one c a b")).await.unwrap(), [2, 1, 4, 2]);
        assert!(scratch.count(&[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn customers_are_known_again_whatever_their_ids_are() {
        let mut scratch = Scratch::new().await.unwrap();
        scratch.remember(&[("1", "one"), ("01", "other"), ("ü\"'\\", "third")]).await.unwrap();
        let found = scratch.customers(&["01", "ü\"'\\", "2"]).await.unwrap();
        assert_eq!(found, HashMap::from([("01".into(), "other".into()), ("ü\"'\\".into(), "third".into())]));
        assert_eq!(scratch.finish().await.unwrap(), 3);
    }

    #[test]
    fn different_ids_have_different_keys() {
        let ids = ["", "1", "01", "10", "12345678", "123456789", "é"];
        let keys: std::collections::BTreeSet<i64> = ids.iter().map(|id| key(id)).collect();
        assert_eq!(keys.len(), ids.len());
        assert!(key("1000001") < key("1000002"));
    }
}
