//! Where a watcher goes on, and where it must begin anew.
use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::{
    Db, Error,
    clock::Clock,
    db::sql,
    feed::{self, Event},
    testing::{Backend, TempDb, fault, noon},
};
use futures::{FutureExt, StreamExt};
use sea_orm::ConnectionTrait;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tonic::Code;
use uuid::Uuid;

use crate::support::{self, TOPIC, bump, connect, id_of, ids, next, next_change, watch};

use crate::{id_of_change, next_cursor};

chassis::db_tests!(
    a_cursor_resumes_after_a_restart,
    a_complete_snapshot_leaves_nothing_to_repeat,
    a_cursor_older_than_what_is_kept_is_refused,
    young_changes_are_kept,
    a_cursor_may_stand_anywhere_in_what_one_transaction_published,
    whoever_had_read_all_of_an_older_outbox_goes_on_and_others_begin_anew,
    cursors_that_are_not_of_this_feed_are_refused,
);

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
