//! What a service is given by the process that it runs in.
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use sea_orm_migration::MigratorTrait;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    clock::{Clock, Ids},
    config::DbUrl,
    db::Db,
    error::Result,
    feed, idempotency,
    peers::Peers,
};

/// How often old changes and old replies are dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// How long the databases of a process may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time, ids, peers and the end of it all. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The clock.
    pub clock: Clock,
    /// The source of ids.
    pub ids: Ids,
    /// Which replica this is: new with every start.
    pub replica: Uuid,
    /// The other services.
    pub peers: Peers,
    /// Cancelled when the process drains.
    pub shutdown: CancellationToken,
    /// Cancelled when a background task panicked. A process that serves while nobody follows or sweeps lies about its health: the server ends
    /// it, and whoever supervises it starts it anew.
    pub broken: CancellationToken,
    /// Background tasks: the drain waits for them.
    pub tasks: TaskTracker,
    /// What [`Context::open`] opened.
    databases: Arc<Mutex<Vec<Db>>>,
}

impl Context {
    /// A context of a replica of its own.
    pub fn new(clock: Clock, peers: Peers) -> Self {
        let ids = Ids::new(clock.clone());
        Self {
            replica: ids.next(),
            clock,
            ids,
            peers,
            shutdown: CancellationToken::new(),
            broken: CancellationToken::new(),
            tasks: TaskTracker::new(),
            databases: Arc::default(),
        }
    }

    /// Starts a background task that must watch `shutdown` itself; the drain waits for it.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let broken = self.broken.clone();
        let guarded = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                // The panic hook has said where.
                tracing::error!(task = name, "a background task panicked; this process ends");
                broken.cancel();
            }
        };
        self.tasks.spawn(guarded.instrument(tracing::info_span!("task", name)));
    }

    /// Runs `work` every `period` of the clock until the service drains. A failed run is logged, and the next one comes all the same.
    pub fn spawn_every<F>(&self, name: &'static str, period: Duration, work: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = crate::Result<()>> + Send,
    {
        let context = self.clone();
        self.spawn(name, async move {
            loop {
                tokio::select! {
                    () = context.shutdown.cancelled() => return,
                    () = context.clock.sleep(period) => {}
                }
                if let Err(error) = work().await {
                    tracing::warn!(task = name, ?error, "failed; it runs again in its turn");
                }
            }
        });
    }

    /// Opens a service's database, as [`Db::connect`] does; keeps it from growing without end, and closes it when the service has drained.
    ///
    /// # Errors
    /// Those of [`Db::connect`].
    pub async fn open<M: MigratorTrait>(&self, url: impl Into<DbUrl>) -> Result<Db> {
        let db = Db::connect::<M>(url, &self.clock).await?;
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).push(db.clone());
        let kept = db.clone();
        self.spawn_every("housekeeping", HOUSEKEEPING, move || {
            let db = kept.clone();
            async move {
                feed::trim(&db, feed::RETENTION).await?;
                idempotency::forget_old(&db).await
            }
        });
        Ok(db)
    }

    /// Closes the databases, after everything that asks them has ended.
    pub(crate) async fn close_databases(&self) {
        let databases = std::mem::take(&mut *self.databases.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = join_all(databases.iter().map(Db::close));
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::warn!(limit = ?CLOSE_TIMEOUT, "a database was still in use and is not closed");
        }
    }
}
