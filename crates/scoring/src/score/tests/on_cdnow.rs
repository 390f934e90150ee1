//! Real customers.

use std::collections::BTreeMap;

use super::*;

/// The states of everybody as of 1998-06-30, by the cut-offs of that day.
fn standings() -> Vec<(Summary, Score)> {
    let (books, models, thresholds, today) = (books(), models(), Thresholds::default(), cdnow::last_day());
    let summaries = cdnow::summaries(today);
    let customers = summaries.iter().map(|(customer, summary)| {
        let values = values(summary, &books, Some(&models), today);
        Ranked {
            customer: *customer,
            realised_minor: values.realised_minor,
            expected_minor: values.expected_minor,
            revenue_minor: summary.sales_minor,
        }
    });
    let ranking = rank(&mut customers.collect::<Vec<_>>());
    let score = |(customer, summary): (Uuid, Summary)| {
        let cut_offs = Some(&ranking.cut_offs);
        let facts = Facts::default();
        let score = compute(customer, Some(&summary), facts, &books, &thresholds, Some(&models), cut_offs, today, true);
        (summary, score)
    };
    summaries.into_iter().map(score).collect()
}

fn counts<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

#[test]
fn the_default_thresholds_tell_customers_apart() {
    let standings = standings();
    let of = |name: fn(&Standing) -> &'static str| {
        let counts = counts(standings.iter().map(|(_, score)| name(&score.standing)));
        counts.into_iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>()
    };
    assert_eq!(
        of(|s| s.relationship.as_str_name()),
        ["RELATIONSHIP_LOST 1580", "RELATIONSHIP_LOYAL 177", "RELATIONSHIP_REPEAT 600",]
    );
    assert_eq!(
        of(|s| s.stage.as_str_name()),
        [
            "LIFE_CYCLE_STAGE_DECLINE 153",
            "LIFE_CYCLE_STAGE_DEPARTURE 1631",
            "LIFE_CYCLE_STAGE_GROWTH 45",
            "LIFE_CYCLE_STAGE_MATURITY 528",
        ]
    );
    assert_eq!(
        of(|s| s.tier.as_str_name()),
        ["TIER_IMPORTANT 24", "TIER_MAJOR 448", "TIER_ORDINARY 707", "TIER_SMALL 1178",]
    );
    assert_eq!(of(|s| s.code.as_str_name()), ["CUSTOMER_CODE_A 424", "CUSTOMER_CODE_B 298", "CUSTOMER_CODE_C 1635",]);
    assert!(standings.iter().all(|(_, score)| !score.standing.estimated));
}

#[test]
fn who_bought_once_and_was_silent_for_seventy_weeks_is_lost() {
    let once: Vec<_> = standings().into_iter().filter(|(summary, _)| summary.occasions == 1).collect();
    assert_eq!(once.len(), 1_218);
    for (_, score) in once {
        assert_eq!(score.standing.relationship, Relationship::Lost);
        assert!((0.30..0.33).contains(&score.values.unwrap().p_alive));
    }
}

/// States as of 1997-09-30 by a fit up to then, and who bought in the 39 weeks after.
#[test]
fn the_loyal_come_again() {
    let until = cdnow::day(jiff::civil::date(1997, 9, 30));
    let parameters = value::Parameters { r: 0.52484, alpha: 6.18308, a: 0.89136, b: 1.614 };
    let one_timers = value::MbgNbd::new(parameters).unwrap();
    let models = Models::new(
        models().id,
        one_timers.into(),
        Some(one_timers),
        Some(cdnow::spend()),
        value::clv::Terms::default(),
    );
    let (facts, books, thresholds) = (Facts::default(), books(), Thresholds::default());
    let later: BTreeMap<Uuid, Summary> = cdnow::summaries(cdnow::last_day()).into_iter().collect();
    let mut came_again: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (customer, summary) in cdnow::summaries(until) {
        let score = compute(customer, Some(&summary), facts, &books, &thresholds, Some(&models), None, until, false);
        let entry = came_again.entry(score.standing.relationship.as_str_name()).or_default();
        entry.0 += u32::from(later[&customer].occasions > summary.occasions);
        entry.1 += 1;
    }
    let came_again: Vec<_> = came_again.into_iter().collect();
    assert_eq!(
        came_again,
        [
            ("RELATIONSHIP_FIRST_TIME", (193, 1_411)),
            // Within nine months no silence is long yet, and frequent buyers are doubted soon.
            ("RELATIONSHIP_LOST", (93, 282)),
            ("RELATIONSHIP_LOYAL", (67, 78)),
            ("RELATIONSHIP_REPEAT", (331, 586)),
        ]
    );
}

#[test]
fn an_agent_can_read_the_evidence_of_every_customer() {
    let mut rules = BTreeMap::new();
    for evidence in standings().into_iter().flat_map(|(_, score)| score.evidence) {
        let text = &evidence.text;
        for jargon in ["alive", "NBD", "Laplace", "recency", "ratio of", "percentile", "trend_", "NaN", "inf", "  "] {
            assert!(!text.contains(jargon), "{text}");
        }
        assert!(text.ends_with('.') && text.len() < 240, "{text}");
        assert!(text.chars().any(|c| c.is_ascii_digit()), "no figure: {text}");
        assert!(!evidence.figures.is_empty());
        assert!(evidence.figures.iter().all(|figure| figure.value.is_finite()), "{text}");
        rules.entry((evidence.state, evidence.rule)).or_insert(evidence.text);
    }
    let rules: Vec<String> = rules.into_keys().map(|(state, rule)| format!("{state}: {rule}")).collect();
    assert_eq!(
        rules,
        [
            "code: best-customer",
            "code: expected-in-top-fifth",
            "code: general",
            "code: headroom-in-top-fifth",
            "relationship: bought-again",
            "relationship: keeps-buying",
            "relationship: most-likely-gone",
            "stage: buys-less-often",
            "stage: buys-more-often",
            "stage: most-likely-gone",
            "stage: overdue",
            "stage: steady-pace",
            "stage: too-few-for-trend",
            "tier: last-50-percent",
            "tier: top-1-percent",
            "tier: top-20-percent",
            "tier: top-50-percent",
        ]
    );
}
