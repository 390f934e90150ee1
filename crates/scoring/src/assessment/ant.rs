//! Ant to elephant: small today, and growing. Judged on a period against the one before, never on a moment. Growth alone is looked at, not whether
//! their attributes are those of key customers.
use proto::scoring::v1::{Answer, Evidence, Tier};

use super::{Subject, figure, share, unknown};
use crate::score::evidence::evidence;

pub(super) fn ant_to_elephant(subject: &Subject<'_>) -> (Answer, Evidence) {
    const STATE: &str = "ant_to_elephant";
    let unknown = |text: &str| (Answer::Unspecified, unknown(STATE, text));
    let thresholds = subject.thresholds;
    if subject.buyer.is_none() {
        return unknown("Has not bought, so there is no growth to see.");
    }
    let small = match subject.standing.tier {
        Tier::Small | Tier::Ordinary => true,
        Tier::Important | Tier::Major => false,
        Tier::Unspecified => return unknown("Customers have not been ranked yet, so nobody is known to be small."),
    };
    if !small {
        let text = "Is a key customer already.".to_owned();
        return (Answer::No, evidence(STATE, "key-customer", text, &[]));
    }
    let (weeks, age) = (thresholds.period_weeks, subject.age_weeks());
    if age < 2.0 * weeks {
        return unknown("Is with us for less than two periods; growth needs both to be seen.");
    }
    let (recent, before) = (subject.dealings.recent, subject.dealings.before);
    let enough = recent.occasions >= i64::from(thresholds.ant_min_occasions);
    // Where nothing was bought before, whatever is bought now is growth, if there is enough of it.
    let growth = share(recent.net_minor, before.net_minor);
    let grows = growth.map_or(recent.net_minor > 0, |growth| growth >= thresholds.ant_min_growth);
    let mut figures = vec![
        ("period_weeks", weeks),
        ("recent_net_minor", figure(recent.net_minor)),
        ("before_net_minor", figure(before.net_minor)),
        ("recent_occasions", recent.occasions as f64),
        ("ant_min_growth", thresholds.ant_min_growth),
        ("ant_min_occasions", f64::from(thresholds.ant_min_occasions)),
    ];
    figures.extend(growth.map(|growth| ("growth", growth)));
    let text = format!(
        "Bought for {} on {} days of the last {weeks:.0} weeks, and for {} in the {weeks:.0} before.",
        subject.money(recent.net_minor),
        recent.occasions,
        subject.money(before.net_minor),
    );
    let (holds, rule) = match (enough, grows) {
        (true, true) => (true, "small-and-growing"),
        (true, false) => (false, "does-not-grow"),
        (false, _) => (false, "too-few-purchases"),
    };
    (super::answer(holds), evidence(STATE, rule, text, &figures))
}
