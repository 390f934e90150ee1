//! How well the data determine a parameter.

use crate::error::{Error, within};

/// The most parameters that a model here has.
const MOST: usize = 4;

/// A fitted parameter and how well the data determine it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    name: &'static str,
    value: f64,
    /// Standard error of the logarithm.
    log_error: Option<f64>,
}

impl Estimate {
    /// The parameter, as the papers call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The most likely value.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The standard error, by the delta method from that of the logarithm; `None` where the likelihood is too flat at its
    /// maximum to tell, as where hardly anybody can be seen to leave: then others would do as well as this value.
    pub fn standard_error(&self) -> Option<f64> {
        self.log_error.map(|error| self.value * error)
    }

    /// Between which values the parameter lies with this confidence (0.95 for 95 %). Symmetric in the logarithm, so never
    /// below 0 and wider upwards.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `confidence` unless within 0.01 and 0.999999, [`Error::TooFlat`] the parameter whose
    /// standard error is not known.
    pub fn interval(&self, confidence: f64) -> Result<(f64, f64), Error> {
        within("confidence", confidence, 0.01, 0.999_999, "must lie within 0.01 and 0.999999")?;
        let error = self.log_error.ok_or(Error::TooFlat { parameter: self.name })?;
        let factor = (two_sided(confidence) * error).exp();
        Ok((self.value / factor, self.value * factor))
    }
}

/// The parameters of one fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimates {
    all: [Estimate; MOST],
    count: usize,
    /// Of the logarithms.
    covariance: Option<[[f64; MOST]; MOST]>,
}

impl Estimates {
    pub(crate) fn new<const N: usize>(
        names: [&'static str; N],
        values: [f64; N],
        covariance: Option<[[f64; N]; N]>,
    ) -> Self {
        const { assert!(N <= MOST) };
        // A variance that is none comes of a curvature lost in rounding.
        let covariance = covariance.filter(|c| (0..N).all(|i| c[i][i] > 0.0 && c[i][i].is_finite()));
        let mut all = [Estimate { name: "", value: 0.0, log_error: None }; MOST];
        let mut wide = [[0.0; MOST]; MOST];
        for i in 0..N {
            let log_error = covariance.map(|c| c[i][i].sqrt());
            all[i] = Estimate { name: names[i], value: values[i], log_error };
            if let Some(narrow) = &covariance {
                wide[i][..N].copy_from_slice(&narrow[i]);
            }
        }
        Self { all, count: N, covariance: covariance.map(|_| wide) }
    }

    pub(crate) fn all(&self) -> &[Estimate] {
        &self.all[..self.count]
    }

    pub(crate) fn covariance(&self, left: usize, right: usize) -> Option<f64> {
        let (l, r) = (self.all().get(left)?, self.all().get(right)?);
        self.covariance.map(|c| c[left][right] * l.value * r.value)
    }
}

/// How many standard deviations around its mean hold this share of a normal distribution: erfc(z/√2) = 1 − confidence,
/// by Newton's method from 0, where the error function bends towards the root and never overshoots it.
fn two_sided(confidence: f64) -> f64 {
    let mut z = 0.0_f64;
    // Convergence is quadratic; six nines need ten steps.
    for _ in 0..60 {
        let missing = confidence - libm::erf(z / std::f64::consts::SQRT_2);
        let density = (2.0 / std::f64::consts::PI).sqrt() * (-0.5 * z * z).exp();
        let step = missing / density;
        z += step;
        if step.abs() <= 1e-15 * z {
            break;
        }
    }
    z
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_confidences_have_their_usual_widths() {
        for (confidence, z) in [
            (0.5, 0.674_489_750_196_081_7),
            (0.682_689_492_137_085_9, 1.0),
            (0.95, 1.959_963_984_540_054),
            (0.99, 2.575_829_303_548_901),
            (0.999_999, 4.891_638_475_698_91),
        ] {
            assert!((two_sided(confidence) / z - 1.0).abs() < 1e-10, "{confidence}: {}", two_sided(confidence));
        }
    }

    #[test]
    fn an_interval_is_refused_for_what_is_no_confidence_and_what_is_not_known() {
        let known = Estimate { name: "r", value: 2.0, log_error: Some(0.1) };
        let (low, high) = known.interval(0.95).unwrap();
        assert!((low * high - 4.0).abs() < 1e-12 && (high / 2.0 - 0.195_996_f64.exp()).abs() < 1e-5);
        for confidence in [0.0, 1.0, f64::NAN, 95.0] {
            assert!(matches!(known.interval(confidence), Err(Error::Invalid { field: "confidence", .. })));
        }
        let flat = Estimate { log_error: None, ..known };
        assert_eq!(flat.interval(0.95), Err(Error::TooFlat { parameter: "r" }));
        assert_eq!(flat.standard_error(), None);
    }
}
