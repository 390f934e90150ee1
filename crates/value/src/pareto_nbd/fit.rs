//! Fitting Pareto/NBD.

use super::{ParetoNbd, ln_one_plus_difference};
use crate::{
    Summary,
    error::Error,
    fit::{Axis, Fit, maximise},
    groups::{Group, Groups},
    hypergeometric,
    special::ln_rising,
};

impl ParetoNbd {
    /// The model most likely to have produced the histories, each with its number of customers; equal ones may come
    /// apart and in any order. Searches from four starts; a million customers take about a second.
    ///
    /// # Errors
    /// [`Error::NoCustomers`], [`Error::NoRepeatBuyers`], [`Error::AllTheSame`], [`Error::Diverged`] and
    /// [`Error::NotConverged`], as each says.
    pub fn fit(histories: impl IntoIterator<Item = (Summary, u64)>) -> Result<Fit<Self>, Error> {
        let groups = Groups::new(histories)?;
        let (occasions, weeks) = groups.means();
        let rate = occasions / weeks;
        // Few or many leave, early or late; buyers are alike or unlike.
        let starts = [
            [0.5, 0.3 / rate, 0.6, 0.4 * weeks],
            [0.25, 0.1 / rate, 0.3, 0.1 * weeks],
            [2.0, 1.5 / rate, 1.0, 2.0 * weeks],
            [1.0, 0.5 / rate, 3.0, 3.0 * weeks],
        ];
        let [r, alpha] = Axis::of_buying_rates(weeks);
        let axes = [
            r,
            alpha,
            Axis {
                name: "s",
                bounds: (1e-5, 1e4),
                runaway: ("nobody can be seen to leave", "no difference in the rate of leaving can be seen"),
            },
            Axis {
                name: "beta",
                bounds: (weeks * 1e-6, weeks * 1e6),
                runaway: ("customers leave at once or never", "nobody, or everybody alike, can be seen to leave"),
            },
        ];
        let fit = maximise(&axes, &starts, groups.customers, &groups.all, |&[r, alpha, s, beta], some| {
            Self { r, alpha, s, beta }.objective(some, &groups.times)
        })?;
        Ok(fit.map(|[r, alpha, s, beta]| Self { r, alpha, s, beta }))
    }

    /// The log-likelihood of groups, sorted by x, and its gradient by the logarithms of r, α, s, β.
    fn objective(&self, groups: &[Group], times: &[f64]) -> (f64, [f64; 4]) {
        // Summed block by block: over a million customers one running sum would be too rough for the optimiser.
        const BLOCK: usize = 512;
        let Self { r, alpha, s, beta } = *self;
        let mut table: Vec<Time> = times.iter().map(|&t| Time::new(t, self)).collect();
        let (mut value, mut gradient) = (0.0, [0.0; 4]);
        let (mut x, mut counts, mut by_counts) = (0, 0.0, 0.0);
        for block in groups.chunks(BLOCK) {
            let (mut block_value, mut block_gradient) = (0.0, [0.0; 4]);
            for group in block {
                if group.x > x {
                    let (more, by_more) = ln_rising(r, x, group.x);
                    counts += more;
                    by_counts += by_more;
                    x = group.x;
                }
                let (last, now) = (group.last as usize, group.now as usize);
                let then_q = table[last].q(self, x);
                let now_q = table[now].q(self, x);
                let (last, now) = (&table[last], &table[now]);
                let (x, shape) = (f64::from(x), r + f64::from(x));
                let kappa = shape + s;

                let silence = [now.by_alpha - last.by_alpha, now.by_beta - last.by_beta];
                let then = (s / kappa).ln() + shape * silence[0] + s * silence[1] + then_q.ln;
                let later = (s / kappa).ln() + now_q.ln;
                let either = ln_one_plus_difference(then, later.exp());
                // What the two parts of w are of 1 + w.
                let (left, since) = ((then - either).exp(), (later - either).exp());
                let of_share = [-1.0 / kappa, 0.0, 1.0 / s - 1.0 / kappa, 0.0];
                let of_then = [
                    silence[0],
                    shape * (now.inverse_alpha - last.inverse_alpha),
                    silence[1],
                    s * (now.inverse_beta - last.inverse_beta),
                ];
                let direct = [
                    by_counts - now.by_alpha,
                    (r * now.time / alpha - x) * now.inverse_alpha,
                    -now.by_beta,
                    s * now.time / beta * now.inverse_beta,
                ];
                block_value += group.customers
                    * (counts - r * now.by_alpha - x * (alpha.ln() + now.by_alpha) - s * now.by_beta + either);
                for (i, scale) in [r, alpha, s, beta].into_iter().enumerate() {
                    let of_w = left * (of_share[i] + of_then[i] + then_q.by[i]) - since * (of_share[i] + now_q.by[i]);
                    block_gradient[i] += group.customers * scale * (direct[i] + of_w);
                }
            }
            value += block_value;
            gradient = std::array::from_fn(|i| gradient[i] + block_gradient[i]);
        }
        (value, gradient)
    }

