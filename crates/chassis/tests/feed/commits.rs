//! What watchers see is what was committed, in that order.
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use chassis::{
    Db, Error,
    db::sql,
    feed::Event,
    testing::{Backend, TempDb},
};
use futures::{FutureExt, StreamExt};
use proto::{common::v1::FeedMark, scoring::v1::Standing};
use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::support::{self, Changes, Dice, TOPIC, bump, connect, dawdle, id_of, ids, next, next_change, number, watch};

use crate::id_of_change;

chassis::db_tests!(
    watchers_see_every_change_once_in_commit_order_whenever_they_come,
    a_change_that_commits_late_comes_late,
    a_number_that_is_taken_but_not_committed_is_waited_for,
    a_transaction_of_many_changes_keeps_their_order,
    what_another_replica_commits_is_seen,
);

/// One change as the outbox has it: (number, customer, revision).
type Row = (i64, Uuid, i64);

/// The topic's changes in the order of their numbers: what every watcher must see.
async fn outbox(db: &Db) -> Vec<Row> {
    let published = chassis::testing::published(db.read(), TOPIC).await.unwrap();
    published
        .into_iter()
        .map(|(seq, _, payload)| {
            let standing: Standing = prost::Message::decode(&*payload).unwrap();
            (seq, id_of(&standing), standing.revision)
        })
        .collect()
}

/// What one watcher saw.
#[derive(Debug, Default)]
struct Seen {
    /// The cursor it started from and its number, if it did.
    from: Option<i64>,
    /// The feed's head before and after an `only_new` watcher was let in.
    between: Option<(i64, i64)>,
    snapshot: Vec<(Uuid, i64)>,
    complete: bool,
    live: Vec<Row>,
}

/// Reads until the change of `last` comes; keeps the latest cursor where others find it.
async fn collect(mut stream: Changes, mut seen: Seen, last: Uuid, cursor: Arc<Mutex<(String, i64)>>) -> Seen {
    let mut number = 0;
    loop {
        let entry = next(&mut stream).await;
        let position = entry.position;
        assert!(position.sequence >= number, "numbers never step back");
        number = position.sequence;
        match entry.event {
            Event::Change(standing) if position.cursor.is_empty() => {
                assert!(!seen.complete && seen.live.is_empty(), "a snapshot comes first");
                seen.snapshot.push((id_of(&standing), standing.revision));
            }
            Event::Change(standing) => {
                *cursor.lock().unwrap() = (position.cursor, number);
                seen.live.push((number, id_of(&standing), standing.revision));
                if id_of(&standing) == last {
                    return seen;
                }
            }
            Event::Mark(FeedMark::SnapshotComplete) => seen.complete = true,
            Event::Mark(_) => {}
        }
    }
}

