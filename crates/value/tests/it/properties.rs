//! What holds for every customer under every model.

use proptest::prelude::*;
use value::{BgNbd, GammaGamma, MbgNbd, Model, Parameters, ParetoNbd, Spend, Summary, clv};

/// Parameters over some twenty powers of e, all models.
pub(crate) fn models() -> impl Strategy<Value = Model> {
    (-7.0..7.0, -9.0..9.0, -9.0..7.0, -7.0..9.0, 0..3).prop_map(|(r, alpha, a, b, which)| {
        let [r, alpha, a, b] = [r, alpha, a, b].map(f64::exp);
        let parameters = Parameters { r, alpha, a, b };
        match which {
            0 => BgNbd::new(parameters).unwrap().into(),
            1 => MbgNbd::new(parameters).unwrap().into(),
            _ => ParetoNbd::new(r, alpha, a, b).unwrap().into(),
        }
    })
}

/// One day to thirty years, up to 5,000 repeat occasions, the last of them now in one case of four.
fn summaries() -> impl Strategy<Value = Summary> {
    let x = prop_oneof![Just(0), 1_u32..20, 20_u32..=5_000];
    let share = prop_oneof![3 => 1e-3..1.0, 1 => Just(1.0)];
    (x, share, 0.0..9.3).prop_map(|(x, share, days): (u32, f64, f64)| {
        let t = days.exp() / 7.0;
        Summary::new(x, if x == 0 { 0.0 } else { share * t }, t).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_chance_to_be_alive_is_a_probability(model in models(), summary in summaries()) {
        let p = model.p_alive(&summary);
        prop_assert!((0.0..=1.0).contains(&p), "{p}");
    }

    #[test]
    fn expectations_are_finite_and_never_fall_with_the_horizon(
        model in models(), summary in summaries(), weeks in 1e-3..2_000.0, more in 1.0..3.0,
    ) {
        let (near, far) = (model.expected_occasions(&summary, weeks), model.expected_occasions(&summary, weeks * more));
        prop_assert!(near.is_finite() && far.is_finite() && near >= 0.0);
        prop_assert!(far >= near * (1.0 - 1e-10), "{near} {far}");
        let (near, far) = (model.expected_from_first(weeks), model.expected_from_first(weeks * more));
        prop_assert!(near.is_finite() && far.is_finite() && near >= 0.0);
        prop_assert!(far >= near * (1.0 - 1e-10), "{near} {far}");
    }

    #[test]
    fn nobody_alive_or_not_buys_faster_than_their_own_rate(model in models(), summary in summaries(), weeks in 0.0..2_000.0) {
        // Leaving only lowers what a customer bound to stay would do: (r + x)/(α + T) a week.
        let [(_, r), (_, alpha), ..] = model.parameters();
        let bound = weeks * (r + f64::from(summary.x())) / (alpha + summary.t());
        prop_assert!(model.expected_occasions(&summary, weeks) <= bound * (1.0 + 1e-10));
    }

    #[test]
    fn a_customer_at_the_first_occasion_is_one_yet_to_come(model in models(), weeks in 1e-3..2_000.0) {
        let now = Summary::new(0, 0.0, 0.0).unwrap();
        let (here, to_come) = (model.expected_occasions(&now, weeks), model.expected_from_first(weeks));
        prop_assert!((here - to_come).abs() <= 1e-11 * to_come, "{here} is not {to_come}");
    }

    #[test]
    fn what_is_expected_adds_up_over_what_may_happen_meanwhile(model in models(), t in 0.1..200.0) {
        // Of a new customer, either nothing is heard until t or something is; the chance of nothing is a likelihood.
        let silent = Summary::new(0, 0.0, t).unwrap();
        let nothing = model.log_likelihood(&silent).exp();
        // Under Pareto/NBD its logarithm is a difference of two, each of which is exact to its own last digits.
        let [(_, r), (_, alpha), (_, third), (_, fourth)] = model.parameters();
        let logarithms = r * (t / alpha).ln_1p() + third * (t / fourth).ln_1p();
        let rounding = 1e-12 + 4.0 * f64::EPSILON * logarithms;
        prop_assert!((0.0..=1.0 + rounding).contains(&nothing));
        // So occasions until t are at least the chance of one, and later ones at least those of the silent.
        let soon = model.expected_from_first(t);
        prop_assert!(soon >= (1.0 - nothing) * (1.0 - 1e-9) - rounding);
        let later = model.expected_from_first(2.0 * t) - soon;
        prop_assert!(later >= nothing * model.expected_occasions(&silent, t) * (1.0 - 1e-9) - 1e-9 * soon);
    }

    #[test]
    fn a_longer_silence_never_speaks_for_a_customer(model in models(), summary in summaries(), more in 1.0..3.0) {
        let later = Summary::new(summary.x(), summary.t_x(), summary.t() * more).unwrap();
        prop_assert!(model.p_alive(&later) <= model.p_alive(&summary) * (1.0 + 1e-10));
    }

    #[test]
    fn a_customer_who_never_came_back_is_alive_under_bg_nbd(model in models(), t in 0.0..1_600.0) {
        let summary = Summary::new(0, 0.0, t).unwrap();
        let p = model.p_alive(&summary);
        match model.name() {
            "BG/NBD" => prop_assert_eq!(p, 1.0),
            _ => prop_assert!(p < 1.0),
        }
    }

    #[test]
    fn a_likelihood_is_a_finite_number(model in models(), summary in summaries()) {
        prop_assert!(model.log_likelihood(&summary).is_finite());
    }

    #[test]
    fn discounting_lies_between_the_last_month_and_none(
        model in models(), summary in summaries(), months in 0_u32..60, rate in 0.0..0.1,
    ) {
        let terms = clv::Terms::new(months, rate, 1.0).unwrap();
        let discounted = clv::discounted_occasions(&model, &summary, &terms);
        let plain = model.expected_occasions(&summary, f64::from(months) * clv::WEEKS_A_MONTH);
        let least = plain / (1.0 + rate).powi(months as i32);
        prop_assert!(discounted.is_finite());
        prop_assert!(discounted <= plain * (1.0 + 1e-10) && discounted >= least * (1.0 - 1e-10), "{least} {discounted} {plain}");
    }

    #[test]
    fn expected_spend_lies_between_the_own_mean_and_that_of_all(
        p in -3.0..4.0, q in 0.01..50.0, gamma in -3.0..9.0, x in 0_u32..5_000, mean in 1e-3..1e6,
    ) {
        let model = GammaGamma::new(f64::exp(p), 1.0 + q, f64::exp(gamma)).unwrap();
        let all = model.expected_value(&Spend::NONE);
        prop_assert!(all.is_finite() && all > 0.0);
        if x > 0 {
            let spend = Spend::new(x, mean).unwrap();
            let (low, high) = (all.min(mean), all.max(mean));
            let found = model.expected_value(&spend);
            prop_assert!(found >= low * (1.0 - 1e-12) && found <= high * (1.0 + 1e-12));
            prop_assert!(model.log_likelihood(&spend).is_finite());
        }
    }
}

#[test]
fn a_horizon_that_is_no_time_expects_nothing() {
    let model = MbgNbd::new(Parameters { r: 0.5, alpha: 6.0, a: 0.9, b: 1.6 }).unwrap();
    let summary = Summary::from_days(3, 60, 90).unwrap();
    for weeks in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
        assert_eq!(model.expected_occasions(&summary, weeks), 0.0);
        assert_eq!(model.expected_from_first(weeks), 0.0);
    }
    assert!(model.expected_occasions(&summary, f64::INFINITY).is_finite());
    let none = clv::Terms::new(0, 0.01, 1.0).unwrap();
    assert_eq!(clv::discounted_occasions(&model.into(), &summary, &none), 0.0);
}

#[test]
fn the_default_terms_are_three_years_at_ten_percent_and_full_margin() {
    let terms = clv::Terms::default();
    assert_eq!((terms.months(), terms.margin_rate()), (36, 1.0));
    assert!(((1.0 + terms.monthly_rate()).powi(12) - 1.10).abs() < 1e-14);
}
