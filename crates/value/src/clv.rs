//! Customer lifetime value: what a customer will bring from now on, in money of today.
//!
//! CLV = margin rate × expected value of an occasion × discounted expected occasions, in monthly steps with each month's
//! occasions discounted from its end:
//!
//! ```text
//! Σ over i = 1..months of (E[X(i·step)] − E[X((i−1)·step)]) / (1 + monthly rate)^i,   step = 4.345 weeks
//! ```

use crate::{
    GammaGamma, Model, Spend, Summary,
    error::{Error, within},
};

/// Weeks in a month, as practice has it (365.25 / 12 / 7 = 4.348, for the exact).
pub const WEEKS_A_MONTH: f64 = 4.345;

/// The longest horizon: a hundred years.
pub const MAX_MONTHS: u32 = 1_200;

/// Months whose expectations are computed together.
const TOGETHER: usize = 12;

/// The terms on which future occasions are valued. The default is 36 months at 10 % a year and a margin of 100 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    months: u32,
    monthly_rate: f64,
    margin_rate: f64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { months: 36, monthly_rate: monthly(0.10), margin_rate: 1.0 }
    }
}

impl Terms {
    /// A horizon of `months`, a discount of `monthly_rate` (0.01 for 1 %) and profit of `margin_rate` per unit of value
    /// (negative where selling costs more than it brings).
    ///
    /// # Errors
    /// [`Error::Invalid`] names `months` above [`MAX_MONTHS`], `monthly_rate` outside 0..=1, `margin_rate` outside
    /// -10..=1.
    pub fn new(months: u32, monthly_rate: f64, margin_rate: f64) -> Result<Self, Error> {
        within("months", f64::from(months), 0.0, f64::from(MAX_MONTHS), "must be at most 1,200")?;
        within("monthly_rate", monthly_rate, 0.0, 1.0, "must lie within 0 and 1")?;
        within("margin_rate", margin_rate, -10.0, 1.0, "must lie within -10 and 1")?;
        Ok(Self { months, monthly_rate, margin_rate })
    }

    /// The horizon in months.
    pub fn months(&self) -> u32 {
        self.months
    }

    /// The discount rate per month.
    pub fn monthly_rate(&self) -> f64 {
        self.monthly_rate
    }

    /// Profit per unit of value sold.
    pub fn margin_rate(&self) -> f64 {
        self.margin_rate
    }
}

/// The monthly rate that compounds to `yearly_rate` in twelve months, for a rate above -1.
pub fn monthly(yearly_rate: f64) -> f64 {
    (yearly_rate.ln_1p() / 12.0).exp_m1()
}

/// Occasions to expect over the horizon, each discounted to now. Never negative, always finite. Allocates nothing.
pub fn discounted_occasions(model: &Model, summary: &Summary, terms: &Terms) -> f64 {
    let discount = 1.0 / (1.0 + terms.monthly_rate);
    let (mut total, mut factor, mut before) = (0.0, 1.0, 0.0_f64);
    let mut month = 0;
    while month < terms.months {
        // Past the horizon the last month is repeated: an increment of nothing.
        let weeks: [f64; TOGETHER] = std::array::from_fn(|i| {
            let at = (month + 1 + i as u32).min(terms.months);
            f64::from(at) * WEEKS_A_MONTH
        });
        for until in model.expected_occasions_at(summary, weeks) {
            factor *= discount;
            // Rounding must not take back what was expected a month earlier.
            total += factor * (until - before).max(0.0);
            before = before.max(until);
        }
        month += TOGETHER as u32;
    }
    total
}

/// The customer's lifetime value from now on, in the money that `spend` and `values` are in.
pub fn lifetime_value(model: &Model, values: &GammaGamma, summary: &Summary, spend: &Spend, terms: &Terms) -> f64 {
    terms.margin_rate * values.expected_value(spend) * discounted_occasions(model, summary, terms)
}
