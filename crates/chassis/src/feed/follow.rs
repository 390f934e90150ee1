//! The following side of a feed: applies changes to a projection and keeps the cursor in the same transaction, so that the effect is exactly once.
use std::{future::Future, iter::Peekable, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use proto::common::v1::FeedMark;
use sea_orm::{ConnectionTrait, TryGetable};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Instrument;

use super::{
    Entry, Event,
    pulse::{Pulse, Trouble},
};
use crate::{
    clock::at_micros,
    context::Context,
    db::{BoxFuture, Db, Tx, sql},
    error::{Fault, Result},
    telemetry,
};

/// Changes applied in one transaction at most.
const BATCH: usize = 1_024;
/// From so many changes at once on there is a flow of them, and whoever follows waits a little for more: a transaction costs about the same for ten as
/// for a hundred. Fewer are applied at once.
const FLOW: usize = 16;
/// How long it waits then: well below the 50 ms in which a purchase is to be felt in decisions.
const GATHER: Duration = Duration::from_millis(15);
/// Causes a batch's span is linked to at most, besides the one it continues. Every link goes out with the span, about 50 bytes each: of a
/// batch that rushed in, the latest tell enough, and all of them would make the span a page that nobody reads.
const LINKS: usize = 32;
/// How long a follower that went silent keeps its place before another replica takes over, and so how long nobody follows after one was killed, the
/// same process started again included. Too short costs nothing but work, never exactness: the cursor moves only from where it
/// was and under a lock of its row, so whoever lost the place in the midst of a batch finds that out when it commits, and has done nothing. But a
/// holder that stalls for longer than this (a machine that is suspended, a batch that takes longer) hands the place to and fro, and the shorter the
/// lease, the more often it must be confirmed: three times, so that one renewal may be lost.
const LEASE: Duration = Duration::from_secs(3);
/// How often the place is confirmed while nothing comes: one small commit for each follower.
const RENEW: Duration = Duration::from_secs(1);
/// How often a replica that does not follow looks whether the place is free: nobody follows for that long after another drained.
const STANDBY: Duration = Duration::from_millis(500);
/// An end of a lease that lies farther ahead than any clock is wrong that keeps time at all: it comes from a clock that jumped back since.
const ABSURD: Duration = Duration::from_secs(20);
/// How long a peer may take to open the stream, and to say anything at all, heartbeats included (every 5 s): after that
/// it hangs, and another replica of it may not.
pub(super) const SILENCE: Duration = Duration::from_secs(20);
/// First and last pause before trying again after a peer went away. The last is shorter than the lease, so that whoever is told at once that a peer is
/// away keeps its place. Whoever waits longer than that to be told anything may lose it, and other replicas try in turn: the place goes to and
/// fro between them, which costs nothing, since nobody can follow.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A change as a follower gets it.
#[derive(Clone, Debug)]
pub struct Change<M> {
    /// The message.
    pub message: M,
    /// The publishing service's number; 0 within a snapshot where it is not known.
    pub sequence: i64,
    /// W3C trace context of the call that made the change; empty where there is none.
    pub cause: String,
    /// True for an item of a snapshot: the publisher's present state, which replaces what is kept whatever the revisions are.
    pub snapshot: bool,
}

/// Where a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next changes are its first. It may break off and begin again.
    Begins,
    /// All of it was applied: what it did not name is not there.
    Complete,
}

/// What a follower does at a turn: where a snapshot begins, in the transaction of its first changes and before them; where it is complete, in one of
/// its own.
pub type Turned<E> = for<'c, 't> fn(&'c Tx<'t>, Turn) -> BoxFuture<'c, Result<(), E>>;

/// What to follow and who follows.
#[derive(Clone, Debug)]
pub struct Follow {
    /// Name of the follower within its database, for example `scoring`; the cursor is kept under it.
    pub name: &'static str,
    /// The follower's own database.
    pub db: Db,
}

