//! The one integral on which every expectation of the two models rests.
//!
//! A customer alive now buys at a rate λ ~ Gamma(R, α) and leaves after each occasion with chance p ~ Beta(a, b). Over a
//! further time t, with s = t/α, the occasions to expect are
//!
//! ```text
//! H(s) = E over p of (1 − (1 + p·s)^−R) / p
//!      = (a+b−1)/(a−1) · [1 − (1−z)^R · 2F1(R, b; a+b−1; z)],   z = s/(1+s)
//! ```
//!
//! The second line is how the papers print it. As it stands it overflows for R in the thousands and is 0/0 at a = 1.
//! Here Euler's transformation turns it into a series whose coefficients hardly depend on R; the series watches its own
//! rounding error, and where that is too large (or z so near 1 that it crawls) the first line is integrated instead.

/// The relative error up to which the series is trusted.
const TRUSTED: f64 = 2e-12;
/// Terms after which integrating is the faster way.
const MAX_TERMS: u32 = 2_000;

/// The state of a customer who is alive: gamma shape `R` of the rate, beta parameters of the chance to leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alive {
    pub(crate) shape: f64,
    pub(crate) a: f64,
    pub(crate) b: f64,
}

impl Alive {
    /// H at each of `times` (t/α, at least 0). Several at once cost little more than one: only powers differ.
    pub(crate) fn expected<const L: usize>(&self, times: [f64; L]) -> [f64; L] {
        let sums = self.series(times);
        std::array::from_fn(|i| sums[i].unwrap_or_else(|| self.integral(times[i])))
    }

    /// With c = a+b−1, ε = a−1, δ = c−R, Euler's transformation gives
    /// (1−z)^R 2F1(R, b; c; z) = (1−z)^ε 2F1(δ, ε; c; z), and so
    ///
    /// H = c·A − (1−z)^ε · Σ C(n) z^n,  A = (1 − (1−z)^ε)/ε,
    /// C(1) = δ,  C(n+1) = C(n) · (δ+n)(ε+n) / ((c+n)(n+1)),
    ///
    /// in which nothing is singular: ε → 0 is the limit of A, and c+n > 0. `None` where it cannot be trusted.
    fn series<const L: usize>(&self, times: [f64; L]) -> [Option<f64>; L] {
        let Self { shape, a, b } = *self;
        let (c, epsilon, delta) = (a + b - 1.0, a - 1.0, a + b - 1.0 - shape);
        let z = times.map(|s| s / (1.0 + s));
        let widest = z.iter().fold(0.0, |widest: f64, z| widest.max(*z));

        let mut coefficient = delta;
        let mut power = [1.0; L];
        let (mut sum, mut size) = ([0.0; L], [0.0; L]);
        // What follows the last term is no more than `growth/(1−growth)` times that term.
        let mut growth = f64::INFINITY;
        let (mut largest, mut largest_power) = (0.0, 1.0);
        for n in 1..=MAX_TERMS {
            for i in 0..L {
                power[i] *= z[i];
                let term = coefficient * power[i];
                sum[i] += term;
                size[i] += term.abs();
            }
            largest_power *= widest;
            largest += (coefficient * largest_power).abs();
            let n = f64::from(n);
            let ratio = (delta + n) * (epsilon + n) / ((c + n) * (n + 1.0));
            growth = ratio.abs().max(1.0);
            let last = (coefficient * largest_power).abs();
            if growth * widest < 1.0 && last * growth * widest <= 1e-16 * largest * (1.0 - growth * widest) {
                break;
            }
            coefficient *= ratio;
            if !coefficient.is_finite() {
                break;
            }
        }

        std::array::from_fn(|i| {
            let log = -times[i].ln_1p();
            let leading = c * if epsilon == 0.0 { -log } else { -(epsilon * log).exp_m1() / epsilon };
            let scale = (epsilon * log).exp();
            let value = leading - scale * sum[i];
            let tail = if growth * z[i] < 1.0 {
                (coefficient * power[i]).abs() * growth * z[i] / (1.0 - growth * z[i])
            } else {
                f64::INFINITY
            };
            let error = 2.0 * f64::EPSILON * (leading.abs() + scale * size[i]) + scale * tail;
            // A NaN fails the second comparison; an overflow ends up at the integral as well.
            (times[i] > 0.0 && value.is_finite() && error <= TRUSTED * value).then_some(value)
        })
    }

