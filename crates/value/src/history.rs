//! One customer's occasions by day, from which the summaries of any day come.

use crate::{
    Model, Spend, Summary,
    error::{Error, within},
};

/// All that a customer bought on one day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Occasion {
    /// The day, counted from any one day.
    pub day: i32,
    /// What was bought, in any one unit of money; 0 or less where more was given back.
    pub value: f64,
}

/// The occasions of one customer in order of time, one a day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    occasions: Vec<Occasion>,
}

impl History {
    /// Collects purchases, in any order, into occasions.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `value` unless within ±1e18, and `day` unless within ±350,000 (a thousand years).
    pub fn new(purchases: impl IntoIterator<Item = Occasion>) -> Result<Self, Error> {
        let mut occasions: Vec<Occasion> = purchases.into_iter().collect();
        for Occasion { day, value } in &occasions {
            within("value", *value, -Spend::MAX_MEAN, Spend::MAX_MEAN, "must lie within ±1e18")?;
            within("day", f64::from(*day), -350_000.0, 350_000.0, "must lie within ±350,000")?;
        }
        // Stable, so that values of one day are summed in the order given.
        occasions.sort_by_key(|occasion| occasion.day);
        occasions.dedup_by(|next, kept| {
            let same = next.day == kept.day;
            if same {
                kept.value += next.value;
            }
            same
        });
        Ok(Self { occasions })
    }

    /// The occasions, in order of time.
    pub fn occasions(&self) -> &[Occasion] {
        &self.occasions
    }

    /// Occasions up to the end of the day.
    pub(crate) fn until(&self, day: i32) -> &[Occasion] {
        &self.occasions[..self.occasions.partition_point(|occasion| occasion.day <= day)]
    }

    /// Occasions after the day `after` and up to the end of the day `until`.
    pub fn count(&self, after: i32, until: i32) -> usize {
        self.until(until).len().saturating_sub(self.until(after).len())
    }

    /// What was known of the customer at the end of the day; `None` before the first occasion. Of the spend, repeat
    /// occasions with a value above 0 count.
    pub fn summary(&self, day: i32) -> Option<(Summary, Spend)> {
        let known = self.until(day);
        let (first, last) = (known.first()?, known.last()?);
        let repeats = u32::try_from(known.len() - 1).ok()?;
        let summary = Summary::from_days(repeats, last.day.abs_diff(first.day), day.abs_diff(first.day)).ok()?;
        let valued = known[1..].iter().map(|occasion| occasion.value).filter(|value| *value > 0.0);
        let (n, sum) = valued.fold((0_u32, 0.0), |(n, sum), value| (n + 1, sum + value));
        let spend = if n == 0 { Spend::NONE } else { Spend::new(n, sum / f64::from(n)).unwrap_or(Spend::NONE) };
        Some((summary, spend))
    }

    /// P(alive) at the end of each of `days` as it looked then, knowing nothing of what came later: it falls in silence
    /// and leaps at an occasion. Days before the first occasion are left out.
    ///
    /// ```
    /// # use value::{History, MbgNbd, Model, Occasion, Parameters};
    /// let model = Model::from(MbgNbd::new(Parameters { r: 0.525, alpha: 6.183, a: 0.891, b: 1.614 })?);
    /// let history = History::new([0, 30, 200].map(|day| Occasion { day, value: 20.0 }))?;
    /// let course: Vec<(i32, f64)> = history.p_alive_over(&model, [-1, 30, 199, 200]).collect();
    /// assert_eq!(course.len(), 3);
    /// assert!(course[0].1 > course[1].1 && course[2].1 > course[1].1);
    /// # Ok::<(), value::Error>(())
    /// ```
    pub fn p_alive_over(&self, model: &Model, days: impl IntoIterator<Item = i32>) -> impl Iterator<Item = (i32, f64)> {
        days.into_iter().filter_map(|day| self.summary(day).map(|(summary, _)| (day, model.p_alive(&summary))))
    }
}
