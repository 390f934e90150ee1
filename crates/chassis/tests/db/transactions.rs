//! Races, callers that go away, panics, reading in a transaction.
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use chassis::{
    Error,
    testing::{Backend, TempDb, eventually},
};
use futures::future::join_all;
use tokio::sync::oneshot;

use crate::support::{self, Dice, bump, connect, contents, ids, number};

use crate::{add_one, tally};

chassis::db_tests!(
    read_then_write_by_many_loses_nothing,
    transactions_that_deadlock_run_again_until_both_are_through,
    a_transaction_whose_caller_went_away_leaves_nothing,
    callers_that_go_away_at_any_moment_leave_no_connection_behind,
    a_panic_in_a_transaction_leaves_nothing,
    an_error_of_the_body_is_given_as_it_is_and_run_once,
    a_read_transaction_sees_one_state_throughout,
);

async fn read_then_write_by_many_loses_nothing(backend: Backend) {
    let temp = TempDb::new(backend).await;
    // Two replicas, sixteen callers each.
    let replicas = [connect(temp.url()).await, connect(temp.url()).await];
    let ids = Arc::new(ids(3));
    let callers = (0..32).map(|caller| {
        let (db, ids) = (replicas[caller % 2].clone(), Arc::clone(&ids));
        tokio::spawn(async move {
            let mut dice = Dice::new(caller as u64);
            for _ in 0..10 {
                add_one(&db, *dice.pick(&ids), dice.roll(20)).await.unwrap();
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert_eq!(tally(&replicas[0]).await, 320);
}

async fn transactions_that_deadlock_run_again_until_both_are_through(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let ids = ids(2);
    bump(&db, &ids, 0).await.unwrap();
    let (there, back) = ([ids[0], ids[1]], [ids[1], ids[0]]);
    let (tries, holding) = (AtomicU32::new(0), AtomicU32::new(0));
    let crosswise = [&there, &back].map(|order| {
        let (db, tries, holding) = (&db, &tries, &holding);
        db.run_tx::<_, Error, _>("crosswise", move |tx| {
            Box::pin(async move {
                tries.fetch_add(1, Ordering::Relaxed);
                support::bump_in(tx, &order[..1], 1).await?;
                holding.fetch_add(1, Ordering::Relaxed);
                // Where two can write at once, each has its first row before either asks for its second.
                while backend == Backend::Postgres && holding.load(Ordering::Relaxed) < 2 {
                    tokio::task::yield_now().await;
                }
                support::bump_in(tx, &order[1..], 1).await
            })
        })
    });
    for done in join_all(crosswise).await {
        done.unwrap();
    }
    assert!(contents(db.read(), "customer").await.values().all(|(revision, _)| *revision == 3));
    assert_eq!(number(db.read(), "SELECT seq FROM feed_head").await, 6, "a try that was rolled back published nothing");
    let least = if backend == Backend::Postgres { 3 } else { 2 };
    assert!(tries.load(Ordering::Relaxed) >= least, "one of them was made to give way");
}

async fn a_transaction_whose_caller_went_away_leaves_nothing(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    let (written, seen) = oneshot::channel();
    let written = std::sync::Mutex::new(Some(written));
    let caller = tokio::spawn({
        let db = db.clone();
        async move {
            let written = &written;
            db.run_tx::<(), Error, _>("half_way", |tx| {
                Box::pin(async move {
                    support::bump_in(tx, &[id], 1).await?;
                    written.lock().unwrap().take().unwrap().send(()).unwrap();
                    std::future::pending().await
                })
            })
            .await
        }
    });
    seen.await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // The one writer of SQLite, and the row lock on PostgreSQL, are free again.
    assert_eq!(bump(&db, &[id], 2).await.unwrap(), [1]);
    assert_eq!(number(db.read(), "SELECT COUNT(*) FROM outbox").await, 1);
}

async fn callers_that_go_away_at_any_moment_leave_no_connection_behind(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    bump(&db, &[id], 0).await.unwrap();
    let mut dice = Dice::new(7);
    for _ in 0..400 {
        let polls = dice.roll(12);
        let work = add_one(&db, id, 1);
        let reading = async {
            let tx = db.read_tx().await?;
            number(&tx, "SELECT COUNT(*) FROM tally").await;
            Ok::<_, Error>(tx.commit().await?)
        };
        // Polled a few times and dropped there, wherever that is.
        let mut both = std::pin::pin!(futures::future::join(work, reading));
        for _ in 0..=polls {
            if futures::poll!(both.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    if backend == Backend::Postgres {
        let text = "SELECT COUNT(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        let admin = &sea_orm::Database::connect(temp.url()).await.unwrap();
        eventually("no connection is left inside a transaction", || async move { number(admin, text).await == 0 })
            .await;
    }
    // Whatever happened to the others, what is acknowledged now is there for all to see.
    for _ in 0..40 {
        let before = tally(&db).await;
        add_one(&db, id, 0).await.unwrap();
        let tx = db.read_tx().await.unwrap();
        let after = number(&tx, "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM tally").await;
        tx.commit().await.unwrap();
        assert!(after > before, "{after} after {before}");
    }
}

async fn a_panic_in_a_transaction_leaves_nothing(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    let caller = tokio::spawn({
        let db = db.clone();
        async move {
            db.run_tx::<(), Error, _>("panics", |tx| {
                Box::pin(async move {
                    support::bump_in(tx, &[id], 1).await?;
                    panic!("on purpose")
                })
            })
            .await
        }
    });
    assert!(caller.await.unwrap_err().is_panic());
    assert_eq!(bump(&db, &[id], 2).await.unwrap(), [1]);
}

async fn an_error_of_the_body_is_given_as_it_is_and_run_once(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let (runs, id) = (&AtomicU32::new(0), ids(1)[0]);
    let refused = db
        .run_tx::<(), Error, _>("refused", |tx| {
            Box::pin(async move {
                runs.fetch_add(1, Ordering::Relaxed);
                support::bump_in(tx, &[id], 1).await?;
                Err(Error::not_found("customer", id))
            })
        })
        .await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert!(contents(db.read(), "customer").await.is_empty());
    assert_eq!(number(db.read(), "SELECT seq FROM feed_head").await, 0);
}

async fn a_read_transaction_sees_one_state_throughout(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let (db, other) = (connect(temp.url()).await, connect(temp.url()).await);
    let ids = ids(2);
    bump(&db, &ids[..1], 1).await.unwrap();
    let tx = db.read_tx().await.unwrap();
    assert_eq!(number(&tx, "SELECT COUNT(*) FROM customer").await, 1);
    // Neither this process's nor another's commit shows in it, and neither waits for it.
    bump(&db, &ids, 2).await.unwrap();
    bump(&other, &ids, 3).await.unwrap();
    assert_eq!(contents(&tx, "customer").await, [(ids[0], (1, 1))].into());
    assert_eq!(number(&tx, "SELECT seq FROM feed_head").await, 1);
    tx.commit().await.unwrap();
    assert_eq!(contents(db.read(), "customer").await, [(ids[0], (3, 3)), (ids[1], (2, 3))].into());
}
