//! What is kept in memory is never older than what was acknowledged.
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
};

use chassis::{
    Db, Error,
    config::DbUrl,
    db::Kept,
    testing::{Backend, TempDb, eventually},
};
use sea_orm::ConnectionTrait;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::{Dice, connect, ids};

use crate::{add_one, dawdle};

chassis::db_tests!(nothing_is_kept_of_a_database_that_others_write_to);

/// More than any test has keys.
const MOST: usize = 100;

async fn alone() -> (TempDb, Db, Arc<Kept<i64>>) {
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(DbUrl::alone(temp.url())).await;
    let kept = Arc::new(Kept::new(&db, MOST));
    (temp, db, kept)
}

async fn read(db: &Db, id: Uuid) -> i64 {
    let text = "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM tally WHERE id = $1";
    let row = db.read().query_one_raw(chassis::db::sql(db.read(), text, [id.into()])).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// As services ask: of the memory first, and what is read is kept.
async fn ask(db: &Db, kept: &Kept<i64>, id: Uuid, turns: u64) -> (i64, bool) {
    if let Some(n) = kept.find(id) {
        return (n, true);
    }
    let stamp = kept.stamp(id);
    dawdle(turns).await;
    let n = read(db, id).await;
    dawdle(turns).await;
    if let Some(stamp) = stamp {
        kept.keep(stamp, n);
    }
    (n, false)
}

async fn nothing_is_kept_of_a_database_that_others_write_to(backend: Backend) {
    let temp = TempDb::new(backend).await;
    // On PostgreSQL nobody can be sure to be alone, whatever the address says.
    let url = if backend == Backend::Postgres { DbUrl::alone(temp.url()) } else { temp.url().into() };
    let db = connect(url).await;
    let (kept, id) = (Kept::new(&db, MOST), ids(1)[0]);
    for _ in 0..3 {
        assert_eq!(ask(&db, &kept, id, 0).await, (0, false));
    }
    assert!(kept.stamp(id).is_none());
    let (_temp, db, _) = self::alone().await;
    assert!(Kept::<i64>::new(&db, 0).stamp(id).is_none(), "nor where no memory is granted");
}

#[tokio::test]
async fn a_value_is_kept_until_its_key_is_altered() {
    let (_temp, db, kept) = alone().await;
    let [one, other] = ids(2)[..] else { panic!() };
    for id in [one, other] {
        assert_eq!(ask(&db, &kept, id, 0).await, (0, false));
        assert_eq!(ask(&db, &kept, id, 0).await, (0, true));
    }
    add_one(&db, one, 0).await.unwrap();
    assert_eq!(ask(&db, &kept, one, 0).await, (1, false));
    assert_eq!(ask(&db, &kept, one, 0).await, (1, true));
    assert_eq!(ask(&db, &kept, other, 0).await, (0, true));
}

#[tokio::test]
async fn what_was_read_before_a_change_is_not_kept_after_it() {
    let (_temp, db, kept) = alone().await;
    let id = ids(1)[0];
    let stamp = kept.stamp(id).unwrap();
    let old = read(&db, id).await;
    add_one(&db, id, 0).await.unwrap();
    kept.keep(stamp, old);
    assert_eq!(kept.find(id), None);
    assert_eq!(ask(&db, &kept, id, 0).await, (1, false));
}

#[tokio::test]
async fn a_change_that_was_given_up_or_is_not_committed_yet_alters_nothing() {
    let (_temp, db, kept) = alone().await;
    let id = ids(1)[0];
    ask(&db, &kept, id, 0).await;
    let (begun, seen) = oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun));
    let caller = tokio::spawn({
        let db = db.clone();
        async move {
            let begun = &begun;
            db.run_tx::<(), Error, _>("half_way", |tx| {
                Box::pin(async move {
                    tx.alters(id);
                    begun.lock().unwrap().take().unwrap().send(()).unwrap();
                    std::future::pending().await
                })
            })
            .await
        }
    });
    seen.await.unwrap();
    assert_eq!(ask(&db, &kept, id, 0).await, (0, true));
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(ask(&db, &kept, id, 0).await, (0, true));
}

