use proptest::prelude::*;

use super::{cdnow::books, *};
use crate::pyramid::{Ranked, rank};

mod limits;
mod on_cdnow;

const CUSTOMER: Uuid = Uuid::from_u128(7);
/// An arbitrary first day.
const START: Day = 10_000;

/// Purchases of 10.00 on days after the first.
fn bought(days: &[Day]) -> Summary {
    Summary {
        occasions: days.len() as u32,
        first_day: START + days[0],
        last_day: START + days[days.len() - 1],
        day_sum: days.iter().map(|day| i64::from(START + day)).sum(),
        sales_minor: 1_000 * days.len() as i64,
        returns_minor: 0,
        first_sales_minor: 1_000,
        ..Summary::default()
    }
}

fn models() -> Models {
    cdnow::models()
}

/// The same with BG/NBD (the parameters of the paper) in force.
fn bg_models() -> Models {
    let parameters = value::Parameters { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };
    let buying = value::BgNbd::new(parameters).unwrap().into();
    Models::new(models().id, buying, Some(cdnow::one_timers()), Some(cdnow::spend()), value::clv::Terms::default())
}

/// The states on a day after the first.
fn standing(summary: &Summary, models: Option<&Models>, day: Day) -> Standing {
    let thresholds = Thresholds::default();
    let facts = Facts::default();
    compute(CUSTOMER, Some(summary), facts, &books(), &thresholds, models, None, START + day, false).standing
}

fn not_bought(facts: Facts) -> Score {
    compute(CUSTOMER, None, facts, &books(), &Thresholds::default(), Some(&models()), None, START, true)
}

mod relationship {
    use super::*;

    #[test]
    fn of_those_who_have_not_bought_interest_counts_before_being_chosen() {
        let of = |showed_interest, targeted| {
            not_bought(Facts { showed_interest, targeted, ..Facts::default() }).standing.relationship
        };
        assert_eq!(of(false, false), Relationship::NonCustomer);
        assert_eq!(of(false, true), Relationship::Target);
        assert_eq!(of(true, false), Relationship::Potential);
        assert_eq!(of(true, true), Relationship::Potential);
    }

    #[test]
    fn is_told_by_the_occasions_alone_before_the_first_fit() {
        assert_eq!(standing(&bought(&[0]), None, 9_000).relationship, Relationship::FirstTime);
        assert_eq!(standing(&bought(&[0, 9]), None, 9_000).relationship, Relationship::Repeat);
        assert_eq!(standing(&bought(&[0, 50, 99, 151, 200, 250]), None, 250).relationship, Relationship::Repeat);
    }

    #[test]
    fn goes_from_first_time_to_lost_by_silence_and_back_by_a_purchase() {
        let models = models();
        let once = bought(&[0]);
        assert_eq!(standing(&once, Some(&models), 0).relationship, Relationship::FirstTime);
        assert_eq!(standing(&once, Some(&models), 61 * 7).relationship, Relationship::FirstTime);
        assert_eq!(standing(&once, Some(&models), 63 * 7).relationship, Relationship::Lost);
        let won_back = bought(&[0, 63 * 7]);
        assert_eq!(standing(&won_back, Some(&models), 63 * 7).relationship, Relationship::Repeat);
    }

    #[test]
    fn who_bought_once_is_lost_in_time_also_where_bg_nbd_holds_them_to_be_alive_for_certain() {
        let models = bg_models();
        let once = bought(&[0]);
        assert_eq!(values(&once, &books(), Some(&models), START + 900).p_alive, 1.0);
        let standing = standing(&once, Some(&models), 900);
        assert_eq!(standing.relationship, Relationship::Lost);
        assert_eq!(standing.stage, LifeCycleStage::Departure);
    }

