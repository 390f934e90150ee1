//! How steadily rows went in.
use std::time::Instant;

use chassis::clock::stopwatch;

/// Marks kept at most; beyond it every other one goes. More than enough to tell tenths by.
const MARKS: usize = 8_192;
/// Fewest marks that tell a pace: with fewer a tenth of the file would be less than a batch.
const FEWEST: usize = 10;

/// When how many rows were acknowledged.
#[derive(Debug)]
pub(super) struct Pace {
    begin: Instant,
    /// Rows, and seconds since the beginning; both grow.
    marks: Vec<(u64, f64)>,
}

/// A tenth of an import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tenth {
    /// Rows acknowledged in it.
    pub rows: u64,
    /// How long that took.
    pub seconds: f64,
}

impl Tenth {
    /// Rows acknowledged in a second.
    #[allow(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
    pub fn rows_per_s(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }
}

impl Pace {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self { begin: stopwatch(), marks: Vec::new() }
    }

    /// So many rows are acknowledged by now.
    pub(super) fn mark(&mut self, rows: u64) {
        self.mark_at(rows, self.begin.elapsed().as_secs_f64());
    }

    fn mark_at(&mut self, rows: u64, seconds: f64) {
        if self.marks.len() == MARKS {
            // The last one stays.
            let mut odd = true;
            self.marks.retain(|_| {
                odd = !odd;
                odd
            });
        }
        self.marks.push((rows, seconds));
    }

    /// The ten tenths; none of what was too short to have them.
    #[allow(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
    pub(super) fn tenths(&self) -> Vec<Tenth> {
        let Some((all, _)) = self.marks.last().copied().filter(|_| self.marks.len() >= FEWEST) else {
            return Vec::new();
        };
        // When so many rows were there: between two marks they came in one by one.
        let when = |rows: u64| {
            let behind = self.marks.partition_point(|(marked, _)| *marked < rows);
            let (to, end) = self.marks.get(behind).copied().unwrap_or_default();
            let (from, start) = behind.checked_sub(1).map_or((0, 0.0), |index| self.marks[index]);
            start + (end - start) * (rows - from) as f64 / (to - from).max(1) as f64
        };
        let at = |tenth: u64| all / 10 * tenth + all % 10 * tenth / 10;
        let tenth = |number: u64| Tenth {
            rows: at(number + 1) - at(number),
            seconds: when(at(number + 1)) - if number == 0 { 0.0 } else { when(at(number)) },
        };
        (0..10).map(tenth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(batches: u64, seconds: impl Fn(u64) -> f64) -> Vec<Tenth> {
        let mut pace = Pace::new();
        for batch in 1..=batches {
            pace.mark_at(batch * 5_000, seconds(batch));
        }
        pace.tenths()
    }

    #[test]
    fn tenths_add_up_to_all_rows_and_all_the_time() {
        for batches in [10, 37, 2_000, 100_003] {
            let tenths = paced(batches, |batch| batch as f64 * 0.1);
            assert_eq!(tenths.len(), 10);
            assert_eq!(tenths.iter().map(|tenth| tenth.rows).sum::<u64>(), batches * 5_000);
            let seconds: f64 = tenths.iter().map(|tenth| tenth.seconds).sum();
            assert!((seconds - batches as f64 * 0.1).abs() < 1e-6);
            assert!(tenths.iter().all(|tenth| (tenth.rows_per_s() - 50_000.0).abs() < 10.0), "{tenths:?}");
        }
    }

    #[test]
    fn an_import_that_slows_down_is_seen_to() {
        let tenths = paced(1_000, |batch| if batch <= 900 { batch as f64 } else { 900.0 + 2.0 * (batch - 900) as f64 });
        assert!((tenths[9].rows_per_s() / tenths[0].rows_per_s() - 0.5).abs() < 1e-6, "{tenths:?}");
        assert!(paced(9, |batch| batch as f64).is_empty());
    }
}
