//! Refits on real data beside what lifetimes 0.11.3, an independent implementation, finds there (tests/data/independent.py says
//! on what and how): the buyers of a shop, and the whole cohort of which the CDNOW sample is a tenth.
//!
//! Its parameters differ from ours where its optimiser stops before the maximum; so the likelihoods say which is right, and
//! what is computed of customers is compared at its parameters, not at ours.

use std::{collections::BTreeMap, fs::File, path::PathBuf};

use jiff::civil::Date;
use value::{BgNbd, Fit, GammaGamma, History, MbgNbd, Model, Occasion, Parameters, ParetoNbd, Spend, Summary};

use crate::assert_close;

/// How much worse than lifetimes a fit may be, per customer in log-likelihood.
const WORSE: f64 = 1e-6;
/// How far, in proportion, parameters may lie apart: lifetimes ends some 1e-5 beside the maximum.
const APART: f64 = 1e-4;
/// How far, in proportion, figures of customers may at the same parameters: only rounding is between them.
const FIGURES: f64 = 1e-9;

type Customers = Vec<(Summary, Spend)>;

/// The file that a variable names; the tests of those which it does not name say so and check nothing.
fn named(variable: &str, what: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where a file lies is the machine's to say")]
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        println!("not run: {variable} names no {what}");
    }
    path
}

/// Days since any one day.
fn day(date: &str, format: &str) -> i32 {
    Date::strptime(format, date).unwrap().since(Date::constant(1990, 1, 1)).unwrap().get_days()
}

/// What is known of everybody at the end of the last day that anybody bought on.
fn customers(purchases: BTreeMap<String, Vec<Occasion>>) -> Customers {
    let end = purchases.values().flatten().map(|purchase| purchase.day).max().unwrap();
    purchases.into_values().map(|purchases| History::new(purchases).unwrap().summary(end).unwrap()).collect()
}

fn online_retail() -> Option<Customers> {
    let path = named("CLIENTELE_TEST_ONLINE_RETAIL", "online_retail.csv.gz (UCI \"Online Retail\")")?;
    let mut rows = csv::Reader::from_reader(flate2::read::GzDecoder::new(File::open(path).unwrap()));
    let names = rows.headers().unwrap().clone();
    let place = |name: &str| names.iter().position(|other| other == name).unwrap();
    let [id, time, quantity, price] = ["CustomerID", "InvoiceDate", "Quantity", "UnitPrice"].map(place);
    let mut purchases: BTreeMap<String, Vec<Occasion>> = BTreeMap::new();
    for row in rows.records() {
        let row = row.unwrap();
        let [quantity, price]: [f64; 2] = [quantity, price].map(|column| row[column].parse().unwrap());
        if !row[id].is_empty() && quantity > 0.0 && price > 0.0 {
            let occasion = Occasion { day: day(&row[time][..10], "%Y-%m-%d"), value: quantity * price };
            purchases.entry(row[id].to_owned()).or_default().push(occasion);
        }
    }
    Some(customers(purchases))
}

fn cdnow_master() -> Option<Customers> {
    let path = named("CLIENTELE_TEST_CDNOW_MASTER", "CDNOW_master.txt (the whole cohort of Fader & Hardie)")?;
    let mut purchases: BTreeMap<String, Vec<Occasion>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // Some copies begin with a line of names, and all end in a character that is none.
        let [id, date, _, value] = columns[..] else { continue };
        if date <= "19970930" {
            let occasion = Occasion { day: day(date, "%Y%m%d"), value: value.parse().unwrap() };
            purchases.entry(id.to_owned()).or_default().push(occasion);
        }
    }
    Some(customers(purchases))
}

/// A line of `independent_fits.csv`.
struct Reference {
    customers: usize,
    parameters: [f64; 4],
    log_likelihood: f64,
    /// Over all customers: P(alive), its square, E[X(39)], its square.
    sums: [f64; 4],
}

impl Reference {
    fn of(data: &str, model: &str) -> Self {
        let text = include_str!("../data/independent_fits.csv");
        let head = format!("{data},{model},");
        let line = text.lines().find_map(|line| line.strip_prefix(&head)).unwrap();
        let numbers: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let [customers, first, second, third, fourth, log_likelihood, sums @ ..] = &numbers[..] else {
            panic!("{line}")
        };
        Self {
            customers: *customers as usize,
            parameters: [*first, *second, *third, *fourth],
            log_likelihood: *log_likelihood,
            sums: sums.try_into().unwrap(),
        }
    }

    fn model(&self, name: &str) -> Model {
        let [r, alpha, a, b] = self.parameters;
        let parameters = Parameters { r, alpha, a, b };
        match name {
            "BG/NBD" => BgNbd::new(parameters).unwrap().into(),
            "MBG/NBD" => MbgNbd::new(parameters).unwrap().into(),
            _ => ParetoNbd::new(r, alpha, a, b).unwrap().into(),
        }
    }
}

