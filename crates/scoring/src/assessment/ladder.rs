//! The loyalty ladder: how far a customer has come.
use proto::scoring::v1::{Evidence, LoyaltyRung};

use super::Subject;
use crate::score::evidence::evidence;

pub(super) fn rung(subject: &Subject<'_>) -> (LoyaltyRung, Evidence) {
    let dealings = subject.dealings;
    let occasions = subject.buyer.map_or(0, |(summary, _)| summary.occasions);
    let min = subject.thresholds.advocate_min_referrals;
    let mut figures = vec![("occasions", f64::from(occasions))];
    // No introduction on record is no evidence that there was none.
    if dealings.introduced > 0 {
        figures.push(("introduced", dealings.introduced as f64));
        figures.push(("introduced_buyers", dealings.introduced_buyers as f64));
        figures.push(("advocate_min_referrals", f64::from(min)));
    }
    let brought = match dealings.introduced {
        0 => "nobody is known whom they introduced".to_owned(),
        introduced => format!("introduced {introduced}, of whom {} bought", dealings.introduced_buyers),
    };
    let (rung, rule, text) = match occasions {
        0 if subject.facts.showed_interest || subject.facts.targeted => {
            (LoyaltyRung::Prospect, "interest-or-choice", format!("Turned to us or was chosen by us; {brought}."))
        }
        0 => (LoyaltyRung::Suspect, "no-dealings", format!("Has bought nothing yet; {brought}.")),
        _ if dealings.introduced_buyers >= i64::from(min) => {
            (LoyaltyRung::Advocate, "brings-others", format!("Buys and brings others: {brought}."))
        }
        1 => (LoyaltyRung::FirstTime, "bought-once", format!("Bought on one day; {brought}.")),
        days => (LoyaltyRung::Repeat, "bought-again", format!("Bought on {days} days; {brought}.")),
    };
    (rung, evidence("loyalty_ladder", rule, text, &figures))
}
