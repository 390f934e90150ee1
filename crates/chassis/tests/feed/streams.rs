//! Watchers that are slow, quiet, or at their end.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::{
    Error,
    clock::Clock,
    feed::{self, Event},
    testing::{Backend, TempDb, eventually, fault, noon},
};
use futures::StreamExt;
use proto::common::v1::FeedMark;
use tonic::Code;

use crate::support::{self, bump, connect, contents, ids, next, next_change, number, watch};

use crate::next_cursor;

chassis::db_tests!(
    a_slow_watcher_slows_nobody_and_holds_two_pages_at_most,
    a_quiet_topic_gives_signs_of_life_that_move_on,
    a_change_behind_thousands_of_other_topics_is_found,
    streams_end_when_the_service_drains,
);

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
