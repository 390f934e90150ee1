//! Against figures computed with 60 digits (tests/data/reference.py), from one day to thirty years and x up to 5,000.

use value::{BgNbd, MbgNbd, Model, Parameters, Summary};

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
