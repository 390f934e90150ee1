//! The database as services use it: races, callers that go away, replicas, full disks, batches, replays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use chassis::{
    Db, Error, Result,
    clock::{self, Clock},
    db::{Batcher, RoomForChanges, bulk, sql},
    error::Violation,
    idempotency::{self, Key},
    parse::Check,
    testing::{Backend, TempDb, eventually, fault, noon, postgres_or_say_so},
};
use futures::future::join_all;
use proto::scoring::v1::{GetScoreRequest, Standing};
use sea_orm::{ConnectionTrait, TransactionTrait, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager, prelude::DbErr};
use tokio::sync::{Semaphore, oneshot};
use tonic::Code;
use uuid::Uuid;

mod support;
use support::{Dice, bump, connect, contents, dawdle, ids, number};

chassis::db_tests!(
    read_then_write_by_many_loses_nothing,
    transactions_that_deadlock_run_again_until_both_are_through,
    replicas_that_start_at_once_migrate_once,
    a_schema_newer_than_the_program_is_refused_in_plain_words,
    a_transaction_whose_caller_went_away_leaves_nothing,
    callers_that_go_away_at_any_moment_leave_no_connection_behind,
    a_panic_in_a_transaction_leaves_nothing,
    an_error_of_the_body_is_given_as_it_is_and_run_once,
    a_read_transaction_sees_one_state_throughout,
    rows_are_written_once_however_many_they_are,
    what_is_written_in_bulk_reads_back_as_it_was,
    pages_have_room_for_changes,
    connections_that_were_cut_are_replaced,
    a_batcher_gives_each_caller_its_own_result,
    a_batcher_commits_together_what_queued_up,
    one_bad_item_takes_no_other_with_it,
    a_batcher_sheds_what_it_cannot_queue,
    a_batcher_outlives_a_panic,
    a_replay_gives_the_first_reply,
    a_request_id_with_another_body_is_refused,
    fifty_callers_with_one_request_id_have_one_effect,
    old_replies_are_forgotten,
);

