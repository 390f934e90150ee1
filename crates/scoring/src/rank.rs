//! Ranking everybody who bought: new cut-offs, and the news of whom they move.
use std::sync::Arc;

use chassis::{Error, Result};
use jiff::Timestamp;
use proto::scoring::v1::{self as pb, Tier};
use uuid::Uuid;

use crate::{
    fit::Pages,
    operation::{Job, Outcome},
    pyramid::{self, Basis, CutOffs, Ranked, Ranking},
    sample::Sample,
    score::{self, Day},
    standing, store,
};

/// Customers of a tier whose books are gone through for what is usual with them: so many give a share to a hundredth and take less than a second.
const MAX_ASKED: usize = 5_000;

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
/// `Database`.
pub async fn run(job: &Job) -> Result<()> {
    let (id, as_of) = (job.operation.id, job.operation.as_of);
    let (ranked, realised_alone) = read(job).await?;
    let customers = i64::try_from(ranked.len()).unwrap_or(i64::MAX);
    job.progress("ranks", customers, customers.saturating_mul(2));
    let (mut ranking, key) = tokio::task::spawn_blocking(move || {
        let mut ranked = ranked;
        let mut ranking = pyramid::rank(&mut ranked);
        if realised_alone.is_some() {
            ranking.forget_the_future();
        }
        let key = key_customers(&ranking.cut_offs, &ranked);
        (ranking, key)
    })
    .await
    .map_err(|error| Error::Internal(format!("the ranking broke off: {error}")))?;
    for (margin, customers) in ranking.cut_offs.margins.iter_mut().zip(key) {
        *margin = store::dealings::margin(job.db.read(), &customers, as_of).await?;
    }
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

    store::writers::gone(&job.db).await?;
    let (all, _) = store::customer::count(job.db.read()).await?;
    let told = |seen| job.progress("announces changes", customers + seen, customers + all);
    let changed = standing::restate_all(&job.db, &job.scorer, pb::ChangeCause::Ranking, told).await?;
    let outcome = &Outcome::Ranked(pb::RankResult {
        customers,
        changed,
        realised_alone: realised_alone.unwrap_or_default().to_owned(),
    });
    job.db
        .run_tx("end_ranking", |tx| Box::pin(store::operation::end(tx, id, job.context.replica, outcome)))
        .await
        .map(|_| ())
}

/// Of important and of major customers those that say what is usual with them: all of them, or an even sample.
fn key_customers(cut_offs: &CutOffs, ranked: &[Ranked]) -> [Vec<Uuid>; 2] {
    let mut samples = [Sample::new(MAX_ASKED), Sample::new(MAX_ASKED)];
    for customer in ranked {
        let value_minor = customer.realised_minor.saturating_add(customer.expected_minor);
        let [important, major] = &mut samples;
        match cut_offs.tier(Basis::Lifetime, value_minor, customer.customer) {
            Tier::Important => important.add(customer.customer, ()),
            Tier::Major => major.add(customer.customer, ()),
            Tier::Ordinary | Tier::Small | Tier::Unspecified => {}
        }
    }
    samples.map(|sample| sample.into_items().map(|(customer, ())| customer).collect())
}

/// The values of everybody who bought, 40 bytes a customer, and why they know of the past alone, if they do.
async fn read(job: &Job) -> Result<(Vec<Ranked>, Option<&'static str>)> {
    let in_force = job.scorer.in_force(job.db.read()).await?;
    let realised_alone = match &in_force.models {
        None => Some("no model of buying is in force, so nothing says what to expect of anybody"),
        Some(models) if !models.value_the_future() => {
            Some("no model of spending is in force, so nothing says what anybody will bring")
        }
        Some(_) => None,
    };
    let as_of = job.operation.as_of;
    let mut pages = Pages::new(job, as_of).await?;
    // Growing, it would take twice as much at times.
    let mut all = Vec::with_capacity(usize::try_from(pages.total).unwrap_or(0));
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
        // Not while the next page is read: a ranking has time, and one core at a time leaves the others to those who ask.
        let ranked = tokio::task::spawn_blocking(values).await;
        all.extend(ranked.map_err(|error| Error::Internal(format!("the ranking broke off: {error}")))?);
        job.progress("computes values", pages.seen, pages.total.saturating_mul(2));
    }
    Ok((all, realised_alone))
}
