//! Announced standings: what the other services were told of a customer, and when they are told anew.
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chassis::{Db, Error, Result, Tx, clock::to_proto};
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    attributes::Attributes,
    estimate,
    in_force::{InForce, Scorer},
    score::{Facts, Score, Standing, Summary},
    segment::{self, Belonging, Fields},
    store,
    transition::{State, Transition},
};

/// The topic that changes of standing are published to.
pub const TOPIC: &str = "scores";
/// Customers gone through at a time: a millisecond or two to turn rows into customers, in which the thread answers nobody, a few of computing, and a
/// transaction as short.
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

    /// Takes the standing over; the change to announce, if it is not the announced one already.
    fn restate(&mut self, standing: Standing, now: Timestamp, cause: pb::ChangeCause) -> Option<pb::ScoreChange> {
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

    /// The score as it is now.
    pub fn score(&self, scorer: &Scorer, in_force: &InForce, now: Timestamp) -> Score {
        scorer.score(in_force, self.id, &self.summary, self.facts, scorer.day(now), false)
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

/// Goes through all customers and announces those whose standing is not the announced one any more; how many they were. `seen` is told how many were
/// gone through. Two replicas at once announce nothing twice: whoever comes second finds it announced.
///
/// # Errors
/// `Database`.
pub async fn restate_all(
    db: &Db,
    scorer: &Arc<Scorer>,
    cause: pb::ChangeCause,
    mut seen: impl FnMut(i64) + Send,
) -> Result<i64> {
    // Whoever puts something else into force meanwhile lets everybody be gone through again.
    let in_force = scorer.in_force(db.read()).await?;
    let (mut after, mut gone_through, mut changed) = (None, 0, 0);
    loop {
        let page = Page::read(db, scorer, &in_force, after).await?;
        let (last, count) = (page.last(), page.customers.len());
        // Not while the next page is read: one core at a time leaves the others to those who ask.
        let stale = tokio::task::spawn_blocking(move || page.stale()).await;
        let stale = stale.map_err(|error| Error::Internal(format!("computing standings broke off: {error}")))?;
        if !stale.is_empty() {
            changed += restate(db, scorer, &stale, cause).await?;
        }
        gone_through += i64::try_from(count).unwrap_or(i64::MAX);
        seen(gone_through);
        if last.is_none() {
            return Ok(changed);
        }
        after = last;
    }
}

/// A page of customers, and what their standings follow from.
struct Page {
    scorer: Arc<Scorer>,
    in_force: Arc<InForce>,
    now: Timestamp,
    customers: Vec<Customer>,
    /// Those whose row is to be written even where their standing stays the same.
    unwritten: HashSet<Uuid>,
    attributes: HashMap<Uuid, Attributes>,
    /// The segments that they are in.
    kept: HashMap<Uuid, Vec<String>>,
}

impl Page {
    async fn read(db: &Db, scorer: &Arc<Scorer>, in_force: &Arc<InForce>, after: Option<Uuid>) -> Result<Self> {
        let now = db.clock().now();
        let read = move |connection| async move { store::customer::page(&connection, after, PAGE).await };
        let mut customers = db.read_apart(read).await?;
        let unwritten = estimate::refresh(db.read(), in_force, customers.iter_mut()).await?;
        let (mut attributes, mut kept) = (HashMap::new(), HashMap::new());
        if let (false, Some(first), Some(last)) = (in_force.segments.is_empty(), customers.first(), customers.last()) {
            kept = store::segment::of_range(db.read(), first.id, last.id).await?;
            attributes = attributes_of(db.read(), in_force, customers.iter().map(|customer| customer.id)).await?;
        }
        let (scorer, in_force) = (Arc::clone(scorer), Arc::clone(in_force));
        Ok(Self { scorer, in_force, now, customers, unwritten, attributes, kept })
    }

    /// The last customer; absent where there are no more behind.
    fn last(&self) -> Option<Uuid> {
        self.customers.last().map(|customer| customer.id).filter(|_| self.customers.len() as u64 == PAGE)
    }

    /// Those whose standing or segments are not what was announced.
    fn stale(&self) -> Vec<Uuid> {
        let Self { scorer, in_force, .. } = self;
        let today = scorer.day(self.now);
        let segments = &in_force.segments;
        let stale = |customer: &&Customer| {
            let score = customer.score(scorer, in_force, self.now);
            let announced = customer.announced.as_ref();
            if self.unwritten.contains(&customer.id) || announced.is_none_or(|known| known.standing != score.standing) {
                return true;
            }
            let attributes = self.attributes.get(&customer.id);
            let fields = || Fields::of(scorer, in_force, customer, &score, today, attributes);
            let kept = || self.kept.get(&customer.id).map_or(0, |kept| segments.mask(kept));
            !segments.is_empty() && segments.moves(kept(), segments.matching(&fields())) != (0, 0)
        };
        self.customers.iter().filter(stale).map(|customer| customer.id).collect()
    }
}

/// Announces those of these customers, sorted by id, whose standing is not the announced one any more; how many they were.
async fn restate(db: &Db, scorer: &Scorer, ids: &[Uuid], cause: pb::ChangeCause) -> Result<i64> {
    db.run_tx("restate", |tx| {
        Box::pin(async move {
            let mut customers: Vec<_> = store::customer::lock(tx, ids).await?.into_values().collect();
            let in_force = scorer.in_force(&**tx).await?;
            let unwritten = estimate::refresh(&**tx, &in_force, customers.iter_mut()).await?;
            // Those whose standing stays the same, too.
            store::customer::write(tx, customers.iter().filter(|customer| unwritten.contains(&customer.id))).await?;
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

/// What a transaction finds out about customers that it has locked: gathered one by one, written at its end in a few statements.
#[derive(Debug)]
pub struct Findings<'a> {
    scorer: &'a Scorer,
    in_force: Arc<InForce>,
    now: Timestamp,
    cause: pb::ChangeCause,
    transitions: Vec<Transition>,
    /// What is followed of the customers' records, where a segment speaks of it.
    attributes: HashMap<Uuid, Attributes>,
    belongings: Vec<Belonging>,
}

impl<'a> Findings<'a> {
    /// Nothing found yet. Comes after the locks: what is in force then stays so for these customers until the commit.
    ///
    /// # Errors
    /// As [`Scorer::in_force`].
    pub async fn new(
        tx: &Tx<'_>,
        scorer: &'a Scorer,
        cause: pb::ChangeCause,
        customers: impl IntoIterator<Item = &Uuid>,
    ) -> Result<Self> {
        let in_force = scorer.in_force(&**tx).await?;
        let attributes = attributes_of(&**tx, &in_force, customers.into_iter().copied()).await?;
        let (now, transitions, belongings) = (tx.clock().now(), Vec::new(), Vec::new());
        Ok(Self { scorer, in_force, now, cause, transitions, attributes, belongings })
    }

    /// Brings the potential of who has not bought up to date with the model in force, before they are judged; whose it changed.
    ///
    /// # Errors
    /// `Database`.
    pub async fn estimate<'c>(
        &self,
        tx: &Tx<'_>,
        customers: impl Iterator<Item = &'c mut Customer>,
    ) -> Result<HashSet<Uuid>> {
        estimate::refresh(&**tx, &self.in_force, customers).await
    }

    /// Computes a customer's standing anew, and publishes it where it is not the announced one any more; whether it was. Belongs to the span
    /// that is current.
    pub fn judge(&mut self, tx: &Tx<'_>, customer: &mut Customer) -> bool {
        let score = customer.score(self.scorer, &self.in_force, self.now);
        self.belong(customer, &score);
        let standing = score.standing;
        let before = customer.announced.as_ref().map_or(State::default(), |announced| (&announced.standing).into());
        let Some(change) = customer.restate(standing, self.now, self.cause) else { return false };
        tx.publish(TOPIC, customer.id, &change);
        let after = State::from(&standing);
        if before != after {
            let revision = customer.announced.as_ref().map_or(0, |announced| announced.revision);
            let (customer, time, cause) = (customer.id, self.now, self.cause);
            self.transitions.push(Transition { customer, revision, time, cause, before, after });
        }
        true
    }

    /// Finds the segments that a customer belongs in, and leaves their standing alone.
    pub fn place(&mut self, customer: &Customer) {
        let score = customer.score(self.scorer, &self.in_force, self.now);
        self.belong(customer, &score);
    }

    fn belong(&mut self, customer: &Customer, score: &Score) {
        let segments = &self.in_force.segments;
        if segments.is_empty() {
            return;
        }
        let (today, attributes) = (self.scorer.day(self.now), self.attributes.get(&customer.id));
        let fields = Fields::of(self.scorer, &self.in_force, customer, score, today, attributes);
        let (customer, wanted) = (customer.id, segments.matching(&fields));
        self.belongings.push(Belonging { customer, wanted, span: tracing::Span::current() });
    }

    /// Writes what was found, but for the customers themselves.
    ///
    /// # Errors
    /// `Database`.
    pub async fn write(self, tx: &Tx<'_>) -> Result<()> {
        store::transition::insert(tx, &self.transitions).await?;
        segment::settle(tx, &self.in_force.segments, &self.belongings, self.cause).await
    }
}

/// What is followed of these customers' records, as far as segments speak of it.
async fn attributes_of<C: ConnectionTrait>(
    connection: &C,
    in_force: &InForce,
    customers: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Attributes>> {
    if !in_force.segments.speaks_of_attributes() {
        return Ok(HashMap::new());
    }
    store::attribute::find(connection, &customers.collect::<Vec<_>>()).await
}

/// Computes the standings of locked customers anew and publishes and writes those that changed; how many they were.
///
/// # Errors
/// `Database`.
pub async fn announce(tx: &Tx<'_>, scorer: &Scorer, customers: &mut [Customer], cause: pb::ChangeCause) -> Result<i64> {
    let ids: Vec<Uuid> = customers.iter().map(|customer| customer.id).collect();
    let mut findings = Findings::new(tx, scorer, cause, &ids).await?;
    let mut changed = Vec::new();
    for (index, customer) in customers.iter_mut().enumerate() {
        breathe(index).await;
        if findings.judge(tx, customer) {
            changed.push(&*customer);
        }
    }
    let count = i64::try_from(changed.len()).unwrap_or(i64::MAX);
    store::customer::write(tx, changed.into_iter()).await?;
    findings.write(tx).await?;
    Ok(count)
}
