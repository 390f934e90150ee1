//! A customer's score: a pure function of what is known of their buying, the fitted models, the cut-offs of the last
//! ranking, and the day. Nothing here reads a clock or a database, and no input makes it panic or gives a NaN.
//!
//! | figure or state | how | source |
//! | --- | --- | --- |
//! | P(alive), expected occasions | the buying model in force | Fader, Hardie & Lee (2005); Batislam et al. (2007) |
//! | expected spend | Gamma-Gamma | Fader & Hardie (2013) |
//! | trend of the buying rate | Laplace's test | Cox & Lewis (1966), The Statistical Analysis of Series of Events |
//! | relationship, stage, tier, code | the rules below, by [`Thresholds`] and [`CutOffs`] | |
//!
//! Days are those of the business's time zone, weeks are days / 7, money is in minor units where it is an integer.

use std::sync::Arc;

use proto::scoring::v1::{CustomerCode, Evidence, LifeCycleStage, Relationship, Tier};
use uuid::Uuid;

use crate::pyramid::{Basis, CutOffs};

#[cfg(test)]
pub(crate) mod cdnow;
pub(crate) mod evidence;
#[cfg(test)]
mod tests;
mod thresholds;

pub use thresholds::Thresholds;

/// Days since 1970-01-01 in the business's time zone.
pub type Day = i32;

const DAYS_A_WEEK: f64 = 7.0;
/// The horizon of [`Values::expected_occasions_52w`].
const YEAR_WEEKS: f64 = 52.0;
/// What lies further back counts as this long ago, since the models take no longer times ([`value::MAX_WEEKS`]).
const MAX_DAYS: i64 = 700_000;

/// What is known of a customer's buying: the sufficient statistics of every figure here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Days with a sale.
    pub occasions: u32,
    pub first_day: Day,
    pub last_day: Day,
    /// Sum of the occasion days, for the trend.
    pub day_sum: i64,
    pub sales_minor: i64,
    pub returns_minor: i64,
    /// Sales on the first day: the models of spend count repeat occasions alone.
    pub first_sales_minor: i64,
    /// Taken off the list price of sales, where it was stated.
    pub discount_minor: i64,
    /// What serving the customer cost.
    pub service_cost_minor: i64,
}

/// How the business counts its money.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Books {
    /// Minor units in a major one: 100 for cents, 1 for yen.
    pub minor_per_major: f64,
    /// Profit per unit of sales less returns.
    pub margin_rate: f64,
}

/// The models in force, and what they were asked before: two customers who bought equally often over equally long have most of the work in common.
#[derive(Clone, Debug)]
pub struct Models {
    /// Of the fit.
    pub id: Uuid,
    buying: value::Model,
    one_timers: Option<value::Model>,
    /// Absent without a model of spend.
    valuer: Option<Arc<value::Valuer>>,
}

impl Models {
    /// The likeliest of the buying models, by which every figure is computed; the model that judges those who bought once; the model of spend, in
    /// major units; the terms on which the future is valued.
    ///
    /// Without MBG/NBD, Pareto/NBD judges those who bought once where it is in force. BG/NBD never does: by it they would all be alive for ever.
    pub fn new(
        id: Uuid,
        buying: value::Model,
        one_timers: Option<value::MbgNbd>,
        spend: Option<value::GammaGamma>,
        terms: value::clv::Terms,
    ) -> Self {
        let doubts = (!matches!(buying, value::Model::BgNbd(_))).then_some(buying);
        let one_timers = one_timers.map(value::Model::from).or(doubts);
        let valuer = spend.map(|spend| Arc::new(value::Valuer::new(buying, spend, terms, YEAR_WEEKS)));
        Self { id, buying, one_timers, valuer }
    }

    /// The buying model.
    pub fn buying(&self) -> &value::Model {
        &self.buying
    }

    /// Whether they tell what a customer will bring, and not only whether and how often they will come.
    pub fn value_the_future(&self) -> bool {
        self.valuer.is_some()
    }
}

