//! Long-running operations: what they are, and the task that runs them one at a time, over all replicas.
use std::{borrow::Cow, sync::Arc, time::Duration};

use chassis::{
    Context, Db, Error, Result,
    clock::{stopwatch, to_proto},
};
use jiff::Timestamp;
use prost::Message;
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{cluster, fit, hold_out, in_force::Scorer, rank, score::Day, store};

/// How long a replica that went silent keeps its operation before another one takes it over.
const LEASE: Duration = Duration::from_secs(10);
/// How often the lease is renewed, and how often progress is written at most.
const RENEW: Duration = Duration::from_secs(2);
const PROGRESS: Duration = Duration::from_millis(250);
/// How soon a replica notices an operation that was asked for at another one.
const POLL: Duration = Duration::from_secs(1);
/// Pause after the database was away, before the operation runs again.
const PAUSE: Duration = Duration::from_secs(1);

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Customers or steps done.
    pub done: i64,
    /// Of how many; 0 while not known.
    pub total: i64,
    /// What it is doing.
    pub phase: Cow<'static, str>,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Not as hoped.
    Failed(ErrorReason, String),
    /// With fitted models.
    Fitted(pb::FitResult),
    /// With a ranking.
    Ranked(pb::RankResult),
    /// With clusters.
    Clustered(pb::ClusterResult),
    /// With a comparison with what came after.
    HeldOut(pb::HoldOutResult),
}

impl Outcome {
    /// A result as it is kept; nothing for a failure.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Failed(..) => Vec::new(),
            Self::Fitted(result) => result.encode_to_vec(),
            Self::Ranked(result) => result.encode_to_vec(),
            Self::Clustered(result) => result.encode_to_vec(),
            Self::HeldOut(result) => result.encode_to_vec(),
        }
    }

    /// A result that was kept.
    ///
    /// # Errors
    /// `Internal` where it cannot be read.
    pub fn decode(kind: pb::OperationKind, bytes: &[u8]) -> Result<Self> {
        let broken = |error| Error::Internal(format!("kept result of an operation: {error}"));
        match kind {
            pb::OperationKind::Fit => pb::FitResult::decode(bytes).map(Self::Fitted).map_err(broken),
            pb::OperationKind::Rank => pb::RankResult::decode(bytes).map(Self::Ranked).map_err(broken),
            pb::OperationKind::Cluster => pb::ClusterResult::decode(bytes).map(Self::Clustered).map_err(broken),
            pb::OperationKind::HoldOut => pb::HoldOutResult::decode(bytes).map(Self::HeldOut).map_err(broken),
            pb::OperationKind::Unspecified => Err(Error::Internal("an operation of no kind".to_owned())),
        }
    }
}

/// A long-running operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id; grows with the time of asking.
    pub id: Uuid,
    /// What it does.
    pub kind: pb::OperationKind,
    /// Where it stands.
    pub state: pb::OperationState,
    /// The last day counted, settled when it was asked for.
    pub as_of: Day,
    /// Keeps fitted models without putting them into force.
    pub trial: bool,
    /// The request as it came; empty in operations asked for before requests were kept.
    pub request: Vec<u8>,
    /// How far it is.
    pub progress: Progress,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Operation {
    /// One that waits in line.
    pub fn queued(id: Uuid, kind: pb::OperationKind, as_of: Day, trial: bool, now: Timestamp) -> Self {
        Self {
            id,
            kind,
            state: pb::OperationState::Queued,
            as_of,
            trial,
            request: Vec::new(),
            progress: Progress { done: 0, total: 0, phase: "waits in line".into() },
            create_time: now,
            end_time: None,
            outcome: None,
        }
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.state, pb::OperationState::Succeeded | pb::OperationState::Failed)
    }

    /// As protobuf has it.
    pub fn to_proto(&self) -> pb::Operation {
        use pb::operation::Outcome as Proto;
        pb::Operation {
            operation_id: self.id.to_string(),
            kind: self.kind.into(),
            state: self.state.into(),
            progress_done: self.progress.done,
            progress_total: self.progress.total,
            phase: self.progress.phase.clone().into_owned(),
            create_time: Some(to_proto(self.create_time)),
            end_time: self.end_time.map(to_proto),
            outcome: self.outcome.clone().map(|outcome| match outcome {
                Outcome::Failed(reason, message) => Proto::Error(pb::OperationError { reason: reason.into(), message }),
                Outcome::Fitted(result) => Proto::Fit(result),
                Outcome::Ranked(result) => Proto::Rank(result),
                Outcome::Clustered(result) => Proto::Cluster(result),
                Outcome::HeldOut(result) => Proto::HoldOut(result),
            }),
        }
    }
}

/// What an operation runs with.
#[derive(Clone, Debug)]
pub struct Job {
    /// The service's database.
    pub db: Db,
    /// Clock, ids, replica.
    pub context: Context,
    /// What scores are computed with.
    pub scorer: Arc<Scorer>,
    /// The operation.
    pub operation: Operation,
    progress: watch::Sender<Progress>,
}

impl Job {
    /// Says how far it is; written now and then.
    pub fn progress(&self, phase: &'static str, done: i64, total: i64) {
        // Customers who came meanwhile were not counted.
        self.progress.send_replace(Progress { done: done.min(total), total, phase: phase.into() });
    }
}

