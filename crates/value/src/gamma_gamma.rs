//! Spend per occasion, Gamma-Gamma: Fader & Hardie (2013), The Gamma-Gamma Model of Monetary Value (note 025);
//! Fader, Hardie & Lee (2005), RFM and CLV, *Journal of Marketing Research* 42(4).

use crate::{
    error::{Error, within},
    fit::{Axis, Fit, maximise},
    special::{digamma, ln_gamma},
};

/// A customer's repeat occasions that had a value, and the mean of it.
///
/// The first occasion stays out, as in the paper: the mean is that of the same occasions that [`crate::Summary`] counts,
/// less those worth nothing. Values are in any one unit of money; results are in the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    x: u32,
    mean: f64,
}

impl Spend {
    /// Of who has no repeat occasion with a value.
    pub const NONE: Self = Self { x: 0, mean: 0.0 };

    /// The largest mean value accepted; it keeps every result finite.
    pub(crate) const MAX_MEAN: f64 = 1e18;

    /// `x` repeat occasions worth `mean` on average.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `mean` unless it is 0 for x = 0 and within 1e-9 and 1e18 otherwise.
    pub fn new(x: u32, mean: f64) -> Result<Self, Error> {
        let mean = if x == 0 {
            within("mean", mean, 0.0, 0.0, "must be 0 where there are no occasions")?
        } else {
            within("mean", mean, 1e-9, Self::MAX_MEAN, "must lie within 1e-9 and 1e18")?
        };
        Ok(Self { x, mean })
    }

    /// Repeat occasions with a value.
    pub fn x(&self) -> u32 {
        self.x
    }

    /// The mean value of one of them; 0 if there are none.
    pub fn mean(&self) -> f64 {
        self.mean
    }
}

/// The Gamma-Gamma model: the values of a customer's occasions vary around a mean of theirs, Gamma(p, ν), and customers
/// differ in it, ν ~ Gamma(q, γ). Spend is taken to be independent of how often somebody buys; see
/// [`crate::Independence`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaGamma {
    p: f64,
    q: f64,
    gamma: f64,
}

impl GammaGamma {
    /// The model with known parameters: shapes `p` and `q`, and `gamma` in units of money.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `p` unless within 1e-9 and 1e12, `gamma` unless within 1e-9 and 1e30, and `q` unless
    /// above 1 and up to 1e12 (for q ≤ 1 the mean spend is infinite).
    pub fn new(p: f64, q: f64, gamma: f64) -> Result<Self, Error> {
        within("p", p, 1e-9, 1e12, "must lie within 1e-9 and 1e12")?;
        within("q", q, 1.0 + f64::EPSILON, 1e12, "must be above 1, up to 1e12")?;
        within("gamma", gamma, 1e-9, 1e30, "must lie within 1e-9 and 1e30")?;
        Ok(Self { p, q, gamma })
    }

    /// The model most likely to have produced the values, each with its number of customers; those without a valued
    /// repeat occasion say nothing and are left out, also of [`Fit::customers`].
    ///
    /// # Errors
    /// [`Error::NoCustomers`] without any input, [`Error::NoRepeatBuyers`] when nobody has a valued repeat occasion,
    /// [`Error::AllTheSame`], [`Error::Diverged`] (for instance when customers do not differ in spend),
    /// [`Error::InfiniteMean`] and [`Error::NotConverged`].
    pub fn fit(spends: impl IntoIterator<Item = (Spend, u64)>) -> Result<Fit<Self>, Error> {
        let mut all: Vec<_> = spends.into_iter().filter(|(_, count)| *count > 0).collect();
        if all.is_empty() {
            return Err(Error::NoCustomers);
        }
        all.retain(|(spend, _)| spend.x > 0);
        all.sort_unstable_by(|(l, _), (r, _)| l.x.cmp(&r.x).then(l.mean.total_cmp(&r.mean)));
        all.dedup_by(|(next, more), (kept, count)| {
            let same = next == kept;
            if same {
                *count = count.saturating_add(*more);
            }
            same
        });
        let customers = all.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        match all.as_slice() {
            [] => return Err(Error::NoRepeatBuyers),
            [_] => return Err(Error::AllTheSame { customers }),
            _ => {}
        }
        let mean = all.iter().map(|(s, n)| s.mean * *n as f64).sum::<f64>() / customers as f64;
        let starts = [[1.0, 2.0, 2.0 * mean], [6.0, 4.0, 0.5 * mean], [3.0, 20.0, 6.0 * mean]];
        let axes = [
            Axis {
                name: "p",
                bounds: (1e-4, 1e5),
                runaway: (
                    "occasions of one customer differ without bound",
                    "a customer's occasions are all worth the same",
                ),
            },
            Axis {
                name: "q",
                bounds: (1e-4, 1e5),
                runaway: ("customers differ without bound", "no difference between customers can be seen"),
            },
            Axis {
                name: "gamma",
                bounds: (mean * 1e-6, mean * 1e6),
                runaway: (
                    "a customer's occasions are all worth the same",
                    "no difference between customers can be seen",
                ),
            },
        ];
        let fit =
            maximise(&axes, &starts, customers, &all, |&[p, q, gamma], some| Self { p, q, gamma }.objective(some))?;
        let [p, q, gamma] = fit.model;
        if q <= 1.0 {
            return Err(Error::InfiniteMean { q });
        }
        Ok(fit.map(|_| Self { p, q, gamma }))
    }

