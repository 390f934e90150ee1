//! Why the states are what they are: the rule, the figures it used, and one sentence for the agent.

use proto::scoring::v1::{Evidence, Figure, Tier};

use super::{Books, Buyer, Case, CodeRule, DAYS_A_WEEK, RelationshipRule, StageRule};

pub(super) fn relationship(case: &Case<'_>, rule: RelationshipRule) -> Evidence {
    let thresholds = case.thresholds;
    let Some(buyer) = &case.buyer else {
        let rate = thresholds.success_rate_new;
        let odds = format!("of such customers {} buy when we offer", percent(rate));
        let (name, text) = match rule {
            RelationshipRule::ShowedInterest if case.facts.targeted => {
                ("showed-interest", format!("Turned to us, was also chosen by us, and has not bought yet; {odds}."))
            }
            RelationshipRule::ShowedInterest => {
                ("showed-interest", format!("Turned to us and has not bought yet; {odds}."))
            }
            RelationshipRule::Targeted => ("targeted", format!("Was chosen by us and has not bought yet; {odds}.")),
            _ => ("no-dealings", "Has not bought, has not turned to us and was not chosen by us.".to_owned()),
        };
        let figures = [
            ("showed_interest", f64::from(u8::from(case.facts.showed_interest))),
            ("targeted", f64::from(u8::from(case.facts.targeted))),
            ("success_rate", rate),
        ];
        // A rate says nothing about those nobody sells to.
        let count = if matches!(rule, RelationshipRule::NoDealings) { 2 } else { 3 };
        return evidence("relationship", name, text, &figures[..count]);
    };
    let history = &buyer.history;
    let bought = bought(buyer);
    let chance = chance(buyer);
    let mut figures = buying_figures(buyer);
    let (name, text, rate) = match rule {
        RelationshipRule::MostLikelyGone => {
            let rate = thresholds.success_rate_lost;
            figures.push(("lost_below_p_alive", thresholds.lost_below_p_alive));
            let back = percent(rate);
            ("most-likely-gone", format!("{bought}; {chance}. Of such customers {back} can be won back."), Some(rate))
        }
        RelationshipRule::KeepsBuying => {
            figures.push(("loyal_min_p_alive", thresholds.loyal_min_p_alive));
            figures.push(("mean_gap_days", history.gap_days().unwrap_or(0.0)));
            let rhythm = history.gap_days().map(|gap| format!("about every {}", span(gap))).unwrap_or_default();
            let rate = thresholds.success_rate_repeat;
            ("keeps-buying", format!("{bought}, {rhythm}; {chance}."), Some(rate))
        }
        RelationshipRule::BoughtOnce => {
            ("bought-once", format!("{bought}; {chance}."), Some(thresholds.success_rate_first_time))
        }
        RelationshipRule::BoughtAgain => {
            ("bought-again", format!("{bought}; {chance}."), Some(thresholds.success_rate_repeat))
        }
        _ => ("occasions-alone", format!("{bought}; there is no forecast yet."), None),
    };
    figures.extend(rate.map(|rate| ("success_rate", rate)));
    evidence("relationship", name, text, &figures)
}

pub(super) fn stage(case: &Case<'_>, rule: StageRule) -> Evidence {
    let thresholds = case.thresholds;
    let Some(buyer) = &case.buyer else {
        return evidence("stage", "has-not-bought", "Has not bought and is yet to be won.".to_owned(), &[]);
    };
    let history = &buyer.history;
    let (bought, chance) = (bought(buyer), chance(buyer));
    let mut figures = buying_figures(buyer);
    let trend = history.trend(thresholds.trend_min_repeats);
    if let Some(trend) = trend {
        figures.push(("trend_z", trend));
        figures.push(("trend_min_z", thresholds.trend_min_z));
    }
    // An even pace puts the purchases half-way on average.
    let lean = percent(history.mean_day / history.age_days.max(1) as f64);
    let pace = format!(
        "the later purchases lie on average {lean} of the way from the first to today, where an even pace gives 50 %"
    );
    let (name, text) = match rule {
        StageRule::MostLikelyGone => {
            figures.push(("departure_below_p_alive", thresholds.departure_below_p_alive));
            ("most-likely-gone", format!("{bought}; {chance}."))
        }
        StageRule::Overdue => {
            figures.push(("decline_below_p_alive", thresholds.decline_below_p_alive));
            ("overdue", format!("{bought}, so the next purchase is overdue; {chance}."))
        }
        StageRule::BoughtOnce => {
            ("bought-once", format!("{bought}; {chance}, and the second purchase is yet to be won."))
        }
        StageRule::TooFewForTrend => {
            figures.push(("trend_min_repeats", f64::from(thresholds.trend_min_repeats)));
            ("too-few-for-trend", format!("{bought}; {chance}, and there are too few purchases to see a trend."))
        }
        StageRule::BuysMoreOften => ("buys-more-often", format!("{bought}, more often than before: {pace}.")),
        StageRule::BuysLessOften => ("buys-less-often", format!("{bought}, less often than before: {pace}.")),
        // Who has not bought was answered above.
        StageRule::SteadyPace | StageRule::HasNotBought => {
            ("steady-pace", format!("{bought}, with no clear change of pace: {pace}."))
        }
    };
    evidence("stage", name, text, &figures)
}

