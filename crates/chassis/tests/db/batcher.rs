//! Single writes that are committed together.
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chassis::{
    Db, Error,
    db::{Batcher, sql},
    error::Violation,
    testing::{Backend, TempDb},
};
use futures::future::join_all;
use sea_orm::ConnectionTrait;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{connect, dawdle, ids};

use crate::tally;

chassis::db_tests!(
    a_batcher_gives_each_caller_its_own_result,
    a_batcher_commits_together_what_queued_up,
    one_bad_item_takes_no_other_with_it,
    a_batcher_sheds_what_it_cannot_queue,
    a_batcher_outlives_a_panic,
);

/// A batcher that adds up, and counts the transactions it needs; `gate` lets one transaction pass per permit.
fn adder(db: &Db, runs: &Arc<AtomicUsize>, gate: Option<Arc<Semaphore>>) -> Batcher<(Uuid, i64), i64> {
    let runs = Arc::clone(runs);
    Batcher::spawn(db.clone(), "add", move |tx, items: &[(Uuid, i64)]| {
        let (runs, gate) = (Arc::clone(&runs), gate.clone());
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            runs.fetch_add(1, Ordering::Relaxed);
            let mut results = Vec::new();
            for (id, n) in items {
                assert!(*n != 666, "on purpose");
                if *n < 0 {
                    return Err(Error::Invalid(vec![Violation { field: "n".into(), message: "is negative".into() }]));
                }
                let text = "INSERT INTO tally (id, n) VALUES ($1, $2) \
                            ON CONFLICT (id) DO UPDATE SET n = tally.n + $2 RETURNING n";
                let row = tx.query_one_raw(sql(&**tx, text, [(*id).into(), (*n).into()])).await?.unwrap();
                results.push(row.try_get_by_index(0)?);
            }
            Ok(results)
        })
    })
}

async fn a_batcher_gives_each_caller_its_own_result(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let batcher = adder(&db, &Arc::default(), None);
    let ids = ids(200);
    let callers = ids.iter().zip(1..).map(|(id, n)| batcher.submit((*id, n)));
    let results: Vec<i64> = join_all(callers).await.into_iter().map(|result| result.unwrap()).collect();
    assert_eq!(results, (1..=200).collect::<Vec<_>>());
    assert_eq!(tally(&db).await, 200 * 201 / 2);
}

async fn a_batcher_commits_together_what_queued_up(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let (runs, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let batcher = adder(&db, &runs, Some(Arc::clone(&gate)));
    let id = ids(1)[0];
    // The first commit is held until the last caller has queued up behind it.
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit((id, 1)).await })
        })
        .collect();
    dawdle(5_000).await;
    gate.add_permits(1_000);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(tally(&db).await, 1_000);
    let commits = runs.load(Ordering::Relaxed);
    assert!(commits <= 100, "{commits} commits for 1,000 callers at once");
}

async fn one_bad_item_takes_no_other_with_it(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let batcher = adder(&db, &Arc::default(), None);
    let id = ids(1)[0];
    let callers = (0..50).map(|n| batcher.submit((id, if n % 7 == 3 { -1 } else { 1 })));
    let results = join_all(callers).await;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), n % 7 == 3, "{n}: {result:?}");
    }
    assert_eq!(tally(&db).await, results.iter().filter(|result| result.is_ok()).count() as i64);
}

async fn a_batcher_sheds_what_it_cannot_queue(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let gate = Arc::new(Semaphore::new(0));
    let batcher = adder(&db, &Arc::default(), Some(Arc::clone(&gate)));
    let id = ids(1)[0];
    // One batch in work, the queue full, and some more.
    let mut waiting: Vec<_> = (0..20_000).map(|_| Box::pin(batcher.submit((id, 1)))).collect();
    let mut shed = 0;
    waiting.retain_mut(|caller| match futures::FutureExt::now_or_never(caller) {
        Some(Err(Error::Overloaded(_))) => {
            shed += 1;
            false
        }
        Some(other) => panic!("{other:?}"),
        None => true,
    });
    assert!((1_000..4_000).contains(&shed), "{shed}");
    // Those that went away while they waited cost nothing; those that still wait are served.
    let rest = waiting.split_off(waiting.len() - 500);
    drop(waiting);
    gate.add_permits(100_000);
    for result in join_all(rest).await {
        result.unwrap();
    }
    let written = tally(&db).await;
    assert!((500..=500 + 1_024).contains(&written), "{written}: the batch in work and those who still wait");
}

async fn a_batcher_outlives_a_panic(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let batcher = adder(&db, &Arc::default(), None);
    let id = ids(1)[0];
    let (bad, good) = tokio::join!(batcher.submit((id, 666)), batcher.submit((id, 1)));
    assert!(matches!(bad, Err(Error::Internal(_))), "{bad:?}");
    good.unwrap();
    batcher.submit((id, 1)).await.unwrap();
    assert_eq!(tally(&db).await, 2);
}
