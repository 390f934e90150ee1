//! How well a model foretells what it has not seen: fitted on the time up to a day, held against the time after it.
//!
//! Mean absolute error is left out on purpose: most customers buy nothing more, and nothing beats foretelling nothing for
//! all.

use std::collections::BTreeMap;

use crate::{BgNbd, Error, Fit, MbgNbd, Model, ParetoNbd, Summary, history::History, independence::Moments};

/// The most customers' first tenth, rounded up, counts as the top decile.
const DECILE: usize = 10;
const DAYS_A_WEEK: i32 = 7;

/// All models against the same later time.
#[derive(Debug, Clone)]
pub struct Report {
    /// The last day that the models were fitted on.
    pub calibration_end: i32,
    /// The last day that they are held against.
    pub end: i32,
    /// Customers who had come by the end of the calibration; later ones do not count.
    pub customers: u64,
    /// Occasions of theirs after it.
    pub occasions: u64,
    /// The share of these made by the tenth of customers who made most, at which [`Assessment::captured`] is to be
    /// measured; `None` when there were none at all.
    pub capturable: Option<f64>,
    /// In the order BG/NBD, MBG/NBD, Pareto/NBD.
    pub assessments: Vec<Assessment>,
    /// The models that could not be fitted, by name, with the reason.
    pub not_fitted: Vec<(&'static str, Error)>,
}

/// One model against the later time.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The fit on the time before.
    pub fit: Fit<Model>,
    /// Occasions that it had expected after it.
    pub expected: f64,
    /// Root of the mean squared difference between expected and actual occasions of a customer.
    pub rmse: f64,
    /// Correlation between the two; `None` when either is the same for all.
    pub correlation: Option<f64>,
    /// The share of the later occasions made by the tenth of customers of whom most had been expected.
    pub captured: Option<f64>,
    /// Repeat occasions of all customers, week by week from the first day on.
    pub tracking: Vec<Week>,
}

/// Repeat occasions of all customers up to the end of a week, and in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Week {
    /// Its last day.
    pub end: i32,
    /// Repeat occasions since the beginning.
    pub cumulative: u64,
    /// The same as the model has it for so many new customers, knowing nothing else of them.
    pub expected_cumulative: f64,
    /// Repeat occasions within the week.
    pub incremental: u64,
    /// The same as the model has it.
    pub expected_incremental: f64,
}

/// Fits every model on the occasions up to the end of `calibration_end` and holds it against those up to the end of `end`.
///
/// # Errors
/// [`Error::Invalid`] names `end` unless it is after `calibration_end`; [`Error::NoCustomers`] when nobody had come by
/// then; and when no model can be fitted, the reason for the first.
pub fn report(histories: &[History], calibration_end: i32, end: i32) -> Result<Report, Error> {
    if end <= calibration_end {
        let reason = "must be after the end of the calibration";
        return Err(Error::Invalid { field: "end", value: f64::from(end), reason });
    }
    let cases: Vec<Case> = histories
        .iter()
        .filter_map(|history| {
            let (summary, _) = history.summary(calibration_end)?;
            Some(Case { history, summary, actual: history.count(calibration_end, end) as f64 })
        })
        .collect();
    if cases.is_empty() {
        return Err(Error::NoCustomers);
    }
    let counted = || cases.iter().map(|case| (case.summary, 1));
    let fits = [
        ("BG/NBD", BgNbd::fit(counted()).map(|fit| fit.map(Model::from))),
        ("MBG/NBD", MbgNbd::fit(counted()).map(|fit| fit.map(Model::from))),
        ("Pareto/NBD", ParetoNbd::fit(counted()).map(|fit| fit.map(Model::from))),
    ];
    let course = Course::new(&cases, end);
    let actual: Vec<f64> = cases.iter().map(|case| case.actual).collect();
    let mut report = Report {
        calibration_end,
        end,
        customers: cases.len() as u64,
        occasions: actual.iter().sum::<f64>() as u64,
        capturable: captured(&actual, &actual),
        assessments: Vec::new(),
        not_fitted: Vec::new(),
    };
    let weeks = f64::from(end - calibration_end) / f64::from(DAYS_A_WEEK);
    for (name, fit) in fits {
        match fit {
            Ok(fit) => report.assessments.push(assess(fit, &cases, &actual, &course, weeks)),
            Err(error) => report.not_fitted.push((name, error)),
        }
    }
    match report.not_fitted.first() {
        Some((_, error)) if report.assessments.is_empty() => Err(error.clone()),
        _ => Ok(report),
    }
}

