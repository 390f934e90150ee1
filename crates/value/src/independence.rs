//! Whether spend is independent of how often somebody buys, as Gamma-Gamma takes it to be.

use crate::Spend;

/// Whether the data bear the assumption of [`crate::GammaGamma`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Frequency and spend correlate by no more than [`Independence::DOUBTFUL`].
    Holds,
    /// They correlate by more: frequent buyers spend more (or less) an occasion than the model can know, so it errs on
    /// them. On the CDNOW sample it is 0.11, and the model still serves.
    Doubtful,
    /// Nothing to correlate: fewer than two customers, or all equal in one of the two.
    Unknown,
}

/// How frequency and spend go together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Independence {
    /// Pearson's correlation; `None` where there is nothing to correlate.
    pub correlation: Option<f64>,
    /// Customers with a valued repeat occasion.
    pub customers: u64,
    /// What follows.
    pub verdict: Verdict,
}

impl Independence {
    /// The size of the correlation above which the assumption is in doubt.
    pub const DOUBTFUL: f64 = 0.1;

    /// Judges customers, each with their number.
    ///
    /// ```
    /// use value::{Independence, Spend, Verdict};
    ///
    /// let spends = [(1, 20.0), (2, 30.0), (3, 40.0)].map(|(x, mean)| Spend::new(x, mean).map(|spend| (spend, 1)));
    /// let found = Independence::of(spends.into_iter().collect::<Result<Vec<_>, _>>()?);
    /// assert_eq!(found.verdict, Verdict::Doubtful);
    /// # Ok::<(), value::Error>(())
    /// ```
    pub fn of(spends: impl IntoIterator<Item = (Spend, u64)>) -> Self {
        let mut moments = Moments::default();
        let mut customers = 0_u64;
        for (spend, count) in spends {
            if spend.x() > 0 && count > 0 {
                moments.add(f64::from(spend.x()), spend.mean(), count as f64);
                customers = customers.saturating_add(count);
            }
        }
        let correlation = moments.correlation();
        let verdict = match correlation {
            None => Verdict::Unknown,
            Some(r) if r.abs() > Self::DOUBTFUL => Verdict::Doubtful,
            Some(_) => Verdict::Holds,
        };
        Self { correlation, customers, verdict }
    }
}

/// [`Independence::correlation`] alone.
pub fn correlation(spends: impl IntoIterator<Item = (Spend, u64)>) -> Option<f64> {
    Independence::of(spends).correlation
}

/// Running means and co-moments (Welford), so that large values do not cancel.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    n: f64,
    left: f64,
    right: f64,
    left_left: f64,
    right_right: f64,
    left_right: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, left: f64, right: f64, count: f64) {
        self.n += count;
        let (by_left, by_right) = (left - self.left, right - self.right);
        self.left += by_left * count / self.n;
        self.right += by_right * count / self.n;
        let after = right - self.right;
        self.left_left += count * by_left * (left - self.left);
        self.right_right += count * by_right * after;
        self.left_right += count * by_left * after;
    }

    /// `None` where one of the two does not vary.
    pub(crate) fn correlation(&self) -> Option<f64> {
        let spread = self.left_left.sqrt() * self.right_right.sqrt();
        (spread > 0.0).then(|| (self.left_right / spread).clamp(-1.0, 1.0))
    }
}
