//! S = 2F1(1, a; c+1; z) for a, c > 0, a − c ≤ 1 and 0 ≤ z < 1, at which Pareto/NBD and the shifted-beta-geometric take it.
//!
//! By Gauss's continued fraction, all of whose elements are positive (DLMF 15.7.1 at b = 0):
//!
//! ```text
//! 1/S = 1 − k1/(1 − k2/(1 − …)),   k(2n+1) = (a+n)(c+n)z / ((c+2n)(c+2n+1)),   k(2n) = n(c−a+n)z / ((c+2n−1)(c+2n))
//! ```
//!
//! It converges the more slowly the nearer z is to 1. There powers of 1 − z take over (DLMF 15.8.4), with δ = c − a:
//!
//! ```text
//! S = c/δ · 2F1(1, a; 1−δ; 1−z) + (1−z)^δ z^−c Γ(c+1)Γ(−δ)/Γ(a)
//! ```
//!
//! and where these would lose digits, for large a and where δ is nearly a whole number, Euler's integral,
//! S = c ∫ over v < 0 of e^(cv) (1−z + z·e^v)^−a dv.

/// Below this 1 − z the continued fraction loses digits and takes hundreds of steps.
const NEAR_ONE: f64 = 1e-3;
/// Below this 1 − z a dozen powers of it are enough; the continued fraction takes a hundred steps and more.
const FEW_POWERS: f64 = 0.03;
/// At 1 − z = 1e-3 it takes some 600; this many are never reached.
const MAX_STEPS: u32 = 20_000;

/// S, where `rest` is 1 − z as exactly as it can be had.
pub(crate) fn gauss(a: f64, c: f64, z: f64, rest: f64) -> f64 {
    if rest < FEW_POWERS
        && let Some(s) = powers(a, c, rest)
    {
        return s;
    }
    if rest < NEAR_ONE { integral(a, c, z, rest)[0] } else { fraction(a, c, z).0 }
}

/// S and its derivatives by a, c and z.
pub(crate) fn gauss_with_slopes(a: f64, c: f64, z: f64, rest: f64) -> (f64, [f64; 3]) {
    if rest < NEAR_ONE {
        let [s, by_a, by_c, by_z] = integral(a, c, z, rest);
        return (s, [by_a, by_c, by_z]);
    }
    // The depth is known from the way down; derivatives are taken on the way back up.
    let (_, depth) = fraction(a, c, z);
    let (mut f, mut slopes) = (1.0, [0.0; 3]);
    for step in (1..=depth).rev() {
        let n = f64::from(step / 2);
        let (element, by) = if step % 2 == 1 {
            let element = (a + n) * (c + n) / ((c + 2.0 * n) * (c + 2.0 * n + 1.0));
            (element, [1.0 / (a + n), 1.0 / (c + n) - 1.0 / (c + 2.0 * n) - 1.0 / (c + 2.0 * n + 1.0)])
        } else {
            let element = n * (c - a + n) / ((c + 2.0 * n - 1.0) * (c + 2.0 * n));
            let by_a = -1.0 / (c - a + n);
            (element, [by_a, -by_a - 1.0 / (c + 2.0 * n - 1.0) - 1.0 / (c + 2.0 * n)])
        };
        let own = element / f;
        let inner = z * own / f;
        slopes = [inner * slopes[0] - z * own * by[0], inner * slopes[1] - z * own * by[1], inner * slopes[2] - own];
        f = 1.0 - z * own;
    }
    let s = 1.0 / f;
    (s, slopes.map(|slope| -slope * s * s))
}

/// S by the continued fraction (Lentz's method as modified by Thompson & Barnett), and the steps it took.
fn fraction(a: f64, c: f64, z: f64) -> (f64, u32) {
    let (mut f, mut up, mut down) = (1.0, 1.0, 0.0);
    for step in 1..=MAX_STEPS {
        let n = f64::from(step / 2);
        let k = if step % 2 == 1 {
            (a + n) * (c + n) / ((c + 2.0 * n) * (c + 2.0 * n + 1.0))
        } else {
            n * (c - a + n) / ((c + 2.0 * n - 1.0) * (c + 2.0 * n))
        } * z;
        // Neither can vanish: both are ratios of convergents, which are positive.
        down = 1.0 / (1.0 - k * down);
        up = 1.0 - k / up;
        let change = up * down;
        f *= change;
        // The odd and the even steps may differ in size, but not by enough to stop too early by more than rounding.
        if (change - 1.0).abs() <= 1e-16 {
            return (1.0 / f, step);
        }
    }
    (1.0 / f, MAX_STEPS)
}

