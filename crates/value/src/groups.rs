//! Customers for a fit: equal histories as one group with their number, and the distinct times once, since logarithms of
//! times are what a likelihood spends its time on.

use crate::{Error, Summary};

/// Customers with one and the same history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) x: u32,
    /// Index into [`Groups::times`] of the time of the last occasion.
    pub(crate) last: u32,
    /// Index of the time until now.
    pub(crate) now: u32,
    pub(crate) customers: f64,
}

/// All histories of a fit, sorted by x, then by the other times.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) all: Vec<Group>,
    /// Distinct times in weeks, ascending.
    pub(crate) times: Vec<f64>,
    pub(crate) customers: u64,
}

impl Groups {
    /// # Errors
    /// [`Error::NoCustomers`], [`Error::NoRepeatBuyers`] and [`Error::AllTheSame`], of which nothing can be fitted.
    pub(crate) fn new(histories: impl IntoIterator<Item = (Summary, u64)>) -> Result<Self, Error> {
        let groups = Self::gather(histories);
        match groups.all.as_slice() {
            [] => Err(Error::NoCustomers),
            all if all.iter().all(|group| group.x == 0) => Err(Error::NoRepeatBuyers),
            [_] => Err(Error::AllTheSame { customers: groups.customers }),
            _ => Ok(groups),
        }
    }

    pub(crate) fn gather(histories: impl IntoIterator<Item = (Summary, u64)>) -> Self {
        let mut all: Vec<_> = histories.into_iter().filter(|(_, count)| *count > 0).collect();
        let customers = all.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        // Bits of numbers that are not negative are in the order of the numbers, and compare faster.
        let key = |s: &Summary| (s.x(), s.t_x().to_bits(), s.t().to_bits());
        all.sort_unstable_by_key(|(summary, _)| key(summary));
        all.dedup_by(|(next, more), (kept, count)| {
            let same = key(next) == key(kept);
            if same {
                *count = count.saturating_add(*more);
            }
            same
        });
        let mut times: Vec<u64> = all.iter().flat_map(|(s, _)| [s.t_x().to_bits(), s.t().to_bits()]).collect();
        times.sort_unstable();
        times.dedup();
        // There are fewer than 2^32 distinct histories in any memory.
        let index = |time: f64| times.partition_point(|known| *known < time.to_bits()) as u32;
        let all = all
            .iter()
            .map(|(s, count)| Group { x: s.x(), last: index(s.t_x()), now: index(s.t()), customers: *count as f64 })
            .collect();
        Self { all, times: times.into_iter().map(f64::from_bits).collect(), customers }
    }

    /// Mean repeat occasions, and mean weeks until now.
    pub(crate) fn means(&self) -> (f64, f64) {
        let n = self.customers as f64;
        let occasions = self.all.iter().map(|g| g.customers * f64::from(g.x)).sum::<f64>() / n;
        let weeks = self.all.iter().map(|g| g.customers * self.times[g.now as usize]).sum::<f64>() / n;
        (occasions, weeks)
    }
}