/// What is known of a customer besides purchases.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Turned to the company.
    pub showed_interest: bool,
    /// Chosen by the company.
    pub targeted: bool,
    /// What they would be worth if they bought, in minor units, by their attributes. Counts only for who has not bought; absent without a model.
    pub potential_minor: Option<i64>,
}

/// What a customer is worth.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// Margin of sales less returns so far, less what serving the customer cost.
    pub realised_minor: i64,
    /// Margin of the discounted purchases to expect over the horizon.
    pub expected_minor: i64,
    /// Realised plus expected.
    pub lifetime_minor: i64,
    /// Within 0 and 1, by the buying model in force; who bought once is *judged* by MBG/NBD instead where that is fitted.
    pub p_alive: f64,
    /// Purchase occasions to expect within 52 weeks.
    pub expected_occasions_52w: f64,
    /// Money to expect per occasion.
    pub expected_spend_minor: i64,
}

/// The four states.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub relationship: Relationship,
    pub stage: LifeCycleStage,
    pub tier: Tier,
    pub code: CustomerCode,
    /// The code does not rest on purchases, models and a ranking together: one of them is missing.
    pub estimated: bool,
}

/// What [`compute`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Absent for who has not bought.
    pub values: Option<Values>,
    pub standing: Standing,
    /// In the order relationship, stage, tier, code; empty unless asked for.
    pub evidence: Vec<Evidence>,
}

/// What the models are fitted on and asked about: the buying, and the spend in major units. `None` for who has no
/// occasion.
pub fn statistics(summary: &Summary, books: &Books, today: Day) -> Option<(value::Summary, value::Spend)> {
    let history = History::new(summary, today)?;
    Some((history.buying, history.spend(summary, books)))
}

/// The probability that the customer is alive on the day, as the states are decided by: who bought once is judged by
/// the model for them. `None` for who has no occasion, and for who bought once where no model can doubt them.
pub fn judged_alive(summary: &Summary, models: &Models, today: Day) -> Option<f64> {
    History::new(summary, today)?.judged_alive(models)
}

/// What the model of buying holds the customer's own rate to be if they are alive: the shape of a gamma distribution and
/// its rate in weeks. `None` for who has no occasion.
pub fn buying_rate(summary: &Summary, models: &Models, today: Day) -> Option<(f64, f64)> {
    let history = History::new(summary, today)?;
    // All three models mix Poisson buying over Gamma(r, alpha), and leaving tells nothing of the rate of who is alive.
    let [(_, r), (_, alpha), ..] = models.buying().parameters();
    Some((r + f64::from(history.repeats()), alpha + history.buying.t()))
}

/// What a customer is worth on the day. Without models, and for who has no occasion, nothing is expected.
pub fn values(summary: &Summary, books: &Books, models: Option<&Models>, today: Day) -> Values {
    values_of(summary, History::new(summary, today).as_ref(), books, models)
}

/// A customer's score on the day. `summary` is absent, or has no occasions, for who has not bought.
///
/// A day before the last purchase (a clock set back, a ledger slightly ahead) counts as the day of that purchase. A
/// summary that contradicts itself is read as the nearest that does not.
#[allow(clippy::too_many_arguments)] // Everything a score depends on, in sight.
pub fn compute(
    customer: Uuid,
    summary: Option<&Summary>,
    facts: Facts,
    books: &Books,
    thresholds: &Thresholds,
    models: Option<&Models>,
    cut_offs: Option<&CutOffs>,
    today: Day,
    with_evidence: bool,
) -> Score {
    let buyer = summary.and_then(|summary| {
        let history = History::new(summary, today)?;
        let values = values_of(summary, Some(&history), books, models);
        let p_alive = models.and_then(|models| history.judged_alive(models));
        let valued = models.is_some_and(Models::value_the_future);
        Some(Buyer { customer, history, values, p_alive, valued })
    });
    // Values without expectation cannot be held against cut-offs that were made with it.
    let cut_offs =
        cut_offs.filter(|cut_offs| models.is_some_and(Models::value_the_future) && cut_offs.lifetime.is_some());
    let case = Case { buyer, facts, thresholds, cut_offs };

    let (relationship, relationship_rule) = case.relationship();
    let (stage, stage_rule) = case.stage();
    let tier = case.tier();
    let (code, code_rule) = case.code();
    let standing =
        Standing { relationship, stage, tier, code, estimated: case.buyer.is_none() || case.cut_offs.is_none() };
    let evidence = if with_evidence {
        vec![
            evidence::relationship(&case, relationship_rule),
            evidence::stage(&case, stage_rule),
            evidence::tier(&case, tier, books),
            evidence::code(&case, code_rule, books),
        ]
    } else {
        Vec::new()
    };
    Score { values: case.buyer.map(|buyer| buyer.values), standing, evidence }
}

