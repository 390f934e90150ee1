//! What scores are computed with: models, cut-offs, books, thresholds, calendar.
use std::{
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

use chassis::{Error, Result};
use jiff::Timestamp;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    assessment,
    books::Terms,
    calendar::Calendar,
    potential,
    pyramid::CutOffs,
    score::{self, Books, Day, Facts, Models, Score, Summary, Thresholds},
    segment, store,
};

/// Models and cut-offs of one moment.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Grows with every change.
    pub version: i64,
    /// What the ledger is kept in.
    pub terms: Option<Terms>,
    /// Absent before the first fit.
    pub models: Option<Models>,
    /// Absent before the first ranking.
    pub cut_offs: Option<CutOffs>,
    /// Of who has not bought; absent where none could be fitted yet.
    pub potential: Option<Arc<potential::Model>>,
    /// The segments and clusters, with a version of their own.
    pub segments: Arc<segment::Set>,
}

/// What this program was configured with.
#[derive(Debug)]
pub struct Rules {
    /// How money is counted.
    pub books: Books,
    /// What this program takes the figures of the ledger for.
    pub terms: Terms,
    /// How the future is valued.
    pub future: value::clv::Terms,
    /// Where one state ends and the next begins.
    pub thresholds: Thresholds,
    /// Where one finding of an assessment ends and the next begins.
    pub assessment: assessment::Thresholds,
    /// The business's calendar.
    pub calendar: Calendar,
}

/// Computes scores. Keeps what is in force in memory, and asks the database each time whether it still is: one row, so that no
/// replica ever answers with models that another has replaced. ([`Present`](crate::present::Present) need not ask where there is no other.)
#[derive(Debug)]
pub struct Scorer {
    rules: Rules,
    kept: RwLock<Option<Arc<InForce>>>,
}

impl Deref for Scorer {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.rules
    }
}

impl Scorer {
    /// A scorer that has nothing in memory yet.
    pub fn new(rules: Rules) -> Self {
        Self { rules, kept: RwLock::new(None) }
    }

    /// What is in force to this connection or transaction.
    ///
    /// # Errors
    /// `NotServing` where a replica with another configuration has settled since what the books are kept in; `Database`.
    pub async fn in_force<C: ConnectionTrait>(&self, connection: &C) -> Result<Arc<InForce>> {
        let (version, of_segments) = store::in_force::versions(connection).await?;
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner).clone();
        let segments = kept.as_ref().map(|kept| &kept.segments);
        let segments = match segments.filter(|kept| kept.version == of_segments) {
            Some(segments) => Arc::clone(segments),
            None => Arc::new(store::segment::load(connection, segments.map(Arc::as_ref)).await?),
        };
        let loaded = match kept.filter(|kept| kept.version == version) {
            Some(kept) if Arc::ptr_eq(&kept.segments, &segments) => return Ok(kept),
            Some(kept) => Arc::new(InForce { segments, ..InForce::clone(&kept) }),
            None => Arc::new(InForce { segments, ..store::in_force::load(connection, &self.future).await? }),
        };
        if loaded.terms.as_ref() != Some(&self.terms) {
            // Before the first purchase they can still be changed, while this replica runs: it must not record by the old ones.
            tracing::error!(kept = ?loaded.terms, here = ?self.terms, "the books are kept in other terms; restart with the same");
            return Err(Error::NotServing("scoring"));
        }
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The day that a moment falls on.
    pub fn day(&self, time: Timestamp) -> Day {
        self.calendar.day(time)
    }

    /// The score of a customer on a day. Returns without a sale do not make a buyer.
    pub fn score(
        &self,
        in_force: &InForce,
        customer: Uuid,
        summary: &Summary,
        facts: Facts,
        today: Day,
        with_evidence: bool,
    ) -> Score {
        let bought = (summary.occasions > 0).then_some(summary);
        let (models, cut_offs) = (in_force.models.as_ref(), in_force.cut_offs.as_ref());
        score::compute(customer, bought, facts, &self.books, &self.thresholds, models, cut_offs, today, with_evidence)
    }
}