    /// H by the trapezoidal rule in v = ln(p/(1−p)), on which it converges exponentially (Trefethen & Weideman, 2014).
    /// All terms are positive, so nothing cancels; dividing by the same rule for the beta density saves its constant.
    /// Where both run out as pure exponentials (p → 0 or 1, small a or b), the rest is a geometric series.
    fn integral(&self, s: f64) -> f64 {
        if s <= 0.0 {
            return 0.0;
        }
        let Self { shape, a, b } = *self;
        // The nearest singularity limits the first, the width of the beta density the second.
        let step = (0.25_f64).min(0.5 * (1.0 / a + 1.0 / b).sqrt());
        let centre = (a / b).ln();
        let log_weight = |v: f64| a * v - (a + b) * softplus(v);
        let top = log_weight(centre);
        let node = |v: f64| {
            let p = 1.0 / (1.0 + (-v).exp());
            let weight = (log_weight(v) - top).exp();
            (weight, weight * -(-shape * (p * s).ln_1p()).exp_m1() / p)
        };
        // Beyond these, density and integrand are exponentials to the last digit.
        let left = -37.0 - (a + b).max((shape + 1.0) * s).max(1.0).ln();
        let right = 37.0 + (a + b).max(shape + 1.0).max(1.0).ln();

        let (mut mass, mut total) = node(centre);
        for (direction, end, decay) in [(-1.0, left, a), (1.0, right, b)] {
            let mut v = centre;
            loop {
                v += direction * step;
                let (weight, part) = node(v);
                let beyond = direction * (v - end) >= 0.0;
                // 1 + q + q² + … with q = e^(−decay·step)
                let copies = if beyond { -1.0 / (-decay * step).exp_m1() } else { 1.0 };
                mass += weight * copies;
                total += part * copies;
                if beyond || (weight <= 1e-18 * mass && part <= 1e-18 * total) {
                    break;
                }
            }
        }
        total / mass
    }
}

/// ln(1 + e^v) without overflow.
fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn series_and_integral_agree_wherever_the_series_is_trusted(
            shape in -6.0..9.0, a in -6.0..6.0, b in -6.0..9.0, s in -9.0..9.0,
        ) {
            let alive = Alive { shape: f64::exp(shape), a: f64::exp(a), b: f64::exp(b) };
            if let [Some(sum)] = alive.series([f64::exp(s)]) {
                let integral = alive.integral(f64::exp(s));
                prop_assert!((sum - integral).abs() <= 1e-10 * integral, "{sum} is not {integral}");
            }
        }

        #[test]
        fn a_time_costs_the_same_alone_and_among_others(s in 0.0..50.0, other in 0.0..50.0) {
            let alive = Alive { shape: 2.3, a: 0.8, b: 4.5 };
            let [alone] = alive.expected([s]);
            let [_, among, _] = alive.expected([other, s, 1.0]);
            prop_assert!((alone - among).abs() <= 1e-11 * alone);
        }
    }

    #[test]
    fn nothing_is_expected_of_no_time() {
        assert_eq!(Alive { shape: 2.0, a: 1.0, b: 1.0 }.expected([0.0]), [0.0]);
    }

    #[test]
    fn a_equal_to_one_is_the_limit_from_both_sides() {
        let at = |a| Alive { shape: 2.5, a, b: 3.5 }.expected([0.7])[0];
        let (below, one, above) = (at(1.0 - 1e-9), at(1.0), at(1.0 + 1e-9));
        assert!(above < one && one < below && (below - above) / one < 1e-8);
    }
}
