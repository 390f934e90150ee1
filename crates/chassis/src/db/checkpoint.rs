//! Brings what stands in a SQLite database's log into its file, beside the writer rather than in its way: a writer that does so itself keeps everybody
//! behind it waiting for thousands of pages.
use std::{sync::atomic::Ordering, time::Duration};

use sea_orm::{ConnectionTrait, DatabaseBackend};

use super::{Columns, Db, sql};
use crate::error::Result;

/// How often the log is looked at while there are commits.
const EVERY: Duration = Duration::from_millis(50);
/// Pages in the log from which on it is worth the while: 32 MB. Pages that are written again and again, as the customers of a busy day are, reach
/// the file once.
const WORTH: i64 = 8_192;
/// Pages in the log from which on the writer lends a hand: 256 MB. Only a log that is in the file, and flushed, to its last page begins anew. Behind a
/// writer that never rests for a moment the last page is not reached; what is left of it is then the writer's, and so is the flush.
pub(super) const WRITER_FROM: &str = "65536";
/// Bytes to which a log is cut that once had to grow beyond that: 256 MB.
pub(super) const LOG_LIMIT: &str = "268435456";
/// How often it is tried to reach the last page: what was written while thousands of pages were copied are few, and what was written meanwhile fewer.
const TURNS: usize = 4;

/// Goes on until the database is closed. PostgreSQL has a process for this.
pub(super) fn spawn(db: &Db) {
    if db.backend() != DatabaseBackend::Sqlite {
        return;
    }
    let db = db.downgrade();
    tokio::spawn(async move {
        let (mut seen, mut told) = (0, false);
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(db) = db.upgrade() else { return };
            let commits = db.0.commits.load(Ordering::Relaxed);
            if commits == seen {
                continue;
            }
            match turn(&db).await {
                // A reader may be in the way: looked at again, also where nothing more is written.
                Ok(left) if left >= WORTH => {}
                Ok(_) => (seen, told) = (commits, false),
                // Commits go on into the log, and SQLite tells the writer nothing of its own vain attempts: the disk fills up.
                Err(error) if !told && !db.is_closed() => {
                    told = true;
                    tracing::warn!(?error, "the log of a SQLite database cannot be brought into its file, and grows");
                }
                Err(_) => {}
            }
        }
    });
}

/// Brings a log that is long into the file; how many pages are left.
async fn turn(db: &Db) -> Result<i64> {
    let mut left = checkpoint(db, "NOOP").await?;
    if left < WORTH {
        return Ok(left);
    }
    for _ in 0..TURNS {
        checkpoint(db, "PASSIVE").await?;
        // As of now, while a checkpoint tells of the moment it began in.
        left = checkpoint(db, "NOOP").await?;
        if left == 0 {
            break;
        }
    }
    Ok(left)
}

/// Pages that are in the log and not yet in the file, after a checkpoint of this kind.
async fn checkpoint(db: &Db, kind: &str) -> Result<i64> {
    let row = db.read().query_one_raw(sql(db.read(), format!("PRAGMA wal_checkpoint({kind})"), [])).await?;
    let Some(row) = row else { return Ok(0) };
    let mut columns = Columns::of(&row);
    let (_busy, log, done): (i64, i64, i64) = (columns.take()?, columns.take()?, columns.take()?);
    Ok(log - done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        error::Error,
        testing::{Backend, TempDb, eventually, noon},
    };

    #[derive(Debug)]
    struct Pages;

    #[async_trait::async_trait]
    impl sea_orm_migration::MigratorTrait for Pages {
        fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> {
            super::super::migrations()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_log_goes_into_the_file_while_nobody_writes() {
        let temp = TempDb::new(Backend::Sqlite).await;
        let db = Db::connect::<Pages>(temp.url(), &Clock::mock(noon())).await.unwrap();
        let written = db.run_tx::<_, Error, _>("test", |tx| {
            Box::pin(async move {
                tx.execute_unprepared("CREATE TABLE page (content BLOB)").await?;
                let text = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) \
                            INSERT INTO page SELECT randomblob(4000) FROM n";
                Ok(tx.execute_unprepared(text).await?)
            })
        });
        written.await.unwrap();
        eventually("the log is in the file", || async { checkpoint(&db, "NOOP").await.unwrap() == 0 }).await;
    }
}
