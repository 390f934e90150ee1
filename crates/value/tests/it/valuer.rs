//! Remembered figures are those computed directly.

use proptest::prelude::*;
use value::{GammaGamma, Model, Spend, Summary, Valuer, clv};

use crate::{assert_close, properties::models};

#[track_caller]
fn assert_same_as_direct(valuer: &Valuer, summary: &Summary, spend: &Spend) {
    let (model, values, terms) = (valuer.model(), valuer.values(), valuer.terms());
    let found = valuer.value(summary, spend);
    let what = |figure: &str| format!("{figure} of {summary:?} under {model:?}");
    assert_close(found.p_alive, model.p_alive(summary), 1e-12, what("p_alive"));
    let expected = model.expected_occasions(summary, valuer.weeks());
    assert_close(found.expected_occasions, expected, 1e-12, what("expected"));
    let discounted = clv::discounted_occasions(model, summary, terms);
    assert_close(found.discounted_occasions, discounted, 1e-12, what("discounted"));
    let worth = clv::lifetime_value(model, values, summary, spend, terms);
    assert_close(found.lifetime_value, worth, 1e-12, what("worth"));
}

fn spending() -> GammaGamma {
    GammaGamma::new(6.25, 3.74, 15.44).unwrap()
}

proptest! {
    #[test]
    fn what_is_remembered_is_what_is_computed(
        model in models(), customers in proptest::collection::vec((0_u32..700, 0_u32..20_000, 0_u32..100), 1..20),
    ) {
        let terms = clv::Terms::new(24, 0.01, 0.4).unwrap();
        let valuer = Valuer::new(model, spending(), terms, 39.0);
        let spend = Spend::new(3, 20.0).unwrap();
        for (x, last, more) in customers {
            let last = if x == 0 { 0 } else { x + last };
            // The last occasion makes no difference to what is remembered, and all to who is alive.
            for last in [last, x] {
                let summary = Summary::from_days(x, last, x + last + more).unwrap();
                for _ in 0..2 {
                    assert_same_as_direct(&valuer, &summary, &spend);
                }
            }
        }
    }
}

#[test]
fn times_between_days_are_computed_not_rounded() {
    let model: Model = value::MbgNbd::new(value::Parameters { r: 0.5, alpha: 6.0, a: 0.9, b: 1.6 }).unwrap().into();
    let valuer = Valuer::new(model, spending(), clv::Terms::default(), 52.0);
    for t in [10.0, 10.01, 10.0 + f64::EPSILON * 8.0] {
        let summary = Summary::new(2, 4.0, t).unwrap();
        assert_same_as_direct(&valuer, &summary, &Spend::NONE);
        let [once, again] = [(); 2].map(|()| valuer.value(&summary, &Spend::NONE));
        assert_eq!(once, again);
    }
}

#[test]
fn no_horizon_is_worth_nothing_each_time_it_is_asked() {
    let model = value::BgNbd::new(value::Parameters { r: 0.5, alpha: 6.0, a: 0.9, b: 1.6 }).unwrap();
    let valuer = Valuer::new(model, spending(), clv::Terms::new(0, 0.01, 1.0).unwrap(), 0.0);
    let summary = Summary::from_days(2, 20, 30).unwrap();
    for _ in 0..2 {
        let found = valuer.value(&summary, &Spend::NONE);
        assert_eq!((found.expected_occasions, found.discounted_occasions, found.lifetime_value), (0.0, 0.0, 0.0));
    }
}

#[test]
fn many_threads_share_one_valuer_and_agree() {
    let model = value::MbgNbd::new(value::Parameters { r: 0.5, alpha: 6.0, a: 0.9, b: 1.6 }).unwrap();
    let valuer = Valuer::new(model, spending(), clv::Terms::default(), 52.0);
    let all = || -> Vec<f64> {
        let customers = (0..20_u32).flat_map(|x| (20..60_u32).map(move |t| (x, t)));
        customers
            .map(|(x, t)| valuer.value(&Summary::from_days(x, x, t).unwrap(), &Spend::NONE).lifetime_value)
            .collect()
    };
    let alone = Valuer::new(model, spending(), clv::Terms::default(), 52.0)
        .value(&Summary::from_days(0, 0, 20).unwrap(), &Spend::NONE);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
        let runs: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(runs.iter().all(|run| *run == runs[0]));
        assert_eq!(runs[0][0], alone.lifetime_value);
    });
}
