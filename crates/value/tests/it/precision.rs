//! Against figures computed with 60 digits (tests/data/reference*.py), from one day to thirty years and x up to 5,000.

use value::{BgNbd, MbgNbd, Model, Parameters, ParetoNbd, Summary, clv};

const TOLERANCE: f64 = 1e-10;

#[test]
fn both_models_keep_ten_digits_to_the_far_corners() {
    let mut worst = 0.0_f64;
    for line in include_str!("../data/reference.csv").lines().skip(1) {
        let (name, numbers) = line.split_once(',').unwrap();
        let numbers: Vec<f64> = numbers.split(',').map(|cell| cell.parse().unwrap()).collect();
        let [r, alpha, a, b, x, last_days, now_days, weeks, p_alive, expected, from_first] = numbers[..] else {
            panic!("{line}");
        };
        let parameters = Parameters { r, alpha, a, b };
        let model: Model = match name {
            "BG/NBD" => BgNbd::new(parameters).unwrap().into(),
            _ => MbgNbd::new(parameters).unwrap().into(),
        };
        let summary = Summary::new(x as u32, last_days / 7.0, now_days / 7.0).unwrap();
        for (found, wanted) in [
            (model.p_alive(&summary), p_alive),
            (model.expected_occasions(&summary, weeks), expected),
            (model.expected_from_first(weeks), from_first),
        ] {
            assert!(found.is_finite());
            // What is below the range of normal floats has no digits to keep.
            if wanted < 1e-290 {
                assert!(found < 1e-290, "{line}: {found} is not {wanted}");
                continue;
            }
            let error = (found / wanted - 1.0).abs();
            worst = worst.max(error);
            assert!(error <= TOLERANCE, "{line}: {found} is not {wanted}");
        }
    }
    println!("largest relative error: {worst:e}");
}

#[test]
fn pareto_nbd_keeps_ten_digits_to_the_far_corners() {
    let mut worst = 0.0_f64;
    let mut seen = 0;
    for line in include_str!("../data/reference_pareto.csv").lines().skip(1) {
        let numbers: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let [r, alpha, s, beta, x, last_days, now_days, weeks, p_alive, log_likelihood, expected, from_first] =
            numbers[..]
        else {
            panic!("{line}");
        };
        let model = ParetoNbd::new(r, alpha, s, beta).unwrap();
        let summary = Summary::new(x as u32, last_days / 7.0, now_days / 7.0).unwrap();
        for (found, wanted) in [
            (model.p_alive(&summary), p_alive),
            (model.log_likelihood(&summary), log_likelihood),
            (model.expected_occasions(&summary, weeks), expected),
            (model.expected_from_first(weeks), from_first),
        ] {
            assert!(found.is_finite());
            // What is below the range of normal floats has no digits to keep.
            if wanted.abs() < 1e-290 {
                assert!(found.abs() < 1e-290, "{line}: {found} is not {wanted}");
                continue;
            }
            let error = (found / wanted - 1.0).abs();
            worst = worst.max(error);
            assert!(error <= TOLERANCE, "{line}: {found} is not {wanted}");
        }
        seen += 1;
    }
    assert!(seen > 200);
    println!("largest relative error: {worst:e}");
}

#[test]
fn residual_occasions_keep_ten_digits_under_every_model() {
    let mut worst = 0.0_f64;
    for line in include_str!("../data/residual.csv").lines().skip(1) {
        let (name, numbers) = line.split_once(',').unwrap();
        let numbers: Vec<f64> = numbers.split(',').map(|cell| cell.parse().unwrap()).collect();
        let [first, alpha, third, fourth, x, last_days, now_days, rate, wanted] = numbers[..] else {
            panic!("{line}");
        };
        let parameters = Parameters { r: first, alpha, a: third, b: fourth };
        let model: Model = match name {
            "BG/NBD" => BgNbd::new(parameters).unwrap().into(),
            "MBG/NBD" => MbgNbd::new(parameters).unwrap().into(),
            _ => ParetoNbd::new(first, alpha, third, fourth).unwrap().into(),
        };
        let summary = Summary::from_days(x as u32, last_days as u32, now_days as u32).unwrap();
        let found = clv::residual_occasions(&model, &summary, rate).unwrap();
        let error = (found / wanted - 1.0).abs();
        worst = worst.max(error);
        assert!(error <= TOLERANCE, "{line}: {found} is not {wanted}");
    }
    println!("largest relative error: {worst:e}");
}
