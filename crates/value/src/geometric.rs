//! What BG/NBD and MBG/NBD have in common: gamma-distributed buying rates, a beta-distributed chance to leave after an
//! occasion. They differ in one thing only, whether the first occasion can be the last ([`Dropout`]).
//!
//! With B = b + (chances to leave that were survived) and R = r + x, both likelihoods read
//!
//! ```text
//! L = Γ(R)/Γ(r) · α^r/(α+T)^R · Γ(B)Γ(a+b)/(Γ(b)Γ(a+B)) · (1 + w)
//! w = a/(B−1) · ((α+T)/(α+t_x))^R          odds of having left: P(alive) = 1/(1+w)
//! ```

use crate::{
    error::{Error, within},
    fit::{Axis, Fit, maximise},
    occasions::Alive,
    special::ln_rising,
    summary::{Summary, horizon},
};

/// The four parameters of BG/NBD and MBG/NBD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Shape of the gamma distribution of buying rates.
    pub r: f64,
    /// Its rate, in weeks: the mean customer buys r/α times a week while alive.
    pub alpha: f64,
    /// First parameter of the beta distribution of the chance to leave after an occasion, whose mean is a/(a+b).
    pub a: f64,
    /// Its second parameter.
    pub b: f64,
}

impl Parameters {
    /// Far outside what any data can support, and far inside what the formulas can bear.
    const LOW: f64 = 1e-9;
    const HIGH: f64 = 1e12;

    pub(crate) fn validated(self) -> Result<Self, Error> {
        for (field, value) in [("r", self.r), ("alpha", self.alpha), ("a", self.a), ("b", self.b)] {
            within(field, value, Self::LOW, Self::HIGH, "must lie within 1e-9 and 1e12")?;
        }
        Ok(self)
    }
}

/// When a customer may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropout {
    /// After a repeat occasion only (BG/NBD).
    AfterRepeats,
    /// After every occasion, the first included (MBG/NBD).
    AfterEvery,
}

impl Dropout {
    /// Chances to leave over `x` repeat occasions.
    fn chances(self, x: u32) -> u32 {
        match self {
            Self::AfterRepeats => x,
            Self::AfterEvery => x.saturating_add(1),
        }
    }

    /// ln w, the log-odds of having left; nobody has left who had no chance to.
    fn log_odds_of_leaving(self, p: &Parameters, s: &Summary) -> f64 {
        let chances = self.chances(s.x());
        if chances == 0 {
            return f64::NEG_INFINITY;
        }
        let silence = ((s.t() - s.t_x()) / (p.alpha + s.t_x())).ln_1p();
        (p.a / (p.b + f64::from(chances - 1))).ln() + (p.r + f64::from(s.x())) * silence
    }

    pub(crate) fn p_alive(self, p: &Parameters, s: &Summary) -> f64 {
        // An overflow of the odds is a customer certainly gone.
        1.0 / (1.0 + self.log_odds_of_leaving(p, s).exp())
    }

    /// Expected occasions within each of `weeks` from now on.
    pub(crate) fn expected_occasions<const L: usize>(self, p: &Parameters, s: &Summary, weeks: [f64; L]) -> [f64; L] {
        let p_alive = self.p_alive(p, s);
        let b = p.b + f64::from(self.chances(s.x()));
        let alive = Alive { shape: p.r + f64::from(s.x()), a: p.a, b };
        let scale = p.alpha + s.t();
        alive.expected(weeks.map(|w| horizon(w) / scale)).map(|occasions| p_alive * occasions)
    }

    /// Expected repeat occasions of a new customer within `weeks` of the first occasion.
    pub(crate) fn expected_from_first(self, p: &Parameters, weeks: f64) -> f64 {
        let (stays, b) = match self {
            Self::AfterRepeats => (1.0, p.b),
            Self::AfterEvery => (p.b / (p.a + p.b), p.b + 1.0),
        };
        let [occasions] = Alive { shape: p.r, a: p.a, b }.expected([horizon(weeks) / p.alpha]);
        stays * occasions
    }

    /// ln L of one customer.
    pub(crate) fn log_likelihood(self, p: &Parameters, s: &Summary) -> f64 {
        let (first, _) = counts_part(p, (0, 0), (0, self.chances(0)));
        let (repeats, _) = counts_part(p, (0, s.x()), (self.chances(0), self.chances(s.x())));
        first + repeats + self.times_part(p, s).0
    }

