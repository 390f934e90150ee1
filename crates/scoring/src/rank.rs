//! Ranking everybody who bought: new cut-offs, and the news of whom they move.
use std::sync::Arc;

use chassis::{Error, Result};
use jiff::Timestamp;
use proto::{common::v1::ErrorReason, scoring::v1 as pb};

use crate::{
    fit::Pages,
    operation::{Job, Outcome},
    pyramid::{self, Ranked, Ranking},
    score::{self, Day},
    standing, store,
};

/// A ranking as it is kept.
#[derive(Clone, Debug)]
pub struct LastRanking {
    /// The last day counted.
    pub as_of: Day,
    /// When it was made.
    pub rank_time: Timestamp,
    /// Customers ranked.
    pub customers: i64,
    /// Cut-offs and pyramids.
    pub ranking: Ranking,
}

/// Ranks, puts the cut-offs into force, then announces whoever stands otherwise by them. Run again after a crash, it ranks again and announces the rest.
///
/// # Errors
/// `Precondition` with NO_MODEL before the first fit; `Database`.
pub async fn run(job: &Job) -> Result<()> {
    let (id, as_of) = (job.operation.id, job.operation.as_of);
    let ranked = read(job).await?;
    let customers = i64::try_from(ranked.len()).unwrap_or(i64::MAX);
    job.progress("ranks", customers, customers.saturating_mul(2));
    let ranking = tokio::task::spawn_blocking(move || pyramid::rank(ranked))
        .await
        .map_err(|error| Error::Internal(format!("the ranking broke off: {error}")))?;
    let last = &LastRanking { as_of, rank_time: job.context.clock.now(), customers, ranking };
    let ranking_id = job.context.ids.next();
    let held = job
        .db
        .run_tx("put_ranking", |tx| {
            Box::pin(async move {
                let held = store::operation::is_held(tx, id, job.context.replica).await?;
                if held {
                    store::in_force::set_ranking(tx, ranking_id, last).await?;
                }
                Ok::<_, Error>(held)
            })
        })
        .await?;
    if !held {
        return Ok(());
    }

    let (all, _) = store::customer::count(job.db.read()).await?;
    let (mut after, mut seen, mut changed) = (None, 0, 0);
    loop {
        let page = standing::restate_page(&job.db, &job.scorer, after, pb::ChangeCause::Ranking).await?;
        (seen, changed) = (seen + page.seen, changed + page.changed);
        job.progress("announces changes", customers + seen, customers + all);
        after = page.last;
        if after.is_none() {
            break;
        }
    }
    let outcome = &Outcome::Ranked(pb::RankResult { customers, changed });
    job.db
        .run_tx("end_ranking", |tx| Box::pin(store::operation::end(tx, id, job.context.replica, outcome)))
        .await
        .map(|_| ())
}

/// The values of everybody who bought: 40 bytes a customer.
async fn read(job: &Job) -> Result<Vec<Ranked>> {
    let in_force = job.scorer.in_force(job.db.read()).await?;
    if in_force.models.is_none() {
        let message = "no model is fitted yet: call FitModels first".to_owned();
        return Err(Error::Precondition { reason: ErrorReason::NoModel, message });
    }
    let as_of = job.operation.as_of;
    let mut all = Vec::new();
    let mut pages = Pages::new(job, as_of).await?;
    while let Some(page) = pages.next(job).await? {
        let (scorer, in_force) = (Arc::clone(&job.scorer), Arc::clone(&in_force));
        let values = move || -> Vec<Ranked> {
            let value = |(customer, summary): &(_, score::Summary)| {
                let values = score::values(summary, &scorer.books, in_force.models.as_ref(), as_of);
                Ranked {
                    customer: *customer,
                    realised_minor: values.realised_minor,
                    expected_minor: values.expected_minor,
                    revenue_minor: summary.sales_minor - summary.returns_minor,
                }
            };
            page.iter().map(value).collect()
        };
        let ranked = tokio::task::spawn_blocking(values).await;
        all.extend(ranked.map_err(|error| Error::Internal(format!("the ranking broke off: {error}")))?);
        job.progress("computes values", pages.seen, pages.total.saturating_mul(2));
    }
    Ok(all)
}
