//! The serving side of a feed: a stream that reads the outbox only as fast as its reader takes, and holds two pages at most.
use std::{collections::VecDeque, marker::PhantomData, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use proto::common::v1::{FeedMark, FeedPosition};
use sea_orm::DatabaseTransaction;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Entry, Event, decode_cursor, encode_cursor, outbox, position, read_head, recent::Committed};
use crate::{
    db::{BoxFuture, Db},
    error::{Error, Result},
};

/// Changes taken at a time of what is in memory; of the outbox it is two pages at most. It is all that a watcher ever holds.
const PAGE: u64 = 512;
/// Items of a snapshot read at a time.
pub(crate) const SNAPSHOT_PAGE: u64 = 1_000;
/// How long a feed may be silent before it gives a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Reads one page of the present state: up to `limit` items with keys above `after`, by key. It gets a transaction in which all queries
/// see the same state.
pub type Snapshot<M> =
    fn(tx: &DatabaseTransaction, after: Option<Uuid>, limit: u64) -> BoxFuture<'_, Result<Vec<(Uuid, M)>>>;

/// What a `Watch…` RPC serves.
#[derive(Clone, Debug)]
pub struct Source<M> {
    /// The service's database.
    pub db: Db,
    /// The topic that its transactions publish to.
    pub topic: &'static str,
    /// The present state.
    pub snapshot: Snapshot<M>,
    /// Ends all streams when the service drains.
    pub shutdown: CancellationToken,
}

/// Starts a stream: after `cursor`, or with a snapshot where it is empty, or with what comes now where `only_new`.
///
/// # Errors
/// `CursorUnknown` and `CursorTooOld`, at once or, for a watcher so slow that the feed was trimmed under it, later in the stream.
pub async fn watch<M>(
    source: Source<M>,
    cursor: &str,
    only_new: bool,
) -> Result<impl Stream<Item = Result<Entry<M>>> + Send + use<M>>
where
    M: prost::Message + Default + 'static,
{
    let (epoch, items) = items(source, cursor, only_new).await?;
    Ok(items.map(move |item| match item? {
        Item::Entry(entry) => Ok(entry),
        Item::Change(change) => Ok(Entry { event: Event::Change(message(&change)?), position: change.position(epoch) }),
    }))
}

/// What a stream is made of.
pub(super) enum Item<M> {
    /// A mark, or what belongs to a snapshot and so has no cursor.
    Entry(Entry<M>),
    /// A change behind it.
    Change(Arc<Committed>),
}

fn message<M: prost::Message + Default>(change: &Committed) -> Result<M> {
    let seq = change.seq;
    M::decode(change.payload.clone()).map_err(|error| Error::Internal(format!("outbox {seq}: {error}")))
}

/// Starts a stream as [`watch`] does, of changes that nobody has looked into; and the epoch of the database.
pub(super) async fn items<M>(
    source: Source<M>,
    cursor: &str,
    only_new: bool,
) -> Result<(Uuid, impl Stream<Item = Result<Item<M>>> + Send + use<M>)>
where
    M: prost::Message + Default + 'static,
{
    let (epoch, head, trimmed) = read_head(source.db.read()).await?;
    let (phase, after) = if !cursor.is_empty() {
        let after = decode_cursor(epoch, source.topic, cursor)?;
        if after > head {
            // The database was restored from a copy older than this cursor.
            return Err(Error::CursorUnknown);
        }
        if after < trimmed {
            return Err(Error::CursorTooOld);
        }
        (Phase::Live, after)
    } else if only_new {
        (Phase::Live, head)
    } else {
        (Phase::Snapshot { after: None }, head)
    };
    let latest = source.db.feed().latest.subscribe();
    let state = Reader {
        source,
        epoch,
        phase,
        after,
        pages: Vec::new(),
        ready: VecDeque::new(),
        sign_due: None,
        latest,
        _message: PhantomData,
    };
    let items = futures::stream::try_unfold(state, |mut reader| async move {
        let item = reader.next().await?;
        Ok(item.map(|item| (item, reader)))
    });
    Ok((epoch, items))
}

#[derive(Clone, Copy)]
enum Phase {
    Snapshot {
        after: Option<Uuid>,
    },
    /// The changes made while the snapshot was being read, up to the head of its last page. They belong to the snapshot: were its mark's
    /// cursor before them, whoever resumed there would see again what a later page had already shown.
    Seam {
        to: i64,
    },
    Live,
}

struct Reader<M> {
    source: Source<M>,
    epoch: Uuid,
    phase: Phase,
    /// The last number read.
    after: i64,
    /// For each page of the snapshot its last key and the feed's head when it was read: a change whose number is not above the head of its
    /// key's page is in that page already. Empty after the seam.
    pages: Vec<(Uuid, i64)>,
    ready: VecDeque<Item<M>>,
    /// When the next sign of life is due. Other topics' changes wake this reader and do not put it off.
    sign_due: Option<Instant>,
    latest: tokio::sync::watch::Receiver<i64>,
    _message: PhantomData<M>,
}