    /// Shape of the values of one customer's occasions.
    pub fn p(&self) -> f64 {
        self.p
    }

    /// Shape of the spread between customers.
    pub fn q(&self) -> f64 {
        self.q
    }

    /// Scale of the spread between customers, in units of money.
    pub fn gamma(&self) -> f64 {
        self.gamma
    }

    /// The logarithm of the density of the customer's mean value (equation 1a of the note); 0 without occasions.
    pub fn log_likelihood(&self, spend: &Spend) -> f64 {
        if spend.x == 0 { 0.0 } else { self.term(spend, &Counts::new(self, spend.x)).0 }
    }

    /// E[M | x, mean]: the value to expect of the customer's next occasions (equation 5 of the note), between their own
    /// mean and that of all, which is what somebody without occasions gets. Positive and finite.
    pub fn expected_value(&self, spend: &Spend) -> f64 {
        let px = self.p * f64::from(spend.x);
        // As two parts, since p·x·mean may be larger than a float holds.
        let own = px / (px + self.q - 1.0);
        own * spend.mean + self.p * (self.gamma / (px + self.q - 1.0))
    }

    /// The log-likelihood of groups, sorted by x, and its gradient by the logarithms of p, q, γ.
    fn objective(&self, groups: &[(Spend, u64)]) -> (f64, [f64; 3]) {
        let (mut value, mut gradient) = (0.0, [0.0; 3]);
        let mut counts = Counts::new(self, 0);
        for (spend, count) in groups {
            if spend.x != counts.x {
                counts = Counts::new(self, spend.x);
            }
            let customers = *count as f64;
            let (term, by) = self.term(spend, &counts);
            value += customers * term;
            for i in 0..3 {
                gradient[i] += customers * by[i];
            }
        }
        (value, gradient)
    }

    /// ln f(mean | p, q, γ; x) and its gradient by the logarithms of p, q, γ.
    fn term(&self, spend: &Spend, counts: &Counts) -> (f64, [f64; 3]) {
        let Self { p, q, gamma } = *self;
        let x = f64::from(spend.x);
        let px = p * x;
        let total = x * spend.mean;
        // ln(total/(γ+total)) and ln(γ/(γ+total)), each exact where it is near 0
        let ln_own = -(gamma / total).ln_1p();
        let ln_rest = -(total / gamma).ln_1p();
        let value = counts.ln_gammas + q * ln_rest + px * ln_own - spend.mean.ln();
        let own = total / (gamma + total);
        let by_p = px * (counts.by_px + ln_own);
        let by_q = q * (counts.by_q + ln_rest);
        (value, [by_p, by_q, q * own - px * (1.0 - own)])
    }
}

/// The part of a likelihood that depends on the number of occasions alone.
struct Counts {
    x: u32,
    ln_gammas: f64,
    by_px: f64,
    by_q: f64,
}

impl Counts {
    fn new(model: &GammaGamma, x: u32) -> Self {
        let (px, q) = (model.p * f64::from(x), model.q);
        if x == 0 {
            return Self { x, ln_gammas: 0.0, by_px: 0.0, by_q: 0.0 };
        }
        let sum = digamma(px + q);
        let ln_gammas = ln_gamma(px + q) - ln_gamma(px) - ln_gamma(q);
        Self { x, ln_gammas, by_px: sum - digamma(px), by_q: sum - digamma(q) }
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
            p in -3.0..4.0, q in -3.0..4.0, gamma in -3.0..6.0, x in 1_u32..200, mean in 0.01..1e4,
        ) {
            let start: [f64; 3] = [p, q, gamma];
            let spend = Spend::new(x, mean).unwrap();
            let at = |logs: [f64; 3]| {
                let [p, q, gamma] = logs.map(f64::exp);
                let model = GammaGamma { p, q, gamma };
                model.term(&spend, &Counts::new(&model, x))
            };
            const STEP: f64 = 1e-5;
            for i in 0..3 {
                let (mut up, mut down) = (start, start);
                up[i] += STEP;
                down[i] -= STEP;
                let slope = (at(up).0 - at(down).0) / (2.0 * STEP);
                let (value, gradient) = at(start);
                let size = 1.0 + slope.abs() + value.abs() * 1e-2 + p.exp() * f64::from(x) * 1e-2;
                prop_assert!((gradient[i] - slope).abs() < 1e-6 * size, "{i}: {} is not {slope}", gradient[i]);
            }
        }
    }
}
