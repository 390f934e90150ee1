//! What cannot be computed is refused by name.

use value::{BgNbd, Error, GammaGamma, MbgNbd, Model, Parameters, ParetoNbd, Spend, Summary, choose, clv, correlation};

fn days(x: u32, last: u32, now: u32) -> Summary {
    Summary::from_days(x, last, now).unwrap()
}

#[track_caller]
fn assert_names<T: std::fmt::Debug>(result: Result<T, Error>, wanted: &str) {
    match result {
        Err(Error::Invalid { field, .. }) => assert_eq!(field, wanted),
        other => panic!("{other:?} does not name {wanted}"),
    }
}

#[test]
fn a_summary_that_contradicts_itself_is_refused_by_field() {
    assert_names(Summary::new(0, 1.0, 2.0), "t_x");
    assert_names(Summary::new(1, 0.0, 2.0), "t_x");
    assert_names(Summary::new(1, 3.0, 2.0), "t_x");
    assert_names(Summary::new(1, -1.0, 2.0), "t_x");
    assert_names(Summary::new(1, f64::NAN, 2.0), "t_x");
    assert_names(Summary::new(1, 1.0, f64::NAN), "t");
    assert_names(Summary::new(1, 1.0, f64::INFINITY), "t");
    assert_names(Summary::new(0, 0.0, -1.0), "t");
    assert_names(Summary::from_days(8, 7, 30), "x");
    assert_eq!(Summary::from_days(3, 14, 21), Summary::new(3, 2.0, 3.0));
}

#[test]
fn a_refusal_says_what_is_wrong_in_words() {
    let error = Summary::new(1, 3.0, 2.0).unwrap_err();
    assert_eq!(error.to_string(), "t_x must lie within 0 and t, but it is 3");
}

#[test]
fn parameters_outside_their_range_are_refused_by_name() {
    let good = Parameters { r: 1.0, alpha: 1.0, a: 1.0, b: 1.0 };
    assert_names(BgNbd::new(Parameters { r: 0.0, ..good }), "r");
    assert_names(BgNbd::new(Parameters { alpha: -1.0, ..good }), "alpha");
    assert_names(MbgNbd::new(Parameters { a: f64::NAN, ..good }), "a");
    assert_names(MbgNbd::new(Parameters { b: f64::INFINITY, ..good }), "b");
    assert_names(ParetoNbd::new(0.0, 1.0, 1.0, 1.0), "r");
    assert_names(ParetoNbd::new(1.0, f64::NAN, 1.0, 1.0), "alpha");
    assert_names(ParetoNbd::new(1.0, 1.0, -1.0, 1.0), "s");
    assert_names(ParetoNbd::new(1.0, 1.0, 1.0, f64::INFINITY), "beta");
    assert_names(GammaGamma::new(0.0, 2.0, 1.0), "p");
    assert_names(GammaGamma::new(1.0, 1.0, 1.0), "q");
    assert_names(GammaGamma::new(1.0, 2.0, f64::NAN), "gamma");
    assert_names(Spend::new(0, 1.0), "mean");
    assert_names(Spend::new(1, 0.0), "mean");
    assert_names(Spend::new(1, f64::INFINITY), "mean");
    assert_names(clv::Terms::new(1_201, 0.01, 1.0), "months");
    assert_names(clv::Terms::new(12, -0.01, 1.0), "monthly_rate");
    assert_names(clv::Terms::new(12, 0.01, 1.5), "margin_rate");
    let model = BgNbd::new(good).unwrap().into();
    for rate in [0.0, -0.1, 11.0, f64::NAN] {
        assert_names(clv::residual_occasions(&model, &days(1, 7, 14), rate), "yearly_rate");
    }
}

#[test]
fn no_customers_cannot_be_fitted() {
    assert_eq!(BgNbd::fit([]), Err(Error::NoCustomers));
    assert_eq!(MbgNbd::fit([(days(1, 7, 14), 0)]), Err(Error::NoCustomers));
    assert_eq!(ParetoNbd::fit([]), Err(Error::NoCustomers));
    assert_eq!(choose([]), Err(Error::NoCustomers));
    assert_eq!(Model::fit([]), Err(Error::NoCustomers));
    assert_eq!(GammaGamma::fit([]), Err(Error::NoCustomers));
}