fn values_of(summary: &Summary, history: Option<&History>, books: &Books, models: Option<&Models>) -> Values {
    let net = i128::from(summary.sales_minor) - i128::from(summary.returns_minor);
    let realised_minor = whole(books.margin_rate * net as f64).saturating_sub(summary.service_cost_minor);
    let (Some(history), Some(models)) = (history, models) else {
        return Values { realised_minor, lifetime_minor: realised_minor, ..Values::default() };
    };
    let Some(valuer) = &models.valuer else {
        return Values {
            realised_minor,
            lifetime_minor: realised_minor,
            p_alive: models.buying.p_alive(&history.buying),
            expected_occasions_52w: models.buying.expected_occasions(&history.buying, YEAR_WEEKS),
            ..Values::default()
        };
    };
    let found = valuer.value(&history.buying, &history.spend(summary, books));
    let earned = books.margin_rate * found.expected_spend * books.minor_per_major;
    let expected_minor = whole(earned * found.discounted_occasions);
    Values {
        realised_minor,
        expected_minor,
        lifetime_minor: realised_minor.saturating_add(expected_minor),
        p_alive: found.p_alive,
        expected_occasions_52w: found.expected_occasions,
        expected_spend_minor: whole(found.expected_spend * books.minor_per_major),
    }
}

/// To whole minor units. The conversion stops at the limits of the type, and what is no number counts as nothing.
fn whole(minor: f64) -> i64 {
    minor.round() as i64
}

/// A summary seen from a day, consistent whatever the summary was.
#[derive(Copy, Clone, Debug)]
struct History {
    /// At least 1.
    occasions: u32,
    /// From the first occasion to the last.
    recency_days: i64,
    /// From the first occasion to now.
    age_days: i64,
    /// Mean of the repeat occasions' times after the first; 0 without any.
    mean_day: f64,
    buying: value::Summary,
}

impl History {
    /// `None` for who has no occasion.
    fn new(summary: &Summary, today: Day) -> Option<Self> {
        let repeats = summary.occasions.checked_sub(1)?;
        let first = i64::from(summary.first_day);
        let last = if repeats == 0 { first } else { i64::from(summary.last_day).max(first) };
        let recency_days = (last - first).min(MAX_DAYS);
        let age_days = (i64::from(today).max(last) - first).min(MAX_DAYS);
        // No two occasions on one day, so there are no more of them than days.
        let repeats = repeats.min(recency_days as u32);
        let buying = value::Summary::from_days(repeats, recency_days as u32, age_days as u32).ok()?;
        let after_first = i128::from(summary.day_sum) - i128::from(summary.first_day) * i128::from(summary.occasions);
        let mean_day = (after_first as f64 / f64::from(repeats.max(1))).clamp(0.0, recency_days as f64);
        Some(Self { occasions: repeats + 1, recency_days, age_days, mean_day, buying })
    }

    fn repeats(&self) -> u32 {
        self.buying.x()
    }

    /// Since the last occasion.
    fn silence_days(&self) -> i64 {
        self.age_days - self.recency_days
    }

    /// The customer's own rhythm: mean days from one occasion to the next.
    fn gap_days(&self) -> Option<f64> {
        (self.repeats() > 0).then(|| self.recency_days as f64 / f64::from(self.repeats()))
    }

