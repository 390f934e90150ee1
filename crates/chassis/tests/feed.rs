//! Feeds under writers that overlap in every way: not one change is skipped, doubled, or out of order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::{
    Db, Error,
    clock::Clock,
    db::sql,
    feed::{self, Event},
    testing::{Backend, TempDb, eventually, fault, noon},
};
use futures::{FutureExt, StreamExt};
use proto::{common::v1::FeedMark, scoring::v1::Standing};
use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio::sync::Notify;
use tonic::Code;
use uuid::Uuid;

mod support;
use support::{Changes, Dice, TOPIC, bump, connect, contents, dawdle, id_of, ids, next, next_change, number, watch};

chassis::db_tests!(
    watchers_see_every_change_once_in_commit_order_whenever_they_come,
    a_change_that_commits_late_comes_late,
    a_number_that_is_taken_but_not_committed_is_waited_for,
    a_transaction_of_many_changes_keeps_their_order,
    what_another_replica_commits_is_seen,
    a_cursor_resumes_after_a_restart,
    a_complete_snapshot_leaves_nothing_to_repeat,
    a_slow_watcher_slows_nobody_and_holds_two_pages_at_most,
    a_cursor_older_than_what_is_kept_is_refused,
    young_changes_are_kept,
    a_cursor_may_stand_anywhere_in_what_one_transaction_published,
    whoever_had_read_all_of_an_older_outbox_goes_on_and_others_begin_anew,
    cursors_that_are_not_of_this_feed_are_refused,
    a_quiet_topic_gives_signs_of_life_that_move_on,
    a_change_behind_thousands_of_other_topics_is_found,
    streams_end_when_the_service_drains,
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

fn id_of_change(entry: &feed::Entry<Standing>) -> Uuid {
    match &entry.event {
        Event::Change(standing) => id_of(standing),
        Event::Mark(mark) => panic!("{mark:?}"),
    }
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

async fn a_cursor_resumes_after_a_restart(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let ids = ids(3);
    bump(&db, &ids[..1], 1).await.unwrap();
    let mut stream = watch(&db, "", false).await.unwrap();
    let item = next(&mut stream).await;
    assert!(item.position.cursor.is_empty(), "a snapshot that breaks off starts again");
    let complete = next(&mut stream).await.position.cursor;
    bump(&db, &ids[1..2], 1).await.unwrap();
    let live = next(&mut stream).await.position.cursor;
    drop((stream, db));

    let db = connect(temp.url()).await;
    bump(&db, &ids[2..], 1).await.unwrap();
    let mut stream = watch(&db, &complete, false).await.unwrap();
    assert_eq!(id_of_change(&next_change(&mut stream).await), ids[1]);
    assert_eq!(id_of_change(&next_change(&mut stream).await), ids[2]);
    // A cursor counts also beside `only_new`.
    let mut stream = watch(&db, &live, true).await.unwrap();
    assert_eq!(id_of_change(&next_change(&mut stream).await), ids[2]);
}

async fn a_complete_snapshot_leaves_nothing_to_repeat(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let all = ids(1_501);
    bump(&db, &all[..1_500], 0).await.unwrap();
    let mut stream = watch(&db, "", false).await.unwrap();
    next(&mut stream).await;
    // The first page is read, the second is not: a change in each, and a new customer behind both.
    bump(&db, &[all[3], all[1_200], all[1_500]], 1).await.unwrap();
    let (mut shown, mut items) = (BTreeMap::new(), 1);
    let complete = loop {
        let entry = next(&mut stream).await;
        match entry.event {
            Event::Change(standing) => {
                assert!(entry.position.cursor.is_empty());
                items += 1;
                shown.insert(id_of(&standing), standing.revision);
            }
            Event::Mark(_) => break entry.position.cursor,
        }
    };
    assert_eq!(items, 1_502, "one customer changed after it was shown, and was shown again");
    assert_eq!([shown[&all[3]], shown[&all[1_200]], shown[&all[1_500]]], [2, 2, 1]);
    let mut resumed = watch(&db, &complete, false).await.unwrap();
    bump(&db, &all[..1], 2).await.unwrap();
    for stream in [&mut stream, &mut resumed] {
        assert_eq!(id_of_change(&next_change(stream).await), all[0]);
    }
}

async fn a_slow_watcher_slows_nobody_and_holds_two_pages_at_most(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let clock = Clock::mock(noon());
    let db = support::connect_at(temp.url(), &clock).await;
    let ids = ids(100);
    bump(&db, &ids, 0).await.unwrap();
    let start = next_cursor(&db).await;
    let mut slow = watch(&db, &start, false).await.unwrap();
    let mut never = watch(&db, &start, false).await.unwrap();
    for state in 1..=50 {
        bump(&db, &ids, state).await.unwrap();
    }
    assert_eq!(next_change(&mut slow).await.position.sequence, 101);
    for sequence in 102..=2_000 {
        assert_eq!(next_change(&mut slow).await.position.sequence, sequence);
    }
    // Another, of a process that has nothing in memory, amid a transaction of several pages.
    let many = support::ids(1_500);
    bump(&db, &many, 51).await.unwrap();
    let anew = support::connect_at(temp.url(), &clock).await;
    let mut slow_anew = watch(&anew, &start, false).await.unwrap();
    for sequence in 101..=5_301 {
        assert_eq!(next_change(&mut slow_anew).await.position.sequence, sequence);
    }
    // All is gone but what they hold already: a page or two, and nothing of what is behind it.
    clock.set(noon() + jiff::SignedDuration::from_hours(24));
    assert_eq!(feed::trim(&db, Duration::from_secs(3600)).await.unwrap(), 6_600);
    for (watcher, most) in [(&mut slow, 512), (&mut slow_anew, 1_023)] {
        let mut held = 0;
        let error = loop {
            match watcher.next().await.unwrap() {
                Ok(_) => held += 1,
                Err(error) => break error,
            }
        };
        assert!(held <= most, "{held} of {most}");
        assert_eq!(fault(&error.into()).1, "CURSOR_TOO_OLD");
    }
    let error = never.next().await.unwrap().unwrap_err();
    assert_eq!(fault(&error.into()), (Code::OutOfRange, "CURSOR_TOO_OLD".to_owned(), vec![]));
    assert!(never.next().await.is_none(), "an error ends the stream");
}

/// A cursor at the feed's present end.
async fn next_cursor(db: &Db) -> String {
    let mut stream = watch(db, "", false).await.unwrap();
    loop {
        let entry = next(&mut stream).await;
        if !entry.position.cursor.is_empty() {
            return entry.position.cursor;
        }
    }
}

async fn a_cursor_older_than_what_is_kept_is_refused(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let clock = Clock::mock(noon());
    let db = support::connect_at(temp.url(), &clock).await;
    let ids = ids(1);
    let first = next_cursor(&db).await;
    bump(&db, &ids, 1).await.unwrap();
    let second = next_cursor(&db).await;
    clock.set(noon() + jiff::SignedDuration::from_hours(24));
    assert_eq!(feed::trim(&db, Duration::from_secs(3600)).await.unwrap(), 1);
    assert_eq!(feed::trim(&db, Duration::from_secs(3600)).await.unwrap(), 0);
    let refused = watch(&db, &first, false).await.err().unwrap();
    assert_eq!(fault(&refused.into()), (Code::OutOfRange, "CURSOR_TOO_OLD".to_owned(), vec![]));
    // One that has seen all that is gone goes on.
    let mut stream = watch(&db, &second, false).await.unwrap();
    bump(&db, &ids, 2).await.unwrap();
    assert_eq!(next_change(&mut stream).await.position.sequence, 2);
}

async fn young_changes_are_kept(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let clock = Clock::mock(noon());
    let db = support::connect_at(temp.url(), &clock).await;
    let many = ids(7_000);
    bump(&db, &many, 1).await.unwrap();
    clock.advance(jiff::SignedDuration::from_secs(3600));
    let young = next_cursor(&db).await;
    bump(&db, &many[..2], 2).await.unwrap();
    // Beside a writer, as it happens in life, and by two replicas at once.
    let other = support::connect_at(temp.url(), &clock).await;
    let hour = Duration::from_secs(3600 - 1);
    let (one, two, done) = tokio::join!(feed::trim(&db, hour), feed::trim(&other, hour), bump(&db, &many[..1], 3));
    done.unwrap();
    assert_eq!(one.unwrap() + two.unwrap(), 7_000);
    let mut stream = watch(&db, &young, false).await.unwrap();
    for sequence in 7_001..=7_003 {
        assert_eq!(next_change(&mut stream).await.position.sequence, sequence);
    }
}

async fn a_cursor_may_stand_anywhere_in_what_one_transaction_published(backend: Backend) {
    const MANY: usize = 1_300;
    let temp = TempDb::new(backend).await;
    let (db, ids) = (connect(temp.url()).await, ids(MANY));
    let mut live = watch(&db, "", true).await.unwrap();
    bump(&db, &ids, 1).await.unwrap();
    let mut cursors = vec![String::new()];
    for _ in 0..MANY {
        cursors.push(next_change(&mut live).await.position.cursor);
    }
    drop(live);
    // Opened anew, so that nothing of it is in memory; several pages, read from their ends and from within.
    let anew = connect(temp.url()).await;
    let seen = async |after: usize| {
        let mut stream = watch(&anew, &cursors[after], false).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < MANY - after {
            seen.push(next_change(&mut stream).await.position.sequence);
        }
        assert!(stream.next().now_or_never().is_none());
        seen
    };
    for after in [1, 255, 511, 512, 513, 1_023, 1_024, 1_025, MANY - 1] {
        let rest: Vec<_> = (after as i64 + 1..=MANY as i64).collect();
        assert_eq!(seen(after).await, rest, "after {after}");
    }
    // Trimmed up to the middle of a page, which is still there.
    let trim = anew.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move { Ok(tx.execute_unprepared("UPDATE feed_head SET trimmed = 700").await?) })
    });
    trim.await.unwrap();
    let refused = watch(&anew, &cursors[699], false).await.err();
    assert!(matches!(refused, Some(Error::CursorTooOld)), "{refused:?}");
    assert_eq!(seen(700).await, (701..=MANY as i64).collect::<Vec<_>>());
}

