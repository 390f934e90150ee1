//! Scores and pyramids as protobuf has them.
use std::collections::HashMap;

use chassis::{Result, clock::to_proto, parse::Check};
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::Api;
use crate::{
    assessment::{self, Dealings},
    attributes::Attributes,
    calendar, estimate, follow,
    in_force::InForce,
    present, pyramid,
    score::{Day, Models, Summary},
    standing::{Announced, Customer},
    store,
};

/// Days of a week.
const WEEK: f64 = 7.0;

/// What of a score is asked for besides the figures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Show {
    /// Which rules and figures gave the states.
    pub(super) evidence: bool,
    /// What else is to be thought of the customer.
    pub(super) assessment: bool,
}

/// What assessments rest on besides scores; empty where none is asked for.
#[derive(Debug, Default)]
struct Beyond {
    dealings: HashMap<Uuid, Dealings>,
    attributes: HashMap<Uuid, Attributes>,
}

impl Api {
    /// The moment to compute for: absent means now. Not in the future.
    pub(super) fn as_of(&self, check: &mut Check, as_of: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
        let as_of = check.optional_time("as_of", as_of)?;
        if as_of > self.context.clock.now() {
            check.fault("as_of", "lies in the future; a moment up to now is allowed");
        }
        Some(as_of)
    }

    /// The score of a customer, absent for one whom profiles does not know either.
    pub(super) async fn one_score(&self, id: Uuid, as_of: Option<Timestamp>, show: Show) -> Result<Option<pb::Score>> {
        if as_of.is_none()
            && !show.assessment
            && let (Some(customer), in_force) = self.present.find(id).await?
        {
            let moment = self.context.clock.now();
            return Ok(Some(self.score(&customer, &in_force, moment, show, &Beyond::default())));
        }
        // Whoever is unknown here is read once more. In a place of its own: it is large, and every call would have to make room for it.
        Ok(Box::pin(self.scores(&[id], as_of, show)).await?.pop().flatten())
    }

    /// The scores of these customers, absent for one whom profiles does not know either.
    pub(super) async fn scores(
        &self,
        ids: &[Uuid],
        as_of: Option<Timestamp>,
        show: Show,
    ) -> Result<Vec<Option<pb::Score>>> {
        let moment = as_of.unwrap_or_else(|| self.context.clock.now());
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let (mut customers, in_force, mut beyond) = if as_of.is_none() && !show.assessment {
            let (customers, in_force) = present::read(self.db.read(), &self.scorer, &distinct).await?;
            (customers, in_force, Beyond::default())
        } else {
            // The past is not kept: the books are added up again, up to then. In one transaction, or a correction in between would show in the
            // sums and not in the rest.
            let tx = self.db.read_tx().await?;
            let (mut customers, in_force) = present::known(&tx, &self.scorer, &distinct).await?;
            if let Some(as_of) = as_of {
                let until_us = as_of.as_microsecond();
                let mut sums = store::purchase::summaries_of(&tx, &distinct, until_us).await?;
                let costs = store::service_cost::sums_of(&tx, &distinct, until_us).await?;
                for (id, customer) in &mut customers {
                    let service_cost_minor = costs.get(id).map_or(0, |(_, minor)| *minor);
                    customer.summary = Summary { service_cost_minor, ..sums.remove(id).unwrap_or_default() };
                }
            }
            // After the summaries: who had not bought by then is estimated.
            estimate::refresh(&tx, &in_force, customers.values_mut()).await?;
            let beyond =
                if show.assessment { self.beyond(&tx, &distinct, as_of, moment).await? } else { Beyond::default() };
            tx.commit().await?;
            (customers, in_force, beyond)
        };
        let unknown: Vec<Uuid> = distinct.into_iter().filter(|id| !customers.contains_key(id)).collect();
        if !unknown.is_empty() {
            // Profiles may know them before its feed has told us. Nothing is written: the feed will do that, and announce them.
            let answers = follow::ask(self.profiles.clone(), &unknown).await?;
            customers.extend(answers.into_iter().filter_map(|(id, profile)| {
                profile.map(|profile| (id, Customer::new(id, profile.revision, profile.facts)))
            }));
        }
        if show.assessment {
            for id in customers.keys() {
                beyond.dealings.entry(*id).or_default();
            }
        }
        Ok(ids.iter().map(|id| Some(self.score(customers.get(id)?, &in_force, moment, show, &beyond))).collect())
    }