    /// Repeat occasions and their mean value in major units, less the share of all sales that was given back: returns are
    /// not kept by occasion.
    fn spend(&self, summary: &Summary, books: &Books) -> value::Spend {
        if self.repeats() == 0 || summary.sales_minor <= 0 {
            return value::Spend::NONE;
        }
        let sales = summary.sales_minor as f64;
        let kept = (sales - summary.returns_minor as f64) / sales;
        let repeat_sales = sales - summary.first_sales_minor as f64;
        // Two negatives make no spend.
        if repeat_sales <= 0.0 || kept <= 0.0 {
            return value::Spend::NONE;
        }
        let mean = repeat_sales / f64::from(self.repeats()) * kept / books.minor_per_major;
        value::Spend::new(self.repeats(), mean).unwrap_or(value::Spend::NONE)
    }

    /// P(alive) as the states are decided by; `None` where no model can doubt somebody who bought once.
    fn judged_alive(&self, models: &Models) -> Option<f64> {
        let judge = if self.repeats() == 0 { models.one_timers.as_ref() } else { Some(&models.buying) };
        judge.map(|model| model.p_alive(&self.buying))
    }

    /// Laplace's statistic: how far the mean time of the repeat occasions lies from the middle of (0, T], in standard
    /// deviations of what an even pace gives. Positive when they crowd towards now. `None` below `min_repeats`.
    fn trend(&self, min_repeats: u32) -> Option<f64> {
        let x = f64::from(self.repeats());
        let age = self.age_days as f64;
        let enough = self.repeats() >= min_repeats.max(1) && age > 0.0;
        enough.then(|| (self.mean_day - age / 2.0) / (age * (1.0 / (12.0 * x)).sqrt()))
    }
}

/// Somebody who has bought.
#[derive(Debug)]
struct Buyer {
    customer: Uuid,
    history: History,
    values: Values,
    /// As judged; absent where there is no model to judge by.
    p_alive: Option<f64>,
    /// Whether models say what they will bring: where none does, nothing expected is not a forecast of nothing.
    valued: bool,
}

/// All that the rules look at.
#[derive(Debug)]
struct Case<'a> {
    /// Absent for who has not bought.
    buyer: Option<Buyer>,
    facts: Facts,
    thresholds: &'a Thresholds,
    /// Absent where they cannot be used.
    cut_offs: Option<&'a CutOffs>,
}

/// Why a relationship is what it is.
#[derive(Copy, Clone, Debug)]
enum RelationshipRule {
    NoDealings,
    ShowedInterest,
    Targeted,
    /// There is no model to doubt it.
    OccasionsAlone,
    MostLikelyGone,
    KeepsBuying,
    BoughtOnce,
    BoughtAgain,
}

/// Why a stage is what it is.
#[derive(Copy, Clone, Debug)]
enum StageRule {
    HasNotBought,
    MostLikelyGone,
    Overdue,
    BoughtOnce,
    TooFewForTrend,
    BuysMoreOften,
    BuysLessOften,
    SteadyPace,
}

/// Why a code is what it is.
#[derive(Copy, Clone, Debug)]
enum CodeRule {
    /// There is no model to estimate them by.
    HasNotBought,
    HighPotential,
    LowPotential,
    NotRanked,
    BestCustomer,
    HighExpectation,
    HighHeadroom,
    General,
}

