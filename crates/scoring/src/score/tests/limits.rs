//! What holds for every input, the absurd included.

use super::*;

fn day() -> impl Strategy<Value = Day> {
    prop_oneof![4 => 9_000..12_000, 1 => any::<Day>(), 1 => Just(Day::MIN), 1 => Just(Day::MAX)]
}

fn minor() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..1_000_000_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX), 1 => Just(0)]
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..1.0, 2 => 1.0..1000.0, 1 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(0.0)]
}

fn summary() -> impl Strategy<Value = Summary> {
    let occasions = prop_oneof![4 => 0..40_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    (occasions, day(), day(), any::<i64>(), minor(), minor(), minor(), minor()).prop_map(
        |(occasions, first_day, last_day, day_sum, sales_minor, returns_minor, first_sales_minor, other)| Summary {
            occasions,
            first_day,
            last_day,
            day_sum,
            sales_minor,
            returns_minor,
            first_sales_minor,
            discount_minor: other,
            service_cost_minor: other,
        },
    )
}

fn odd_books() -> impl Strategy<Value = Books> {
    (real(), real()).prop_map(|(minor_per_major, margin_rate)| Books { minor_per_major, margin_rate })
}

fn odd_terms() -> impl Strategy<Value = value::clv::Terms> {
    (prop_oneof![9 => 0..40_u32, 1 => Just(1_200)], 0.0..1.0)
        .prop_map(|(months, monthly_rate)| value::clv::Terms::new(months, monthly_rate, 1.0).unwrap())
}

fn odd_thresholds() -> impl Strategy<Value = Thresholds> {
    (prop::array::uniform7(real()), any::<u32>(), any::<u32>()).prop_map(|(numbers, occasions, repeats)| {
        let [lost, departure, decline, loyal, span, gaps, z] = numbers;
        Thresholds {
            lost_below_p_alive: lost,
            departure_below_p_alive: departure,
            decline_below_p_alive: decline,
            loyal_min_p_alive: loyal,
            loyal_min_occasions: occasions,
            loyal_min_span_weeks: span,
            loyal_max_silence_gaps: gaps,
            trend_min_repeats: repeats,
            trend_min_z: z,
            ..Thresholds::default()
        }
    })
}

fn some_models() -> impl Strategy<Value = Models> {
    let parameter = || prop_oneof![3 => 0.05..20.0, 1 => 1e-9..1e-3, 1 => 1e3..1e12];
    let parameters = move || {
        (parameter(), parameter(), parameter(), parameter()).prop_map(|(r, alpha, a, b)| value::Parameters {
            r,
            alpha,
            a,
            b,
        })
    };
    (parameters(), parameters(), any::<(bool, bool, bool)>(), 0.01..100.0, 1.01..100.0, 0.01..1e9, odd_terms())
        .prop_map(|(buying, one_timers, (bg, judged, valued), p, q, gamma, terms)| {
            let buying =
                if bg { value::BgNbd::new(buying).unwrap().into() } else { value::MbgNbd::new(buying).unwrap().into() };
            let spend = value::GammaGamma::new(p, q, gamma).unwrap();
            let one_timers = value::MbgNbd::new(one_timers).unwrap();
            Models::new(CUSTOMER, buying, judged.then_some(one_timers), valued.then_some(spend), terms)
        })
}

fn check(score: &Score) -> Result<(), TestCaseError> {
    if let Some(values) = &score.values {
        prop_assert!((0.0..=1.0).contains(&values.p_alive));
        prop_assert!(values.expected_occasions_52w.is_finite() && values.expected_occasions_52w >= 0.0);
        prop_assert_eq!(values.lifetime_minor, values.realised_minor.saturating_add(values.expected_minor));
    }
    prop_assert_ne!(score.standing.relationship, Relationship::Unspecified);
    prop_assert_ne!(score.standing.stage, LifeCycleStage::Unspecified);
    prop_assert_ne!(score.standing.code, CustomerCode::Unspecified);
    prop_assert_eq!(score.evidence.len(), 4);
    for evidence in &score.evidence {
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        prop_assert!(evidence.rule.chars().all(kebab), "{}", evidence.rule);
        prop_assert!(evidence.text.ends_with('.') && !evidence.text.contains("NaN"), "{}", evidence.text);
        let names: std::collections::BTreeSet<&str> = evidence.figures.iter().map(|f| f.name.as_str()).collect();
        prop_assert_eq!(names.len(), evidence.figures.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_input_makes_a_score_panic_or_a_figure_that_is_no_number(
        summary in prop::option::weighted(0.9, summary()),
        (showed_interest, targeted) in any::<(bool, bool)>(),
        books in odd_books(),
        thresholds in odd_thresholds(),
        models in prop::option::weighted(0.8, some_models()),
        others in prop::option::weighted(0.8, prop::collection::vec((minor(), minor()), 0..30)),
        today in day(),
    ) {
        let cut_offs = others.map(|others| {
            let ranked = |(n, (realised_minor, expected_minor)): (usize, _)| Ranked {
                customer: Uuid::from_u128(n as u128),
                realised_minor,
                expected_minor,
                revenue_minor: realised_minor,
            };
            rank(&mut others.into_iter().enumerate().map(ranked).collect::<Vec<_>>()).cut_offs
        });
        let potential_minor = summary.as_ref().map(|summary| summary.day_sum);
        let facts = Facts { showed_interest, targeted, potential_minor };
        let score = compute(
            CUSTOMER, summary.as_ref(), facts, &books, &thresholds, models.as_ref(), cut_offs.as_ref(), today, true,
        );
        let _ = thresholds.validate();
        check(&score)?;
    }

    #[test]
    fn figures_are_finite_and_the_stage_deepens_by_silence_alone(
        gaps in prop::collection::vec(1..120_i32, 0..25), silence in 0..3_000_i32, more in 0..3_000_i32,
    ) {
        let days: Vec<Day> = std::iter::once(0)
            .chain(gaps.iter().scan(0, |day, gap| { *day += gap; Some(*day) }))
            .collect();
        let last = days[days.len() - 1];
        let (summary, models, thresholds) = (bought(&days), models(), Thresholds::default());
        let on = |day: Day| {
            let facts = Facts::default();
            let today = START + day;
            compute(CUSTOMER, Some(&summary), facts, &books(), &thresholds, Some(&models), None, today, true)
        };
        let (before, after) = (on(last + silence), on(last.saturating_add(silence + more)));
        for evidence in before.evidence.iter().chain(&after.evidence) {
            prop_assert!(evidence.figures.iter().all(|figure| figure.value.is_finite()), "{:?}", evidence);
        }
        let gone = |score: &Score| score.standing.relationship == Relationship::Lost;
        let leaving = |score: &Score| score.standing.stage == LifeCycleStage::Departure;
        prop_assert!(!gone(&before) || gone(&after));
        prop_assert!(!leaving(&before) || leaving(&after));
        // By the defaults nobody is given up who was not to be rescued before.
        prop_assert!(!gone(&before) || leaving(&before));
    }
}