/// Follows a feed until the service drains. `connect` opens the `Watch…` RPC at a cursor; `apply` writes a batch of changes in commit order to the
/// projection, inside the transaction that moves the cursor. With several replicas one follows at a time, under a lease.
///
/// A peer that is away is tried again for ever; a cursor that is too old or not known to the peer starts again with a snapshot.
pub async fn follow<M, E, C, F, A>(context: Context, follow: Follow, connect: C, apply: A)
where
    M: Send + Sync + 'static,
    E: Fault,
    C: Fn(String) -> F + Send + Sync,
    F: Future<Output = Result<BoxStream<'static, Result<Entry<M>, Status>>, Status>> + Send,
    A: for<'c> Fn(&'c Tx<'_>, &'c [Change<M>]) -> BoxFuture<'c, Result<(), E>> + Send + Sync,
{
    follow_whole(context, follow, connect, apply, |_, _| Box::pin(async { Ok(()) })).await;
}

/// The same for a follower that also drops what a snapshot does not name any more.
pub async fn follow_whole<M, E, C, F, A>(context: Context, follow: Follow, connect: C, apply: A, turned: Turned<E>)
where
    M: Send + Sync + 'static,
    E: Fault,
    C: Fn(String) -> F + Send + Sync,
    F: Future<Output = Result<BoxStream<'static, Result<Entry<M>, Status>>, Status>> + Send,
    A: for<'c> Fn(&'c Tx<'_>, &'c [Change<M>]) -> BoxFuture<'c, Result<(), E>> + Send + Sync,
{
    let mut pulse = Pulse::new(&context, follow.name);
    let mut pause = BACKOFF.0;
    while !context.shutdown.is_cancelled() {
        let run = run(&context, &follow, &mut pulse, &connect, &apply, turned);
        let ended = tokio::select! {
            () = context.shutdown.cancelled() => break,
            ended = run => ended,
        };
        let wait = match &ended {
            Ended::Progressed => BACKOFF.0,
            Ended::Failed(trouble) => {
                pulse.fails(&context, trouble);
                pause
            }
            Ended::Elsewhere => {
                pulse.rests();
                STANDBY
            }
        };
        pause = if matches!(ended, Ended::Failed(_)) { (pause * 2).min(BACKOFF.1) } else { BACKOFF.0 };
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    // The next replica need not wait for the lease to run out.
    release(&context, &follow).await;
}

enum Ended {
    /// Something came and was kept before the stream ended.
    Progressed,
    /// Nothing did, or it could not be applied.
    Failed(Trouble),
    /// Another replica follows.
    Elsewhere,
}

async fn run<M, E, C, F, A>(
    context: &Context,
    follow: &Follow,
    pulse: &mut Pulse,
    connect: &C,
    apply: &A,
    turned: Turned<E>,
) -> Ended
where
    M: Send + Sync + 'static,
    E: Fault,
    C: Fn(String) -> F + Send + Sync,
    F: Future<Output = Result<BoxStream<'static, Result<Entry<M>, Status>>, Status>> + Send,
    A: for<'c> Fn(&'c Tx<'_>, &'c [Change<M>]) -> BoxFuture<'c, Result<(), E>> + Send + Sync,
{
    let mut cursor = match acquire(context, follow).await {
        Ok(Some(cursor)) => cursor,
        Ok(None) => return Ended::Elsewhere,
        Err(error) => return Ended::Failed(Trouble::new("lease", format!("{error:?}"))),
    };
    let stream = match tokio::time::timeout(SILENCE, connect(cursor.clone())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(status)) => return broken(context, follow, &cursor, &status, false).await,
        Err(_) => return silent(),
    };
    // Both are safe to drop half-way, as the time-outs do: what is ready is handed out by the same poll that took it.
    let mut chunks = stream.ready_chunks(BATCH);
    let mut progressed = false;
    let mut begins = cursor.is_empty();
    let mut heard = Instant::now();
    loop {
        let chunk = match tokio::time::timeout(RENEW, chunks.next()).await {
            Ok(Some(chunk)) => {
                heard = Instant::now();
                chunk
            }
            Ok(None) if progressed => return Ended::Progressed,
            Ok(None) => return Ended::Failed(Trouble::away("the stream ended without a word".to_owned())),
            Err(_) if heard.elapsed() > SILENCE => return silent(),
            // Nothing new: only confirm the lease.
            Err(_) => Vec::new(),
        };
        let flows = (FLOW..BATCH).contains(&chunk.len());
        let mut entries = chunk.into_iter().peekable();
        loop {
            let mut batch = Batch::new(cursor.clone());
            batch.begins = begins && entries.peek().is_some();
            begins &= !batch.begins;
            let failure = batch.fill(&mut entries);
            match commit(context, follow, &cursor, &batch, apply, turned).await {
                Ok(true) => {}
                Ok(false) => return Ended::Elsewhere,
                // The same changes come again, and most likely fail again: nothing behind them is applied until somebody mends it.
                Err(error) => return Ended::Failed(Trouble::new("apply", format!("{error:?}"))),
            }
            progressed |= batch.heard;
            if batch.heard {
                pulse.beats(context, batch.time, batch.changes.len());
            }
            cursor = batch.cursor;
            if let Some(status) = failure {
                return broken(context, follow, &cursor, &status, progressed).await;
            }
            if entries.peek().is_none() {
                break;
            }
        }
        if flows {
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// The stream ended with an error. A cursor that the publisher refuses is forgotten, so that the next try starts with a snapshot.
async fn broken(context: &Context, follow: &Follow, cursor: &str, status: &Status, progressed: bool) -> Ended {
    let name = follow.name;
    // By the reason, not by the code: OUT_OF_RANGE is also what a message beyond the size limit gives.
    let reason = status.get_details_error_info().map(|info| info.reason);
    let refused = matches!(reason.as_deref(), Some("CURSOR_TOO_OLD" | "CURSOR_UNKNOWN"));
    if refused && !cursor.is_empty() {
        tracing::warn!(follower = name, code = ?status.code(), "cursor refused; starting again with a snapshot");
        let reset = commit_cursor(context, follow, cursor, "").await;
        if let Err(error) = reset {
            tracing::warn!(follower = name, ?error, "cannot reset the cursor");
        }
        return Ended::Progressed;
    }
    if progressed {
        return Ended::Progressed;
    }
    let what = format!("{:?}: {}", status.code(), reason.as_deref().unwrap_or("no answer"));
    Ended::Failed(match status.code() {
        Code::Ok | Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted => {
            Trouble::away(what)
        }
        // It will not mend itself.
        _ => Trouble::new("refused", what),
    })
}

fn silent() -> Ended {
    Ended::Failed(Trouble::new("silent", format!("the peer hangs: not a word in {SILENCE:?}")))
}

struct Batch<M> {
    changes: Vec<Change<M>>,
    cursor: String,
    /// Whether a snapshot begins with it.
    begins: bool,
    /// Whether a snapshot is complete with it.
    completes: bool,
    /// Whether the publisher said anything at all.
    heard: bool,
    /// The publisher's time when it said the last of it.
    time: Option<jiff::Timestamp>,
    /// The latest distinct causes of the changes, as `traceparent`s; the last change's is the last.
    causes: Vec<String>,
}

impl<M> Batch<M> {
    fn new(cursor: String) -> Self {
        Self {
            changes: Vec::new(),
            cursor,
            begins: false,
            completes: false,
            heard: false,
            time: None,
            causes: Vec::new(),
        }
    }

    /// Takes what goes together, up to an error. The end of a snapshot is by itself: who follows locks rows in their order, and what a
    /// snapshot left out stands anywhere in it.
    fn fill(&mut self, entries: &mut Peekable<impl Iterator<Item = Result<Entry<M>, Status>>>) -> Option<Status> {
        let completes = |entry: &Result<Entry<M>, Status>| {
            matches!(entry, Ok(Entry { event: Event::Mark(FeedMark::SnapshotComplete), .. }))
        };
        while let Some(entry) =
            entries.next_if(|entry| !self.completes && (self.changes.is_empty() || !completes(entry)))
        {
            match entry {
                Ok(entry) => self.push(entry),
                Err(status) => return Some(status),
            }
        }
        None
    }

    fn push(&mut self, entry: Entry<M>) {
        let position = entry.position;
        // Items of a snapshot have no cursor: until it is complete, the follower stays where it was.
        let snapshot = position.cursor.is_empty();
        if !snapshot {
            self.cursor = position.cursor;
        }
        self.heard = true;
        if let Some(time) = position.commit_time {
            let micros = time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000);
            self.time = Some(at_micros(micros));
        }
        match entry.event {
            Event::Change(message) => {
                let cause = position.traceparent;
                self.caused_by(&cause);
                self.changes.push(Change { message, sequence: position.sequence, cause, snapshot });
            }
            Event::Mark(FeedMark::SnapshotComplete) => self.completes = true,
            Event::Mark(FeedMark::Unspecified | FeedMark::Heartbeat) => {}
        }
    }

    fn caused_by(&mut self, traceparent: &str) {
        // Changes of one call come one after the other.
        if traceparent.is_empty() || self.causes.last().is_some_and(|last| last == traceparent) {
            return;
        }
        match self.causes.iter().position(|cause| cause == traceparent) {
            Some(at) => drop(self.causes.remove(at)),
            None if self.causes.len() > LINKS => drop(self.causes.remove(0)),
            None => {}
        }
        self.causes.push(traceparent.to_owned());
    }

    /// One span per batch, a child of the last change's cause: the trace goes on from the call that made the change. The others are linked,
    /// so that theirs lead here too.
    fn span(&self, name: &'static str) -> tracing::Span {
        let Some((last, others)) = self.causes.split_last() else { return tracing::Span::none() };
        let span = telemetry::span_following(name, last);
        span.in_scope(|| others.iter().for_each(|cause| telemetry::link(cause)));
        span
    }
}

/// Applies a batch and moves the cursor. False where another replica has taken over.
async fn commit<M, E, A>(
    context: &Context,
    follow: &Follow,
    from: &str,
    batch: &Batch<M>,
    apply: &A,
    turned: Turned<E>,
) -> Result<bool, E>
where
    M: Send + Sync,
    E: Fault,
    A: for<'c> Fn(&'c Tx<'_>, &'c [Change<M>]) -> BoxFuture<'c, Result<(), E>> + Send + Sync,
{
    follow
        .db
        .run_tx("follow", |tx| {
            Box::pin(async move {
                if !move_cursor(tx, context, follow, from, &batch.cursor).await? {
                    return Ok(false);
                }
                if batch.begins {
                    turned(tx, Turn::Begins).await?;
                }
                if !batch.changes.is_empty() {
                    apply(tx, &batch.changes).await?;
                }
                if batch.completes {
                    turned(tx, Turn::Complete).await?;
                }
                Ok(true)
            })
        })
        .instrument(batch.span(follow.name))
        .await
}

