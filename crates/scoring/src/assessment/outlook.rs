//! When the next occasion is to be expected, and how much is to be expected within a year.
//!
//! All three models of buying hold a customer's occasions to be Poisson at a rate of theirs while they are alive. Given alive, the rate is
//! Gamma(r + x, α + T), so the waiting time is Lomax: P(W > w) = ((α+T)/(α+T+w))^(r+x). Under BG/NBD and MBG/NBD nobody leaves between two
//! occasions; under Pareto/NBD it is the waiting time of who stays.
use proto::scoring::v1::{self as pb, Evidence};

use super::{Subject, WEEK, figure};
use crate::{
    calendar,
    score::{self, Day, evidence::evidence},
};

/// What lies further ahead is no date to plan by: ten years.
const FAR_DAYS: f64 = 3_653.0;

/// `None` without models and for who has not bought.
pub(super) fn next_purchase(subject: &Subject<'_>) -> Option<pb::NextPurchase> {
    let (summary, _) = subject.buyer?;
    let (shape, scale_weeks) = score::buying_rate(summary, subject.models?, subject.today)?;
    let wait = |quantile: f64| waiting_weeks(shape, scale_weeks, quantile) * WEEK;
    let thresholds = subject.thresholds;
    let [early, middle, late] = [thresholds.next_purchase_early, 0.5, thresholds.next_purchase_late].map(wait);
    let from = i64::from(subject.today).max(summary.last_day.into());
    let day = |days: f64| {
        let day = (days <= FAR_DAYS).then(|| from.saturating_add(days.ceil() as i64))?;
        Day::try_from(day).ok().map(calendar::to_proto)
    };
    let text =
        |days: f64| if days <= FAR_DAYS { score::evidence::span(days) } else { "more than ten years".to_owned() };
    let sentence = format!(
        "If they are still a customer, half of such customers buy again within {}, most likely between {} and {} from now.",
        text(middle),
        text(early),
        text(late),
    );
    let mut figures = vec![
        ("rate_shape", shape),
        ("rate_scale_weeks", scale_weeks),
        ("next_purchase_early", thresholds.next_purchase_early),
        ("next_purchase_late", thresholds.next_purchase_late),
    ];
    figures.extend(
        [("early_days", early), ("median_days", middle), ("late_days", late)].iter().filter(|f| f.1.is_finite()),
    );
    Some(pb::NextPurchase {
        from: day(early),
        expected: day(middle),
        until: day(late),
        evidence: Some(evidence("next_purchase", "waiting-time-given-alive", sentence, &figures)),
    })
}

/// The quantile of a Lomax waiting time; may be infinite, is never less than 0 and no NaN for quantiles within 0 and 1.
pub(super) fn waiting_weeks(shape: f64, scale_weeks: f64, quantile: f64) -> f64 {
    scale_weeks * (-(-quantile).ln_1p() / shape).exp_m1()
}

/// Minor units; `None` without models of buying and of spending, and for who has not bought.
pub(super) fn spend_52w(subject: &Subject<'_>) -> Option<(i64, Evidence)> {
    let (_, values) = subject.buyer?;
    subject.models.filter(|models| models.value_the_future())?;
    let spend = values.expected_occasions_52w * values.expected_spend_minor as f64;
    let minor = spend.round() as i64;
    let text = format!(
        "Expected to buy on {:.1} days of the next 52 weeks, for {} each time: {} in all.",
        values.expected_occasions_52w,
        subject.money(values.expected_spend_minor),
        subject.money(minor),
    );
    let figures = [
        ("expected_occasions_52w", values.expected_occasions_52w),
        ("expected_spend_minor", figure(values.expected_spend_minor)),
        ("expected_spend_52w_minor", figure(minor)),
    ];
    Some((minor, evidence("expected_spend", "occasions-times-spend", text, &figures)))
}
