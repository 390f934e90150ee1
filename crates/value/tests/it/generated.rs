//! Made-up customers: the same every time, and as the models say.

use value::{
    BgNbd, Error, Fit, GammaGamma, History, MbgNbd, Model, Occasion, Parameters, ParetoNbd, Spend, Summary,
    generate::{Plan, Population, Purchase},
};

const PLAN: Plan = Plan { customers: 20_000, arrival_days: 91, days: 546, seed: 7 };
const CDNOW: Parameters = Parameters { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };

fn spend() -> GammaGamma {
    GammaGamma::new(6.25, 3.74, 15.44).unwrap()
}

fn population(model: impl Into<Model>) -> Population {
    Population::new(model, spend(), PLAN).unwrap()
}

fn models() -> [Model; 3] {
    [
        BgNbd::new(CDNOW).unwrap().into(),
        MbgNbd::new(Parameters { r: 0.525, alpha: 6.183, a: 0.891, b: 1.614 }).unwrap().into(),
        ParetoNbd::new(0.553, 10.578, 0.606, 11.669).unwrap().into(),
    ]
}

fn customers(population: &Population) -> Vec<(Summary, Spend)> {
    (0..PLAN.customers)
        .filter_map(|number| History::new(population.customer(number).map(Occasion::from)).unwrap().summary(545))
        .collect()
}

#[test]
fn a_fit_finds_the_parameters_that_customers_were_made_with() {
    fn check<M>(fit: Fit<M>, truth: &[f64]) {
        for (estimate, truth) in fit.estimates().iter().zip(truth) {
            // 1 in 16,000 per parameter, and the seed is fixed.
            let (low, high) = estimate.interval(0.999_936).unwrap();
            assert!((low..=high).contains(truth), "{estimate:?} is not {truth}");
        }
    }
    for model in models() {
        let made = customers(&population(model));
        assert_eq!(made.len() as u64, PLAN.customers);
        let histories = made.iter().map(|(summary, _)| (*summary, 1));
        let truth = model.parameters().map(|(_, value)| value);
        match model {
            Model::BgNbd(_) => check(BgNbd::fit(histories).unwrap(), &truth),
            Model::MbgNbd(_) => check(MbgNbd::fit(histories).unwrap(), &truth),
            _ => check(ParetoNbd::fit(histories).unwrap(), &truth),
        }
        let fit = GammaGamma::fit(made.iter().map(|(_, spend)| (*spend, 1))).unwrap();
        // Two purchases on one day are one occasion worth both, so spend is a little more than that of a purchase.
        let mean = fit.model.expected_value(&Spend::NONE) / spend().expected_value(&Spend::NONE);
        assert!((0.98..1.08).contains(&mean), "{mean}");
    }
}

#[test]
fn as_many_purchases_are_made_as_the_model_expects() {
    for model in models() {
        let population = population(model);
        let repeats = population.by_customer(0..PLAN.customers).count() as f64 - PLAN.customers as f64;
        let expected: f64 = (0..PLAN.customers)
            .map(|number| {
                let first = population.customer(number).next().unwrap();
                model.expected_from_first((546.0 - f64::from(first.day) - first.time) / 7.0)
            })
            .sum();
        // The standard error of so many counts is below 2 %.
        assert!((repeats / expected - 1.0).abs() < 0.06, "{}: {repeats} are not {expected}", model.name());
    }
}

#[test]
fn customers_are_the_same_in_any_order_and_from_anywhere() {
    let population = population(models()[0]);
    let all: Vec<Purchase> = population.by_customer(0..PLAN.customers).collect();
    let late: Vec<Purchase> = population.by_customer(15_000..u64::MAX).collect();
    assert!(all.ends_with(&late) && late.len() > 5_000);
    let one: Vec<Purchase> = population.customer(123).collect();
    assert!(all.iter().filter(|purchase| purchase.customer == 123).eq(&one));

    let mut in_time: Vec<Purchase> = population.by_time(0..PLAN.customers).collect();
    assert!(in_time.is_sorted_by(|l, r| (l.day, l.time) <= (r.day, r.time)));
    in_time.sort_by_key(|purchase| purchase.customer);
    assert_eq!(in_time, all);
}