pub(super) fn tier(case: &Case<'_>, tier: Tier, books: &Books) -> Evidence {
    let Some(buyer) = &case.buyer else {
        return evidence("tier", "has-not-bought", "Has not bought, so there is no value to rank.".to_owned(), &[]);
    };
    let mut figures = value_figures(buyer);
    let worth = worth(buyer, books);
    let ends = case.cut_offs.and_then(|cut_offs| cut_offs.lifetime.as_ref());
    let Some(ends) = ends else {
        return evidence(
            "tier",
            "not-ranked",
            format!("{worth}; customers have not been ranked by lifetime value yet."),
            &figures,
        );
    };
    let (name, place, next) = match tier {
        Tier::Important => ("top-1-percent", "among the first 1 % of customers", None),
        Tier::Major => ("top-20-percent", "among the first 20 % of customers", Some(ends.important)),
        Tier::Ordinary => ("top-50-percent", "among the first half of customers", Some(ends.major)),
        Tier::Small | Tier::Unspecified => ("last-50-percent", "in the second half of customers", Some(ends.ordinary)),
    };
    let limit = match tier {
        Tier::Important => Some(ends.important),
        Tier::Major => Some(ends.major),
        Tier::Ordinary => Some(ends.ordinary),
        Tier::Small | Tier::Unspecified => None,
    };
    figures.extend(limit.map(|end| ("tier_ends_at_minor", end.value_minor as f64)));
    figures.extend(next.map(|end| ("next_tier_ends_at_minor", end.value_minor as f64)));
    let next =
        next.map(|end| format!("; the tier above starts at {}", money(end.value_minor, books))).unwrap_or_default();
    evidence("tier", name, format!("{worth}: {place} by the last ranking{next}."), &figures)
}

pub(super) fn code(case: &Case<'_>, rule: CodeRule, books: &Books) -> Evidence {
    let Some(buyer) = &case.buyer else {
        let rate = case.thresholds.success_rate_new;
        let odds = percent(rate);
        let major = case.cut_offs.and_then(|cut_offs| cut_offs.lifetime.as_ref()).map(|ends| ends.major.value_minor);
        let (Some(potential), Some(major)) = (case.facts.potential_minor, major) else {
            let text = format!(
                "Has not bought, and nothing tells yet what they could be worth; of such customers {odds} buy when we offer."
            );
            return evidence("code", "has-not-bought", text, &[("success_rate", rate)]);
        };
        let expected = potential as f64 * rate;
        let figures = [
            ("potential_minor", potential as f64),
            ("tier_ends_at_minor", major as f64),
            ("success_rate", rate),
            ("expected_minor", expected),
        ];
        let (name, place) = match rule {
            CodeRule::HighPotential => ("potential-of-a-key-customer", "as much as"),
            _ => ("potential-below-key-customers", "less than"),
        };
        let text = format!(
            "Has not bought. Buyers of their kind are worth {}, {place} a key customer ({} or more); of such customers {odds} \
             buy when we offer, which makes {}.",
            money(potential, books),
            money(major, books),
            money(expected.round() as i64, books),
        );
        return evidence("code", name, text, &figures);
    };
    let mut figures = value_figures(buyer);
    let worth = worth(buyer, books);
    let end = |place: Option<crate::pyramid::Place>| place.map_or(0, |place| place.value_minor);
    let cut_offs = case.cut_offs.copied().unwrap_or_default();
    let (name, text) = match rule {
        CodeRule::BestCustomer => {
            let end = end(cut_offs.realised_fifth);
            figures.push(("realised_top_fifth_ends_at_minor", end as f64));
            let end = money(end, books);
            (
                "best-customer",
                format!("{worth}: a key customer whose profit so far is in the top fifth, from {end} on."),
            )
        }
        CodeRule::HighExpectation => {
            let end = end(cut_offs.expected_fifth);
            figures.push(("expected_top_fifth_ends_at_minor", end as f64));
            let end = money(end, books);
            ("expected-in-top-fifth", format!("{worth}: what is still expected is in the top fifth, from {end} on."))
        }
        CodeRule::HighHeadroom => {
            let ratio = buyer.values.expected_minor as f64 / buyer.values.realised_minor as f64;
            // A figure has to be a number: nothing realised, nothing to divide by.
            if ratio.is_finite() {
                figures.push(("headroom", ratio));
            }
            if let Some(end) = cut_offs.headroom_fifth.map(|end| end.ratio()).filter(|end| end.is_finite()) {
                figures.push(("headroom_top_fifth_ends_at", end));
            }
            let text = if ratio.is_finite() {
                format!("{worth}: {ratio:.1} times as much is still expected as was earned, a ratio in the top fifth.")
            } else {
                format!("{worth}: nothing was earned yet, so all growth is still to come.")
            };
            ("headroom-in-top-fifth", text)
        }
        CodeRule::NotRanked => (
            "not-ranked",
            format!("{worth}; the code is an estimate until customers have been ranked by lifetime value."),
        ),
        CodeRule::General | CodeRule::HasNotBought | CodeRule::HighPotential | CodeRule::LowPotential => {
            ("general", format!("{worth}: neither the profit so far nor what is expected sets them apart."))
        }
    };
    evidence("code", name, text, &figures)
}