    #[test]
    fn who_bought_once_is_not_judged_where_bg_nbd_alone_could_and_by_pareto_nbd_where_that_can() {
        let once = bought(&[0]);
        let buying = *bg_models().buying();
        let terms = value::clv::Terms::default();
        let alone = Models::new(models().id, buying, None, Some(cdnow::spend()), terms);
        let unjudged = standing(&once, Some(&alone), 900);
        assert_eq!((unjudged.relationship, unjudged.stage), (Relationship::FirstTime, LifeCycleStage::Acquisition));
        assert_eq!(judged_alive(&once, &alone, START + 900), None);
        let pareto = value::ParetoNbd::new(0.553, 10.578, 0.606, 11.669).unwrap();
        let judge = Models::new(models().id, pareto.into(), None, None, terms);
        assert_eq!(standing(&once, Some(&judge), 900).relationship, Relationship::Lost);
        // Without a model of spend they say whether and how often, and not what it brings.
        let values = values(&once, &books(), Some(&judge), START + 60);
        assert!(values.p_alive < 1.0 && values.expected_occasions_52w > 0.0);
        assert_eq!((values.expected_minor, values.expected_spend_minor), (0, 0));
        assert!(!judge.value_the_future() && alone.value_the_future());
    }

    #[test]
    fn is_loyal_while_the_purchases_keep_their_rhythm() {
        let models = models();
        let days: Vec<Day> = (0..10).map(|n| n * 28).collect();
        let summary = bought(&days);
        assert_eq!(standing(&summary, Some(&models), 9 * 28).relationship, Relationship::Loyal);
        assert_eq!(standing(&summary, Some(&models), 10 * 28).relationship, Relationship::Loyal);
        // Five gaps of silence: no longer without a break, but not gone either.
        assert_eq!(standing(&summary, Some(&models), 14 * 28).relationship, Relationship::Repeat);
    }

    #[test]
    fn is_not_loyal_after_a_few_weeks_or_a_few_purchases() {
        let models = models();
        let fast: Vec<Day> = (0..20).map(|n| n * 5).collect();
        assert_eq!(standing(&bought(&fast), Some(&models), 95).relationship, Relationship::Repeat);
        assert_eq!(standing(&bought(&[0, 90, 180, 270]), Some(&models), 270).relationship, Relationship::Repeat);
    }

    #[test]
    fn is_not_loyal_when_silence_breaks_the_customers_own_rhythm() {
        let models = models();
        let days: Vec<Day> = (0..40).map(|n| n * 7).collect();
        let thresholds = Thresholds { loyal_min_p_alive: 0.0, lost_below_p_alive: 0.0, ..Thresholds::default() };
        let on = |day| {
            let summary = bought(&days);
            let facts = Facts::default();
            compute(CUSTOMER, Some(&summary), facts, &books(), &thresholds, Some(&models), None, START + day, false)
        };
        assert_eq!(on(39 * 7 + 21).standing.relationship, Relationship::Loyal);
        assert_eq!(on(39 * 7 + 22).standing.relationship, Relationship::Repeat);
    }
}

mod stage {
    use super::*;

    #[test]
    fn who_has_not_bought_is_yet_to_be_won() {
        assert_eq!(not_bought(Facts::default()).standing.stage, LifeCycleStage::Acquisition);
    }

    #[test]
    fn who_bought_once_is_won_then_watched_then_rescued() {
        let models = models();
        let on = |week: Day| standing(&bought(&[0]), Some(&models), week * 7).stage;
        assert_eq!([on(0), on(14)], [LifeCycleStage::Acquisition; 2]);
        assert_eq!([on(15), on(35)], [LifeCycleStage::Decline; 2]);
        assert_eq!([on(37), on(600)], [LifeCycleStage::Departure; 2]);
    }

    #[test]
    fn follows_the_trend_of_the_customers_own_buying() {
        let models = models();
        let on_250 = |days: &[Day]| standing(&bought(days), Some(&models), 250).stage;
        assert_eq!(on_250(&[0, 50, 100, 150, 200, 245]), LifeCycleStage::Maturity);
        assert_eq!(on_250(&[0, 150, 180, 200, 220, 245]), LifeCycleStage::Growth);
        assert_eq!(on_250(&[0, 10, 20, 35, 50, 190]), LifeCycleStage::Decline);
    }

    #[test]
    fn two_repeat_occasions_are_no_trend() {
        let models = models();
        assert_eq!(standing(&bought(&[0, 248, 249]), Some(&models), 250).stage, LifeCycleStage::Maturity);
        assert_eq!(standing(&bought(&[0, 247, 248, 249]), Some(&models), 250).stage, LifeCycleStage::Growth);
    }

