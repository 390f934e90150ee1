//! What is to be thought of a customer beyond the four states: loyalty, the good-customer scorecard, the risks of a big buyer, who may grow, when
//! they come again. Pure functions of what is known of the customer on a day, each with the rule and the figures that gave it; what there is no
//! evidence for is unknown, never zero.
//!
//! | finding | file |
//! | --- | --- |
//! | loyalty quadrant: profit by length of relationship | [`quadrant`] |
//! | loyalty ladder | [`ladder`] |
//! | good-customer scorecard and its disqualifiers | [`scorecard`] |
//! | the five risks of a big buyer | [`big_buyer`] |
//! | ant to elephant | [`ant`] |
//! | churn risk | [`churn`] |
//! | next purchase, spend to expect | [`outlook`] |
use proto::scoring::v1::{self as pb, Answer, Evidence};
use uuid::Uuid;

use crate::{
    attributes::Attributes,
    pyramid::CutOffs,
    score::{self, Books, Day, Facts, Models, Standing, Summary, Values},
};

mod ant;
mod big_buyer;
mod churn;
mod ladder;
mod outlook;
mod quadrant;
mod scorecard;
#[cfg(test)]
mod tests;
mod thresholds;

pub use thresholds::Thresholds;

/// Days of a week.
const WEEK: f64 = 7.0;

/// How a customer pays: sums over what was issued to them. Money in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payments {
    /// Invoices and credits.
    pub count: i64,
    /// Not paid yet.
    pub receivables_minor: i64,
    /// Of it, past its due day.
    pub overdue_minor: i64,
    /// Since the due day of the longest overdue.
    pub days_overdue: i64,
    /// Those that were paid in full or are past their due day.
    pub settled: i64,
    /// Of them, paid in full by their due day.
    pub on_time: i64,
    /// Given up.
    pub written_off: i64,
    /// Before a court.
    pub in_court: i64,
}

/// What was bought in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Days with a sale.
    pub occasions: i64,
    /// Sales less returns, in minor units.
    pub net_minor: i64,
}

/// What the books say of a customer beyond the summary. Money in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dealings {
    /// The period that ends on the day.
    pub recent: Period,
    /// The one before it, of the same length.
    pub before: Period,
    /// The 52 weeks that end on the day.
    pub year: Period,
    /// Sales whose discount is known, also where it is none.
    pub priced: i64,
    /// What they brought.
    pub priced_minor: i64,
    /// How many costs of serving the customer were recorded.
    pub costs: i64,
    /// Absent where no payment was recorded.
    pub payments: Option<Payments>,
    /// Customers whom they introduced, so far as profiles knows.
    pub introduced: i64,
    /// Of them, those who have bought.
    pub introduced_buyers: i64,
}

/// All that a customer is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Who.
    pub customer: Uuid,
    /// Absent for who has not bought.
    pub buyer: Option<(&'a Summary, &'a Values)>,
    /// The four states.
    pub standing: &'a Standing,
    /// What profiles says of interest and choice.
    pub facts: Facts,
    /// What the books say besides.
    pub dealings: &'a Dealings,
    /// Absent where profiles has not told yet.
    pub attributes: Option<&'a Attributes>,
    /// What customers with their attributes are typically worth over their life; absent where nothing is known of either.
    pub typical_minor: Option<i64>,
    /// Absent before the first fit.
    pub models: Option<&'a Models>,
    /// Absent before the first ranking.
    pub cut_offs: Option<&'a CutOffs>,
    /// How money is counted.
    pub books: &'a Books,
    /// Where one finding ends and the next begins.
    pub thresholds: &'a Thresholds,
    /// The same of the states.
    pub states: &'a score::Thresholds,
    /// The day.
    pub today: Day,
}

impl Subject<'_> {
    /// P(alive) as the states are decided by.
    fn p_alive(&self) -> Option<f64> {
        let (summary, _) = self.buyer?;
        score::judged_alive(summary, self.models?, self.today)
    }

    /// Sales less returns.
    fn net_minor(&self) -> i64 {
        self.buyer.map_or(0, |(summary, _)| summary.sales_minor.saturating_sub(summary.returns_minor))
    }

    /// From the first occasion to the last.
    fn span_weeks(&self) -> f64 {
        self.buyer.map_or(0.0, |(summary, _)| weeks(summary.first_day, summary.last_day))
    }

    /// From the first occasion to the day.
    fn age_weeks(&self) -> f64 {
        self.buyer.map_or(0.0, |(summary, _)| weeks(summary.first_day, self.today))
    }

    fn money(&self, minor: i64) -> String {
        score::evidence::money(minor, self.books)
    }
}

fn weeks(from: Day, to: Day) -> f64 {
    (i64::from(to) - i64::from(from)).max(0) as f64 / WEEK
}

fn answer(holds: bool) -> Answer {
    if holds { Answer::Yes } else { Answer::No }
}

/// part ÷ whole, where there is a whole.
fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Money into figures: a float, for a reader.
fn figure(minor: i64) -> f64 {
    minor as f64
}

/// What there is no evidence for: what would have to be recorded.
fn unknown(state: &str, text: &str) -> Evidence {
    score::evidence::evidence(state, "unknown", text.to_owned(), &[])
}

/// Judges a customer.
pub fn assess(subject: &Subject<'_>, money: impl Fn(i64) -> proto::common::v1::Money) -> pb::Assessment {
    let (quadrant, treatment, quadrant_evidence) = quadrant::quadrant(subject);
    let (rung, rung_evidence) = ladder::rung(subject);
    let (ant_to_elephant, ant_evidence) = ant::ant_to_elephant(subject);
    let mut evidence = vec![quadrant_evidence, rung_evidence, ant_evidence];
    let churn = churn::risk(subject);
    let churn_risk = churn.as_ref().map(|(risk, _)| *risk);
    evidence.extend(churn.map(|(_, evidence)| evidence));
    let next_purchase = outlook::next_purchase(subject);
    let spend = outlook::spend_52w(subject);
    let expected_spend_52w = spend.as_ref().map(|(minor, _)| money(*minor));
    evidence.extend(spend.map(|(_, evidence)| evidence));
    let dealings = subject.dealings;
    let cost_minor = subject.buyer.map_or(0, |(summary, _)| summary.service_cost_minor);
    pb::Assessment {
        quadrant: quadrant.into(),
        treatment: treatment.to_owned(),
        rung: rung.into(),
        scorecard: Some(scorecard::scorecard(subject)),
        big_buyer_risks: big_buyer::risks(subject),
        ant_to_elephant: ant_to_elephant.into(),
        churn_risk,
        next_purchase,
        expected_spend_52w,
        service_cost: (dealings.costs > 0).then(|| money(cost_minor)),
        receivables: dealings.payments.map(|payments| money(payments.receivables_minor)),
        days_overdue: dealings.payments.map(|payments| i32::try_from(payments.days_overdue).unwrap_or(i32::MAX)),
        evidence,
    }
}