#[test]
fn another_seed_makes_other_customers() {
    let [one, other] =
        [1, 2].map(|seed| Population::new(models()[1], spend(), Plan { seed, ..PLAN }).unwrap().customer(5).next());
    assert_ne!(one.unwrap().value, other.unwrap().value);
    assert_eq!(one.unwrap().day, other.unwrap().day);
}

#[test]
fn first_purchases_are_spread_evenly_and_nobody_is_beyond_the_plan() {
    let population = population(models()[2]);
    let firsts: Vec<u32> = (0..PLAN.customers).map(|number| population.customer(number).next().unwrap().day).collect();
    assert!(firsts.is_sorted());
    assert_eq!((firsts[0], firsts[firsts.len() - 1]), (0, 90));
    assert_eq!(population.customer(PLAN.customers).next(), None);
    assert!(population.by_time(0..PLAN.customers).all(|p| p.day < PLAN.days && p.value > 0.0 && p.value.is_finite()));
}

#[test]
fn plans_that_make_no_sense_are_refused_by_field() {
    let fails = |model: Model, plan: Plan| match Population::new(model, spend(), plan) {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let [model, ..] = models();
    assert_eq!(fails(model, Plan { days: 0, ..PLAN }), "days");
    assert_eq!(fails(model, Plan { days: 100_001, ..PLAN }), "days");
    assert_eq!(fails(model, Plan { arrival_days: 0, ..PLAN }), "arrival_days");
    assert_eq!(fails(model, Plan { arrival_days: 547, ..PLAN }), "arrival_days");
    let hasty = ParetoNbd::new(1e6, 1.0, 1.0, 1.0).unwrap();
    assert_eq!(fails(hasty.into(), PLAN), "rate");
    let nobody = Population::new(model, spend(), Plan { customers: 0, ..PLAN }).unwrap();
    assert_eq!(nobody.by_time(0..9).chain(nobody.by_customer(0..9)).count(), 0);
}

#[test]
fn what_is_found_by_way_of_a_part_of_the_customers_is_the_maximum_over_all() {
    // Some forty thousand distinct histories: far more than a fit starts on.
    let plan = Plan { customers: 100_000, arrival_days: 300, ..PLAN };
    let truth = BgNbd::new(Parameters { r: 1.2, ..CDNOW }).unwrap();
    let population = Population::new(truth, spend(), plan).unwrap();
    let made: Vec<(Summary, u64)> = (0..plan.customers)
        .filter_map(|number| History::new(population.customer(number).map(Occasion::from)).unwrap().summary(545))
        .map(|(summary, _)| (summary, 1))
        .collect();
    let fit = BgNbd::fit(made.iter().copied()).unwrap();
    assert!(fit.gradient_norm < 1e-6 && fit.agreeing == fit.starts && fit.customers == plan.customers, "{fit:?}");
    assert!(fit.iterations < 10, "{}", fit.iterations);
    let likelihood = |p: Parameters| -> f64 {
        let model = BgNbd::new(p).unwrap();
        made.iter().map(|(summary, _)| model.log_likelihood(summary)).sum()
    };
    let p = fit.model.parameters();
    let top = likelihood(p);
    assert!((top / fit.log_likelihood - 1.0).abs() < 1e-12);
    for factor in [0.995, 1.005] {
        assert!(likelihood(Parameters { r: p.r * factor, ..p }) < top);
        assert!(likelihood(Parameters { alpha: p.alpha * factor, ..p }) < top);
        assert!(likelihood(Parameters { a: p.a * factor, ..p }) < top);
        assert!(likelihood(Parameters { b: p.b * factor, ..p }) < top);
    }
}