impl Case<'_> {
    fn relationship(&self) -> (Relationship, RelationshipRule) {
        let Some(buyer) = &self.buyer else {
            // The two facts overlap; who turned to us by themselves is further along than who was only chosen.
            return if self.facts.showed_interest {
                (Relationship::Potential, RelationshipRule::ShowedInterest)
            } else if self.facts.targeted {
                (Relationship::Target, RelationshipRule::Targeted)
            } else {
                (Relationship::NonCustomer, RelationshipRule::NoDealings)
            };
        };
        let by_occasions = if buyer.history.repeats() == 0 { Relationship::FirstTime } else { Relationship::Repeat };
        let Some(p_alive) = buyer.p_alive else {
            return (by_occasions, RelationshipRule::OccasionsAlone);
        };
        if p_alive < self.thresholds.lost_below_p_alive {
            (Relationship::Lost, RelationshipRule::MostLikelyGone)
        } else if buyer.history.repeats() == 0 {
            (by_occasions, RelationshipRule::BoughtOnce)
        } else if self.keeps_buying(&buyer.history, p_alive) {
            (Relationship::Loyal, RelationshipRule::KeepsBuying)
        } else {
            (by_occasions, RelationshipRule::BoughtAgain)
        }
    }

    /// Often, over a long time, and without a break now.
    fn keeps_buying(&self, history: &History, p_alive: f64) -> bool {
        let thresholds = self.thresholds;
        history.occasions >= thresholds.loyal_min_occasions
            && history.recency_days as f64 / DAYS_A_WEEK >= thresholds.loyal_min_span_weeks
            && p_alive >= thresholds.loyal_min_p_alive
            && history
                .gap_days()
                .is_some_and(|gap| history.silence_days() as f64 <= thresholds.loyal_max_silence_gaps * gap)
    }

    fn stage(&self) -> (LifeCycleStage, StageRule) {
        let Some(buyer) = &self.buyer else {
            return (LifeCycleStage::Acquisition, StageRule::HasNotBought);
        };
        // Without models only the trend speaks.
        let below = |threshold: f64| buyer.p_alive.is_some_and(|p_alive| p_alive < threshold);
        if below(self.thresholds.departure_below_p_alive) {
            return (LifeCycleStage::Departure, StageRule::MostLikelyGone);
        }
        if below(self.thresholds.decline_below_p_alive) {
            return (LifeCycleStage::Decline, StageRule::Overdue);
        }
        if buyer.history.repeats() == 0 {
            return (LifeCycleStage::Acquisition, StageRule::BoughtOnce);
        }
        let z = self.thresholds.trend_min_z;
        match buyer.history.trend(self.thresholds.trend_min_repeats) {
            None => (LifeCycleStage::Maturity, StageRule::TooFewForTrend),
            Some(trend) if trend >= z => (LifeCycleStage::Growth, StageRule::BuysMoreOften),
            Some(trend) if trend <= -z => (LifeCycleStage::Decline, StageRule::BuysLessOften),
            Some(_) => (LifeCycleStage::Maturity, StageRule::SteadyPace),
        }
    }

    fn tier(&self) -> Tier {
        match (&self.buyer, self.cut_offs) {
            (Some(buyer), Some(cut_offs)) => {
                cut_offs.tier(Basis::Lifetime, buyer.values.lifetime_minor, buyer.customer)
            }
            _ => Tier::Unspecified,
        }
    }

    fn code(&self) -> (CustomerCode, CodeRule) {
        let Some(buyer) = &self.buyer else {
            // Never an A: of them nothing was realised.
            let major =
                self.cut_offs.and_then(|cut_offs| cut_offs.lifetime.as_ref()).map(|ends| ends.major.value_minor);
            return match (self.facts.potential_minor, major) {
                (Some(potential), Some(major)) if potential >= major.max(1) => {
                    (CustomerCode::B, CodeRule::HighPotential)
                }
                (Some(_), Some(_)) => (CustomerCode::C, CodeRule::LowPotential),
                _ => (CustomerCode::C, CodeRule::HasNotBought),
            };
        };
        let Some(cut_offs) = self.cut_offs else {
            return (CustomerCode::C, CodeRule::NotRanked);
        };
        let Values { realised_minor, expected_minor, .. } = buyer.values;
        let key = matches!(self.tier(), Tier::Important | Tier::Major);
        if key && cut_offs.realised_in_top_fifth(realised_minor, buyer.customer) {
            (CustomerCode::A, CodeRule::BestCustomer)
        } else if cut_offs.expected_in_top_fifth(expected_minor, buyer.customer) {
            (CustomerCode::B, CodeRule::HighExpectation)
        } else if cut_offs.headroom_in_top_fifth(realised_minor, expected_minor, buyer.customer) {
            (CustomerCode::B, CodeRule::HighHeadroom)
        } else {
            (CustomerCode::C, CodeRule::General)
        }
    }
}