/// S by powers of `rest`, at most [`FEW_POWERS`], where these lose no digits; `None` elsewhere.
fn powers(a: f64, c: f64, rest: f64) -> Option<f64> {
    /// Up to here each term is far below the one before. Customers of whom few leave have a dropout of nearly none.
    const LARGEST_A: f64 = 2.0;
    /// At δ = 0 the leading parts cancel; at 1, 2, … only terms that are far below these.
    const NEAR_ZERO: f64 = 0.02;
    const NEAR_WHOLE: f64 = 0.01;
    let (delta, log) = (c - a, rest.ln());
    // e^−46 is below rounding: so are the second part and the terms that it cancels with, of which the first is the δ-th.
    let one_part = (delta - 1.0) * log < -46.0;
    if a > LARGEST_A || delta.abs() < NEAR_ZERO || !one_part && (delta - delta.round()).abs() < NEAR_WHOLE {
        return None;
    }
    let (mut sum, mut term, mut n) = (1.0, 1.0_f64, 0.0);
    // With both parts at least to beyond δ, where a term can be larger than the one before.
    while term.abs() > 1e-17 * f64::abs(sum) || !one_part && n <= delta {
        term *= rest * (a + n) / (1.0 - delta + n);
        sum += term;
        n += 1.0;
    }
    let first = c / delta * sum;
    if one_part {
        return Some(first);
    }
    let power = (delta * log - c * (-rest).ln_1p()).exp();
    Some(first + power * libm::tgamma(c + 1.0) * libm::tgamma(-delta) / libm::tgamma(a))
}

/// S and its derivatives by a, c, z, from Euler's integral: from v = 0 downwards in panels narrow enough for the steepest
/// slope within, until nothing is left.
fn integral(a: f64, c: f64, z: f64, rest: f64) -> [f64; 4] {
    // The slope of the logarithm of the integrand grows from c − az to c as v falls.
    let slope = |v: f64| c - a * z * v.exp() / (rest + z * v.exp());
    const WIDEST: f64 = 2.5;
    let mut sums = [0.0; 4];
    let mut v = 0.0_f64;
    // From here on down, e^v no longer counts against 1 − z, and the rest is an exponential.
    let end = (rest / z).ln() - 40.0;
    while v > end {
        // Sixteen points integrate e^8 and a pole at a distance of π to the last digit.
        let steepest = slope(v).abs().max(slope(v - WIDEST).abs());
        let width = (8.0 / steepest).min(WIDEST).min(v - end);
        let mut panel = 0.0;
        for (node, weight) in NODES {
            for at in [v - width * (0.5 - node), v - width * (0.5 + node)] {
                let power = at.exp();
                let base = rest + z * power;
                let value = weight * width * (c * at - a * base.ln()).exp();
                panel += value;
                sums[1] -= value * base.ln();
                sums[2] += value * at;
                sums[3] += value * a * (1.0 - power) / base;
            }
        }
        sums[0] += panel;
        v -= width;
        // Once it falls, it falls ever faster.
        if slope(v) > 0.0 && panel <= 1e-18 * sums[0] * width * slope(v).min(1.0) {
            v = f64::NEG_INFINITY;
        }
    }
    if v > f64::NEG_INFINITY {
        let left = (c * v - a * rest.ln()).exp() / c;
        sums[0] += left;
        sums[1] -= left * rest.ln();
        sums[2] += left * (v - 1.0 / c);
        sums[3] += left * a / rest;
    }
    let [total, by_a, by_c, by_z] = sums;
    [c * total, c * by_a, total + c * by_c, c * by_z]
}

