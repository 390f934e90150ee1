//! Feeds under writers that overlap in every way: not one change is skipped, doubled, or out of order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use chassis::{
    Db,
    feed::{self, Event},
};
use proto::scoring::v1::Standing;
use uuid::Uuid;

use support::{id_of, next, watch};

mod commits;
mod cursors;
mod streams;
#[path = "../support/mod.rs"]
mod support;

pub(crate) fn id_of_change(entry: &feed::Entry<Standing>) -> Uuid {
    match &entry.event {
        Event::Change(standing) => id_of(standing),
        Event::Mark(mark) => panic!("{mark:?}"),
    }
}

/// A cursor at the feed's present end.
pub(crate) async fn next_cursor(db: &Db) -> String {
    let mut stream = watch(db, "", false).await.unwrap();
    loop {
        let entry = next(&mut stream).await;
        if !entry.position.cursor.is_empty() {
            return entry.position.cursor;
        }
    }
}