#[test]
fn customers_of_whom_nobody_came_back_cannot_be_fitted() {
    let once = (1..300).map(|now| (days(0, 0, now), 3));
    assert_eq!(BgNbd::fit(once.clone()), Err(Error::NoRepeatBuyers));
    assert_eq!(MbgNbd::fit(once.clone()), Err(Error::NoRepeatBuyers));
    assert_eq!(ParetoNbd::fit(once), Err(Error::NoRepeatBuyers));
    assert_eq!(GammaGamma::fit([(Spend::NONE, 40)]), Err(Error::NoRepeatBuyers));
}

#[test]
fn customers_who_are_all_the_same_cannot_be_fitted() {
    let same = [(days(4, 70, 90), 10), (days(4, 70, 90), 20)];
    assert_eq!(BgNbd::fit(same), Err(Error::AllTheSame { customers: 30 }));
    assert_eq!(MbgNbd::fit(same), Err(Error::AllTheSame { customers: 30 }));
    assert_eq!(ParetoNbd::fit(same), Err(Error::AllTheSame { customers: 30 }));
    let spend = Spend::new(3, 10.0).unwrap();
    assert_eq!(GammaGamma::fit([(spend, 5), (spend, 6)]), Err(Error::AllTheSame { customers: 11 }));
}

#[test]
fn customers_who_never_leave_have_no_fitted_chance_to_leave() {
    // All bought as late as the week they were last seen in, at different rates.
    let loyal = (1..60).map(|i| (days(i, 364, 364), 5));
    for error in [BgNbd::fit(loyal.clone()).unwrap_err(), MbgNbd::fit(loyal).unwrap_err()] {
        assert!(matches!(error, Error::Diverged { parameter: "a" | "b", .. }), "{error:?}");
    }
}

#[test]
fn customers_alike_in_rate_have_no_fitted_spread_of_rates() {
    // Binomially spread counts vary less than any gamma mixture of Poisson processes.
    let alike = (0..20).map(|i| (days(10 + i % 2, 300 + i * 3, 364), 50));
    let error = BgNbd::fit(alike).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error:?}");
}

#[test]
fn spend_without_differences_between_customers_cannot_be_fitted() {
    let equal = (1..40).map(|x| (Spend::new(x, 25.0).unwrap(), 3));
    let error = GammaGamma::fit(equal).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error:?}");
    assert!(error.to_string().contains("ran away"), "{error}");
}

#[test]
fn a_spread_of_spend_without_a_mean_is_refused() {
    // The quantiles of the model itself at p = 1, q = 0.6, γ = 1 for one occasion each.
    let wild = (0..400).map(|i| (Spend::new(1, ((f64::from(i) + 0.5) / 400.0).powf(-1.0 / 0.6) - 1.0).unwrap(), 1));
    let error = GammaGamma::fit(wild).unwrap_err();
    assert!(matches!(error, Error::InfiniteMean { q } if q <= 1.0), "{error:?}");
}

#[test]
fn fits_of_different_customers_are_not_compared() {
    let some = (1..40).map(|i| (days(i % 7 / 3, 10 * (i % 7 / 3), 20 + i), 1));
    let more = some.clone().chain([(days(0, 0, 30), 1)]);
    let (bg, mbg) = (BgNbd::fit(some), MbgNbd::fit(more));
    if let (Ok(bg), Ok(mbg)) = (bg, mbg) {
        assert_eq!(
            choose([bg.map(Model::from), mbg.map(Model::from)]),
            Err(Error::DifferentCustomers { left: 39, right: 40 })
        );
    }
}

#[test]
fn correlation_without_variation_is_none() {
    let spend = |x, mean| (Spend::new(x, mean).unwrap(), 1);
    assert_eq!(correlation([]), None);
    assert_eq!(correlation([(Spend::NONE, 9)]), None);
    assert_eq!(correlation([spend(1, 5.0)]), None);
    assert_eq!(correlation([spend(1, 5.0), spend(1, 7.0)]), None);
    assert_eq!(correlation([spend(1, 5.0), spend(2, 5.0)]), None);
    let line = correlation([spend(1, 5.0), spend(2, 7.0), spend(3, 9.0)]).unwrap();
    assert!((line - 1.0).abs() < 1e-12);
}
