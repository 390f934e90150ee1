//! Many customers, or one after the other for ever, under one fitted model: the same figures as [`crate::Model`],
//! [`clv`](crate::clv) and [`GammaGamma`] give, some hundred times sooner.
//!
//! What a customer who is still one will do depends on how often and how long they have bought, not on when they last
//! did: the posterior of rate and dropout, given alive, knows x and T only. Histories come in whole days, so there are
//! far fewer pairs (x, T) than customers. Each is worked out once and remembered; the rest is P(alive).

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    GammaGamma, Model, Spend, Summary,
    clv::{self, Terms},
    summary::horizon,
};

/// What has fewer repeat occasions is remembered. One buyer in many thousands has more; theirs is computed each time.
const COUNTS: usize = 512;
/// What began less than so many days ago (44 years) is remembered.
const DAYS: usize = 16_384;
/// Days that are made room for together: 4 KiB. All counts and days there are would take 128 MiB; a million customers of
/// two years take less than one.
const BLOCK: usize = 256;

/// What a customer is worth, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Valuation {
    /// The probability that they have not left; see [`Model::p_alive`].
    pub p_alive: f64,
    /// Occasions to expect within the horizon that the [`Valuer`] was made for.
    pub expected_occasions: f64,
    /// Occasions to expect over the terms, each discounted to now; see [`clv::discounted_occasions`].
    pub discounted_occasions: f64,
    /// Money to expect per occasion; see [`GammaGamma::expected_value`].
    pub expected_spend: f64,
    /// Margin × spend × discounted occasions; see [`clv::lifetime_value`].
    pub lifetime_value: f64,
}

/// Values customers under fitted models and fixed terms.
///
/// Shared between threads by reference: nobody waits for anybody, each reader sees a remembered figure or works it out.
/// Figures agree with those computed directly to 1e-12, whatever was asked before. Make a new one for another model or
/// other terms.
///
/// ```
/// use value::{GammaGamma, MbgNbd, Parameters, Spend, Summary, Valuer, clv};
///
/// let buying = MbgNbd::new(Parameters { r: 0.525, alpha: 6.183, a: 0.891, b: 1.614 })?;
/// let spend = GammaGamma::new(6.25, 3.74, 15.44)?;
/// let valuer = Valuer::new(buying, spend, clv::Terms::default(), 52.0);
/// let found = valuer.value(&Summary::from_days(7, 206, 272)?, &Spend::new(7, 73.74)?);
/// assert!(found.p_alive > 0.6 && found.expected_occasions > 3.0 && found.lifetime_value > 0.0);
/// # Ok::<(), value::Error>(())
/// ```
#[derive(Debug)]
pub struct Valuer {
    model: Model,
    values: GammaGamma,
    terms: Terms,
    weeks: f64,
    /// By count, then by block of days.
    blocks: Box<[OnceLock<Box<[Cell]>>]>,
}

/// What to expect of a customer alive: bits of two numbers, 0 while not known. What *is* 0 is worked out each time.
#[derive(Debug, Default)]
struct Cell {
    expected: AtomicU64,
    discounted: AtomicU64,
}

impl Valuer {
    /// Under these models and terms; `weeks` is the horizon of [`Valuation::expected_occasions`], with the range of
    /// [`Model::expected_occasions`].
    pub fn new(model: impl Into<Model>, values: GammaGamma, terms: Terms, weeks: f64) -> Self {
        let blocks = std::iter::repeat_with(OnceLock::new).take(COUNTS * DAYS / BLOCK).collect();
        Self { model: model.into(), values, terms, weeks: horizon(weeks), blocks }
    }

    /// The buying model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model of spend.
    pub fn values(&self) -> &GammaGamma {
        &self.values
    }

    /// The terms of the lifetime value.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The horizon of expected occasions, in weeks.
    pub fn weeks(&self) -> f64 {
        self.weeks
    }

    /// What one customer is worth.
    pub fn value(&self, summary: &Summary, spend: &Spend) -> Valuation {
        let p_alive = self.model.p_alive(summary);
        let (expected, discounted) = self.if_alive(summary);
        let expected_spend = self.values.expected_value(spend);
        let discounted_occasions = p_alive * discounted;
        Valuation {
            p_alive,
            expected_occasions: p_alive * expected,
            discounted_occasions,
            expected_spend,
            lifetime_value: self.terms.margin_rate() * expected_spend * discounted_occasions,
        }
    }

    /// Occasions within the horizon, and discounted over the terms, if the customer is alive.
    fn if_alive(&self, summary: &Summary) -> (f64, f64) {
        let Some(cell) = self.cell(summary) else { return self.compute(summary) };
        // The two need not be of one writer: whoever fills a cell writes the same numbers.
        let (expected, discounted) = (cell.expected.load(Relaxed), cell.discounted.load(Relaxed));
        if expected != 0 && discounted != 0 {
            return (f64::from_bits(expected), f64::from_bits(discounted));
        }
        let (expected, discounted) = self.compute(summary);
        cell.expected.store(expected.to_bits(), Relaxed);
        cell.discounted.store(discounted.to_bits(), Relaxed);
        (expected, discounted)
    }

    /// Where it is remembered; `None` beyond the limits and for a time that is no number of whole days.
    fn cell(&self, summary: &Summary) -> Option<&Cell> {
        let (x, days) = (summary.x() as usize, summary.whole_days()? as usize);
        if x >= COUNTS || days >= DAYS {
            return None;
        }
        let block = self.blocks.get((x * DAYS + days) / BLOCK)?;
        block.get_or_init(|| std::iter::repeat_with(Cell::default).take(BLOCK).collect()).get(days % BLOCK)
    }

    fn compute(&self, summary: &Summary) -> (f64, f64) {
        let [expected] = self.model.occasions_if_alive(summary.x(), summary.t(), [self.weeks]);
        (expected, clv::discounted_if_alive(&self.model, summary, &self.terms))
    }
}