    #[test]
    fn is_told_by_the_trend_alone_before_the_first_fit() {
        assert_eq!(standing(&bought(&[0]), None, 9_000).stage, LifeCycleStage::Acquisition);
        assert_eq!(standing(&bought(&[0, 1, 2, 3]), None, 9_000).stage, LifeCycleStage::Decline);
    }

    #[test]
    fn is_the_same_for_an_old_customer_and_a_new_one_of_the_same_pace() {
        let models = models();
        for count in [8, 40, 200] {
            let days: Vec<Day> = (0..count).map(|n| n * 21).collect();
            let stage = standing(&bought(&days), Some(&models), count * 21 - 10).stage;
            assert_eq!(stage, LifeCycleStage::Maturity, "{count} occasions");
        }
    }

    #[test]
    fn the_trend_is_laplaces_statistic() {
        let trend = |days: &[Day], today| History::new(&bought(days), START + today).unwrap().trend(1).unwrap();
        // x = 3 at the middle on average: no trend.
        assert!(trend(&[0, 25, 50, 75], 100).abs() < 1e-12);
        // All at the end: T/2 in units of T/sqrt(12 x), so sqrt(3 x).
        assert!((trend(&[0, 100], 100) - 3.0_f64.sqrt()).abs() < 1e-12);
        // Mean 80 of 100, x = 4: (80 − 50) / (100 · sqrt(1/48)).
        assert!((trend(&[0, 70, 75, 85, 90], 100) - 0.3 * 48.0_f64.sqrt()).abs() < 1e-12);
        assert!((trend(&[0, 10, 15, 25, 30], 100) + 0.3 * 48.0_f64.sqrt()).abs() < 1e-12);
    }
}

