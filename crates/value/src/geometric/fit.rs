//! Fitting BG/NBD and MBG/NBD to many customers at once.

use super::{Dropout, Parameters, counts_part};
use crate::{
    Summary,
    error::Error,
    fit::{Axis, Fit, maximise},
    groups::{Group, Groups},
};

impl Dropout {
    pub(crate) fn fit(self, histories: impl IntoIterator<Item = (Summary, u64)>) -> Result<Fit<Parameters>, Error> {
        let groups = Groups::new(histories)?;
        // Two plain moments place the search: mean occasions and mean time.
        let (occasions, weeks) = groups.means();
        let rate = occasions / weeks;
        // Few or many leave, buyers are alike or unlike; whoever leaves early bought faster than the mean rate tells.
        let starts = [
            [0.5, 0.25 / rate, 0.8, 2.4],
            [0.25, 0.1 / rate, 0.5, 0.5],
            [2.0, 2.0 / rate, 0.3, 6.0],
            [1.0, 0.5 / rate, 3.0, 12.0],
        ];
        let [r, alpha] = Axis::of_buying_rates(weeks);
        let axes = [
            r,
            alpha,
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
        let fit = maximise(&axes, &starts, groups.customers, &groups.all, |&[r, alpha, a, b], some| {
            self.objective(&Parameters { r, alpha, a, b }, some, &groups.times)
        })?;
        Ok(fit.map(|[r, alpha, a, b]| Parameters { r, alpha, a, b }))
    }

    /// The log-likelihood of groups, sorted by x, and its gradient by the logarithms of r, α, a, b.
    ///
    /// The terms are those of [`Dropout::log_likelihood`]; logarithms of times come from a table of the distinct ones,
    /// what depends on x alone is carried from one x to the next. That leaves one exponential and one logarithm a group.
    fn objective(self, p: &Parameters, groups: &[Group], times: &[f64]) -> (f64, [f64; 4]) {
        // Summed block by block: over a million customers one running sum would be too rough for the optimiser.
        const BLOCK: usize = 512;
        let table: Vec<Time> = times.iter().map(|&t| Time::new(t, p.alpha)).collect();
        let ln_alpha = p.alpha.ln();
        let (mut value, mut gradient) = (0.0, [0.0; 4]);
        let (mut counts, mut by_counts) = counts_part(p, (0, 0), (0, self.chances(0)));
        let mut x = 0;
        let mut ln_odds = self.log_odds_after(p, x);
        let mut by_b = self.odds_by_b(p, x);
        for block in groups.chunks(BLOCK) {
            let (mut block_value, mut block_gradient) = (0.0, [0.0; 4]);
            for group in block {
                if group.x > x {
                    let chances = (self.chances(x), self.chances(group.x));
                    let (more, by_more) = counts_part(p, (x, group.x), chances);
                    counts += more;
                    by_counts = std::array::from_fn(|i| by_counts[i] + by_more[i]);
                    x = group.x;
                    ln_odds = self.log_odds_after(p, x);
                    by_b = self.odds_by_b(p, x);
                }
                let (last, now) = (&table[group.last as usize], &table[group.now as usize]);
                let x = f64::from(x);
                let silence = now.passed - last.passed;
                let (either, left) = log_either(ln_odds + (p.r + x) * silence);
                let by_r = left * silence - now.passed;
                let by_alpha = (p.r * now.over_alpha - x) * now.inverse
                    - left * (p.r + x) * (now.time - last.time) * now.inverse * last.inverse;
                block_value += group.customers * (counts + either - p.r * now.passed - x * (ln_alpha + now.passed));
                let parts = [p.r * by_r, p.alpha * by_alpha, left, left * by_b];
                for i in 0..4 {
                    block_gradient[i] += group.customers * (by_counts[i] + parts[i]);
                }
            }
            value += block_value;
            gradient = std::array::from_fn(|i| gradient[i] + block_gradient[i]);
        }
        (value, gradient)
    }

    /// d ln w / d ln b.
    fn odds_by_b(self, p: &Parameters, x: u32) -> f64 {
        -p.b / (p.b + f64::from(self.chances(x).saturating_sub(1)))
    }
}

/// What a likelihood asks of a time.
struct Time {
    time: f64,
    /// ln((α + time)/α), exact for short times.
    passed: f64,
    /// time/α
    over_alpha: f64,
    /// 1/(α + time)
    inverse: f64,
}

impl Time {
    fn new(time: f64, alpha: f64) -> Self {
        let over_alpha = time / alpha;
        Self { time, passed: over_alpha.ln_1p(), over_alpha, inverse: 1.0 / (alpha + time) }
    }
}

/// ln(1 + w) and w/(1 + w) from ln w, without overflow.
fn log_either(log_odds: f64) -> (f64, f64) {
    if log_odds == f64::NEG_INFINITY {
        return (0.0, 0.0);
    }
    // Of the smaller side, so that the exponential is at most 1.
    let small = (-log_odds.abs()).exp();
    let share = 1.0 / (1.0 + small);
    (log_odds.max(0.0) + small.ln_1p(), if log_odds > 0.0 { share } else { small * share })
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
            let groups = Groups::gather(summaries);
            let at = |p: &Parameters| dropout.objective(p, &groups.all, &groups.times);
            let (value, gradient) = at(&p);
            const STEP: f64 = 1e-5;
            for i in 0..4 {
                let moved = |step: f64| {
                    let mut moved = [p.r, p.alpha, p.a, p.b];
                    moved[i] *= step.exp();
                    let [r, alpha, a, b] = moved;
                    at(&Parameters { r, alpha, a, b }).0
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let size = 1.0 + slope.abs() + value.abs() * 1e-3;
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
            let groups = Groups::gather(summaries);
            let all = dropout.objective(&p, &groups.all, &groups.times).0;
            prop_assert!((each - all).abs() <= 1e-10 * (1.0 + each.abs()));
        }
    }
}
