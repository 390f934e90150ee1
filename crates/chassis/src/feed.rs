//! Feeds: how services tell each other what changed, once, in order, however often they are killed.
//!
//! **Publishing.** [`crate::Tx::publish`] gathers changes; the transaction's last statement before its commit takes the next numbers from the one
//! row of `feed_head` and writes them to `outbox`. The row stays locked until the commit, so numbers have no gaps and their
//! order *is* the order of commits, on both databases: no change can appear behind a reader's back.
//!
//! **Serving.** [`watch()`] reads the outbox by number, from a cursor, or from a snapshot that joins it without seam. What this process has just
//! committed it keeps in memory as it is sent, so that whoever follows closely costs no query, and many not much more than one.
//!
//! **Following.** [`follow()`] applies changes and keeps the cursor in one transaction of the follower's own database.
use std::{sync::OnceLock, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::bytes::Bytes;
use proto::common::v1::{FeedMark, FeedPosition};
use sea_orm::{ConnectionTrait, DatabaseTransaction, TryGetable};
use tokio::sync::watch as channel;
use uuid::Uuid;

use recent::{Committed, Recent};

use crate::{
    clock::{Clock, at_micros, to_proto},
    db::{Db, Latest, sql},
    error::{Error, Result},
    telemetry,
};

mod follow;
mod kept;
mod newest;
pub(crate) mod outbox;
mod pulse;
mod recent;
mod watch;
mod wire;
pub use follow::{Change, Follow, Turn, Turned, follow, follow_whole};
pub use kept::Kept;
pub use newest::{Newest, newest};
pub use watch::{Snapshot, Source, watch};
pub use wire::{
    Answers, Complaints, Contacts, Customers, Entries, Feed, Scores, serve, spawn_follow, spawn_follow_whole,
};

/// How soon a watcher notices what another process committed to the same database.
const POLL: Duration = Duration::from_millis(25);
/// The same where no other process writes, as to a file of a data folder: then it is only what was committed though its caller went away meanwhile, or
/// the answer got lost.
const POLL_ALONE: Duration = Duration::from_millis(250);
/// Changes dropped in one transaction, give or take a page: writers wait meanwhile.
const TRIM: i64 = 5_000;
/// How long changes are kept for watchers that were away.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// A change gathered in a transaction.
#[derive(Debug)]
pub(crate) struct Pending {
    topic: &'static str,
    key: Uuid,
    payload: Bytes,
    /// Of the span it was published in: a batch writes for many callers, each with a trace of its own.
    traceparent: Option<String>,
}

impl Pending {
    pub(crate) fn new(topic: &'static str, key: Uuid, message: &impl prost::Message) -> Self {
        Self { topic, key, payload: message.encode_to_vec().into(), traceparent: telemetry::current_traceparent() }
    }

    /// With the cause that it is told instead of the current span, unless that is empty.
    pub(crate) fn caused_by(self, cause: &str) -> Self {
        if cause.is_empty() { self } else { Self { traceparent: Some(cause.to_owned()), ..self } }
    }
}

/// Numbers and writes the changes, and gives them back as they were written. Must be the last statement of the transaction: from here to the
/// commit, other publishing transactions wait.
pub(crate) async fn append(tx: &DatabaseTransaction, changes: Vec<Pending>, clock: &Clock) -> Result<Vec<Committed>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    let text = "UPDATE feed_head SET seq = seq + $1 WHERE id = 1 RETURNING seq";
    let row = tx.query_one_raw(sql(tx, text, [count.into()])).await?;
    let last = match row {
        Some(row) => i64::try_get(&row, "", "seq").map_err(sea_orm::DbErr::from)?,
        None => return Err(Error::Internal("feed_head has no row".to_owned())),
    };
    let create_time = clock.now_micros();
    let number = |(change, seq): (Pending, i64)| {
        let Pending { topic, key, payload, traceparent } = change;
        Committed { seq, topic, key, payload, traceparent, create_time, sent: OnceLock::new() }
    };
    let changes: Vec<_> = changes.into_iter().zip(last - count + 1..).map(number).collect();
    outbox::write(tx, &changes).await?;
    Ok(changes)
}

/// What a database knows of its own feed.
#[derive(Debug)]
pub(crate) struct Head {
    latest: Latest,
    recent: Recent,
}