impl<M: prost::Message + Default> Reader<M> {
    async fn next(&mut self) -> Result<Option<Item<M>>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.sign_due = None;
                return Ok(Some(item));
            }
            if self.source.shutdown.is_cancelled() {
                return Err(Error::NotServing("this replica"));
            }
            match self.phase {
                Phase::Snapshot { after } => self.read_snapshot(after).await?,
                Phase::Seam { to } => {
                    if self.read_changes(to).await? {
                        self.complete();
                    }
                }
                Phase::Live => {
                    // The head before the page: what is committed behind it wakes this reader again, and so does what the page had no room for.
                    let head = *self.latest.borrow_and_update();
                    self.read_changes(head).await?;
                    if self.ready.is_empty() {
                        self.wait().await?;
                    }
                }
            }
        }
    }

    async fn read_snapshot(&mut self, after: Option<Uuid>) -> Result<()> {
        let tx = self.source.db.read_tx().await?;
        // In this order also on SQLite, whose snapshot begins with the first query.
        let (_, head, _) = read_head(&tx).await?;
        let rows = (self.source.snapshot)(&tx, after, SNAPSHOT_PAGE).await?;
        tx.commit().await?;
        if after.is_none() {
            // Changes after the first page's head are still to come.
            self.after = head;
        }
        let complete = (rows.len() as u64) < SNAPSHOT_PAGE;
        let last = if complete { Uuid::max() } else { rows.last().map_or(Uuid::max(), |row| row.0) };
        self.pages.push((last, head));
        let now = self.source.db.clock().now_micros();
        self.ready.extend(rows.into_iter().map(|(_, message)| {
            Item::Entry(Entry {
                // Of the first page throughout, so that the numbers never step back from the snapshot to what follows.
                position: position(String::new(), self.after, now, None),
                event: Event::Change(message),
            })
        }));
        self.phase = if complete { Phase::Seam { to: head } } else { Phase::Snapshot { after: Some(last) } };
        Ok(())
    }

    fn complete(&mut self) {
        self.mark(FeedMark::SnapshotComplete);
        self.pages = Vec::new();
        self.phase = Phase::Live;
    }

    /// A mark behind all that was read.
    fn mark(&mut self, mark: FeedMark) {
        let cursor = encode_cursor(self.epoch, self.source.topic, self.after);
        let position = position(cursor, self.after, self.source.db.clock().now_micros(), None);
        self.ready.push_back(Item::Entry(Entry { position, event: Event::Mark(mark) }));
    }

    /// Reads the next page of the changes up to `to`, which is committed; whether that was all.
    async fn read_changes(&mut self, to: i64) -> Result<bool> {
        if to <= self.after {
            return Ok(true);
        }
        if let Some((changes, last)) = self.source.db.feed().recent.read(self.source.topic, self.after, to, PAGE) {
            for change in changes {
                self.take(change)?;
            }
            self.after = last;
            return Ok(last >= to);
        }
        let connection = self.source.db.read();
        let (changes, last) = outbox::read(connection, self.source.topic, self.after, to).await?;
        // Trimmed only now: the page was complete when it was read if nothing behind the cursor is gone after it.
        let (_, _, trimmed) = read_head(connection).await?;
        if trimmed > self.after {
            return Err(Error::CursorTooOld);
        }
        for change in changes {
            self.take(Arc::new(change))?;
        }
        self.after = last;
        Ok(last >= to)
    }

    fn take(&mut self, change: Arc<Committed>) -> Result<()> {
        self.after = change.seq;
        if self.in_snapshot(change.key, change.seq) {
            return Ok(());
        }
        self.ready.push_back(match self.phase {
            Phase::Live => Item::Change(change),
            Phase::Snapshot { .. } | Phase::Seam { .. } => Item::Entry(Entry {
                event: Event::Change(message(&change)?),
                position: FeedPosition { cursor: String::new(), ..change.position(self.epoch) },
            }),
        });
        Ok(())
    }

    fn in_snapshot(&self, key: Uuid, seq: i64) -> bool {
        let page = self.pages.partition_point(|(last, _)| *last < key);
        self.pages.get(page).is_some_and(|(_, head)| seq <= *head)
    }

    async fn wait(&mut self) -> Result<()> {
        let after = self.after;
        let due = *self.sign_due.get_or_insert_with(|| Instant::now() + HEARTBEAT);
        let silent = tokio::select! {
            biased;
            () = self.source.shutdown.cancelled() => return Err(Error::NotServing("this replica")),
            () = tokio::time::sleep_until(due) => true,
            changed = self.latest.wait_for(|latest| *latest > after) => {
                changed.map_err(|_| Error::NotServing("this replica"))?;
                false
            }
        };
        if silent {
            self.mark(FeedMark::Heartbeat);
        }
        Ok(())
    }
}
