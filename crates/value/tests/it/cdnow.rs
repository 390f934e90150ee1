//! The published figures on CDNOW (the 1/10 sample which Fader & Hardie distribute with their papers), calibrated on
//! purchases up to 1997-09-30.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use value::{BgNbd, Fit, GammaGamma, MbgNbd, Model, Parameters, Spend, Summary, TIE, choose, clv, correlation};

use crate::assert_close;

struct Customer {
    summary: Summary,
    spend: Spend,
}

/// Customers by their number in the sample.
static CUSTOMERS: LazyLock<BTreeMap<u32, Customer>> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../clientele/data/CDNOW_sample.txt");
    let text = std::fs::read_to_string(path).expect("the CDNOW sample ships with the project");
    let end = day_number(1997, 9, 30);
    let mut occasions: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let date: u32 = columns[2].parse().unwrap();
        let day = day_number(date / 10_000, date / 100 % 100, date % 100);
        if day <= end {
            *occasions.entry(columns[1].parse().unwrap()).or_default().entry(day).or_default() +=
                columns[4].parse::<f64>().unwrap();
        }
    }
    occasions
        .into_iter()
        .map(|(id, days)| {
            let (first, last) = (*days.keys().next().unwrap(), *days.keys().last().unwrap());
            let x = days.len() as u32 - 1;
            let valued: Vec<f64> = days.values().skip(1).copied().filter(|value| *value > 0.0).collect();
            let spend = match valued.len() {
                0 => Spend::NONE,
                n => Spend::new(n as u32, valued.iter().sum::<f64>() / n as f64).unwrap(),
            };
            (id, Customer { summary: Summary::from_days(x, last - first, end - first).unwrap(), spend })
        })
        .collect()
});

/// Days since 1996-12-31 for dates of 1997.
fn day_number(year: u32, month: u32, day: u32) -> u32 {
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    365 * (year - 1997) + BEFORE[month as usize - 1] + day
}

fn histories() -> impl Iterator<Item = (Summary, u64)> {
    CUSTOMERS.values().map(|customer| (customer.summary, 1))
}

fn spends() -> impl Iterator<Item = (Spend, u64)> {
    CUSTOMERS.values().map(|customer| (customer.spend, 1))
}

static BG: LazyLock<Fit<BgNbd>> = LazyLock::new(|| BgNbd::fit(histories()).unwrap());
static MBG: LazyLock<Fit<MbgNbd>> = LazyLock::new(|| MbgNbd::fit(histories()).unwrap());
static SPEND: LazyLock<Fit<GammaGamma>> = LazyLock::new(|| GammaGamma::fit(spends()).unwrap());

/// Equal once rounded to the digits that are printed.
#[track_caller]
fn assert_prints(found: f64, digits: usize, printed: &str) {
    assert_eq!(format!("{found:.digits$}"), printed);
}

#[test]
fn bg_nbd_fits_to_the_published_table() {
    let Parameters { r, alpha, a, b } = BG.model.parameters();
    assert_prints(r, 3, "0.243");
    assert_prints(alpha, 3, "4.414");
    assert_prints(a, 3, "0.793");
    assert_prints(b, 3, "2.426");
    assert_prints(BG.log_likelihood, 1, "-9582.4");
    assert_eq!(BG.customers, 2357);
}

#[test]
fn mbg_nbd_fits_to_the_published_table() {
    let Parameters { r, alpha, a, b } = MBG.model.parameters();
    assert_prints(r, 3, "0.525");
    assert_prints(alpha, 3, "6.183");
    assert_prints(a, 3, "0.891");
    assert_prints(b, 3, "1.614");
    assert_prints(MBG.log_likelihood, 1, "-9582.1");
}

#[test]
fn gamma_gamma_fits_to_the_published_figures() {
    assert_prints(SPEND.model.p(), 2, "6.25");
    assert_prints(SPEND.model.q(), 2, "3.74");
    assert_prints(SPEND.model.gamma(), 2, "15.44");
    assert_eq!(SPEND.customers, 946);
}

#[test]
fn every_fit_stands_on_a_vanishing_gradient() {
    for gradient in [BG.gradient_norm, MBG.gradient_norm, SPEND.gradient_norm] {
        assert!(gradient < 1e-6, "{gradient}");
    }
    for iterations in [BG.iterations, MBG.iterations, SPEND.iterations] {
        assert!((5..100).contains(&iterations), "{iterations}");
    }
}

