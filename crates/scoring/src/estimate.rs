//! Estimating who has not bought: fitting the [`potential`](crate::potential) model with the others, and keeping what it says of each customer.
use std::collections::HashSet;

use chassis::{Error, Result};
use proto::scoring::v1 as pb;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    fit::Pages,
    in_force::InForce,
    operation::Job,
    potential::{Buyer, MAX_BUYERS, Model, NotFitted, Quality},
    sample::Sample,
    score::{self, Models},
    standing::Customer,
    store,
};

/// What a fit of the potential gave.
#[derive(Debug)]
pub struct Estimate {
    /// Buyers whose attributes were known.
    pub buyers: usize,
    /// The model and how good it is, or why there is none.
    pub fitted: Result<(Model, Quality), NotFitted>,
}

impl Estimate {
    /// As protobuf has it.
    pub fn to_proto(&self) -> pb::PotentialFit {
        let customers = i64::try_from(self.buyers).unwrap_or(i64::MAX);
        match &self.fitted {
            Ok((_, quality)) => pb::PotentialFit {
                customers,
                r_squared: Some(quality.r_squared),
                rank_correlation: Some(quality.rank_correlation),
                not_fitted: String::new(),
            },
            Err(NotFitted(reason)) => pb::PotentialFit { customers, not_fitted: reason.clone(), ..Default::default() },
        }
    }
}

/// Fits the potential to buyers whose attributes are known, valued by the models given: to all of them, or where there are more than [`MAX_BUYERS`]
/// to a sample even over all, which is the same in every run.
///
/// # Errors
/// `Database`.
pub async fn fit(job: &Job, models: Option<Models>) -> Result<Estimate> {
    let Some(models) = models else {
        let reason = NotFitted("a model of buying and one of spending are needed first".to_owned());
        return Ok(Estimate { buyers: 0, fitted: Err(reason) });
    };
    let as_of = job.operation.as_of;
    let mut buyers = Sample::new(MAX_BUYERS);
    let mut pages = Pages::new(job, as_of).await?;
    while let Some(page) = pages.next(job).await? {
        let ids: Vec<Uuid> = page.iter().map(|(id, _)| *id).filter(|id| buyers.wants(*id)).collect();
        let attributes = store::attribute::find(job.db.read(), &ids).await?;
        for (id, summary) in &page {
            let Some(attributes) = attributes.get(id) else { continue };
            let values = score::values(summary, &job.scorer.books, Some(&models), as_of);
            buyers.add(*id, Buyer::new(attributes, values.lifetime_minor));
        }
        job.progress("reads attributes", pages.seen, pages.total);
    }
    let buyers: Vec<Buyer> = buyers.into_items().map(|(_, buyer)| buyer).collect();
    let (count, min) = (buyers.len(), job.scorer.assessment.potential_min_buyers as usize);
    let fitted = tokio::task::spawn_blocking(move || Model::fit(&buyers, min)).await;
    let fitted = fitted.map_err(|error| Error::Internal(format!("the fit of the potential broke off: {error}")))?;
    Ok(Estimate { buyers: count, fitted })
}

/// Brings the potential of these customers up to date with the model in force and their attributes; whose it changed.
///
/// # Errors
/// `Database`.
pub async fn refresh<'c, C: ConnectionTrait>(
    connection: &C,
    in_force: &InForce,
    customers: impl Iterator<Item = &'c mut Customer>,
) -> Result<HashSet<Uuid>> {
    // Who bought is judged by what they bought.
    let mut waiting: Vec<&mut Customer> = customers.filter(|customer| customer.summary.occasions == 0).collect();
    let mut changed = HashSet::new();
    let Some(model) = in_force.potential.as_deref().filter(|_| !waiting.is_empty()) else { return Ok(changed) };
    let ids: Vec<Uuid> = waiting.iter().map(|customer| customer.id).collect();
    let attributes = store::attribute::find(connection, &ids).await?;
    for customer in &mut waiting {
        let potential_minor = attributes.get(&customer.id).map(|attributes| model.potential_minor(attributes));
        if customer.facts.potential_minor != potential_minor {
            customer.facts.potential_minor = potential_minor;
            changed.insert(customer.id);
        }
    }
    Ok(changed)
}
