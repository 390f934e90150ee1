//! The special functions that the standard library lacks. Arguments are positive throughout.

/// ln Γ(y) for y > 0.
pub(crate) fn ln_gamma(y: f64) -> f64 {
    libm::lgamma(y)
}

/// ψ(y) = d/dy ln Γ(y) for y > 0: shifted up by ψ(y) = ψ(y+1) − 1/y, then the asymptotic series
/// (Abramowitz & Stegun 6.3.5 and 6.3.18).
pub(crate) fn digamma(mut y: f64) -> f64 {
    let mut shift = 0.0;
    // From 10 on, the first term left out of the series is below 1e-15.
    while y < 10.0 {
        shift -= 1.0 / y;
        y += 1.0;
    }
    let w = 1.0 / (y * y);
    // B(2k) / 2k for k = 1..=7
    let tail = w
        * (1.0 / 12.0
            - w * (1.0 / 120.0
                - w * (1.0 / 252.0 - w * (1.0 / 240.0 - w * (1.0 / 132.0 - w * (691.0 / 32_760.0 - w / 12.0))))));
    shift + y.ln() - 0.5 / y - tail
}

/// ln Γ(y+to) − ln Γ(y+from) and its derivative in y, for whole from ≤ to.
///
/// Summed factor by factor while that is affordable: at large y the difference of two ln Γ would lose the digits that a
/// likelihood lives on.
pub(crate) fn ln_rising(y: f64, from: u32, to: u32) -> (f64, f64) {
    // Up to here the sum costs no more than a few calls of ln Γ and ψ at a far end.
    const AFFORDABLE: u32 = 512;
    if to.saturating_sub(from) > AFFORDABLE {
        let (low, high) = (y + f64::from(from), y + f64::from(to));
        return (ln_gamma(high) - ln_gamma(low), digamma(high) - digamma(low));
    }
    (from..to).fold((0.0, 0.0), |(ln, slope), j| {
        let factor = y + f64::from(j);
        (ln + factor.ln(), slope + 1.0 / factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 2e-14 * wanted.abs().max(1.0), "{found} is not {wanted}");
    }

    #[test]
    fn digamma_gives_its_known_values() {
        const EULER: f64 = 0.577_215_664_901_532_9;
        close(digamma(1.0), -EULER);
        close(digamma(0.5), -EULER - 2.0 * 2f64.ln());
        close(digamma(10.0), 2.251_752_589_066_721);
        close(digamma(1e-6), -1_000_000.577_214_02);
        close(digamma(1e6), 13.815_510_057_964_19);
    }

    #[test]
    fn digamma_climbs_by_one_over_y() {
        for y in [0.01, 0.3, 1.7, 8.9, 9.5, 12.0, 300.0] {
            close(digamma(y + 1.0) - digamma(y), 1.0 / y);
        }
    }

    #[test]
    fn a_long_rising_factorial_agrees_with_the_sum_of_its_parts() {
        for y in [0.2, 3.0, 700.0] {
            let (ln, slope) = ln_rising(y, 0, 1000);
            let (near_ln, near_slope) = ln_rising(y, 0, 500);
            let (far_ln, far_slope) = ln_rising(y, 500, 1000);
            close(near_ln + far_ln, ln);
            close(near_slope + far_slope, slope);
        }
    }

    #[test]
    fn an_empty_rising_factorial_is_one() {
        assert_eq!(ln_rising(3.0, 7, 7), (0.0, 0.0));
    }
}