pub(crate) fn evidence(state: &str, rule: &str, text: String, figures: &[(&str, f64)]) -> Evidence {
    let figures = figures.iter().map(|(name, value)| Figure { name: (*name).to_owned(), value: *value }).collect();
    Evidence { state: state.to_owned(), rule: rule.to_owned(), text, figures }
}

fn buying_figures(buyer: &Buyer) -> Vec<(&'static str, f64)> {
    let history = &buyer.history;
    let mut figures = vec![
        ("occasions", f64::from(history.occasions)),
        ("recency_weeks", history.recency_days as f64 / DAYS_A_WEEK),
        ("age_weeks", history.age_days as f64 / DAYS_A_WEEK),
    ];
    figures.extend(buyer.p_alive.map(|p_alive| ("p_alive", p_alive)));
    figures
}

fn value_figures(buyer: &Buyer) -> Vec<(&'static str, f64)> {
    let mut figures = vec![("realised_minor", buyer.values.realised_minor as f64)];
    if buyer.valued {
        figures.push(("expected_minor", buyer.values.expected_minor as f64));
        figures.push(("lifetime_minor", buyer.values.lifetime_minor as f64));
    }
    figures
}

/// "Bought on 7 days over 40 weeks, last 3 weeks ago".
fn bought(buyer: &Buyer) -> String {
    let history = &buyer.history;
    let ago = match history.silence_days() {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{} ago", span(days as f64)),
    };
    match history.occasions {
        1 => format!("Bought on one day, {ago}"),
        occasions => format!("Bought on {occasions} days over {}, last {ago}", span(history.recency_days as f64)),
    }
}

fn chance(buyer: &Buyer) -> String {
    match buyer.p_alive {
        Some(p_alive) => format!("the chance that they are still a customer is {}", percent(p_alive)),
        None => "there is no forecast yet".to_owned(),
    }
}

/// "Brought a profit of 120.50 so far and 80.00 is expected, 200.50 in all".
fn worth(buyer: &Buyer, books: &Books) -> String {
    let values = &buyer.values;
    let [realised, expected, lifetime] =
        [values.realised_minor, values.expected_minor, values.lifetime_minor].map(|minor| money(minor, books));
    if !buyer.valued {
        return format!("Brought a profit of {realised} so far, and there is no forecast of what is to come");
    }
    format!("Brought a profit of {realised} so far and {expected} is expected, {lifetime} in all")
}

pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent > 99.0 && percent < 100.0 => "more than 99 %".to_owned(),
        percent if percent > 0.0 && percent < 1.0 => "less than 1 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

/// Days, or weeks from two on.
pub(crate) fn span(days: f64) -> String {
    let (count, unit) = if days < 2.0 * DAYS_A_WEEK { (days, "day") } else { (days / DAYS_A_WEEK, "week") };
    let count = format!("{count:.0}");
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// In major units with as many decimals as there are minor ones, in groups of three; the currency is the deployment's.
pub(crate) fn money(minor: i64, books: &Books) -> String {
    let decimals = match books.minor_per_major {
        per if per >= 10_000.0 => 4_usize,
        per if per >= 1_000.0 => 3,
        per if per >= 100.0 => 2,
        per if per >= 10.0 => 1,
        _ => 0,
    };
    let per = 10_u64.pow(decimals as u32);
    let digits = (minor.unsigned_abs() / per).to_string();
    let mut text = String::from(if minor < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if decimals > 0 {
        let rest = minor.unsigned_abs() % per;
        text.push_str(&format!(".{rest:0decimals$}"));
    }
    text
}