async fn commit_cursor(context: &Context, follow: &Follow, from: &str, to: &str) -> Result<bool> {
    follow.db.run_tx("follow", |tx| Box::pin(move_cursor(tx, context, follow, from, to))).await
}

/// Moves the cursor and renews the lease; false where the lease or the cursor is not ours any more. Locks the row, so that two
/// replicas can never both apply from the same cursor.
async fn move_cursor(tx: &Tx<'_>, context: &Context, follow: &Follow, from: &str, to: &str) -> Result<bool> {
    let text = "UPDATE follower SET cursor = $1, held_until = $2 WHERE name = $3 AND holder = $4 AND cursor = $5";
    let until = lease_end(context);
    let values = [to.into(), until.into(), follow.name.into(), context.replica.to_string().into(), from.into()];
    Ok(tx.execute_raw(sql(&**tx, text, values)).await?.rows_affected() == 1)
}

/// Takes the lease if it is free, ours, or run out; the cursor then.
async fn acquire(context: &Context, follow: &Follow) -> Result<Option<String>> {
    let now = context.clock.now_micros();
    let until = lease_end(context);
    follow
        .db
        .run_tx("follow", |tx| {
            Box::pin(async move {
                let text = "INSERT INTO follower (name, cursor, holder, held_until) VALUES ($1, '', $2, $3) \
                            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
                            WHERE follower.held_until < $4 OR follower.holder = excluded.holder \
                            OR follower.held_until > $5 RETURNING cursor";
                let absurd = now.saturating_add(micros(ABSURD));
                let values =
                    [follow.name.into(), context.replica.to_string().into(), until.into(), now.into(), absurd.into()];
                let row = tx.query_one_raw(sql(&**tx, text, values)).await?;
                Ok(match row {
                    Some(row) => Some(String::try_get(&row, "", "cursor").map_err(sea_orm::DbErr::from)?),
                    None => None,
                })
            })
        })
        .await
}