/// The schema as it was while each change had a row of its own.
struct Rows;

impl MigratorTrait for Rows {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        support::Migrator::migrations().into_iter().filter(|step| step.name() != "m0000_outbox_pages").collect()
    }
}

async fn whoever_had_read_all_of_an_older_outbox_goes_on_and_others_begin_anew(backend: Backend) {
    let (temp, clock) = (TempDb::new(backend).await, Clock::mock(noon()));
    let old = Db::connect::<Rows>(temp.url(), &clock).await.unwrap();
    let publish = old.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move {
            for seq in 1..=3_i64 {
                let text = "INSERT INTO outbox (seq, topic, key, payload, create_time) VALUES ($1, $2, $3, $4, 0)";
                let values = [seq.into(), TOPIC.into(), ids(1)[0].into(), vec![0_u8].into()];
                tx.execute_raw(sql(&**tx, text, values)).await?;
            }
            Ok(tx.execute_unprepared("UPDATE feed_head SET seq = 3").await?)
        })
    });
    publish.await.unwrap();
    let row = old.read().query_one_raw(sql(old.read(), "SELECT epoch FROM feed_head", [])).await.unwrap().unwrap();
    let epoch: Uuid = row.try_get_by_index(0).unwrap();
    let after = |seq: i64| {
        let bytes = [&epoch.as_bytes()[..8], &seq.to_be_bytes(), TOPIC.as_bytes()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    };
    old.close().await;

    let db = connect(temp.url()).await;
    // One that ran on would be refused, rather than publish what nobody hears.
    let publish = db.run_tx::<_, Error, _>("test", |tx| {
        let text = "INSERT INTO outbox (seq, topic, key, payload, create_time) VALUES (4, 't', '', '', 0)";
        Box::pin(async move { Ok(tx.execute_unprepared(text).await?) })
    });
    publish.await.unwrap_err();
    let mut stream = watch(&db, &after(3), false).await.unwrap();
    let refused = watch(&db, &after(2), false).await.err();
    assert!(matches!(refused, Some(Error::CursorTooOld)), "{refused:?}");
    bump(&db, &ids(1), 1).await.unwrap();
    assert_eq!(next_change(&mut stream).await.position.sequence, 4);
}