mod worth {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() <= 0.5 + right.abs() * 1e-12
    }

    #[test]
    fn the_margin_is_applied_once_whatever_the_terms_say_of_it() {
        let summary = bought(&[0, 30, 55, 90]);
        let plain = value::clv::Terms::default();
        let expected = value::clv::lifetime_value(
            models().buying(),
            &cdnow::spend(),
            &value::Summary::from_days(3, 90, 120).unwrap(),
            &value::Spend::new(3, 10.0).unwrap(),
            &plain,
        );
        for in_terms in [1.0, 0.3, 0.1] {
            let terms = value::clv::Terms::new(plain.months(), plain.monthly_rate(), in_terms).unwrap();
            let models =
                Models::new(models().id, *models().buying(), Some(cdnow::one_timers()), Some(cdnow::spend()), terms);
            let values = values(&summary, &books(), Some(&models), START + 120);
            assert!(close(values.expected_minor as f64, 0.3 * 100.0 * expected));
            assert_eq!(values.realised_minor, 1_200);
            assert_eq!(values.lifetime_minor, values.realised_minor + values.expected_minor);
        }
    }

    #[test]
    fn returns_lower_what_was_earned_and_what_each_occasion_is_expected_to_bring() {
        let models = models();
        let kept = bought(&[0, 30, 55, 90]);
        let returned = Summary { returns_minor: 2_000, ..kept.clone() };
        let [kept, returned] = [kept, returned].map(|summary| values(&summary, &books(), Some(&models), START + 120));
        assert_eq!((kept.realised_minor, returned.realised_minor), (1_200, 600));
        // Half of 10.00 an occasion was kept.
        let spend = cdnow::spend().expected_value(&value::Spend::new(3, 5.0).unwrap());
        assert!(close(returned.expected_spend_minor as f64, 100.0 * spend));
        assert!(returned.expected_minor < kept.expected_minor);
        assert_eq!(returned.p_alive, kept.p_alive);
    }

    #[test]
    fn who_gave_everything_back_is_expected_to_spend_as_one_of_whom_nothing_is_known() {
        let models = models();
        let nothing = cdnow::spend().expected_value(&value::Spend::NONE);
        for returns_minor in [2_000, 5_000] {
            let summary = Summary { returns_minor, ..bought(&[0, 30]) };
            let values = values(&summary, &books(), Some(&models), START + 60);
            assert!(close(values.expected_spend_minor as f64, 100.0 * nothing));
        }
    }

    #[test]
    fn models_are_fitted_on_the_repeat_occasions_alone() {
        let summary = Summary { sales_minor: 9_000, first_sales_minor: 3_000, ..bought(&[0, 30, 60]) };
        let (buying, spend) = statistics(&summary, &books(), START + 90).unwrap();
        assert_eq!(buying, value::Summary::from_days(2, 60, 90).unwrap());
        assert_eq!(spend, value::Spend::new(2, 30.0).unwrap());
        let (_, spend) = statistics(&bought(&[0]), &books(), START + 90).unwrap();
        assert_eq!(spend, value::Spend::NONE);
        assert_eq!(statistics(&Summary::default(), &books(), START), None);
    }

    #[test]
    fn without_models_nothing_is_expected() {
        let values = values(&bought(&[0, 30]), &books(), None, START + 60);
        assert_eq!(values, Values { realised_minor: 600, lifetime_minor: 600, ..Values::default() });
    }

    #[test]
    fn yen_have_no_minor_units_and_count_the_same() {
        let models = models();
        let summary = bought(&[0, 30, 60]);
        let cents = values(&summary, &books(), Some(&models), START + 60);
        let small = Summary { sales_minor: 30, first_sales_minor: 10, ..summary };
        let yen = values(&small, &Books { minor_per_major: 1.0, ..books() }, Some(&models), START + 60);
        assert_eq!(yen.realised_minor, 9);
        assert!((yen.expected_minor * 100 - cents.expected_minor).abs() <= 50);
    }

    #[test]
    fn a_day_before_the_last_purchase_counts_as_the_day_of_that_purchase() {
        let models = models();
        let summary = bought(&[0, 30, 60]);
        let on_last = values(&summary, &books(), Some(&models), START + 60);
        for day in [START + 59, START, START - 1, Day::MIN] {
            assert_eq!(values(&summary, &books(), Some(&models), day), on_last);
        }
    }

    #[test]
    fn who_only_gave_back_has_not_bought() {
        let summary = Summary { returns_minor: 500, ..Summary::default() };
        let score = compute(
            CUSTOMER,
            Some(&summary),
            Facts { showed_interest: true, targeted: false, ..Facts::default() },
            &books(),
            &Thresholds::default(),
            Some(&models()),
            None,
            START,
            true,
        );
        assert_eq!(score.values, None);
        assert_eq!(score.standing.relationship, Relationship::Potential);
    }
}

mod code {
    use super::*;

    /// Of a customer who is worth so much, by the cut-offs of a hundred others: realised 100 to 10,000, expected 10 to
    /// 1,000 the other way round.
    fn code(realised_minor: i64, expected_minor: i64) -> (Tier, CustomerCode, &'static str) {
        let others = (1..=100_i64).map(|n| Ranked {
            customer: Uuid::from_u128(n as u128 + 1_000),
            realised_minor: n * 100,
            expected_minor: (101 - n) * 10,
            revenue_minor: n * 100,
        });
        let cut_offs = rank(&mut others.collect::<Vec<_>>()).cut_offs;
        let summary = bought(&[0]);
        let history = History::new(&summary, START).unwrap();
        let lifetime_minor = realised_minor + expected_minor;
        let values = Values { realised_minor, expected_minor, lifetime_minor, ..Values::default() };
        let buyer = Some(Buyer { customer: CUSTOMER, history, values, p_alive: Some(0.9), valued: true });
        let thresholds = Thresholds::default();
        let case = Case { buyer, facts: Facts::default(), thresholds: &thresholds, cut_offs: Some(&cut_offs) };
        let (code, rule) = case.code();
        let rule = match rule {
            CodeRule::BestCustomer => "best",
            CodeRule::HighExpectation => "expectation",
            CodeRule::HighHeadroom => "headroom",
            CodeRule::General => "general",
            CodeRule::HasNotBought | CodeRule::HighPotential | CodeRule::LowPotential | CodeRule::NotRanked => "none",
        };
        (case.tier(), code, rule)
    }