impl Head {
    pub(crate) async fn read<C: ConnectionTrait>(connection: &C) -> Result<Self> {
        let (_, seq, _) = read_head(connection).await?;
        Ok(Self { latest: channel::Sender::new(seq), recent: Recent::default() })
    }

    /// Wakes watchers: these changes are committed.
    pub(crate) fn committed(&self, changes: Vec<Committed>) {
        let Some(last) = changes.last().map(|change| change.seq) else { return };
        if self.latest.receiver_count() > 0 {
            self.recent.push(changes);
        }
        self.wake(last);
    }

    /// Wakes watchers: the changes up to `seq` are committed.
    fn wake(&self, seq: i64) {
        self.latest.send_if_modified(|latest| {
            let newer = seq > *latest;
            *latest = (*latest).max(seq);
            newer
        });
    }
}

/// (epoch, last number given, last number trimmed)
async fn read_head<C: ConnectionTrait>(connection: &C) -> Result<(Uuid, i64, i64)> {
    let text = "SELECT epoch, seq, trimmed FROM feed_head WHERE id = 1";
    let row = connection.query_one_raw(sql(connection, text, [])).await?;
    let row = row.ok_or_else(|| Error::Internal("feed_head has no row".to_owned()))?;
    let get = |column| i64::try_get(&row, "", column).map_err(sea_orm::DbErr::from);
    Ok((Uuid::try_get(&row, "", "epoch").map_err(sea_orm::DbErr::from)?, get("seq")?, get("trimmed")?))
}

/// Notices what other processes commit to the same database, and commits of this one of which nobody was told; all others wake watchers at once. Ends with
/// the database.
pub(crate) fn spawn_poller(db: &Db) {
    let pause = if db.is_alone() { POLL_ALONE } else { POLL };
    let db = db.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
            let Some(db) = db.upgrade() else { return };
            if db.feed().latest.receiver_count() > 0
                && let Ok((_, seq, _)) = read_head(db.read()).await
            {
                db.feed().wake(seq);
            }
        }
    });
}

/// Drops changes older than `retention`; cursors before them are refused from then on.
///
/// # Errors
/// `Database`.
pub async fn trim(db: &Db, retention: Duration) -> Result<u64> {
    let before = db.clock().now_micros().saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
    let (last, mut trimmed) = outbox::old(db.read(), before).await?;
    let mut dropped = 0;
    while trimmed < last {
        let to = last.min(trimmed.saturating_add(TRIM));
        dropped += db
            .run_tx("trim_feed", |tx| {
                Box::pin(async move {
                    // Another replica may be further already.
                    let text = "UPDATE feed_head SET trimmed = $1 WHERE id = 1 AND trimmed < $1";
                    tx.execute_raw(sql(&**tx, text, [to.into()])).await?;
                    outbox::drop_to(&**tx, to).await
                })
            })
            .await?;
        trimmed = to;
        db.feed().recent.forget(to);
    }
    Ok(dropped)
}

/// Where a reader stands: which database's feed, which topic, after which number.
fn encode_cursor(epoch: Uuid, topic: &str, seq: i64) -> String {
    let bytes = [&epoch.as_bytes()[..8], &seq.to_be_bytes(), topic.as_bytes()].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_cursor(epoch: Uuid, topic: &str, cursor: &str) -> Result<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::CursorUnknown)?;
    let rest = bytes.strip_prefix(&epoch.as_bytes()[..8]).ok_or(Error::CursorUnknown)?;
    let (seq, of) = rest.split_first_chunk::<8>().ok_or(Error::CursorUnknown)?;
    if of != topic.as_bytes() {
        return Err(Error::CursorUnknown);
    }
    Ok(i64::from_be_bytes(*seq))
}

/// One message of a feed.
#[derive(Clone, Debug)]
pub struct Entry<M> {
    /// Where it stands.
    pub position: FeedPosition,
    /// What it is.
    pub event: Event<M>,
}

/// What a message of a feed is.
#[derive(Clone, Debug)]
pub enum Event<M> {
    /// A change, or an item of a snapshot.
    Change(M),
    /// A mark.
    Mark(FeedMark),
}

fn position(cursor: String, seq: i64, time: i64, traceparent: Option<String>) -> FeedPosition {
    FeedPosition {
        cursor,
        sequence: seq,
        commit_time: Some(to_proto(at_micros(time))),
        traceparent: traceparent.unwrap_or_default(),
    }
}
