//! Announced standings: what the other services were told of a customer, and when they are told anew.
use std::sync::Arc;

use chassis::{Db, Error, Result, Tx, clock::to_proto};
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use uuid::Uuid;

use crate::{
    in_force::{InForce, Scorer},
    score::{Facts, Standing, Summary},
    store,
};

/// The topic that changes of standing are published to.
pub const TOPIC: &str = "scores";
/// Customers gone through at a time: a few milliseconds of computing, and a transaction as short.
pub const PAGE: u64 = 1_000;

/// A standing as it was announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced {
    /// The four states.
    pub standing: Standing,
    /// From 1 on.
    pub revision: i64,
    /// Since when.
    pub since: Timestamp,
}

/// All that is kept of one customer.
#[derive(Clone, Debug)]
pub struct Customer {
    /// Their id.
    pub id: Uuid,
    /// Revision of the record in profiles that the facts are from; 0 before the first news.
    pub profile_revision: i64,
    /// What profiles says.
    pub facts: Facts,
    /// What the ledger adds up to.
    pub summary: Summary,
    /// What was announced last.
    pub announced: Option<Announced>,
    /// Whether there is no row of them yet.
    pub is_new: bool,
}

impl Customer {
    /// One who has no row yet.
    pub fn new(id: Uuid, profile_revision: i64, facts: Facts) -> Self {
        Self { id, profile_revision, facts, summary: Summary::default(), announced: None, is_new: true }
    }

    /// Computes the standing anew; the change to announce, if it is not the announced one any more.
    pub fn restate(
        &mut self,
        scorer: &Scorer,
        in_force: &InForce,
        now: Timestamp,
        cause: pb::ChangeCause,
    ) -> Option<pb::ScoreChange> {
        let standing = self.standing(scorer, in_force, now);
        if self.announced.as_ref().is_some_and(|announced| announced.standing == standing) {
            return None;
        }
        let previous = self.announced.as_ref().map(|announced| announced.to_proto(self.id));
        let revision = self.announced.as_ref().map_or(0, |announced| announced.revision) + 1;
        let announced = Announced { standing, revision, since: now };
        let standing = Some(announced.to_proto(self.id));
        self.announced = Some(announced);
        Some(pb::ScoreChange { standing, previous, cause: cause.into() })
    }

    /// The standing as it is now, announced or not.
    pub fn standing(&self, scorer: &Scorer, in_force: &InForce, now: Timestamp) -> Standing {
        scorer.score(in_force, self.id, &self.summary, self.facts, scorer.day(now), false).standing
    }
}

impl Announced {
    /// As protobuf has it.
    pub fn to_proto(&self, customer: Uuid) -> pb::Standing {
        let standing = &self.standing;
        pb::Standing {
            customer_id: customer.to_string(),
            revision: self.revision,
            relationship: standing.relationship.into(),
            stage: standing.stage.into(),
            tier: standing.tier.into(),
            code: standing.code.into(),
            estimated: standing.estimated,
            since: Some(to_proto(self.since)),
        }
    }
}

/// What became of one page.
#[derive(Clone, Copy, Debug)]
pub struct Restated {
    /// The last customer of the page; absent where there are no more.
    pub last: Option<Uuid>,
    /// Customers gone through.
    pub seen: i64,
    /// Customers announced anew.
    pub changed: i64,
}

/// Goes through one page of customers and announces those whose standing is not the announced one any more. Two replicas at once
/// announce nothing twice: whoever comes second finds it announced.
///
/// # Errors
/// `Database`.
pub async fn restate_page(
    db: &Db,
    scorer: &Arc<Scorer>,
    after: Option<Uuid>,
    cause: pb::ChangeCause,
) -> Result<Restated> {
    let in_force = scorer.in_force(db.read()).await?;
    let now = db.clock().now();
    let page = store::customer::page(db.read(), after, PAGE, false).await?;
    let last = page.last().map(|customer| customer.id).filter(|_| page.len() as u64 == PAGE);
    let seen = i64::try_from(page.len()).unwrap_or(i64::MAX);
    let find_stale = {
        let scorer = Arc::clone(scorer);
        move || -> Vec<Uuid> {
            let stale = |customer: &&Customer| {
                let standing = customer.standing(&scorer, &in_force, now);
                customer.announced.as_ref().is_none_or(|announced| announced.standing != standing)
            };
            page.iter().filter(stale).map(|customer| customer.id).collect()
        }
    };
    let stale = tokio::task::spawn_blocking(find_stale).await;
    let stale = stale.map_err(|error| Error::Internal(format!("computing standings broke off: {error}")))?;
    let changed = if stale.is_empty() { 0 } else { restate(db, scorer, &stale, cause).await? };
    Ok(Restated { last, seen, changed })
}

/// Announces those of these customers, sorted by id, whose standing is not the announced one any more; how many they were.
async fn restate(db: &Db, scorer: &Scorer, ids: &[Uuid], cause: pb::ChangeCause) -> Result<i64> {
    db.run_tx("restate", |tx| {
        Box::pin(async move {
            let mut customers: Vec<_> = store::customer::lock(tx, ids).await?.into_values().collect();
            announce(tx, scorer, &mut customers, cause).await
        })
    })
    .await
}

/// Lets other calls in now and then while many standings are computed, some microseconds each.
pub async fn breathe(index: usize) {
    const COMPUTED_AT_ONCE: usize = 256;
    if index % COMPUTED_AT_ONCE == COMPUTED_AT_ONCE - 1 {
        tokio::task::yield_now().await;
    }
}

/// Computes the standings of locked customers anew and publishes and writes those that changed; how many they were.
///
/// # Errors
/// `Database`.
pub async fn announce(tx: &Tx<'_>, scorer: &Scorer, customers: &mut [Customer], cause: pb::ChangeCause) -> Result<i64> {
    let in_force = scorer.in_force(&**tx).await?;
    let now = tx.clock().now();
    let mut changed = Vec::new();
    for (index, customer) in customers.iter_mut().enumerate() {
        breathe(index).await;
        if let Some(change) = customer.restate(scorer, &in_force, now, cause) {
            tx.publish(TOPIC, customer.id, &change);
            changed.push(&*customer);
        }
    }
    let count = i64::try_from(changed.len()).unwrap_or(i64::MAX);
    store::customer::write(tx, changed.into_iter()).await?;
    Ok(count)
}
