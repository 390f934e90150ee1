//! Customers under contract: the shifted-beta-geometric model. Fader & Hardie (2007), How to Project Customer Retention,
//! *Journal of Interactive Marketing* 21(1); (2010), Customer-Base Valuation in a Contractual Setting, *Marketing Science*
//! 29(1), for the residual lifetime.

use crate::{
    error::{Error, within},
    fit::{Axis, Fit, maximise},
    hypergeometric,
    special::ln_rising,
};

/// The least α that is believed.
const LEAST: f64 = 1e-5;
const NOBODY_LEAVES: &str = "nobody can be seen to leave";

/// What is known of one contract: how often it was renewed, and whether it has ended since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contract {
    /// Renewals so far; 0 in the first period.
    pub renewals: u32,
    /// Whether the next renewal was due and did not come.
    pub ended: bool,
}

impl Contract {
    /// The contracts of a cohort from how many were still there in each period, the first being all of them.
    ///
    /// # Errors
    /// [`Error::NoCustomers`] of an empty cohort, and [`Error::Invalid`] names `survivors` when there are more of them in a
    /// period than in the one before.
    pub fn of_cohort(survivors: &[u64]) -> Result<Vec<(Self, u64)>, Error> {
        let Some(last) = survivors.last() else { return Err(Error::NoCustomers) };
        let mut contracts = Vec::with_capacity(survivors.len());
        let mut renewals = 0;
        for pair in survivors.windows(2) {
            let Some(lost) = pair[0].checked_sub(pair[1]) else {
                let reason = "must not grow from one period to the next";
                return Err(Error::Invalid { field: "survivors", value: pair[1] as f64, reason });
            };
            contracts.push((Self { renewals, ended: true }, lost));
            renewals += 1;
        }
        contracts.push((Self { renewals, ended: false }, *last));
        Ok(contracts)
    }
}

/// The shifted-beta-geometric model: at each renewal a customer leaves with a chance of theirs, Beta(α, β). Retention rises
/// with the age of a cohort without anybody becoming more loyal: those likely to leave have left.
///
/// ```
/// use value::{Contract, ShiftedBetaGeometric};
///
/// // The "high end" customers of the paper, seven years of them.
/// let cohort = Contract::of_cohort(&[1000, 869, 743, 653, 593, 551, 517, 491])?;
/// let fit = ShiftedBetaGeometric::fit(cohort)?;
/// assert_eq!(format!("{:.3} {:.3}", fit.model.alpha(), fit.model.beta()), "0.668 3.806");
/// println!("{:.1} % will be left after twelve years", 100.0 * fit.model.survival(12));
/// # Ok::<(), value::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShiftedBetaGeometric {
    alpha: f64,
    beta: f64,
}

impl ShiftedBetaGeometric {
    /// The model with known parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the parameter that is not within 1e-9 and 1e12.
    pub fn new(alpha: f64, beta: f64) -> Result<Self, Error> {
        within("alpha", alpha, 1e-9, 1e12, "must lie within 1e-9 and 1e12")?;
        within("beta", beta, 1e-9, 1e12, "must lie within 1e-9 and 1e12")?;
        Ok(Self { alpha, beta })
    }

    /// The model most likely to have produced the contracts, each with its number of customers; cohorts of any ages
    /// together.
    ///
    /// # Errors
    /// [`Error::NoCustomers`], also when no renewal was ever due; [`Error::AllTheSame`], [`Error::Diverged`] (for
    /// instance when nobody has left) and [`Error::NotConverged`], as each says.
    pub fn fit(contracts: impl IntoIterator<Item = (Contract, u64)>) -> Result<Fit<Self>, Error> {
        // Who has not yet been asked says nothing.
        let asked = |contract: &Contract| contract.ended || contract.renewals > 0;
        let mut all: Vec<_> = contracts.into_iter().filter(|(c, count)| *count > 0 && asked(c)).collect();
        all.sort_unstable();
        all.dedup_by(|(next, more), (kept, count)| {
            let same = next == kept;
            if same {
                *count = count.saturating_add(*more);
            }
            same
        });
        let customers = all.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        match all.as_slice() {
            [] => return Err(Error::NoCustomers),
            [_] => return Err(Error::AllTheSame { customers }),
            // Then the likelihood rises to 1 without end, so slowly that it looks like a maximum.
            all if all.iter().all(|(contract, _)| !contract.ended) => {
                return Err(Error::Diverged { parameter: "alpha", value: LEAST, reason: NOBODY_LEAVES });
            }
            _ => {}
        }
        let starts = [[1.0, 1.0], [0.5, 3.0], [3.0, 10.0]];
        let alike = "no difference in the chance to leave can be seen";
        let axes = [
            Axis { name: "alpha", bounds: (LEAST, 1e5), runaway: (NOBODY_LEAVES, alike) },
            Axis { name: "beta", bounds: (1e-5, 1e6), runaway: ("customers leave at once or never", alike) },
        ];
        let fit = maximise(&axes, &starts, customers, &all, |&[alpha, beta], some| {
            let model = Self { alpha, beta };
            let (mut value, mut gradient) = (0.0, [0.0; 2]);
            for (contract, count) in some {
                let (term, by) = model.term(contract);
                value += *count as f64 * term;
                gradient = std::array::from_fn(|i| gradient[i] + *count as f64 * by[i]);
            }
            (value, gradient)
        })?;
        Ok(fit.map(|[alpha, beta]| Self { alpha, beta }))
    }

