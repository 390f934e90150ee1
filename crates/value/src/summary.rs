//! What the buying models need to know of one customer: three numbers.

use crate::error::{Error, within};

/// The longest time that any function here takes into account, in weeks: 100,000, some 1,900 years.
///
/// It only keeps sums of times away from overflow; no business comes near it.
pub const MAX_WEEKS: f64 = 1e5;

const DAYS_A_WEEK: f64 = 7.0;

/// One customer's buying, summed up for the buying models ([`crate::Model`]).
///
/// An *occasion* is all that one customer bought on one calendar day. The first occasion starts the clock and is not
/// counted in [`x`](Self::x). Times are in weeks (days / 7). A value of this type is always consistent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    x: u32,
    t_x: f64,
    t: f64,
}

impl Summary {
    /// A summary from times in weeks: `x` repeat occasions, `t_x` from the first to the last of them, `t` from the first
    /// to now.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `t` unless 0 ≤ t ≤ [`MAX_WEEKS`], and `t_x` unless it is 0 for x = 0 and within
    /// 0 < t_x ≤ t otherwise (the likelihood of two occasions at one instant has no bound).
    pub fn new(x: u32, t_x: f64, t: f64) -> Result<Self, Error> {
        let t = within("t", t, 0.0, MAX_WEEKS, "must lie within 0 and 100,000 weeks")?;
        let t_x = within("t_x", t_x, 0.0, t, "must lie within 0 and t")?;
        if x == 0 && t_x > 0.0 {
            return Err(Error::Invalid { field: "t_x", value: t_x, reason: "must be 0 for who never came back" });
        }
        if x > 0 && t_x <= 0.0 {
            return Err(Error::Invalid { field: "t_x", value: t_x, reason: "must be above 0 for who came back" });
        }
        Ok(Self { x, t_x, t })
    }

    /// A summary from whole days: `x` repeat occasions, `last` days from the first occasion to the last, `now` days from
    /// the first occasion to now.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Invalid`] names `x` when there are more repeat occasions than days for them.
    pub fn from_days(x: u32, last: u32, now: u32) -> Result<Self, Error> {
        if x > last {
            let reason = "must not exceed the days from the first occasion to the last";
            return Err(Error::Invalid { field: "x", value: f64::from(x), reason });
        }
        Self::new(x, f64::from(last) / DAYS_A_WEEK, f64::from(now) / DAYS_A_WEEK)
    }

    /// Repeat occasions: all but the first.
    pub fn x(&self) -> u32 {
        self.x
    }

    /// Weeks from the first occasion to the last; 0 for who never came back.
    pub fn t_x(&self) -> f64 {
        self.t_x
    }

    /// Weeks from the first occasion to now.
    pub fn t(&self) -> f64 {
        self.t
    }

    /// [`t`](Self::t) in days, where it is exactly what [`from_days`](Self::from_days) makes of a number of days.
    pub(crate) fn whole_days(&self) -> Option<u32> {
        // At most 700,000, so nothing is cut.
        let days = (self.t * DAYS_A_WEEK).round();
        (days / DAYS_A_WEEK == self.t).then_some(days as u32)
    }
}

/// A horizon as the formulas take it: what is no number or below 0 counts as 0, what is above [`MAX_WEEKS`] as that.
pub(crate) fn horizon(weeks: f64) -> f64 {
    if weeks > 0.0 { weeks.min(MAX_WEEKS) } else { 0.0 }
}
