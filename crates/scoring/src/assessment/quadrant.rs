//! The loyalty quadrant: profit by length of relationship (Reinartz & Kumar, The Mismanagement of Customer Loyalty, HBR 2002).
use proto::scoring::v1::{Evidence, LoyaltyQuadrant, Tier};

use super::{Subject, figure};
use crate::{
    pyramid::Basis,
    score::evidence::{evidence, span},
};

/// Profitable: brought a profit, and more of it than the lower half of those who bought, where a ranking can tell. Lasting: so many weeks lie
/// between the first and the last occasion.
pub(super) fn quadrant(subject: &Subject<'_>) -> (LoyaltyQuadrant, &'static str, Evidence) {
    const STATE: &str = "loyalty_quadrant";
    let Some((_, values)) = subject.buyer else {
        let text = "Has not bought, so there is neither profit nor a relationship to judge.";
        return (LoyaltyQuadrant::Unspecified, "", evidence(STATE, "has-not-bought", text.to_owned(), &[]));
    };
    let realised = values.realised_minor;
    let half = subject.cut_offs.and_then(|cut_offs| cut_offs.ends(Basis::Realised)).map(|ends| ends.ordinary);
    let in_upper_half = subject
        .cut_offs
        .is_none_or(|cut_offs| cut_offs.tier(Basis::Realised, realised, subject.customer) != Tier::Small);
    let profitable = realised > 0 && in_upper_half;
    let min_weeks = subject.thresholds.lasting_min_weeks;
    let lasting = subject.span_weeks() >= min_weeks;
    let (quadrant, rule, treatment) = match (profitable, lasting) {
        (true, true) => (LoyaltyQuadrant::TrueFriend, "profitable-and-lasting", "Invest and delight."),
        (true, false) => (LoyaltyQuadrant::Butterfly, "profitable-not-lasting", "Sell while they are here, then stop."),
        (false, true) => {
            let treatment = "Find out whether they could buy more; if not, cut the cost of serving them.";
            (LoyaltyQuadrant::Barnacle, "lasting-not-profitable", treatment)
        }
        (false, false) => (LoyaltyQuadrant::Stranger, "neither-profitable-nor-lasting", "No investment."),
    };
    let mut figures = vec![
        ("realised_minor", figure(realised)),
        ("span_weeks", subject.span_weeks()),
        ("lasting_min_weeks", min_weeks),
    ];
    figures.extend(half.map(|end| ("upper_half_ends_at_minor", figure(end.value_minor))));
    let against = match half {
        Some(end) => format!("the upper half of customers begins at {}", subject.money(end.value_minor.max(0))),
        None => "customers have not been ranked yet, so any profit counts".to_owned(),
    };
    let text = format!(
        "Brought a profit of {} so far ({against}) over {} from the first to the last purchase (lasting from {} on). {treatment}",
        subject.money(realised),
        span(subject.span_weeks() * super::WEEK),
        span(min_weeks * super::WEEK),
    );
    (quadrant, treatment, evidence(STATE, rule, text, &figures))
}