/// Fits a model and holds it against the reference; `compared` says how many of the parameters the data can tell.
fn assert_agrees(data: &str, customers: &Customers, fit: Fit<Model>, compared: usize) {
    let name = fit.model.name();
    let reference = Reference::of(data, name);
    let theirs = reference.model(name);
    let n = customers.len() as f64;
    assert_eq!(customers.len(), reference.customers);

    // The same likelihood at the same parameters, so that its likelihood and ours can be compared.
    let likelihood: f64 = customers.iter().map(|(summary, _)| theirs.log_likelihood(summary)).sum();
    assert_close(likelihood, reference.log_likelihood, 1e-9, format!("{data}, {name}: log-likelihood there"));
    let behind = (reference.log_likelihood - fit.log_likelihood) / n;
    assert!(behind <= WORSE, "{data}, {name}: {behind:e} a customer behind");
    let mut apart = 0.0_f64;
    for (estimate, wanted) in fit.estimates().iter().zip(reference.parameters).take(compared) {
        apart = apart.max((estimate.value() / wanted - 1.0).abs());
        assert_close(estimate.value(), wanted, APART, format!("{data}, {name}: {}", estimate.name()));
    }

    // Every customer there is.
    let mut sums = [0.0; 4];
    for (summary, _) in customers {
        let [alive, expected] = [theirs.p_alive(summary), theirs.expected_occasions(summary, 39.0)];
        for (sum, figure) in sums.iter_mut().zip([alive, alive * alive, expected, expected * expected]) {
            *sum += figure;
        }
    }
    for (found, wanted) in sums.into_iter().zip(reference.sums) {
        assert_close(found, wanted, FIGURES, format!("{data}, {name}: all customers"));
    }
    println!(
        "{data}, {name}: log-likelihood {:.6}, ahead by {:e}; {compared} parameters within {apart:e}",
        fit.log_likelihood,
        -behind * n
    );
}

fn assert_spend_agrees(data: &str, customers: &Customers) {
    let reference = Reference::of(data, "Gamma-Gamma");
    let fit = GammaGamma::fit(customers.iter().map(|(_, spend)| (*spend, 1))).unwrap();
    let [p, q, gamma, _] = reference.parameters;
    let theirs = GammaGamma::new(p, q, gamma).unwrap();
    assert_eq!(fit.customers as usize, reference.customers);
    let likelihood: f64 = customers.iter().map(|(_, spend)| theirs.log_likelihood(spend)).sum();
    assert_close(likelihood, reference.log_likelihood, 1e-9, format!("{data}: log-likelihood of spend"));
    let behind = (reference.log_likelihood - fit.log_likelihood) / reference.customers as f64;
    assert!(behind <= WORSE, "{data}: {behind:e} a customer behind");
    for (estimate, wanted) in fit.estimates().iter().zip(reference.parameters) {
        assert_close(estimate.value(), wanted, APART, format!("{data}: {}", estimate.name()));
    }
    let values = || customers.iter().map(|(_, spend)| theirs.expected_value(spend));
    assert_close(values().sum(), reference.sums[0], FIGURES, format!("{data}: E[M]"));
    assert_close(values().map(|value| value * value).sum(), reference.sums[1], FIGURES, format!("{data}: E[M]²"));
}

#[test]
fn customers_of_any_history_agree_with_an_independent_implementation() {
    let mut worst = 0.0_f64;
    let mut seen = 0;
    for line in include_str!("../data/independent_figures.csv").lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [data, name, x, last, now, alive, expected] = cells[..] else { panic!("{line}") };
        let days = |cell: &str| cell.parse::<f64>().unwrap() / 7.0;
        let summary = Summary::new(x.parse().unwrap(), days(last), days(now)).unwrap();
        let model = Reference::of(data, name).model(name);
        for (found, wanted) in [(model.p_alive(&summary), alive), (model.expected_occasions(&summary, 39.0), expected)]
        {
            let wanted: f64 = wanted.parse().unwrap();
            worst = worst.max((found / wanted - 1.0).abs());
            assert_close(found, wanted, FIGURES, line);
        }
        seen += 1;
    }
    assert_eq!(seen, 6 * 64);
    println!("largest relative difference: {worst:e}");
}

#[test]
fn a_refit_on_the_customers_of_a_shop_agrees_with_an_independent_implementation() {
    let Some(customers) = online_retail() else { return };
    assert_eq!(customers.len(), 4_338);
    let histories = || customers.iter().map(|(summary, _)| (*summary, 1));
    let data = "Online Retail";
    assert_agrees(data, &customers, BgNbd::fit(histories()).unwrap().map(Model::from), 4);
    assert_agrees(data, &customers, MbgNbd::fit(histories()).unwrap().map(Model::from), 4);
    // Many of these are wholesalers who stock up for Christmas, when the file ends: hardly any can be seen to leave, and the likelihood
    // of Pareto/NBD rises, by ever less, towards s = 0. lifetimes goes on to 1e-13; ours stops where a step gains nothing, and only one
    // of its four starts calls that a maximum. What these data do tell of that model, the rates of buying, agrees.
    let pareto = ParetoNbd::fit(histories()).unwrap();
    assert!(pareto.model.s() < 1e-4 && pareto.agreeing < pareto.starts, "{pareto:?}");
    assert_agrees(data, &customers, pareto.map(Model::from), 2);
    assert_spend_agrees(data, &customers);
}

#[test]
fn a_refit_on_the_whole_cohort_of_cdnow_agrees_with_an_independent_implementation() {
    let Some(customers) = cdnow_master() else { return };
    assert_eq!(customers.len(), 23_570);
    let histories = || customers.iter().map(|(summary, _)| (*summary, 1));
    let data = "CDNOW";
    assert_agrees(data, &customers, BgNbd::fit(histories()).unwrap().map(Model::from), 4);
    assert_agrees(data, &customers, MbgNbd::fit(histories()).unwrap().map(Model::from), 4);
    let pareto = ParetoNbd::fit(histories()).unwrap();
    assert_eq!(pareto.agreeing, pareto.starts);
    assert_agrees(data, &customers, pareto.map(Model::from), 4);
    assert_spend_agrees(data, &customers);
}
