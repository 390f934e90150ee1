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
    model.p_alive(summary) * discounted_if_alive(model, summary, terms)
}

/// The same of a customer who is known to be alive; when they last bought no longer matters.
pub(crate) fn discounted_if_alive(model: &Model, summary: &Summary, terms: &Terms) -> f64 {
    let discount = 1.0 / (1.0 + terms.monthly_rate);
    let (mut total, mut factor, mut before) = (0.0, 1.0, 0.0_f64);
    let mut month = 0;
    while month < terms.months {
        // Past the horizon the last month is repeated: an increment of nothing.
        let weeks: [f64; TOGETHER] = std::array::from_fn(|i| {
            let at = (month + 1 + i as u32).min(terms.months);
            f64::from(at) * WEEKS_A_MONTH
        });
        for until in model.occasions_if_alive(summary.x(), summary.t(), weeks) {
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

/// Discounted expected residual transactions: occasions to expect of the customer from now on, without a horizon, each
/// discounted continuously at the rate that compounds to `yearly_rate` (0.15 for 15 %) in 52 weeks. DERT of Fader, Hardie
/// & Lee (2005), *JMR* 42(4), for every model.
///
/// ```
/// use value::{ParetoNbd, Summary, clv};
///
/// let model = ParetoNbd::new(0.553, 10.578, 0.606, 11.669)?;
/// let dert = clv::residual_occasions(&model.into(), &Summary::from_days(7, 206, 272)?, 0.15)?;
/// assert!((dert - 16.6).abs() < 0.1);
/// # Ok::<(), value::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] names `yearly_rate` unless within 0.001 and 10.
pub fn residual_occasions(model: &Model, summary: &Summary, yearly_rate: f64) -> Result<f64, Error> {
    const WEEKS_A_YEAR: f64 = 52.0;
    within("yearly_rate", yearly_rate, 0.001, 10.0, "must lie within 0.001 and 10")?;
    let weekly = yearly_rate.ln_1p() / WEEKS_A_YEAR;
    // By parts, Σ discounted = ∫ e^−τ H(τ/rate) dτ, where H(t) is what is expected within t. In v = ln τ the integrand
    // falls off on both sides (H is at most linear) and the trapezoidal rule gains digits with every node.
    const STEP: f64 = 0.125;
    // Below e^-19 the square of τ, above e^3.75 = 42 the exponential leave nothing in the sixteenth digit.
    const FROM: i32 = -152;
    const TO: i32 = 30;
    let mut total = 0.0;
    for first in (FROM..=TO).step_by(TOGETHER) {
        let tau: [f64; TOGETHER] = std::array::from_fn(|i| (f64::from(first + i as i32) * STEP).exp());
        let occasions = model.occasions_if_alive(summary.x(), summary.t(), tau.map(|tau| tau / weekly));
        total += occasions.iter().zip(tau).map(|(occasions, tau)| tau * (-tau).exp() * occasions).sum::<f64>();
    }
    Ok(model.p_alive(summary) * total * STEP)
}