#[tokio::test]
async fn after_a_commit_that_failed_nothing_is_kept_until_the_next_transaction() {
    let (_temp, db, kept) = alone().await;
    let [id, other] = ids(2)[..] else { panic!() };
    ask(&db, &kept, id, 0).await;
    // Checked at the end, so that it is the commit that fails.
    db.run_tx::<_, Error, _>("prepare", |tx| {
        Box::pin(async move {
            let tables = "CREATE TABLE parent (id INTEGER PRIMARY KEY); \
                          CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)";
            Ok(tx.execute_unprepared(tables).await.map(drop)?)
        })
    })
    .await
    .unwrap();
    db.run_tx::<_, Error, _>("orphan", |tx| {
        Box::pin(async move {
            tx.alters(id);
            Ok(tx.execute_unprepared("INSERT INTO child VALUES (1)").await.map(drop)?)
        })
    })
    .await
    .unwrap_err();
    assert!(kept.stamp(id).is_none(), "nobody knows what became of it");
    assert_eq!(ask(&db, &kept, id, 0).await, (0, false));
    assert_eq!(ask(&db, &kept, id, 0).await, (0, false));
    add_one(&db, other, 0).await.unwrap();
    assert_eq!(ask(&db, &kept, id, 0).await, (0, false));
    assert_eq!(ask(&db, &kept, id, 0).await, (0, true));
}

/// Writers whose callers go away at any moment, in the midst of a commit too; and readers that never see less than what was acknowledged before they
/// asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_away_whenever_nothing_older_than_what_was_acknowledged_is_found() {
    let (_temp, db, kept) = alone().await;
    let keys = Arc::new(ids(5));
    let acknowledged: Arc<Vec<AtomicI64>> = Arc::new(keys.iter().map(|_| AtomicI64::new(0)).collect());
    let (over, hits, given_up) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut readers = Vec::new();
    for reader in 0..3_u64 {
        let (db, kept, keys, acknowledged) = (db.clone(), kept.clone(), keys.clone(), acknowledged.clone());
        let (over, hits) = (over.clone(), hits.clone());
        readers.push(tokio::spawn(async move {
            let mut dice = Dice::new(100 + reader);
            while !over.load(Ordering::SeqCst) {
                let key = usize::try_from(dice.roll(keys.len() as u64)).unwrap();
                let least = acknowledged[key].load(Ordering::SeqCst);
                let (n, hit) = ask(&db, &kept, keys[key], dice.roll(4)).await;
                assert!(n >= least, "{n}, though {least} was acknowledged before");
                hits.fetch_add(hit.into(), Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let (db, keys, acknowledged, given_up) = (db.clone(), keys.clone(), acknowledged.clone(), given_up.clone());
        writers.push(tokio::spawn(async move {
            let mut dice = Dice::new(1 + writer);
            for _ in 0..300 {
                let key = usize::try_from(dice.roll(keys.len() as u64)).unwrap();
                let mut work = std::pin::pin!(add_one(&db, keys[key], dice.roll(3)));
                let mut patience = if dice.roll(2) == 0 { dice.roll(30) } else { u64::MAX };
                loop {
                    if let std::task::Poll::Ready(n) = futures::poll!(work.as_mut()) {
                        acknowledged[key].fetch_max(n.unwrap(), Ordering::SeqCst);
                        break;
                    }
                    if patience == 0 {
                        given_up.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    patience -= 1;
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(hits.load(Ordering::Relaxed) > 0 && given_up.load(Ordering::Relaxed) > 100);
    // Whatever was in doubt is settled by the next transaction, and all is kept again, as it is.
    let stranger = Uuid::from_u128(1);
    add_one(&db, stranger, 0).await.unwrap();
    for id in keys.iter().copied() {
        eventually("it is kept again", || async { ask(&db, &kept, id, 0).await.1 }).await;
        assert_eq!(kept.find(id), Some(read(&db, id).await));
    }
}