/// A customer before and after.
struct Case<'a> {
    history: &'a History,
    summary: Summary,
    actual: f64,
}

fn assess(fit: Fit<Model>, cases: &[Case], actual: &[f64], course: &Course, weeks: f64) -> Assessment {
    let expected: Vec<f64> = cases.iter().map(|case| fit.model.expected_occasions(&case.summary, weeks)).collect();
    let mut moments = Moments::default();
    let mut squares = 0.0;
    for (expected, actual) in expected.iter().zip(actual) {
        moments.add(*expected, *actual, 1.0);
        squares += (expected - actual) * (expected - actual);
    }
    Assessment {
        expected: expected.iter().sum(),
        rmse: (squares / cases.len() as f64).sqrt(),
        correlation: moments.correlation(),
        captured: captured(&expected, actual),
        tracking: course.tracking(&fit.model),
        fit,
    }
}

/// The share of `actual` that falls to the tenth of customers highest by `rank`; ties in the order given.
fn captured(rank: &[f64], actual: &[f64]) -> Option<f64> {
    let mut order: Vec<usize> = (0..rank.len()).collect();
    order.sort_by(|l, r| rank[*r].total_cmp(&rank[*l]));
    let top: f64 = order.iter().take(rank.len().div_ceil(DECILE)).map(|place| actual[*place]).sum();
    let all: f64 = actual.iter().sum();
    (all > 0.0).then(|| top / all)
}

/// What happened, day by day.
struct Course {
    /// How many came first on which day.
    firsts: BTreeMap<i32, u64>,
    /// How many repeat occasions were on which day.
    repeats: BTreeMap<i32, u64>,
    first: i32,
    end: i32,
}

impl Course {
    fn new(cases: &[Case], end: i32) -> Self {
        let (mut firsts, mut repeats) = (BTreeMap::new(), BTreeMap::new());
        for case in cases {
            if let [first, later @ ..] = case.history.until(end) {
                *firsts.entry(first.day).or_default() += 1;
                for occasion in later {
                    *repeats.entry(occasion.day).or_default() += 1;
                }
            }
        }
        let first = firsts.keys().next().copied().unwrap_or(end);
        Self { firsts, repeats, first, end }
    }

    fn tracking(&self, model: &Model) -> Vec<Week> {
        // E[X] of a customer so many days old, worked out once for all who were or will be.
        let ages = self.end.abs_diff(self.first);
        let by_age: Vec<f64> =
            (0..=ages).map(|days| model.expected_from_first(f64::from(days) / f64::from(DAYS_A_WEEK))).collect();
        let mut weeks: Vec<Week> = Vec::new();
        let mut from = self.first;
        while from <= self.end {
            let end = from.saturating_add(DAYS_A_WEEK - 1).min(self.end);
            let incremental: u64 = self.repeats.range(from..=end).map(|(_, count)| count).sum();
            let expected_cumulative: f64 = self
                .firsts
                .range(..=end)
                .map(|(first, count)| *count as f64 * by_age[end.abs_diff(*first) as usize])
                .sum();
            let before = weeks.last().map_or((0, 0.0), |week| (week.cumulative, week.expected_cumulative));
            weeks.push(Week {
                end,
                cumulative: before.0 + incremental,
                expected_cumulative,
                incremental,
                expected_incremental: expected_cumulative - before.1,
            });
            from = end.saturating_add(1);
        }
        weeks
    }
}