async fn release(context: &Context, follow: &Follow) {
    let released: Result<()> = follow
        .db
        .run_tx("follow", |tx| {
            Box::pin(async move {
                let text = "UPDATE follower SET held_until = 0, holder = '' WHERE name = $1 AND holder = $2";
                let values = [follow.name.into(), context.replica.to_string().into()];
                tx.execute_raw(sql(&**tx, text, values)).await?;
                Ok(())
            })
        })
        .await;
    if let Err(error) = released {
        tracing::debug!(follower = follow.name, ?error, "lease not released; it runs out by itself");
    }
}

fn lease_end(context: &Context) -> i64 {
    context.clock.now_micros().saturating_add(micros(LEASE))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proto::common::v1::FeedPosition;

    use super::*;

    fn batch(causes: impl IntoIterator<Item = impl Into<String>>) -> Batch<()> {
        let mut batch = Batch::new(String::new());
        for cause in causes {
            let position = FeedPosition { traceparent: cause.into(), ..Default::default() };
            batch.push(Entry { position, event: Event::Change(()) });
        }
        batch
    }

    #[test]
    fn a_batch_knows_each_cause_once_and_the_last_change_s_last() {
        assert_eq!(batch(["a", "a", "b", "", "a", "c", "c", ""]).causes, ["b", "a", "c"]);
        assert!(batch(["", ""]).causes.is_empty());
    }

    #[test]
    fn the_end_of_a_snapshot_is_a_batch_by_itself() {
        let entry = |event| Ok(Entry { position: FeedPosition::default(), event });
        let mark = |mark| entry(Event::Mark(mark));
        let change = || entry(Event::Change(()));
        let entries = [
            change(),
            mark(FeedMark::Heartbeat),
            change(),
            mark(FeedMark::SnapshotComplete),
            change(),
            Err(Status::unavailable("breaks off")),
        ];
        let mut entries = entries.into_iter().peekable();
        let batches: Vec<_> = std::iter::from_fn(|| {
            entries.peek()?;
            let mut batch = Batch::new(String::new());
            let failed = batch.fill(&mut entries).is_some();
            Some((batch.changes.len(), batch.completes, failed))
        })
        .collect();
        assert_eq!(batches, [(2, false, false), (0, true, false), (1, false, true)]);
    }

    #[test]
    fn of_many_causes_a_batch_keeps_the_latest() {
        let causes = batch((0..BATCH).map(|n| n.to_string())).causes;
        let latest: Vec<_> = (BATCH - 1 - LINKS..BATCH).map(|n| n.to_string()).collect();
        assert_eq!(causes, latest);
    }
}
