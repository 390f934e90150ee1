//! A small stream of random numbers of its own for every customer.

/// SplitMix64 (Steele, Lea & Flood, 2014), which passes BigCrush, begun at a place drawn from seed and customer. Streams
/// are stretches of one cycle of 2^64; that any two of ten million customers overlap has a chance below 1 in 1,000.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        // Mixed twice: neighbouring seeds and neighbouring customers begin far from each other.
        Self(mix(mix(seed.wrapping_add(STEP)).wrapping_add(stream.wrapping_mul(STEP))))
    }

    /// Uniform within 0 and 1, neither of which it is.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(STEP);
        const CELL: f64 = 1.0 / (1_u64 << 52) as f64;
        ((mix(self.0) >> 12) as f64 + 0.5) * CELL
    }

    /// Exponential with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Gamma with this shape above 0 and scale 1 (Marsaglia & Tsang, 2000).
    pub(super) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Gamma(shape) is Gamma(shape + 1) · U^(1/shape); it may well be too small for a float.
            let boost = (self.uniform().ln() / shape).exp();
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let v = (1.0 + c * normal).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * normal * normal + d * (1.0 - v + v.ln()) {
                return d * v;
            }
        }
    }

    /// Beta with these shapes above 0.
    pub(super) fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (left, right) = (self.gamma(a), self.gamma(b));
        if left + right > 0.0 {
            left / (left + right)
        } else {
            // Both too small for a float: then all of the mass lies at the two ends.
            f64::from(u8::from(self.uniform() < a / (a + b)))
        }
    }

    /// Normal with mean 0 and variance 1 (Box & Muller; the second value is let go, so that nothing is kept between draws).
    fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut(&mut Random) -> f64) -> (f64, f64) {
        const N: u64 = 200_000;
        // One draw of each of many streams: so the streams, too, must be independent.
        let all: Vec<f64> = (0..N).map(|stream| draw(&mut Random::new(7, stream))).collect();
        let mean = all.iter().sum::<f64>() / N as f64;
        (mean, all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / N as f64)
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        for shape in [0.1, 0.243, 1.0, 6.25, 400.0] {
            let (mean, variance) = moments(|random| random.gamma(shape));
            assert!((mean / shape - 1.0).abs() < 6.0 / (2e5 * shape).sqrt(), "{shape}: {mean}");
            assert!((variance / shape - 1.0).abs() < 0.1, "{shape}: {variance}");
        }
        let (mean, variance) = moments(|random| random.beta(0.793, 2.426));
        let (wanted, n) = (0.793 / 3.219, 3.219);
        assert!((mean - wanted).abs() < 0.004 && (variance / (wanted * (1.0 - wanted) / (n + 1.0)) - 1.0).abs() < 0.03);
        let (mean, variance) = moments(Random::normal);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02);
        let (mean, variance) = moments(Random::exponential);
        assert!((mean - 1.0).abs() < 0.01 && (variance - 1.0).abs() < 0.03);
    }

    #[test]
    fn shapes_too_small_for_a_float_still_give_numbers() {
        for stream in 0..1_000 {
            let mut random = Random::new(1, stream);
            assert!((0.0..=1.0).contains(&random.beta(1e-9, 1e-9)));
            assert!(random.gamma(1e-9).is_finite());
        }
    }

    #[test]
    fn the_stream_stays_what_it_was() {
        let mut random = Random::new(1, 2);
        let drawn: Vec<u64> = (0..3).map(|_| (random.uniform() * 1e15) as u64).collect();
        assert_eq!(drawn, [620_543_106_714_356, 490_454_187_837_427, 464_407_764_983_371]);
    }
}