async fn cursors_that_are_not_of_this_feed_are_refused(backend: Backend) {
    let (temp, elsewhere) = (TempDb::new(backend).await, TempDb::new(backend).await);
    let (db, other) = (connect(temp.url()).await, connect(elsewhere.url()).await);
    bump(&db, &ids(1), 1).await.unwrap();
    let of_another_topic = {
        let source = feed::Source { topic: support::OTHER, ..support::source(&db) };
        let mut stream = feed::watch(source, "", false).await.unwrap().boxed();
        next(&mut stream).await;
        next(&mut stream).await.position.cursor
    };
    let good = next_cursor(&db).await;
    bump(&other, &ids(3), 1).await.unwrap();
    let mut bad =
        vec![of_another_topic, next_cursor(&other).await, "=".into(), "é\0".into(), "AAAA".into(), "x".repeat(100_000)];
    bad.extend((1..good.len()).map(|cut| good[..cut].to_owned()));
    bad.push(format!("{good}A"));
    for cursor in bad {
        let refused = watch(&db, &cursor, false).await.err().unwrap();
        let expected = (Code::InvalidArgument, "CURSOR_UNKNOWN".to_owned(), vec!["cursor".to_owned()]);
        assert_eq!(fault(&refused.into()), expected, "{cursor}");
    }
    // A database restored from a copy that is older than the cursor.
    bump(&db, &ids(1), 2).await.unwrap();
    let ahead = next_cursor(&db).await;
    db.run_tx::<_, Error, _>("restore", |tx| {
        Box::pin(async move {
            tx.execute_unprepared("UPDATE feed_head SET seq = 1").await?;
            Ok(())
        })
    })
    .await
    .unwrap();
    assert!(matches!(watch(&db, &ahead, false).await, Err(Error::CursorUnknown)));
}