/// Half the nodes (as distances from the middle of a panel of width 1) and weights of the Gauss-Legendre rule of 16 points.
const NODES: [(f64, f64); 8] = [
    (0.047_506_254_918_818_72, 0.094_725_305_227_534_25),
    (0.140_801_775_389_629_46, 0.091_301_707_522_461_79),
    (0.229_008_388_828_613_69, 0.084_578_259_697_501_27),
    (0.308_938_122_201_321_9, 0.074_797_994_408_288_37),
    (0.377_702_204_177_501_5, 0.062_314_485_627_766_94),
    (0.432_815_601_193_915_9, 0.047_579_255_841_246_39),
    (0.472_287_511_536_616_3, 0.031_126_761_969_323_946),
    (0.494_700_467_495_824_97, 0.013_576_229_705_877_047),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// a, c and 1 − z.
    fn arguments() -> impl Strategy<Value = (f64, f64, f64)> {
        (-6.0..8.0, -6.0..6.0, -6.9..0.0).prop_map(|(a, excess, rest): (f64, f64, f64)| {
            // c − a is anything above −1, and c above 0.
            let a = a.exp();
            (a, a - a.min(1.0) + excess.exp(), rest.exp())
        })
    }

    proptest! {
        #[test]
        fn fraction_and_integral_agree_wherever_both_can_be_had((a, c, rest) in arguments()) {
            let z = 1.0 - rest;
            let (fraction, _) = fraction(a, c, z);
            let [integral, ..] = integral(a, c, z, rest);
            prop_assert!((fraction - integral).abs() <= 2e-12 * integral, "{fraction} is not {integral}");
        }

        #[test]
        fn powers_and_integral_agree_wherever_both_can_be_had(a in 1e-3..2.0, excess in -1.0..20.0, rest in -40.0..-3.51) {
            let rest = f64::exp(rest);
            // c is above 0, and also within reach of a whole number above a.
            for delta in [f64::max(excess, 1e-3 - a), f64::abs(excess).round().max(1.0) + 0.0101, 0.021] {
                let c = a + delta;
                if let Some(powers) = powers(a, c, rest) {
                    let [integral, ..] = integral(a, c, 1.0 - rest, rest);
                    prop_assert!((powers - integral).abs() <= 2e-12 * integral, "{delta}: {powers} is not {integral}");
                }
            }
        }

        #[test]
        fn so_do_their_derivatives((a, c, rest) in arguments()) {
            let z = 1.0 - rest;
            prop_assume!(rest >= NEAR_ONE);
            let (s, slopes) = gauss_with_slopes(a, c, z, rest);
            let [value, by @ ..] = integral(a, c, z, rest);
            prop_assert!((s - value).abs() <= 1e-10 * value);
            for (found, wanted) in slopes.iter().zip(by) {
                // By c the integral subtracts two parts as large as S.
                let size = wanted.abs() + value * (1.0 + 1.0 / c);
                prop_assert!((found - wanted).abs() <= 1e-8 * size, "{slopes:?} are not {by:?}");
            }
        }

        #[test]
        fn where_it_is_elementary_it_is_so(rest in -20.0..-1e-3) {
            // 2F1(1, 1; 2; z) = −ln(1−z)/z, and 2F1(1, a; a; z) = 1/(1−z)
            let rest = f64::exp(rest);
            let z = 1.0 - rest;
            let found = gauss(1.0, 1.0, z, rest);
            let wanted = -rest.ln() / z;
            prop_assert!((found - wanted).abs() <= 1e-12 * wanted, "{found} is not {wanted}");
            let found = gauss(2.5, 1.5, z, rest);
            prop_assert!((found * rest - 1.0).abs() <= 1e-11, "{found} is not {}", 1.0 / rest);
        }
    }

    #[test]
    fn at_nothing_it_is_one() {
        assert_eq!(gauss(3.0, 4.0, 0.0, 1.0), 1.0);
        assert_eq!(gauss_with_slopes(3.0, 4.0, 0.0, 1.0), (1.0, [0.0, 0.0, 0.6]));
    }
}