    #[test]
    fn who_has_not_bought_gets_a_code_from_what_their_kind_is_worth_and_never_an_a() {
        let customer = |n: i64| Ranked {
            customer: Uuid::from_u128(n as u128 + 1_000),
            realised_minor: n * 100,
            expected_minor: 0,
            revenue_minor: n * 100,
        };
        let cut_offs = rank(&mut (1..=100).map(customer).collect::<Vec<_>>()).cut_offs;
        let code = |potential_minor, cut_offs| {
            let facts = Facts { potential_minor, ..Facts::default() };
            let models = models();
            let thresholds = Thresholds::default();
            let score = compute(CUSTOMER, None, facts, &books(), &thresholds, Some(&models), cut_offs, START, true);
            assert!(score.standing.estimated);
            let evidence = score.evidence.into_iter().find(|evidence| evidence.state == "code").unwrap();
            assert!(evidence.figures.iter().any(|figure| figure.name == "success_rate" && figure.value == 0.06));
            (score.standing.code, evidence.rule)
        };
        // Key customers are worth 81.00 or more.
        let high = (CustomerCode::B, "potential-of-a-key-customer".to_owned());
        let low = (CustomerCode::C, "potential-below-key-customers".to_owned());
        let none = (CustomerCode::C, "has-not-bought".to_owned());
        assert_eq!(code(Some(i64::MAX), Some(&cut_offs)), high);
        assert_eq!(code(Some(8_100), Some(&cut_offs)), high);
        assert_eq!(code(Some(8_099), Some(&cut_offs)), low);
        assert_eq!(code(None, Some(&cut_offs)), none);
        assert_eq!(code(Some(8_100), None), none);
    }

    #[test]
    fn a_is_a_key_customer_who_has_already_brought_it() {
        assert_eq!(code(20_000, 0), (Tier::Important, CustomerCode::A, "best"));
        assert_eq!(code(9_000, 10), (Tier::Major, CustomerCode::A, "best"));
    }

    #[test]
    fn a_key_customer_by_expectation_alone_is_b() {
        assert_eq!(code(100, 20_000), (Tier::Important, CustomerCode::B, "expectation"));
    }

    #[test]
    fn b_also_needs_no_high_tier() {
        assert_eq!(code(500, 900), (Tier::Small, CustomerCode::B, "expectation"));
        assert_eq!(code(10, 700), (Tier::Small, CustomerCode::B, "headroom"));
        assert_eq!(code(0, 1), (Tier::Small, CustomerCode::B, "headroom"));
    }

    #[test]
    fn the_rest_is_c() {
        assert_eq!(code(5_600, 100), (Tier::Ordinary, CustomerCode::C, "general"));
        assert_eq!(code(0, 0), (Tier::Small, CustomerCode::C, "general"));
        assert_eq!(code(-500, 400), (Tier::Small, CustomerCode::C, "general"));
    }

    #[test]
    fn is_an_estimate_without_purchases_models_or_a_ranking() {
        let cut_offs =
            rank(&mut [Ranked { customer: CUSTOMER, realised_minor: 1, expected_minor: 1, revenue_minor: 1 }]).cut_offs;
        let (models, summary, thresholds) = (models(), bought(&[0, 20]), Thresholds::default());
        let of = |summary, models, cut_offs| {
            let facts = Facts::default();
            let score = compute(CUSTOMER, summary, facts, &books(), &thresholds, models, cut_offs, START + 20, false);
            (score.standing.tier, score.standing.code, score.standing.estimated)
        };
        let estimate = (Tier::Unspecified, CustomerCode::C, true);
        let empty = CutOffs::default();
        assert_eq!(of(None, Some(&models), Some(&cut_offs)), estimate);
        assert_eq!(of(Some(&summary), Some(&models), None), estimate);
        assert_eq!(of(Some(&summary), Some(&models), Some(&empty)), estimate);
        assert_eq!(of(Some(&summary), None, Some(&cut_offs)), estimate);
        assert_eq!(of(Some(&summary), Some(&models), Some(&cut_offs)), (Tier::Important, CustomerCode::A, false));
    }
}