    /// ln Q at a time, with its gradient by r, α, s, β.
    fn q_with_slopes(&self, x: u32, y: f64) -> Q {
        let shape = self.r + f64::from(x);
        let (to_alpha, to_beta) = (self.alpha + y, self.beta + y);
        if self.alpha >= self.beta {
            let z = (self.alpha - self.beta) / to_alpha;
            let (q, slopes) = hypergeometric::gauss_with_slopes(shape, shape + self.s, z, to_beta / to_alpha);
            let [by_a, by_c, by_z] = slopes.map(|slope| slope / q);
            let by = [by_a + by_c, by_z * to_beta / (to_alpha * to_alpha), by_c, -by_z / to_alpha];
            Q { x: Some(x), ln: q.ln(), by }
        } else {
            let (z, ratio) = ((self.beta - self.alpha) / to_beta, to_alpha / to_beta);
            let (q, slopes) = hypergeometric::gauss_with_slopes(self.s + 1.0, shape + self.s, z, ratio);
            let [by_a, by_c, by_z] = slopes.map(|slope| slope / q);
            let by_alpha = 1.0 / to_alpha - by_z / to_beta;
            let by = [by_c, by_alpha, by_a + by_c, (by_z * ratio - 1.0) / to_beta];
            Q { x: Some(x), ln: (ratio * q).ln(), by }
        }
    }
}

/// What a likelihood asks of a time.
struct Time {
    time: f64,
    /// ln((α + time)/α) and ln((β + time)/β)
    by_alpha: f64,
    by_beta: f64,
    /// 1/(α + time) and 1/(β + time)
    inverse_alpha: f64,
    inverse_beta: f64,
    /// Of the last x that it was asked for: groups come sorted by it, so each is worked out once.
    q: Q,
}

#[derive(Clone, Copy)]
struct Q {
    x: Option<u32>,
    ln: f64,
    by: [f64; 4],
}

impl Time {
    fn new(time: f64, model: &ParetoNbd) -> Self {
        Self {
            time,
            by_alpha: (time / model.alpha).ln_1p(),
            by_beta: (time / model.beta).ln_1p(),
            inverse_alpha: 1.0 / (model.alpha + time),
            inverse_beta: 1.0 / (model.beta + time),
            q: Q { x: None, ln: 0.0, by: [0.0; 4] },
        }
    }

    fn q(&mut self, model: &ParetoNbd, x: u32) -> Q {
        if self.q.x != Some(x) {
            self.q = model.q_with_slopes(x, self.time);
        }
        self.q
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn models() -> impl Strategy<Value = ParetoNbd> {
        (-3.0..3.0, -2.0..4.0, -3.0..3.0, -2.0..4.0).prop_map(|(r, alpha, s, beta)| ParetoNbd {
            r: f64::exp(r),
            alpha: f64::exp(alpha),
            s: f64::exp(s),
            beta: f64::exp(beta),
        })
    }

    fn summary() -> impl Strategy<Value = Summary> {
        (0_u32..40, 0.01..1.0, 0.1..200.0)
            .prop_map(|(x, last, t): (u32, f64, f64)| Summary::new(x, if x == 0 { 0.0 } else { last * t }, t).unwrap())
    }

    fn assert_slope(model: &ParetoNbd, summaries: Vec<(Summary, u64)>) -> Result<(), TestCaseError> {
        let groups = Groups::gather(summaries);
        let (value, gradient) = model.objective(&groups.all, &groups.times);
        const STEP: f64 = 1e-5;
        for i in 0..4 {
            let moved = |step: f64| {
                let mut moved = [model.r, model.alpha, model.s, model.beta];
                moved[i] *= step.exp();
                let [r, alpha, s, beta] = moved;
                ParetoNbd { r, alpha, s, beta }.objective(&groups.all, &groups.times).0
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let size = 1.0 + slope.abs() + value.abs() * 1e-3;
            prop_assert!((gradient[i] - slope).abs() < 1e-6 * size, "{i}: {} is not {slope}", gradient[i]);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_gradient_is_the_slope_of_the_likelihood(
            model in models(), summaries in proptest::collection::vec((summary(), 1_u64..5), 1..8),
        ) {
            assert_slope(&model, summaries)?;
        }

        #[test]
        fn so_it_is_where_one_scale_is_nothing_against_the_other(
            model in models(), swap in any::<bool>(), summaries in proptest::collection::vec((summary(), 1_u64..5), 1..4),
        ) {
            let (alpha, beta) = (model.alpha * 1e-5, model.beta * 1e4);
            let (alpha, beta) = if swap { (beta, alpha) } else { (alpha, beta) };
            assert_slope(&ParetoNbd { alpha, beta, ..model }, summaries)?;
        }

        #[test]
        fn the_likelihood_of_all_is_the_sum_over_each(
            model in models(), summaries in proptest::collection::vec((summary(), 0_u64..5), 1..20),
        ) {
            let each: f64 = summaries.iter().map(|(s, n)| *n as f64 * model.log_likelihood(s)).sum();
            let groups = Groups::gather(summaries);
            let all = model.objective(&groups.all, &groups.times).0;
            prop_assert!((each - all).abs() <= 1e-10 * (1.0 + each.abs()));
        }
    }
}
