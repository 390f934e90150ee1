//! Who is writing customers just now.
//!
//! Whoever writes a customer locks them first and then reads what to judge them by: models, cut-offs, segments. On PostgreSQL such a transaction may
//! have read that before a change and commit after it: whoever goes through all customers because of the change would find a new one not
//! there yet, and another one as they were, and would leave both as the change did not find them. So they first wait for those who
//! were at it when they came; who comes later reads what the change says. It costs those who write nothing.
use std::{collections::HashSet, time::Duration};

use chassis::{
    Db, Error, Result,
    clock::stopwatch,
    db::{Columns, sql},
};
use sea_orm::{ConnectionTrait, DatabaseBackend};

/// Between two looks at who is still at it: from about as long as a small transaction takes, doubled each time, to what nobody notices.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long is waited: longer than any statement of ours may take, and than a session of ours may lie idle in a transaction.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until every transaction has ended that is writing customers now.
///
/// # Errors
/// `Overloaded` where one does not end; `Database`.
pub async fn gone(db: &Db) -> Result<()> {
    // SQLite has one writer at a time, who reads what the one before has committed.
    if db.backend() != DatabaseBackend::Postgres {
        return Ok(());
    }
    let (started, mut pause) = (stopwatch(), FIRST_PAUSE);
    let mut left = writing(db).await?;
    while !left.is_empty() {
        if started.elapsed() > PATIENCE {
            return Err(Error::Overloaded("customers"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let still = writing(db).await?;
        left.retain(|transaction| still.contains(transaction));
    }
    Ok(())
}

/// The transactions that have locked or written customers, or wait to, and have not ended: both take a lock of the table before anything else.
async fn writing(db: &Db) -> Result<HashSet<String>> {
    let text = "SELECT virtualtransaction FROM pg_locks WHERE relation = 'customer'::regclass \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                AND mode IN ('RowShareLock', 'RowExclusiveLock')";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    rows.iter().map(|row| Columns::of(row).take()).collect()
}