mod evidence_of {
    use super::*;

    #[test]
    fn a_score_is_given_only_when_asked_for() {
        let (models, thresholds) = (models(), Thresholds::default());
        let of = |asked| {
            let (summary, facts) = (bought(&[0, 9]), Facts::default());
            compute(CUSTOMER, Some(&summary), facts, &books(), &thresholds, Some(&models), None, START + 9, asked)
        };
        assert!(of(false).evidence.is_empty());
        let states: Vec<String> = of(true).evidence.into_iter().map(|evidence| evidence.state).collect();
        assert_eq!(states, ["relationship", "stage", "tier", "code"]);
        assert_eq!(of(true).standing, of(false).standing);
    }

    #[test]
    fn a_customer_reads_as_a_sentence() {
        let (models, thresholds, facts) = (models(), Thresholds::default(), Facts::default());
        let of = |days: &[Day], today: Day| {
            let summary = Summary { sales_minor: 123_456_789, ..bought(days) };
            let today = START + today;
            let score =
                compute(CUSTOMER, Some(&summary), facts, &books(), &thresholds, Some(&models), None, today, true);
            score.evidence.into_iter().map(|evidence| evidence.text).collect::<Vec<_>>()
        };
        let texts = of(&[0], 1);
        assert_eq!(texts[0], "Bought on one day, yesterday; the chance that they are still a customer is 64 %.");
        assert!(texts[2].starts_with("Brought a profit of 370,370.37 so far and "), "{}", texts[2]);
        let texts = of(&[0, 30, 60, 80, 100, 190], 190);
        assert_eq!(
            texts[0],
            "Bought on 6 days over 27 weeks, last today, about every 5 weeks; \
             the chance that they are still a customer is 92 %."
        );
    }

    #[test]
    fn those_who_have_not_bought_names_the_known_rate_of_success() {
        for facts in [
            Facts { showed_interest: true, targeted: false, ..Facts::default() },
            Facts { showed_interest: false, targeted: true, ..Facts::default() },
            Facts { showed_interest: true, targeted: true, ..Facts::default() },
        ] {
            let score = not_bought(facts);
            let relationship = &score.evidence[0];
            assert!(relationship.text.contains("6 %"), "{}", relationship.text);
            let rate = relationship.figures.iter().find(|figure| figure.name == "success_rate");
            assert_eq!(rate.map(|figure| figure.value), Some(0.06));
        }
        assert!(!not_bought(Facts::default()).evidence[0].text.contains('%'));
    }
}

mod thresholds {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_own_limits() {
        assert_eq!(Thresholds::default().validate(), []);
    }

    #[test]
    fn every_key_out_of_range_is_named_at_once() {
        let thresholds = Thresholds {
            lost_below_p_alive: -0.1,
            departure_below_p_alive: 1.1,
            decline_below_p_alive: f64::NAN,
            loyal_min_p_alive: f64::INFINITY,
            loyal_min_occasions: 1,
            loyal_min_span_weeks: -1.0,
            loyal_max_silence_gaps: 0.0,
            trend_min_repeats: 1,
            trend_min_z: 0.0,
            success_rate_new: 2.0,
            success_rate_first_time: -1.0,
            success_rate_repeat: 1.01,
            success_rate_lost: f64::NAN,
        };
        let keys: Vec<String> = thresholds.validate().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "lost_below_p_alive",
                "departure_below_p_alive",
                "decline_below_p_alive",
                "loyal_min_p_alive",
                "loyal_min_occasions",
                "loyal_min_span_weeks",
                "loyal_max_silence_gaps",
                "trend_min_repeats",
                "trend_min_z",
                "success_rate_new",
                "success_rate_first_time",
                "success_rate_repeat",
                "success_rate_lost",
            ]
        );
    }

    #[test]
    fn a_customer_cannot_be_lost_before_they_depart() {
        let thresholds = Thresholds { lost_below_p_alive: 0.45, ..Thresholds::default() };
        let faults = thresholds.validate();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].0, "lost_below_p_alive");
        assert!(faults[0].1.contains("departure_below_p_alive"));
    }
}