/// Adds one to a tally by reading it and writing what it read plus one: what loses updates wherever isolation fails.
async fn add_one(db: &Db, id: Uuid, turns: u64) -> Result<i64> {
    db.run_tx("add_one", |tx| {
        Box::pin(async move {
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

async fn tally(db: &Db) -> i64 {
    number(db.read(), "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM tally").await
}

async fn rows_are_written_once_however_many_they_are(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let created = db.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move {
            Ok(tx.execute_unprepared("CREATE TABLE line (id UUID NOT NULL, note BIGINT, nth BIGINT NOT NULL)").await?)
        })
    });
    created.await.unwrap();
    let into = "INSERT INTO line (id, note, nth)";
    // Around every count at which the form of a statement changes.
    for rows in [0_usize, 1, 15, 16, 17, 24, 127, 128, 129, 300] {
        let given = ids(rows);
        let given = &given;
        db.run_tx::<_, Error, _>("test", |tx| {
            Box::pin(async move {
                tx.execute_unprepared("DELETE FROM line").await?;
                tx.execute_unprepared("DELETE FROM tally").await?;
                let row = |(id, nth): (&Uuid, i64)| -> [Value; 3] {
                    // Nulls of its own, in the first row above all, are no rows to leave out.
                    [(*id).into(), (nth % 2 == 1).then_some(nth).into(), nth.into()]
                };
                let numbered: Vec<_> = given.iter().zip(0..).map(row).collect();
                assert_eq!(bulk::insert(&**tx, into, numbered.into_iter(), "").await?, rows as u64);
                // Half of them are there already, and replaced.
                let into = "INSERT INTO tally (id, n)";
                let tail = " ON CONFLICT (id) DO UPDATE SET n = tally.n + excluded.n WHERE excluded.n > 0 RETURNING id";
                let half = given.iter().take(rows / 2).map(|id| [(*id).into(), 1_i64.into()]);
                bulk::insert(&**tx, into, half, "").await?;
                let all = given.iter().map(|id| [(*id).into(), 2_i64.into()]);
                assert_eq!(bulk::insert_returning(&**tx, into, all, tail).await?.len(), rows);
                Ok(())
            })
        })
        .await
        .unwrap();
        let count = i64::try_from(rows).unwrap();
        let read = async |text: &str| number(db.read(), text).await;
        assert_eq!(read("SELECT COUNT(DISTINCT id) FROM line").await, count);
        assert_eq!(read("SELECT COUNT(*) FROM line").await, count);
        assert_eq!(read("SELECT COUNT(*) FROM line WHERE note IS NULL").await, (count + 1) / 2);
        assert_eq!(tally(&db).await, 2 * count + count / 2);
    }
}

async fn what_is_written_in_bulk_reads_back_as_it_was(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let blob = if backend == Backend::Postgres { "BYTEA" } else { "BLOB" };
    let create = format!(
        "CREATE TABLE kind (id UUID NOT NULL, flag BOOLEAN, narrow INTEGER, wide BIGINT, real DOUBLE PRECISION, words TEXT, bytes {blob})"
    );
    let words = ["", "NULL", r#"a "quoted" \ path"#, "{1,2}", "two\nlines", "ünïcode ☃", "$1 ? 'x'"];
    let row = |n: usize| -> [Value; 7] {
        let given = !n.is_multiple_of(3);
        let bytes: Vec<u8> = (0..n).map(|byte| (byte * 37 % 256) as u8).collect();
        [
            Uuid::from_u128(n as u128 + 1).into(),
            given.then_some(n.is_multiple_of(2)).into(),
            given.then_some(i32::MIN + n as i32).into(),
            given.then_some(i64::MAX - n as i64).into(),
            given.then_some(-0.1_f64 / (n as f64)).into(),
            given.then_some(words[n % words.len()]).into(),
            given.then_some(bytes).into(),
        ]
    };
    let rows: Vec<_> = (0..40).map(row).collect();
    let written = &rows;
    let create = &create;
    db.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move {
            tx.execute_unprepared(create).await?;
            let into = "INSERT INTO kind (id, flag, narrow, wide, real, words, bytes)";
            bulk::insert(&**tx, into, written.iter().cloned(), "").await
        })
    })
    .await
    .unwrap();
    // Asked for by keys as well.
    let keys = rows.iter().map(|row| [row[0].clone()]);
    let read = bulk::find(db.read(), "SELECT * FROM kind WHERE id IN (", keys, ") ORDER BY id").await.unwrap();
    let read: Vec<[Value; 7]> = read
        .iter()
        .map(|row| {
            [
                row.try_get_by_index::<Uuid>(0).unwrap().into(),
                row.try_get_by_index::<Option<bool>>(1).unwrap().into(),
                row.try_get_by_index::<Option<i32>>(2).unwrap().into(),
                row.try_get_by_index::<Option<i64>>(3).unwrap().into(),
                row.try_get_by_index::<Option<f64>>(4).unwrap().into(),
                row.try_get_by_index::<Option<String>>(5).unwrap().into(),
                row.try_get_by_index::<Option<Vec<u8>>>(6).unwrap().into(),
            ]
        })
        .collect();
    assert_eq!(read, rows);
}

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

struct Roomy;

impl MigratorTrait for Roomy {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let room = RoomForChanges { name: "m0002_room", table: "customer" };
        support::Migrator::migrations().into_iter().chain([Box::new(room) as Box<dyn MigrationTrait>]).collect()
    }
}

async fn pages_have_room_for_changes(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = Db::connect::<Roomy>(temp.url(), &Clock::mock(noon())).await.unwrap();
    if backend == Backend::Postgres {
        let text = "SELECT COUNT(*) FROM pg_class WHERE relname = 'customer' AND reloptions = '{fillfactor=50}'";
        assert_eq!(number(db.read(), text).await, 1);
    }
    bump(&db, &ids(2), 1).await.unwrap();
}

async fn replicas_that_start_at_once_migrate_once(backend: Backend) {
    for _ in 0..3 {
        let temp = TempDb::new(backend).await;
        let starts = (0..6).map(|_| {
            let url = temp.url().to_owned();
            tokio::spawn(async move { Db::connect::<support::Migrator>(&url, &Clock::mock(noon())).await })
        });
        let replicas: Vec<Db> = join_all(starts).await.into_iter().map(|started| started.unwrap().unwrap()).collect();
        assert_eq!(number(replicas[0].read(), "SELECT COUNT(*) FROM seaql_migrations").await, 3);
        assert_eq!(number(replicas[0].read(), "SELECT COUNT(*) FROM feed_head").await, 1);
    }
}

