//! The database as services use it: races, callers that go away, replicas, full disks, batches, replays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use chassis::{Db, Result, db::sql};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use support::{dawdle, number};

mod batcher;
mod kept;
mod migrations;
mod outages;
mod replays;
mod rows;
#[path = "../support/mod.rs"]
mod support;
mod transactions;

/// Adds one to a tally by reading it and writing what it read plus one: what loses updates wherever isolation fails.
pub(crate) async fn add_one(db: &Db, id: Uuid, turns: u64) -> Result<i64> {
    db.run_tx("add_one", |tx| {
        Box::pin(async move {
            tx.alters(id);
            let text = format!("SELECT n FROM tally WHERE id = $1{}", tx.for_update());
            let row = tx.query_one_raw(sql(&**tx, text, [id.into()])).await?;
            let n = row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0))?;
            dawdle(turns).await;
            let text = if n == 0 {
                "INSERT INTO tally (id, n) VALUES ($2, $1)"
            } else {
                "UPDATE tally SET n = $1 WHERE id = $2"
            };
            tx.execute_raw(sql(&**tx, text, [(n + 1).into(), id.into()])).await?;
            Ok(n + 1)
        })
    })
    .await
}

pub(crate) async fn tally(db: &Db) -> i64 {
    number(db.read(), "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM tally").await
}