#[test]
fn the_log_likelihood_of_a_fit_is_the_sum_over_its_customers() {
    let sum: f64 = histories().map(|(summary, _)| BG.model.log_likelihood(&summary)).sum();
    assert_close(sum, BG.log_likelihood, 1e-12, "BG/NBD");
    let sum: f64 = spends().map(|(spend, _)| SPEND.model.log_likelihood(&spend)).sum();
    assert_close(sum, SPEND.log_likelihood, 1e-12, "Gamma-Gamma");
}

#[test]
fn counting_equal_customers_together_changes_nothing() {
    let twice = BgNbd::fit(histories().map(|(summary, n)| (summary, 2 * n))).unwrap();
    assert_eq!(twice.customers, 2 * 2357);
    assert_close(twice.log_likelihood, 2.0 * BG.log_likelihood, 1e-12, "log-likelihood");
    assert_close(twice.model.parameters().r, BG.model.parameters().r, 1e-6, "r");
}

#[test]
fn customer_1516_has_the_published_future() {
    let customer = &CUSTOMERS[&1516].summary;
    assert_eq!(customer.x(), 26);
    assert_prints(customer.t_x(), 2, "30.86");
    assert_prints(customer.t(), 0, "31");
    assert_prints(BG.model.expected_occasions(customer, 52.0), 3, "25.757");
    assert_prints(BG.model.p_alive(customer), 5, "0.96885");
}

#[test]
fn a_likelihood_half_a_unit_ahead_is_a_tie_and_goes_to_mbg_nbd() {
    let chosen = choose(*BG, *MBG).unwrap();
    assert_eq!(chosen.model.name(), "MBG/NBD");
    assert_eq!(Model::fit(histories()).unwrap(), chosen);
    // Had BG/NBD been ahead by less than the tie, no other; by more, yes.
    let ahead = |by: f64| Fit { log_likelihood: MBG.log_likelihood + by, ..*BG };
    assert_eq!(choose(ahead(TIE * 0.99), *MBG).unwrap().model.name(), "MBG/NBD");
    assert_eq!(choose(ahead(TIE * 1.01), *MBG).unwrap().model.name(), "BG/NBD");
}

#[test]
fn spend_hardly_depends_on_frequency() {
    let r = correlation(spends()).unwrap();
    assert_prints(r, 2, "0.11");
}

#[test]
fn twenty_customers_agree_with_an_independent_implementation() {
    // The file was made with parameters fitted to the same data, not with the rounded published ones.
    let text = include_str!("../data/cdnow_sample_20_customers.csv");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let terms = clv::Terms::new(12, 0.01, 1.0).unwrap();
    let (mut seen, mut worst) = (0, 0.0_f64);
    for line in lines {
        let row: BTreeMap<&str, f64> =
            names.iter().copied().zip(line.split(',').map(|cell| cell.parse().unwrap_or(f64::NAN))).collect();
        let id = row["id"] as u32;
        let Customer { summary, spend } = &CUSTOMERS[&id];
        assert_eq!(f64::from(summary.x()), row["x"]);
        assert_close(summary.t_x(), row["tx"], 1e-7, format!("t_x of {id}"));
        assert_close(summary.t(), row["T"], 1e-7, format!("T of {id}"));
        assert_close(spend.mean(), row["zbar"], 1e-7, format!("mean of {id}"));
        assert_close(SPEND.model.expected_value(spend), row["EM"], 1e-4, format!("E[M] of {id}"));
        for (prefix, model) in [("bgnbd", Model::from(BG.model)), ("mbgnbd", Model::from(MBG.model))] {
            let mut check = |column: &str, found: f64| {
                let wanted = row[format!("{prefix}_{column}").as_str()];
                worst = worst.max((found / wanted - 1.0).abs());
                assert_close(found, wanted, 1e-4, format!("{prefix} {column} of {id}"));
            };
            check("alive", model.p_alive(summary));
            check("e39", model.expected_occasions(summary, 39.0));
            check("e52", model.expected_occasions(summary, 52.0));
            check("clv12m", clv::lifetime_value(&model, &SPEND.model, summary, spend, &terms));
        }
        seen += 1;
    }
    assert_eq!(seen, 20);
    println!("largest relative difference: {worst:e}");
}