async fn watchers_see_every_change_once_in_commit_order_whenever_they_come(backend: Backend) {
    const WRITERS: u64 = 12;
    const ROUNDS: i64 = 40;
    const WATCHERS: u64 = 24;
    let temp = TempDb::new(backend).await;
    let replicas = Arc::new([connect(temp.url()).await, connect(temp.url()).await, connect(temp.url()).await]);
    // Three pages of a snapshot; the writers choose among customers of all of them.
    let all = ids(2_501);
    for chunk in all[..2_500].chunks(500) {
        bump(&replicas[0], chunk, 0).await.unwrap();
    }
    let last = all[2_500];
    let chosen: Arc<Vec<Uuid>> = Arc::new(all[..2_500].iter().copied().step_by(61).collect());
    let (cursor, progress) = (Arc::new(Mutex::new((String::new(), 0))), Arc::new(AtomicU64::new(0)));

    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (replicas, chosen, progress) = (Arc::clone(&replicas), Arc::clone(&chosen), Arc::clone(&progress));
            tokio::spawn(async move {
                let mut dice = Dice::new(writer + 1);
                let mut acknowledged = Vec::new();
                for round in 0..ROUNDS {
                    progress.fetch_add(1, Ordering::Relaxed);
                    let mut batch: Vec<Uuid> = (0..=dice.roll(3)).map(|_| *dice.pick(&chosen)).collect();
                    batch.sort_unstable();
                    batch.dedup();
                    let (before, after, fate) = (dice.roll(30), dice.roll(60), dice.roll(10));
                    let batch = &batch;
                    let done = dice
                        .pick(&*replicas)
                        .run_tx("write", |tx| {
                            Box::pin(async move {
                                dawdle(before).await;
                                let revisions = support::bump_in(tx, batch, round).await?;
                                if fate < 3 {
                                    tx.publish(support::OTHER, last, &support::standing(last, 1, 1));
                                }
                                // The order in which transactions get here is not the order in which they began.
                                dawdle(after).await;
                                if fate == 9 {
                                    return Err(Error::not_found("anything", "at all"));
                                }
                                Ok(revisions)
                            })
                        })
                        .await;
                    match done {
                        Ok(revisions) => acknowledged.extend(batch.iter().copied().zip(revisions)),
                        Err(Error::NotFound { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                acknowledged
            })
        })
        .collect();

    let watchers = tokio::spawn({
        let (replicas, cursor, progress) = (Arc::clone(&replicas), Arc::clone(&cursor), Arc::clone(&progress));
        async move {
            let (mut dice, mut watchers) = (Dice::new(99), Vec::new());
            for watcher in 0..WATCHERS {
                // Spread over the whole run, however long it takes.
                let begin = watcher * (WRITERS * ROUNDS as u64 - 20) / WATCHERS;
                while progress.load(Ordering::Relaxed) < begin {
                    dawdle(1 + dice.roll(10)).await;
                }
                let db = dice.pick(&*replicas);
                let (from, number) = cursor.lock().unwrap().clone();
                let (stream, seen) = match watcher % 3 {
                    0 => (watch(db, "", false).await, Seen::default()),
                    1 if !from.is_empty() => {
                        (watch(db, &from, false).await, Seen { from: Some(number), ..Seen::default() })
                    }
                    _ => {
                        let text = "SELECT seq FROM feed_head";
                        let before = support::number(db.read(), text).await;
                        let stream = watch(db, "", true).await;
                        let between = (before, support::number(db.read(), text).await);
                        (stream, Seen { between: Some(between), ..Seen::default() })
                    }
                };
                watchers.push(tokio::spawn(collect(stream.unwrap(), seen, last, Arc::clone(&cursor))));
            }
            watchers
        }
    });

    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let watchers = watchers.await.unwrap();
    acknowledged.push((last, bump(&replicas[0], &[last], 0).await.unwrap()[0]));

    // The outbox holds what was acknowledged, nothing else, gapless, each customer's revisions in order.
    let truth = outbox(&replicas[0]).await;
    let mut written: Vec<(Uuid, i64)> = truth[2_500..].iter().map(|(_, id, revision)| (*id, *revision)).collect();
    let mut revisions = BTreeMap::new();
    for (_, id, revision) in &truth {
        assert_eq!(*revision, revisions.insert(*id, *revision).unwrap_or(0) + 1);
    }
    written.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(written, acknowledged);
    let (rows, head) = ("SELECT CAST(SUM(last - first + 1) AS BIGINT) FROM outbox", "SELECT seq FROM feed_head");
    assert_eq!(number(replicas[0].read(), rows).await, number(replicas[0].read(), head).await);

    let (mut snapshots, mut resumed, mut fresh) = (0, 0, 0);
    for watcher in watchers {
        let seen = tokio::time::timeout(chassis::testing::DEADLINE, watcher).await.unwrap().unwrap();
        if seen.complete {
            snapshots += 1;
            // Every customer by key, then those that changed meanwhile once more.
            assert!(seen.snapshot[..2_500].is_sorted_by(|one, next| one.0 < next.0));
            let mut known = BTreeMap::new();
            for (id, revision) in seen.snapshot {
                let before = known.insert(id, revision).unwrap_or(revision - 1);
                assert_eq!(revision, before + 1, "a seam within the snapshot");
            }
            assert!(seen.live.is_sorted());
            for (_, id, revision) in seen.live {
                assert_eq!(revision, known.insert(id, revision).unwrap_or(0) + 1, "a seam between snapshot and live");
            }
            assert_eq!(known, revisions);
        } else {
            let start = match (seen.from, seen.between) {
                (Some(from), _) => truth.partition_point(|(number, ..)| *number <= from),
                (None, between) => {
                    let (before, after) = between.unwrap();
                    let start = truth.len() - seen.live.len();
                    assert!(truth[start].0 > before, "a change from before");
                    assert!(start == 0 || truth[start - 1].0 <= after, "a change is missing at the start");
                    start
                }
            };
            if seen.from.is_some() {
                resumed += 1
            } else {
                fresh += 1
            };
            assert_eq!(seen.live, truth[start..]);
        }
    }
    assert!(snapshots > 0 && resumed > 0 && fresh > 0, "{snapshots} {resumed} {fresh}");
}

async fn a_change_that_commits_late_comes_late(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let ids = ids(2);
    let mut stream = watch(&db, "", true).await.unwrap();
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let early = tokio::spawn({
        let (db, begun, release, id) = (db.clone(), Arc::clone(&begun), Arc::clone(&release), ids[0]);
        async move {
            let (begun, release) = (&begun, &release);
            db.run_tx::<_, Error, _>("early", |tx| {
                Box::pin(async move {
                    support::bump_in(tx, &[id], 1).await?;
                    begun.notify_one();
                    release.notified().await;
                    Ok(())
                })
            })
            .await
        }
    });
    begun.notified().await;
    let late = tokio::spawn({
        let (db, id) = (db.clone(), ids[1]);
        async move { bump(&db, &[id], 2).await }
    });
    let order = if backend == Backend::Postgres {
        // Began second, commits first.
        late.await.unwrap().unwrap();
        assert_eq!(id_of_change(&next_change(&mut stream).await), ids[1]);
        release.notify_one();
        early.await.unwrap().unwrap();
        assert_eq!(id_of_change(&next_change(&mut stream).await), ids[0]);
        [ids[1], ids[0]]
    } else {
        // SQLite has one writer: who began second waits.
        release.notify_one();
        early.await.unwrap().unwrap();
        late.await.unwrap().unwrap();
        assert_eq!(id_of_change(&next_change(&mut stream).await), ids[0]);
        assert_eq!(id_of_change(&next_change(&mut stream).await), ids[1]);
        [ids[0], ids[1]]
    };
    assert_eq!(outbox(&db).await, [(1, order[0], 1), (2, order[1], 1)]);
}

/// A page of the outbox with one change of the topic, byte by byte.
fn page_of(key: Uuid, standing: &Standing) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let payload = prost::Message::encode_to_vec(standing);
    let change = [field(3, key.as_bytes()), field(4, &payload)].concat();
    assert!(change.len() < 128, "the length of a field is one byte here");
    [field(1, TOPIC.as_bytes()), field(3, &change)].concat()
}

async fn a_number_that_is_taken_but_not_committed_is_waited_for(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let ids = ids(2);
    let mut stream = watch(&db, "", true).await.unwrap();
    for commits in [true, false] {
        // A replica stopped between numbering and commit, played by hand.
        let replica = sea_orm::Database::connect(temp.url()).await.unwrap();
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let tx = replica.begin_with_options(options).await.unwrap();
        let text = "UPDATE feed_head SET seq = seq + 1 WHERE id = 1 RETURNING seq";
        let taken: i64 = tx.query_one_raw(sql(&tx, text, [])).await.unwrap().unwrap().try_get_by_index(0).unwrap();
        let text = "INSERT INTO outbox (last, first, create_time, changes) VALUES ($1, $1, 0, $2)";
        let values = [taken.into(), page_of(ids[0], &support::standing(ids[0], taken, 1)).into()];
        tx.execute_raw(sql(&tx, text, values)).await.unwrap();

        let other = tokio::spawn({
            let (db, id) = (db.clone(), ids[1]);
            async move { bump(&db, &[id], 2).await }
        });
        dawdle(2_000).await;
        assert!(!other.is_finished(), "nobody gets the next number before this one is decided");
        assert!(stream.next().now_or_never().is_none());
        if commits {
            tx.commit().await.unwrap();
            other.await.unwrap().unwrap();
            assert_eq!(next_change(&mut stream).await.position.sequence, taken);
            assert_eq!(next_change(&mut stream).await.position.sequence, taken + 1);
        } else {
            tx.rollback().await.unwrap();
            other.await.unwrap().unwrap();
            let entry = next_change(&mut stream).await;
            assert_eq!((entry.position.sequence, id_of_change(&entry)), (taken, ids[1]));
        }
    }
}

async fn a_transaction_of_many_changes_keeps_their_order(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let ids = ids(9_999);
    let mut stream = watch(&db, "", true).await.unwrap();
    let all = &ids;
    db.run_tx::<_, Error, _>("many", |tx| {
        Box::pin(async move {
            for (id, revision) in all.iter().zip(1..) {
                tx.publish(TOPIC, *id, &support::standing(*id, revision, 1));
            }
            Ok(())
        })
    })
    .await
    .unwrap();
    for (id, number) in ids.iter().zip(1..) {
        let entry = next_change(&mut stream).await;
        assert_eq!((id_of_change(&entry), entry.position.sequence), (*id, number));
    }
}

async fn what_another_replica_commits_is_seen(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let (here, there) = (connect(temp.url()).await, connect(temp.url()).await);
    let id = ids(1)[0];
    let mut stream = watch(&here, "", false).await.unwrap();
    assert!(matches!(next(&mut stream).await.event, Event::Mark(FeedMark::SnapshotComplete)));
    for revision in 1..=3 {
        bump(&there, &[id], 1).await.unwrap();
        assert_eq!(next_change(&mut stream).await.position.sequence, revision);
    }
}
