//! The shifted-beta-geometric model against the worked example of its paper (Fader & Hardie 2007).

use value::{Contract, Error, ShiftedBetaGeometric};

use crate::assert_close;

/// Survivors of 1,000 by year, the years 8 to 12 held out.
const HIGH_END: [u64; 13] = [1000, 869, 743, 653, 593, 551, 517, 491, 468, 445, 427, 409, 394];
const REGULAR: [u64; 13] = [1000, 631, 468, 382, 326, 289, 262, 241, 223, 207, 194, 183, 173];

fn fitted(survivors: &[u64; 13]) -> value::Fit<ShiftedBetaGeometric> {
    ShiftedBetaGeometric::fit(Contract::of_cohort(&survivors[..8]).unwrap()).unwrap()
}

#[test]
fn seven_years_give_the_published_parameters() {
    let (high_end, regular) = (fitted(&HIGH_END), fitted(&REGULAR));
    let printed = |model: ShiftedBetaGeometric| format!("{:.3} {:.3}", model.alpha(), model.beta());
    assert_eq!(printed(high_end.model), "0.668 3.806");
    assert_eq!(printed(regular.model), "0.704 1.182");
    assert_eq!((high_end.customers, high_end.starts, high_end.agreeing), (1_000, 3, 3));
    assert_eq!(high_end.estimates().iter().map(value::Estimate::name).collect::<Vec<_>>(), ["alpha", "beta"]);
    assert!(high_end.estimates().iter().all(|estimate| estimate.standard_error().is_some()));
}

#[test]
fn the_five_years_held_out_are_projected() {
    for survivors in [HIGH_END, REGULAR] {
        let model = fitted(&survivors).model;
        for (year, actual) in survivors.iter().enumerate().skip(8) {
            let projected = 1_000.0 * model.survival(year as u32);
            assert_close(projected, *actual as f64, 0.06, format!("year {year}"));
        }
    }
}

#[test]
fn retention_rises_though_nobody_changes() {
    let model = fitted(&HIGH_END).model;
    let mut share = 1.0;
    for renewals in 0..40 {
        assert_close(model.survival(renewals), share, 1e-13, "the product of the retentions");
        assert_close(model.survival_from(renewals, 3), model.survival(renewals + 3) / share, 1e-13, "further");
        assert!(model.retention(renewals + 1) > model.retention(renewals));
        share *= model.retention(renewals);
    }
}

#[test]
fn cohorts_of_different_ages_are_fitted_together() {
    let mut contracts = Contract::of_cohort(&HIGH_END[..8]).unwrap();
    contracts.extend(Contract::of_cohort(&HIGH_END[..4]).unwrap());
    // Who has not yet been asked to renew says nothing.
    contracts.push((Contract { renewals: 0, ended: false }, 500));
    let fit = ShiftedBetaGeometric::fit(contracts.iter().copied()).unwrap();
    assert_eq!(fit.customers, 2_000);
    let sum: f64 = contracts.iter().map(|(contract, n)| *n as f64 * fit.model.log_likelihood(contract)).sum();
    assert_close(sum, fit.log_likelihood, 1e-12, "log-likelihood");
}

#[test]
fn contracts_that_cannot_carry_the_model_are_refused_with_the_reason() {
    let fit = |survivors: &[u64]| ShiftedBetaGeometric::fit(Contract::of_cohort(survivors).unwrap()).unwrap_err();
    assert_eq!(Contract::of_cohort(&[]), Err(Error::NoCustomers));
    assert!(matches!(Contract::of_cohort(&[5, 6]), Err(Error::Invalid { field: "survivors", .. })));
    assert_eq!(fit(&[100]), Error::NoCustomers);
    assert_eq!(fit(&[100, 100, 100]), Error::AllTheSame { customers: 100 });
    let nobody_left = [(Contract { renewals: 3, ended: false }, 50), (Contract { renewals: 5, ended: false }, 50)];
    let error = ShiftedBetaGeometric::fit(nobody_left).unwrap_err();
    assert!(matches!(error, Error::Diverged { parameter: "alpha" | "beta", .. }), "{error:?}");
    // A constant share leaving is what customers all alike would do.
    let error = fit(&[64_000, 32_000, 16_000, 8_000, 4_000]);
    assert!(matches!(error, Error::Diverged { .. }), "{error:?}");
    assert!(matches!(ShiftedBetaGeometric::new(0.0, 1.0), Err(Error::Invalid { field: "alpha", .. })));
    assert!(matches!(ShiftedBetaGeometric::new(1.0, f64::NAN), Err(Error::Invalid { field: "beta", .. })));
    let model = fitted(&HIGH_END).model;
    assert!(matches!(model.residual_renewals(0, 0.0), Err(Error::Invalid { field: "rate", .. })));
}

#[test]
fn survival_is_a_share_up_to_the_longest_contract() {
    let model = ShiftedBetaGeometric::new(1e-9, 1e12).unwrap();
    let other = ShiftedBetaGeometric::new(1e12, 1e-9).unwrap();
    for renewals in [0, 1, 700, u32::MAX] {
        for model in [model, other] {
            assert!((0.0..=1.0 + 1e-9).contains(&model.survival(renewals)), "{renewals}");
            assert!((0.0..=1.0).contains(&model.retention(renewals)));
        }
    }
}
