//! The risk that a customer has left.
use proto::scoring::v1::Evidence;

use super::Subject;
use crate::score::evidence::{evidence, percent, span};

/// 1 − P(alive), as the states judge it; `None` without models and for who has not bought.
pub(super) fn risk(subject: &Subject<'_>) -> Option<(f64, Evidence)> {
    let (summary, _) = subject.buyer?;
    let risk = 1.0 - subject.p_alive()?;
    let silent = super::weeks(summary.last_day, subject.today);
    let states = subject.states;
    let rule = if 1.0 - risk < states.departure_below_p_alive {
        "high"
    } else if 1.0 - risk < states.decline_below_p_alive {
        "raised"
    } else {
        "low"
    };
    let figures = [
        ("churn_risk", risk),
        ("silence_weeks", silent),
        ("decline_below_p_alive", states.decline_below_p_alive),
        ("departure_below_p_alive", states.departure_below_p_alive),
    ];
    let text =
        format!("After {} of silence the chance that they have left is {}.", span(silent * super::WEEK), percent(risk));
    Some((risk, evidence("churn_risk", rule, text, &figures)))
}
