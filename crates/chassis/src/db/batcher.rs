//! Natural batching of single writes and single questions.
use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use sea_orm::DatabaseConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{Instrument, Span};

use super::{BoxFuture, Db, Tx};
use crate::error::{Error, Fault, Result};

/// Items of a [`Batcher`] that may wait: about a second of writes. Beyond that load is shed.
const BATCH_QUEUE: usize = 16_384;
/// Items committed together at most: keeps one commit, and so the wait of those behind it, short.
const BATCH_MAX: usize = 1_024;
/// Batches read at the same time: while one is with the database, the answers of another go out.
const READERS: usize = 2;
/// Questions read together at most: many enough that a query costs each little.
const READ_MAX: usize = 128;

type Waiting<I, O, E> = (I, Span, oneshot::Sender<Result<O, E>>);

/// Natural batching: callers hand in single writes, or single questions, and wait; whatever queued up while the last transaction ran goes into
/// the next one. One at a time costs one transaction, a thousand at a time cost one too.
#[derive(Debug)]
pub struct Batcher<I, O, E = Error> {
    name: &'static str,
    queue: mpsc::Sender<Waiting<I, O, E>>,
}

impl<I, O, E> Clone for Batcher<I, O, E> {
    fn clone(&self) -> Self {
        Self { name: self.name, queue: self.queue.clone() }
    }
}

impl<I, O, E> Batcher<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Fault + 'static,
{
    /// Starts a writer. `write` gets the items in the order they came and gives as many results; an error of it concerns the whole batch, and
    /// then each item is tried alone, so that one that cannot be written does not take others with it.
    /// It ends, after writing what is queued, when the last clone is dropped.
    ///
    /// For the trace to go on from the call that made a change, let the item carry its `tracing::Span` and publish within it
    /// (`span.in_scope(|| tx.publish(…))`).
    pub fn spawn<F>(db: Db, name: &'static str, write: F) -> Self
    where
        F: for<'c> Fn(&'c Tx<'_>, &'c [I]) -> BoxFuture<'c, Result<Vec<O>, E>> + Send + Sync + 'static,
    {
        let write = Arc::new(write);
        Self::start(name, 1, BATCH_MAX, move |items| {
            let (db, write) = (db.clone(), Arc::clone(&write));
            Box::pin(async move { db.run_tx(name, |tx| write(tx, items)).await })
        })
    }

    /// Starts readers: the same for questions. Each is answered by a read that began after it was asked, so the answer knows of everything that
    /// was acknowledged before, whichever replica did that.
    pub fn spawn_reader<F>(db: Db, name: &'static str, read: F) -> Self
    where
        F: for<'c> Fn(&'c DatabaseConnection, &'c [I]) -> BoxFuture<'c, Result<Vec<O>, E>> + Send + Sync + 'static,
    {
        let read = Arc::new(read);
        Self::start(name, READERS, READ_MAX, move |items| {
            let (db, read) = (db.clone(), Arc::clone(&read));
            Box::pin(async move { read(db.read(), items).await })
        })
    }

    /// So many tasks take up to `most` items at a time out of one queue.
    fn start<F>(name: &'static str, tasks: usize, most: usize, run: F) -> Self
    where
        F: for<'c> Fn(&'c [I]) -> BoxFuture<'c, Result<Vec<O>, E>> + Send + Sync + 'static,
    {
        let (queue, waiting) = mpsc::channel::<Waiting<I, O, E>>(BATCH_QUEUE);
        let (waiting, run) = (Arc::new(Mutex::new(waiting)), Arc::new(run));
        for _ in 0..tasks {
            tokio::spawn(Self::work(name, Arc::clone(&waiting), most, Arc::clone(&run)));
        }
        Self { name, queue }
    }

    async fn work<F>(
        name: &'static str,
        waiting: Arc<Mutex<mpsc::Receiver<Waiting<I, O, E>>>>,
        most: usize,
        run: Arc<F>,
    ) where
        F: for<'c> Fn(&'c [I]) -> BoxFuture<'c, Result<Vec<O>, E>> + Send + Sync + 'static,
    {
        let mut batch = Vec::with_capacity(most);
        while gather(&mut *waiting.lock().await, &mut batch, most).await {
            // Whoever went away while waiting gets no work done: under overload that is most of it.
            batch.retain(|(_, _, reply)| !reply.is_closed());
            let (items, callers): (Vec<I>, Vec<_>) =
                batch.drain(..).map(|(item, span, reply)| (item, (span, reply))).unzip();
            let (spans, replies): (Vec<Span>, Vec<_>) = callers.into_iter().unzip();
            // A batch belongs to no caller's trace, except to that of an only one.
            let span = if let [only] = &spans[..] { only.clone() } else { Span::none() };
            match Self::run(name, &*run, &items).instrument(span).await {
                Ok(results) => {
                    for (reply, result) in replies.into_iter().zip(results) {
                        let _ = reply.send(Ok(result));
                    }
                }
                Err(error) if items.len() <= 1 => {
                    replies.into_iter().take(1).zip([error]).for_each(|(reply, error)| drop(reply.send(Err(error))));
                }
                Err(error) => match error.shared() {
                    // The database is away: a thousand tries one by one would only keep everybody waiting.
                    Some(Error::Database(cause)) if error.shared().is_some_and(Error::is_outage) => {
                        for reply in replies {
                            let _ = reply.send(Err(Error::Database(cause.clone()).into()));
                        }
                    }
                    _ => {
                        for ((item, span), reply) in items.into_iter().zip(spans).zip(replies) {
                            let one = Self::run(name, &*run, &[item]).instrument(span).await;
                            let _ = reply.send(one.and_then(|mut results| {
                                results
                                    .pop()
                                    .ok_or_else(|| Error::Internal(format!("{name}: no result for an item")).into())
                            }));
                        }
                    }
                },
            }
        }
    }

    async fn run<F>(name: &'static str, run: &F, items: &[I]) -> Result<Vec<O>, E>
    where
        F: for<'c> Fn(&'c [I]) -> BoxFuture<'c, Result<Vec<O>, E>> + Send + Sync,
    {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        // A panic is the fault of one batch; the batcher must outlive it.
        let results = AssertUnwindSafe(run(items)).catch_unwind().await;
        let results = results.map_err(|_| Error::Internal(format!("{name}: a batch panicked")))??;
        if results.len() != items.len() {
            return Err(Error::Internal(format!("{name}: {} results for {} items", results.len(), items.len())).into());
        }
        Ok(results)
    }

    /// Hands in one item, and returns once it is durable or answered.
    ///
    /// # Errors
    /// `Overloaded` where too many wait already; the batch's own.
    pub async fn submit(&self, item: I) -> Result<O, E> {
        let (reply, result) = oneshot::channel();
        self.queue.try_send((item, Span::current(), reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded(self.name),
            mpsc::error::TrySendError::Closed(_) => Error::NotServing(self.name),
        })?;
        result.await.map_err(|_| Error::NotServing(self.name))?
    }
}

/// Waits for an item and takes what is there, up to `most`; false where nothing will come any more.
async fn gather<T>(waiting: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, most: usize) -> bool {
    if waiting.recv_many(batch, most).await == 0 {
        return false;
    }
    // The first of many that came at once must not go alone: whatever else is ready to run, callers among it, runs first.
    tokio::task::yield_now().await;
    while batch.len() < most
        && let Ok(item) = waiting.try_recv()
    {
        batch.push(item);
    }
    true
}