async fn a_quiet_topic_gives_signs_of_life_that_move_on(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let clock = Clock::mock(noon());
    let db = support::connect_at(temp.url(), &clock).await;
    let mut stream = watch(&db, "", true).await.unwrap();
    // Another topic is so busy that the watcher is never left alone for as long as a heartbeat takes.
    let quiet = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (db, quiet) = (db.clone(), Arc::clone(&quiet));
        async move {
            while !quiet.load(Ordering::Relaxed) {
                support::publish_elsewhere(&db).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let sign = next(&mut stream).await;
    assert!(matches!(sign.event, Event::Mark(FeedMark::Heartbeat)), "{sign:?}");
    quiet.store(true, Ordering::Relaxed);
    busy.await.unwrap();
    assert!(sign.position.sequence > 0, "moved past the other topic's changes");
    // All before it may go: who stored it need not start again.
    let id = ids(1)[0];
    bump(&db, &[id], 1).await.unwrap();
    let rest = number(db.read(), "SELECT MAX(last) FROM outbox").await;
    let mut resumed = watch(&db, &sign.position.cursor, false).await.unwrap();
    assert_eq!(next_change(&mut resumed).await.position.sequence, rest);
    assert_eq!(next_change(&mut stream).await.position.sequence, rest);
}

async fn a_change_behind_thousands_of_other_topics_is_found(backend: Backend) {
    // More numbers than are looked through at a time, before the first change of the topic and between two of them.
    const OTHERS: i64 = 9_000;
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let mut stream = watch(&db, "", false).await.unwrap();
    let begin = loop {
        let entry = next(&mut stream).await;
        if matches!(entry.event, Event::Mark(FeedMark::SnapshotComplete)) {
            break entry.position.cursor;
        }
    };
    drop(stream);
    let id = ids(1)[0];
    for revision in [1, 2] {
        support::publish_many_elsewhere(&db, OTHERS).await;
        bump(&db, &[id], revision).await.unwrap();
    }
    // Read from the database: a process that was just started has nothing at hand.
    drop(db);
    let db = connect(temp.url()).await;
    let mut resumed = watch(&db, &begin, false).await.unwrap();
    for nth in [1, 2] {
        let entry = next_change(&mut resumed).await;
        assert_eq!(entry.position.sequence, nth * (OTHERS + 1));
    }
}

async fn streams_end_when_the_service_drains(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    bump(&db, &ids(1_500), 1).await.unwrap();
    let source = support::source(&db);
    let shutdown = source.shutdown.clone();
    let mut waiting = feed::watch(source.clone(), "", true).await.unwrap().boxed();
    let waits = tokio::spawn(async move { waiting.next().await });
    let mut midway = feed::watch(source, "", false).await.unwrap().boxed();
    next(&mut midway).await;
    shutdown.cancel();
    let error = waits.await.unwrap().unwrap().unwrap_err();
    assert_eq!(fault(&error.into()), (Code::Unavailable, "DRAINING".to_owned(), vec![]));
    // What was read already still goes out; no further page is read.
    let rest: Vec<_> = midway.collect().await;
    assert_eq!(rest.len(), 1_000);
    assert!(matches!(rest.last(), Some(Err(Error::NotServing(_)))));
}

#[tokio::test]
async fn a_database_that_nobody_uses_any_more_is_closed() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(temp.url()).await;
    let mut stream = watch(&db, "", true).await.unwrap();
    bump(&db, &ids(1), 1).await.unwrap();
    next_change(&mut stream).await;
    assert_eq!(contents(db.read(), "customer").await.len(), 1);
    drop((stream, db));
    // The last connection to a database in WAL mode takes the log with it.
    let log = format!("{}-wal", temp.url().trim_start_matches("sqlite:"));
    let log = std::path::Path::new(&log);
    eventually("the poller lets go and the file is closed", || async move { !log.exists() }).await;
}