/// Woken by whatever happens to operations in this process.
pub type News = watch::Sender<u64>;

/// Runs operations until the service drains.
#[derive(Debug)]
pub struct Worker {
    /// The service's database.
    pub db: Db,
    /// Clock, ids, replica.
    pub context: Context,
    /// What scores are computed with.
    pub scorer: Arc<Scorer>,
    /// Woken by new operations; wakes who waits for one.
    pub news: News,
}

impl Worker {
    /// Takes what is first in line, again and again.
    pub async fn run(self) {
        let mut news = self.news.subscribe();
        while !self.context.shutdown.is_cancelled() {
            news.mark_unchanged();
            let pause = match self.claim().await {
                Ok(Some(operation)) => {
                    if self.work(operation).await {
                        continue;
                    }
                    PAUSE
                }
                Ok(None) => POLL,
                Err(error) => {
                    tracing::warn!(?error, "cannot look for operations; trying again");
                    PAUSE
                }
            };
            tokio::select! {
                () = self.context.shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                _ = news.changed() => {}
            }
        }
    }

    fn lease(&self) -> store::operation::Lease {
        let now = self.context.clock.now_micros();
        let until = now.saturating_add(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX));
        store::operation::Lease { holder: self.context.replica, now, until }
    }

    async fn claim(&self) -> Result<Option<Operation>> {
        if !store::operation::any_open(self.db.read()).await? {
            return Ok(None);
        }
        // A replica that takes the ledger's figures for something else leaves it to the others.
        self.scorer.in_force(self.db.read()).await?;
        self.db.run_tx("claim_operation", |tx| Box::pin(store::operation::claim(tx, self.lease()))).await
    }

    /// Runs an operation to its end; false where it has to be run again.
    async fn work(&self, operation: Operation) -> bool {
        let (id, kind, began) = (operation.id, operation.kind.as_str_name(), stopwatch());
        tracing::info!(operation = %id, kind, "runs");
        let (sender, progress) = watch::channel(operation.progress.clone());
        let job = Job {
            db: self.db.clone(),
            context: self.context.clone(),
            scorer: Arc::clone(&self.scorer),
            operation,
            progress: sender,
        };
        let result = tokio::select! {
            result = run(&job) => result,
            () = self.keep(id, progress) => {
                tracing::warn!(operation = %id, "another replica has taken over");
                return true;
            }
            () = self.context.shutdown.cancelled() => {
                let released = self.db.run_tx("release_operation", |tx| {
                    Box::pin(store::operation::release(tx, id, self.context.replica))
                });
                if let Err(error) = released.await {
                    tracing::debug!(?error, "operation not given back; its lease runs out by itself");
                }
                return true;
            }
        };
        let outcome = match result {
            Ok(()) => {
                tracing::info!(operation = %id, kind, seconds = began.elapsed().as_secs_f64(), "done");
                self.tell();
                return true;
            }
            Err(error) => match error.reason() {
                reason @ (ErrorReason::NoModel | ErrorReason::NotFittable) => {
                    tracing::info!(operation = %id, kind, reason = reason.as_str_name(), "cannot be done");
                    Outcome::Failed(reason, error.to_string())
                }
                ErrorReason::Contention
                | ErrorReason::DatabaseUnavailable
                | ErrorReason::Draining
                | ErrorReason::Overloaded => {
                    tracing::warn!(operation = %id, ?error, "cannot go on; it runs again");
                    return false;
                }
                _ => {
                    tracing::error!(operation = %id, ?error, "operation failed by a fault of ours");
                    let message = "internal error: the log has the cause under this operation's id";
                    Outcome::Failed(ErrorReason::Internal, message.to_owned())
                }
            },
        };
        let outcome = &outcome;
        let ended = self
            .db
            .run_tx("end_operation", |tx| Box::pin(store::operation::end(tx, id, self.context.replica, outcome)));
        if let Err(error) = ended.await {
            tracing::warn!(operation = %id, ?error, "cannot write how it ended; it runs again");
            return false;
        }
        self.tell();
        true
    }

    /// Renews the lease and writes progress while the operation runs; returns once another replica has taken over.
    async fn keep(&self, id: Uuid, mut progress: watch::Receiver<Progress>) {
        loop {
            let moved = tokio::time::timeout(RENEW, progress.changed()).await;
            let now = progress.borrow_and_update().clone();
            let now = &now;
            let kept =
                self.db.run_tx("renew_operation", |tx| Box::pin(store::operation::renew(tx, id, self.lease(), now)));
            match kept.await {
                Ok(true) => self.tell(),
                Ok(false) => return,
                // The lease may still hold; if not, the last transaction of the operation finds out.
                Err(error) => tracing::debug!(?error, "lease not renewed"),
            }
            if moved.is_ok() {
                tokio::time::sleep(PROGRESS).await;
            }
        }
    }

    fn tell(&self) {
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }
}

async fn run(job: &Job) -> Result<()> {
    match job.operation.kind {
        pb::OperationKind::Fit => fit::run(job).await,
        pb::OperationKind::Rank => rank::run(job).await,
        pb::OperationKind::HoldOut => hold_out::run(job).await,
        pb::OperationKind::Cluster => cluster::run(job).await,
        pb::OperationKind::Unspecified => Err(Error::Internal("an operation of no kind".to_owned())),
    }
}
