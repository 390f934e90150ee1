//! Pareto/NBD: Schmittlein, Morrison & Colombo (1987), Counting Your Customers, *Management Science* 33(1); in the form of
//! Fader & Hardie (2005), A Note on Deriving the Pareto/NBD Model and Related Expressions.
//!
//! With R = r + x, κ = R + s and the density of leaving at y after the last occasion, the likelihood reads
//!
//! ```text
//! L = Γ(R)/Γ(r) · α^r/(α+T)^R · (β/(β+T))^s · (1 + w)
//! w = (α+T)^R (β+T)^s ∫ from t_x to T of s (α+y)^−R (β+y)^−(s+1) dy      odds of having left
//!   = s/κ · [E·Q(t_x) − Q(T)],   E = ((α+T)/(α+t_x))^R ((β+T)/(β+t_x))^s
//! Q(y) = 2F1(1, R; κ+1; (α−β)/(α+y))                      for α ≥ β
//!      = (α+y)/(β+y) · 2F1(1, s+1; κ+1; (β−α)/(β+y))      for α ≤ β
//! ```
//!
//! Euler's transformation of what the note prints. All terms of these series are positive, and where the two parts of w
//! nearly cancel, w is small against the 1 that it is added to: so no digits are lost anywhere.

mod fit;

use crate::{
    error::{Error, within},
    hypergeometric,
    special::ln_rising,
    summary::{Summary, horizon},
};

/// The Pareto/NBD model: a customer buys at a rate of theirs, Gamma(r, α), until they leave, which they may at any time and
/// with a rate of theirs, Gamma(s, β). Rates are per week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParetoNbd {
    r: f64,
    alpha: f64,
    s: f64,
    beta: f64,
}

impl ParetoNbd {
    /// The model with known parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the parameter that is not within 1e-9 and 1e12.
    pub fn new(r: f64, alpha: f64, s: f64, beta: f64) -> Result<Self, Error> {
        for (field, value) in [("r", r), ("alpha", alpha), ("s", s), ("beta", beta)] {
            within(field, value, 1e-9, 1e12, "must lie within 1e-9 and 1e12")?;
        }
        Ok(Self { r, alpha, s, beta })
    }

    /// Shape of the gamma distribution of buying rates.
    pub fn r(&self) -> f64 {
        self.r
    }

    /// Its rate, in weeks: the mean customer buys r/α times a week while alive.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Shape of the gamma distribution of the rates of leaving.
    pub fn s(&self) -> f64 {
        self.s
    }

    /// Its rate, in weeks: half of all new customers have left after β·(2^(1/s) − 1) weeks.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// The logarithm of the likelihood of one history, with times in weeks.
    pub fn log_likelihood(&self, summary: &Summary) -> f64 {
        let (x, t) = (summary.x(), summary.t());
        let (rate, _) = ln_rising(self.r, 0, x);
        let passed = self.r * (t / self.alpha).ln_1p() + f64::from(x) * (self.alpha + t).ln();
        rate - passed - self.s * (t / self.beta).ln_1p() + self.ln_either(summary)
    }

    /// The probability, within 0 and 1, that the customer has not left by now.
    pub fn p_alive(&self, summary: &Summary) -> f64 {
        // 1 + w is at least 1, but for rounding.
        (-self.ln_either(summary)).exp().min(1.0)
    }

    /// Occasions to expect of the customer within `weeks` from now. Never negative, always finite; a horizon below 0 or not
    /// a number counts as 0, one above [`crate::MAX_WEEKS`] as that.
    pub fn expected_occasions(&self, summary: &Summary, weeks: f64) -> f64 {
        let [occasions] = self.expected_occasions_at(summary, [weeks]);
        occasions
    }

    /// [`expected_occasions`](Self::expected_occasions) for several horizons at once.
    pub fn expected_occasions_at<const L: usize>(&self, summary: &Summary, weeks: [f64; L]) -> [f64; L] {
        let p_alive = self.p_alive(summary);
        self.occasions_if_alive(summary.x(), summary.t(), weeks.map(horizon)).map(|occasions| p_alive * occasions)
    }

    /// What [`expected_occasions_at`](Self::expected_occasions_at) gives for a customer known to be alive, within any
    /// finite `weeks` of at least 0.
    pub(crate) fn occasions_if_alive<const L: usize>(&self, x: u32, t: f64, weeks: [f64; L]) -> [f64; L] {
        weeks.map(|weeks| self.within(f64::from(x), t, weeks))
    }

    /// Repeat occasions to expect of a customer yet to come within `weeks` of the first occasion: E[X(t)]. Range and
    /// horizon as in [`expected_occasions`](Self::expected_occasions).
    pub fn expected_from_first(&self, weeks: f64) -> f64 {
        self.within(0.0, 0.0, horizon(weeks))
    }

    /// (r+x)(β+t)/(α+t) · (1 − ((β+t)/(β+t+weeks))^(s−1)) / (s−1), which at s = 1 is a logarithm.
    fn within(&self, x: f64, t: f64, weeks: f64) -> f64 {
        let log = (weeks / (self.beta + t)).ln_1p();
        let epsilon = self.s - 1.0;
        let stay = if epsilon == 0.0 { log } else { -(-epsilon * log).exp_m1() / epsilon };
        (self.r + x) * (self.beta + t) / (self.alpha + t) * stay
    }

    /// ln(1 + w).
    fn ln_either(&self, summary: &Summary) -> f64 {
        let x = f64::from(summary.x());
        let (t_x, t) = (summary.t_x(), summary.t());
        let silent = t - t_x;
        let log = (self.r + x) * (silent / (self.alpha + t_x)).ln_1p() + self.s * (silent / (self.beta + t_x)).ln_1p();
        let ln_share = (self.s / (self.r + x + self.s)).ln();
        let then = ln_share + log + self.q(x, t_x).ln();
        let now = (ln_share + self.q(x, t).ln()).exp();
        ln_one_plus_difference(then, now)
    }

    /// Q(y) of the heading.
    fn q(&self, x: f64, y: f64) -> f64 {
        let (shape, kappa) = (self.r + x, self.r + x + self.s);
        let (to_alpha, to_beta) = (self.alpha + y, self.beta + y);
        if self.alpha >= self.beta {
            hypergeometric::gauss(shape, kappa, (self.alpha - self.beta) / to_alpha, to_beta / to_alpha)
        } else {
            let ratio = to_alpha / to_beta;
            ratio * hypergeometric::gauss(self.s + 1.0, kappa, (self.beta - self.alpha) / to_beta, ratio)
        }
    }
}

/// ln(1 + e^then − now) for 0 ≤ now ≤ e^then, now ≤ 1, without overflow.
fn ln_one_plus_difference(then: f64, now: f64) -> f64 {
    if then < 1.0 { (then.exp() - now).ln_1p() } else { then + ((1.0 - now) * (-then).exp()).ln_1p() }
}