    /// The part of ln L that depends on the times, with its gradient by the logarithms of r, α, a, b.
    fn times_part(self, p: &Parameters, s: &Summary) -> (f64, [f64; 4]) {
        let x = f64::from(s.x());
        let shape = p.r + x;
        let log_odds = self.log_odds_of_leaving(p, s);
        let left = 1.0 / (1.0 + (-log_odds).exp());
        let silence = ((s.t() - s.t_x()) / (p.alpha + s.t_x())).ln_1p();
        let passed = (s.t() / p.alpha).ln_1p();
        // ln(1 + w) without overflow
        let either = log_odds.max(0.0) + (-log_odds.abs()).exp().ln_1p();
        let value = -p.r * passed - x * (p.alpha + s.t()).ln() + either;
        let by_r = -passed + left * silence;
        let by_alpha = (p.r * s.t() / p.alpha - x) / (p.alpha + s.t())
            - left * shape * (s.t() - s.t_x()) / ((p.alpha + s.t()) * (p.alpha + s.t_x()));
        let survived = f64::from(self.chances(s.x()).saturating_sub(1));
        (value, [p.r * by_r, p.alpha * by_alpha, left, -left * p.b / (p.b + survived)])
    }

    /// The log-likelihood of all groups and its gradient by the logarithms of r, α, a, b. Groups are sorted by x.
    fn objective(self, p: &Parameters, groups: &[(Summary, f64)]) -> (f64, [f64; 4]) {
        // Summed block by block: over a million customers one running sum would be too rough for the optimiser.
        const BLOCK: usize = 512;
        let (mut value, mut gradient) = (0.0, [0.0; 4]);
        // What depends on x alone is carried from one x to the next higher.
        let (mut counts, mut by_counts) = counts_part(p, (0, 0), (0, self.chances(0)));
        let mut x = 0;
        for block in groups.chunks(BLOCK) {
            let (mut block_value, mut block_gradient) = (0.0, [0.0; 4]);
            for (summary, customers) in block {
                if summary.x() > x {
                    let chances = (self.chances(x), self.chances(summary.x()));
                    let (more, by_more) = counts_part(p, (x, summary.x()), chances);
                    counts += more;
                    by_counts = std::array::from_fn(|i| by_counts[i] + by_more[i]);
                    x = summary.x();
                }
                let (times, by_times) = self.times_part(p, summary);
                block_value += customers * (counts + times);
                for i in 0..4 {
                    block_gradient[i] += customers * (by_counts[i] + by_times[i]);
                }
            }
            value += block_value;
            gradient = std::array::from_fn(|i| gradient[i] + block_gradient[i]);
        }
        (value, gradient)
    }

    pub(crate) fn fit(self, groups: impl IntoIterator<Item = (Summary, u64)>) -> Result<Fit<Parameters>, Error> {
        let (groups, customers) = gather(groups);
        match groups.as_slice() {
            [] => return Err(Error::NoCustomers),
            all if all.iter().all(|(summary, _)| summary.x() == 0) => return Err(Error::NoRepeatBuyers),
            [_] => return Err(Error::AllTheSame { customers }),
            _ => {}
        }
        // Two plain moments place the search: mean occasions and mean time.
        let n = customers as f64;
        let occasions = groups.iter().map(|(s, k)| k * f64::from(s.x())).sum::<f64>() / n;
        let weeks = groups.iter().map(|(s, k)| k * s.t()).sum::<f64>() / n;
        let rate = occasions / weeks;
        // Few or many leave, buyers are alike or unlike; whoever leaves early bought faster than the mean rate tells.
        let starts = [
            [0.5, 0.25 / rate, 0.8, 2.4],
            [0.25, 0.1 / rate, 0.5, 0.5],
            [2.0, 2.0 / rate, 0.3, 6.0],
            [1.0, 0.5 / rate, 3.0, 12.0],
        ];
        let axes = [
            Axis {
                name: "r",
                bounds: (1e-4, 1e4),
                runaway: ("nearly nobody buys again", "no difference in buying rates can be seen"),
            },
            Axis {
                name: "alpha",
                bounds: (weeks * 1e-5, weeks * 1e5),
                runaway: ("repeat buyers buy without pause", "no difference in buying rates can be seen"),
            },
            Axis {
                name: "a",
                bounds: (1e-5, 1e4),
                runaway: ("nobody can be seen to leave", "no difference in the chance to leave can be seen"),
            },
            Axis {
                name: "b",
                bounds: (1e-5, 1e6),
                runaway: ("customers leave at once or never", "nobody, or everybody alike, can be seen to leave"),
            },
        ];
        let fit = maximise(&axes, &starts, customers, |&[r, alpha, a, b]| {
            self.objective(&Parameters { r, alpha, a, b }, &groups)
        })?;
        Ok(fit.map(|[r, alpha, a, b]| Parameters { r, alpha, a, b }))
    }
}