/// Notes in the database how long a statement of a migration may take, and one of a transaction.
struct Limits;

impl MigrationName for Limits {
    fn name(&self) -> &str {
        "m0002_limits"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Limits {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let text = "CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS of_a_statement";
        manager.get_connection().execute_unprepared(text).await.map(|_| ())
    }
}

struct Noting;

impl MigratorTrait for Noting {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        support::Migrator::migrations().into_iter().chain([Box::new(Limits) as Box<dyn MigrationTrait>]).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_take_longer_than_any_other_statement() {
    if !postgres_or_say_so() {
        return;
    }
    let temp = TempDb::new(Backend::Postgres).await;
    let db = Db::connect::<Noting>(temp.url(), &Clock::mock(noon())).await.unwrap();
    let ask = async |text: &str| -> String {
        db.read().query_one_raw(sql(db.read(), text, [])).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    };
    assert_eq!(ask("SELECT of_a_statement FROM limits").await, "0");
    assert_eq!(ask("SELECT current_setting('statement_timeout')").await, "1min");
}

async fn a_schema_newer_than_the_program_is_refused_in_plain_words(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    db.run_tx::<_, Error, _>("newer", |tx| {
        Box::pin(async move {
            let text = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_from_the_future', 0)";
            tx.execute_unprepared(text).await?;
            Ok(())
        })
    })
    .await
    .unwrap();
    let error = Db::connect::<support::Migrator>(temp.url(), &Clock::mock(noon())).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("older than the database") && text.contains("m9999_from_the_future"), "{text}");
    // And what was there goes on working.
    bump(&db, &ids(1), 1).await.unwrap();
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

async fn connections_that_were_cut_are_replaced(backend: Backend) {
    if backend == Backend::Sqlite {
        // There is nothing between a file and its reader that could be cut.
        return;
    }
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    let id = &[id];
    join_all((0..16).map(|_| bump(&db, id, 1))).await.into_iter().for_each(|done| drop(done.unwrap()));
    let text = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let admin = sea_orm::Database::connect(temp.url()).await.unwrap();
    assert!(number(&admin, text).await > 1);
    // As many failures as there were connections, each of them named; then it works again.
    let mut failures = 0;
    while let Err(error) = bump(&db, id, 2).await {
        assert!(error.is_outage(), "{error:?}");
        failures += 1;
        assert!(failures <= 16);
    }
    assert_eq!(contents(db.read(), "customer").await[&id[0]], (17, 2));
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_ends_with_it() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(temp.url()).await;
    let ids = &ids(4);
    bump(&db, &ids[..1], 1).await.unwrap();
    for round in 0..3 {
        let full = db
            .run_tx::<(), Error, _>("fills_the_disk", |tx| {
                Box::pin(async move {
                    // The limit holds for this connection: the one writer.
                    let pages = number(&**tx, "PRAGMA page_count").await;
                    tx.execute_unprepared(&format!("PRAGMA max_page_count = {}", pages + 4)).await?;
                    tx.execute_raw(sql(&**tx, "UPDATE customer SET state = 99 WHERE id = $1", [ids[0].into()])).await?;
                    for _ in 0..64 {
                        let text = "INSERT INTO request (rpc, request_id, fingerprint, reply, create_time) \
                                    VALUES ('x', hex(randomblob(16)), x'00', randomblob(4000), 0)";
                        tx.execute_unprepared(text).await?;
                    }
                    Ok(())
                })
            })
            .await
            .unwrap_err();
        assert!(full.is_outage(), "{full:?}");
        let (code, reason, _) = fault(&full.into());
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));

        // A transaction that is refused afterwards and one that is acknowledged must each be what they seem.
        let refused = db
            .run_tx::<(), Error, _>("refused", |tx| {
                Box::pin(async move {
                    support::bump_in(tx, &ids[1..2], 1).await?;
                    Err(Error::not_found("customer", "x"))
                })
            })
            .await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
        bump(&db, &ids[2..3], round).await.unwrap();
        let seen = contents(db.read(), "customer").await;
        assert_eq!(seen, [(ids[0], (1, 1)), (ids[2], (round + 1, round))].into(), "in round {round}");
    }
}

