//! Ant to elephant: small today, and growing, or with attributes like those who became key customers. Growth is judged on a period against the one
//! before, never on a moment; attributes by what those who have them are typically worth. Either is enough. That somebody is none is said only where
//! both periods show that they do not grow: attributes that are not known, or of no use, do not demote anybody.
use proto::scoring::v1::{Answer, Evidence, Tier};

use super::{Subject, figure, share, unknown};
use crate::{pyramid::Basis, score::evidence::evidence};

const STATE: &str = "ant_to_elephant";

pub(super) fn ant_to_elephant(subject: &Subject<'_>) -> (Answer, Evidence) {
    let unknown = |text: &str| (Answer::Unspecified, unknown(STATE, text));
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
    let (growth, likeness) = (growth(subject), likeness(subject));
    let (answer, rule) = match (&growth, &likeness) {
        (Some(Sign { rule: None, .. }), _) => (Answer::Yes, "small-and-growing"),
        (_, Some(Sign { rule: None, .. })) => (Answer::Yes, "small-and-like-key-customers"),
        (Some(Sign { rule: Some(rule), .. }), _) => (Answer::No, *rule),
        (None, _) => (Answer::Unspecified, "unknown"),
    };
    let texts = [
        growth
            .as_ref()
            .map_or("Is with us for less than two periods; growth needs both to be seen.", |sign| &sign.text),
        likeness.as_ref().map_or("What those with their attributes are worth is not known.", |sign| &sign.text),
    ];
    let figures: Vec<_> = [&growth, &likeness].into_iter().flatten().flat_map(|sign| sign.figures.clone()).collect();
    (answer, evidence(STATE, rule, texts.join(" "), &figures))
}

/// What speaks for an elephant to be, or does not.
struct Sign {
    /// Why it does not speak for one; absent where it does.
    rule: Option<&'static str>,
    text: String,
    figures: Vec<(&'static str, f64)>,
}

/// Absent for who is not with us for two periods.
fn growth(subject: &Subject<'_>) -> Option<Sign> {
    let thresholds = subject.thresholds;
    let weeks = thresholds.period_weeks;
    if subject.age_weeks() < 2.0 * weeks {
        return None;
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
    let rule = match (enough, grows) {
        (true, true) => None,
        (true, false) => Some("does-not-grow"),
        (false, _) => Some("too-few-purchases"),
    };
    Some(Sign { rule, text, figures })
}

/// Absent where it is not known what those with their attributes are worth, or from where on somebody is a key customer.
fn likeness(subject: &Subject<'_>) -> Option<Sign> {
    let typical = subject.typical_minor?;
    let begin = subject.cut_offs?.ends(Basis::Lifetime)?.major.value_minor;
    let likeness = share(typical, begin)?;
    let least = subject.thresholds.ant_min_likeness;
    let text = format!(
        "Those with their attributes are typically worth {}, where key customers begin at {}.",
        subject.money(typical),
        subject.money(begin)
    );
    let figures = vec![
        ("typical_minor", figure(typical)),
        ("key_customers_begin_at_minor", figure(begin)),
        ("likeness", likeness),
        ("ant_min_likeness", least),
    ];
    Some(Sign { rule: (likeness < least).then_some("not-like-key-customers"), text, figures })
}