    /// What the assessments of these customers rest on besides.
    async fn beyond<C: ConnectionTrait>(
        &self,
        connection: &C,
        ids: &[Uuid],
        as_of: Option<Timestamp>,
        moment: Timestamp,
    ) -> Result<Beyond> {
        // Now, what clocks that differ brought counts, as it does in the summary.
        let until_us = as_of.map_or(i64::MAX, Timestamp::as_microsecond);
        let period_days = (self.scorer.assessment.period_weeks * WEEK).round() as i64;
        let today = self.scorer.day(moment);
        let dealings = store::dealings::read(connection, ids, until_us, today, period_days).await?;
        Ok(Beyond { dealings, attributes: store::attribute::find(connection, ids).await? })
    }

    fn score(
        &self,
        customer: &Customer,
        in_force: &InForce,
        moment: Timestamp,
        show: Show,
        beyond: &Beyond,
    ) -> pb::Score {
        let today = self.scorer.day(moment);
        let score = self.scorer.score(in_force, customer.id, &customer.summary, customer.facts, today, show.evidence);
        let announced = customer.announced.as_ref();
        // Where it was announced so, since then; where nobody was told yet, since now.
        let same = announced.filter(|announced| announced.standing == score.standing);
        let standing = Announced {
            standing: score.standing,
            revision: announced.map_or(0, |announced| announced.revision),
            since: same.map_or(moment, |announced| announced.since),
        };
        let mut reply = pb::Score {
            standing: Some(standing.to_proto(customer.id)),
            as_of: Some(to_proto(moment)),
            model_id: in_force.models.as_ref().map(|models| models.id.to_string()).unwrap_or_default(),
            evidence: score.evidence,
            ..Default::default()
        };
        if customer.summary.occasions > 0 {
            reply.summary = Some(self.summary(&customer.summary, today));
        }
        if let Some(dealings) = beyond.dealings.get(&customer.id) {
            let attributes = beyond.attributes.get(&customer.id);
            let alike = in_force.potential.as_deref().zip(attributes);
            let subject = assessment::Subject {
                customer: customer.id,
                buyer: score.values.as_ref().map(|values| (&customer.summary, values)),
                standing: &score.standing,
                facts: customer.facts,
                dealings,
                attributes,
                typical_minor: alike.and_then(|(model, attributes)| model.typical_minor(attributes)),
                models: in_force.models.as_ref(),
                cut_offs: in_force.cut_offs.as_ref(),
                books: &self.scorer.books,
                thresholds: &self.scorer.assessment,
                states: &self.scorer.thresholds,
                today,
            };
            reply.assessment = Some(assessment::assess(&subject, |minor| self.rules.money(minor)));
        }
        if score.values.is_none() {
            reply.potential_value = customer.facts.potential_minor.and_then(|minor| self.money(minor));
        }
        if let Some(values) = score.values {
            reply.p_alive = values.p_alive;
            reply.expected_occasions = values.expected_occasions_52w;
            reply.realised_value = self.money(values.realised_minor);
            if in_force.models.as_ref().is_some_and(Models::value_the_future) {
                reply.expected_spend = self.money(values.expected_spend_minor);
                reply.expected_value = self.money(values.expected_minor);
                reply.lifetime_value = self.money(values.lifetime_minor);
                reply.horizon_months = i32::try_from(self.scorer.future.months()).unwrap_or(i32::MAX);
            }
        }
        reply
    }

    fn summary(&self, summary: &Summary, today: Day) -> pb::PurchaseSummary {
        let weeks = |from: Day, to: Day| f64::from(to.saturating_sub(from).max(0)) / WEEK;
        pb::PurchaseSummary {
            occasions: summary.occasions.into(),
            first_day: Some(calendar::to_proto(summary.first_day)),
            last_day: Some(calendar::to_proto(summary.last_day)),
            repeat_occasions: i64::from(summary.occasions) - 1,
            recency_weeks: weeks(summary.first_day, summary.last_day),
            age_weeks: weeks(summary.first_day, today),
            sales: self.money(summary.sales_minor),
            returns: self.money(summary.returns_minor),
        }
    }

    /// The tiers of a pyramid with their shares.
    pub(super) fn tiers(&self, tiers: &[pyramid::TierRow]) -> Vec<pb::PyramidTier> {
        // Shares of sums: where a float rounds is far beyond the digits that anybody reads.
        let revenue: f64 = tiers.iter().map(|tier| tier.revenue_minor as f64).sum();
        let value: f64 = tiers.iter().map(|tier| tier.value_minor as f64).sum();
        let share = |part: i64, whole: f64| if whole > 0.0 { part as f64 / whole } else { 0.0 };
        tiers
            .iter()
            .map(|tier| pb::PyramidTier {
                tier: tier.tier.into(),
                customers: i64::try_from(tier.customers).unwrap_or(i64::MAX),
                lowest_value: self.money(tier.lowest_value_minor),
                revenue_share: share(tier.revenue_minor, revenue),
                profit_share: share(tier.value_minor, value),
                revenue: self.money(tier.revenue_minor),
                value: self.money(tier.value_minor),
            })
            .collect()
    }
}