#[tokio::test]
async fn a_lock_held_by_another_process_is_waited_for() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    bump(&db, &[id], 1).await.unwrap();
    // A writer that is none of ours, such as somebody's sqlite3 shell.
    let shell = sea_orm::Database::connect(temp.url()).await.unwrap();
    let held = shell.begin().await.unwrap();
    held.execute_raw(sql(&held, "UPDATE customer SET state = 5 WHERE id = $1", [id.into()])).await.unwrap();
    let writer = tokio::spawn({
        let db = db.clone();
        async move { bump(&db, &[id], 2).await }
    });
    // Readers do not wait for either.
    assert_eq!(contents(db.read(), "customer").await[&id], (1, 1));
    held.commit().await.unwrap();
    assert_eq!(writer.await.unwrap().unwrap(), [2]);
}

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

/// A mutation as services write it.
async fn order(db: &Db, request_id: &str, body: &str, id: Uuid) -> Result<Standing> {
    let request = GetScoreRequest { customer_id: body.to_owned(), ..Default::default() };
    let mut check = Check::new();
    let key = &Key::parse(&mut check, "Order", request_id, &request);
    check.done()?;
    db.run_tx("order", |tx| {
        Box::pin(async move {
            if let Some(reply) = idempotency::replay(tx, key).await? {
                return Ok(reply);
            }
            let revision = support::bump_in(tx, &[id], 1).await?[0];
            idempotency::record(tx, key, support::standing(id, revision, 1)).await
        })
    })
    .await
}

async fn a_replay_gives_the_first_reply(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    let first = order(&db, "r1", "body", id).await.unwrap();
    order(&db, "r2", "body", id).await.unwrap();
    // After a restart too.
    let again = order(&connect(temp.url()).await, "r1", "body", id).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(contents(db.read(), "customer").await[&id].0, 2);
    assert_eq!(number(db.read(), "SELECT COUNT(*) FROM outbox").await, 2);
}

async fn a_request_id_with_another_body_is_refused(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    order(&db, "r1", "body", id).await.unwrap();
    let refused = order(&db, "r1", "another", id).await.unwrap_err();
    let expected = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned(), vec!["request_id".to_owned()]);
    assert_eq!(fault(&refused.into()), expected);
    assert_eq!(contents(db.read(), "customer").await[&id].0, 1);
}

async fn fifty_callers_with_one_request_id_have_one_effect(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let replicas = [connect(temp.url()).await, connect(temp.url()).await];
    let id = ids(1)[0];
    let callers = (0..50).map(|caller| {
        let db = replicas[caller % 2].clone();
        tokio::spawn(async move { order(&db, "r1", "body", id).await.unwrap() })
    });
    let mut replies: Vec<Standing> = join_all(callers).await.into_iter().map(|reply| reply.unwrap()).collect();
    replies.dedup();
    assert_eq!(replies, [support::standing(id, 1, 1)]);
    assert_eq!(number(replicas[0].read(), "SELECT COUNT(*) FROM outbox").await, 1);
}

async fn old_replies_are_forgotten(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let clock = Clock::mock(noon());
    let db = support::connect_at(temp.url(), &clock).await;
    let id = ids(1)[0];
    order(&db, "old", "body", id).await.unwrap();
    clock.set(clock::at_micros(clock.now_micros() + idempotency::RETENTION_MICROS));
    order(&db, "young", "body", id).await.unwrap();
    idempotency::forget_old(&db).await.unwrap();
    clock.advance(jiff::SignedDuration::from_micros(1));
    idempotency::forget_old(&db).await.unwrap();
    assert_eq!(number(db.read(), "SELECT COUNT(*) FROM request").await, 1);
    assert_eq!(order(&db, "young", "body", id).await.unwrap().revision, 2);
}

#[tokio::test]
async fn urls_of_no_known_database_are_refused_without_repeating_them() {
    for url in ["mysql://user:secret@host/db", "sqlite:", "sqlite::memory:", "postgres://user:secret@[", "secret"] {
        let error = Db::connect::<support::Migrator>(url, &Clock::mock(noon())).await.unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