/// What repeat occasions `x.0..x.1` and survived chances to leave `chances.0..chances.1` add to the part of ln L that
/// does not depend on the times; with its gradient by the logarithms of r, α, a, b.
fn counts_part(p: &Parameters, x: (u32, u32), chances: (u32, u32)) -> (f64, [f64; 4]) {
    let (rate, by_r) = ln_rising(p.r, x.0, x.1);
    let (stayed, by_b) = ln_rising(p.b, chances.0, chances.1);
    let (all, by_ab) = ln_rising(p.a + p.b, chances.0, chances.1);
    (rate + stayed - all, [p.r * by_r, 0.0, -p.a * by_ab, p.b * (by_b - by_ab)])
}

/// Equal summaries as one group with their number, sorted by x; and the number of all customers.
fn gather(groups: impl IntoIterator<Item = (Summary, u64)>) -> (Vec<(Summary, f64)>, u64) {
    let mut all: Vec<_> = groups.into_iter().filter(|(_, count)| *count > 0).collect();
    let customers = all.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    all.sort_unstable_by(|(l, _), (r, _)| {
        l.x().cmp(&r.x()).then(l.t_x().total_cmp(&r.t_x())).then(l.t().total_cmp(&r.t()))
    });
    let mut gathered: Vec<(Summary, f64)> = Vec::new();
    for (summary, count) in all {
        match gathered.last_mut() {
            Some((last, sum)) if *last == summary => *sum += count as f64,
            _ => gathered.push((summary, count as f64)),
        }
    }
    (gathered, customers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters() -> impl Strategy<Value = Parameters> {
        (-3.0..3.0, -2.0..4.0, -3.0..3.0, -3.0..4.0).prop_map(|(r, alpha, a, b)| Parameters {
            r: f64::exp(r),
            alpha: f64::exp(alpha),
            a: f64::exp(a),
            b: f64::exp(b),
        })
    }

    fn summary() -> impl Strategy<Value = Summary> {
        (0_u32..40, 0.01..1.0, 0.1..200.0)
            .prop_map(|(x, last, t): (u32, f64, f64)| Summary::new(x, if x == 0 { 0.0 } else { last * t }, t).unwrap())
    }

    proptest! {
        #[test]
        fn the_gradient_is_the_slope_of_the_likelihood(
            p in parameters(),
            summaries in proptest::collection::vec((summary(), 1_u64..5), 1..8),
            every in proptest::bool::ANY,
        ) {
            let dropout = if every { Dropout::AfterEvery } else { Dropout::AfterRepeats };
            let (groups, _) = gather(summaries);
            let (_, gradient) = dropout.objective(&p, &groups);
            const STEP: f64 = 1e-5;
            for i in 0..4 {
                let at = |step: f64| {
                    let mut moved = [p.r, p.alpha, p.a, p.b];
                    moved[i] *= step.exp();
                    let [r, alpha, a, b] = moved;
                    dropout.objective(&Parameters { r, alpha, a, b }, &groups).0
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let size = 1.0 + slope.abs() + at(0.0).abs() * 1e-3;
                prop_assert!((gradient[i] - slope).abs() < 1e-6 * size, "{i}: {} is not {slope}", gradient[i]);
            }
        }

        #[test]
        fn the_likelihood_of_all_is_the_sum_over_each(
            p in parameters(),
            summaries in proptest::collection::vec((summary(), 0_u64..5), 1..20),
            every in proptest::bool::ANY,
        ) {
            let dropout = if every { Dropout::AfterEvery } else { Dropout::AfterRepeats };
            let each: f64 = summaries.iter().map(|(s, n)| *n as f64 * dropout.log_likelihood(&p, s)).sum();
            let all = dropout.objective(&p, &gather(summaries).0).0;
            prop_assert!((each - all).abs() <= 1e-10 * (1.0 + each.abs()));
        }
    }
}