    /// First parameter of the beta distribution of the chance to leave, whose mean is α/(α+β).
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Its second parameter.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// The logarithm of the likelihood of one contract.
    pub fn log_likelihood(&self, contract: &Contract) -> f64 {
        self.term(contract).0
    }

    /// ln L of one contract and its gradient by the logarithms of α and β.
    fn term(&self, contract: &Contract) -> (f64, [f64; 2]) {
        let Self { alpha, beta } = *self;
        let (stayed, by_stayed) = ln_rising(beta, 0, contract.renewals);
        let (all, by_all) = ln_rising(alpha + beta, 0, contract.renewals);
        let (mut value, mut by) = (stayed - all, [-by_all, by_stayed - by_all]);
        if contract.ended {
            let sum = alpha + beta + f64::from(contract.renewals);
            value += (alpha / sum).ln();
            by = [by[0] + 1.0 / alpha - 1.0 / sum, by[1] - 1.0 / sum];
        }
        (value, [alpha * by[0], beta * by[1]])
    }

    /// The share of new customers who renew at least so many times: S(t) of the paper.
    pub fn survival(&self, renewals: u32) -> f64 {
        let (stayed, _) = ln_rising(self.beta, 0, renewals);
        let (all, _) = ln_rising(self.alpha + self.beta, 0, renewals);
        (stayed - all).exp()
    }

    /// The share of those with so many renewals who renew once more: r(t) of the paper at t = renewals + 1.
    pub fn retention(&self, renewals: u32) -> f64 {
        let stay = self.beta + f64::from(renewals);
        stay / (self.alpha + stay)
    }

    /// The share of those with so many renewals who renew at least `further` times more.
    pub fn survival_from(&self, renewals: u32, further: u32) -> f64 {
        let to = renewals.saturating_add(further);
        let (stayed, _) = ln_rising(self.beta, renewals, to);
        let (all, _) = ln_rising(self.alpha + self.beta, renewals, to);
        (stayed - all).exp()
    }

    /// Discounted expected residual lifetime (DERL): renewals to expect of a customer with so many, the next one due now
    /// and each further one discounted by `rate` a period (0.1 for 10 %).
    ///
    /// # Errors
    /// [`Error::Invalid`] names `rate` unless within 1e-6 and 10.
    pub fn residual_renewals(&self, renewals: u32, rate: f64) -> Result<f64, Error> {
        within("rate", rate, 1e-6, 10.0, "must lie within 0.000001 and 10")?;
        let a = self.beta + f64::from(renewals) + 1.0;
        // r · 2F1(1, a; a+α; 1/(1+rate))
        let sum = hypergeometric::gauss(a, a + self.alpha - 1.0, 1.0 / (1.0 + rate), rate / (1.0 + rate));
        Ok(self.retention(renewals) * sum)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_gradient_is_the_slope_of_the_likelihood(
            alpha in -4.0..4.0, beta in -4.0..4.0, renewals in 0_u32..700, ended in any::<bool>(),
        ) {
            let contract = Contract { renewals, ended };
            let at = |alpha: f64, beta: f64| {
                ShiftedBetaGeometric { alpha: alpha.exp(), beta: beta.exp() }.term(&contract)
            };
            const STEP: f64 = 1e-5;
            let (value, gradient) = at(alpha, beta);
            let slopes = [
                (at(alpha + STEP, beta).0 - at(alpha - STEP, beta).0) / (2.0 * STEP),
                (at(alpha, beta + STEP).0 - at(alpha, beta - STEP).0) / (2.0 * STEP),
            ];
            for (found, slope) in gradient.iter().zip(slopes) {
                prop_assert!((found - slope).abs() < 1e-6 * (1.0 + slope.abs() + value.abs() * 1e-2), "{found} is not {slope}");
            }
        }

        #[test]
        fn residual_renewals_are_the_sum_of_those_to_come(
            alpha in -4.0..4.0, beta in -4.0..4.0, renewals in 0_u32..50, rate in 0.05..2.0,
        ) {
            let model = ShiftedBetaGeometric::new(f64::exp(alpha), f64::exp(beta)).unwrap();
            let sum: f64 = (0..800)
                .map(|t| model.survival_from(renewals, t + 1) / f64::powi(1.0 + rate, t as i32))
                .sum();
            let found = model.residual_renewals(renewals, rate).unwrap();
            prop_assert!((found - sum).abs() < 1e-11 * sum, "{found} is not {sum}");
        }
    }

    #[test]
    fn even_a_hundredth_of_a_percent_a_period_is_summed() {
        // S(t) at α = 1 is β/(β+t), so the sum is Σ z^t (β+n)/(β+n+t+1): checked against plain summing.
        let model = ShiftedBetaGeometric::new(1.0, 2.0).unwrap();
        let rate = 1e-4_f64;
        let sum: f64 =
            (0..600_000).rev().map(|t| (-f64::from(t) * rate.ln_1p()).exp() * 2.0 / (3.0 + f64::from(t))).sum();
        let found = model.residual_renewals(0, rate).unwrap();
        assert!((found / sum - 1.0).abs() < 1e-10, "{found} is not {sum}");
    }
}
