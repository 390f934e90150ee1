//! What somebody who has not bought would be worth if they did: the lifetime value of buyers explained by their attributes.
//!
//! The logarithm of the lifetime value is regressed (ridge) on what [`Attributes`] allows, and on nothing else. Each category enters as the mean
//! of those who have it, drawn towards the mean of all by so many imagined customers (target coding, Micci-Barreca 2001): a line of business
//! seen once says little. Back in money by Duan's smearing (1983), since the mean of an exponential is not the exponential of the mean.
//! How well that works is measured on customers that the model has not seen (cross-validation), and a model that explains nothing is not kept.
use std::collections::BTreeMap;

use linfa_linalg::cholesky::SolveC;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;

/// Parts that customers are dealt into for the cross-validation: each is foretold by a model of the other four.
const FOLDS: usize = 5;
/// Imagined customers by which each category is drawn towards the mean of all.
const SMOOTHING: f64 = 20.0;
/// So many must share a category for it to have a code: names that nearly everybody has for themselves tell nothing of the next one.
const MIN_SEEN: f64 = 5.0;
/// Weight of the ridge: coded categories are few and on the scale of the target, so hardly any is needed.
const PENALTY: f64 = 1e-3;
/// Customers that a model is fitted to at most: more would not make it better, and take memory (some 200 bytes each).
pub const MAX_BUYERS: usize = 100_000;
/// Highest value that is foretold, in minor units: beyond any customer, far below where sums would not fit.
const MAX_POTENTIAL: f64 = 1e15;
/// Columns: the categories and two numbers.
const COLUMNS: usize = CATEGORIES + 2;
const CATEGORIES: usize = 7;

/// The categories of somebody, in the order of the columns. Empty where not known, which is a category of its own.
fn categories(attributes: &Attributes) -> [String; CATEGORIES] {
    [
        attributes.kind.as_str_name().to_owned(),
        attributes.source.as_str_name().to_owned(),
        attributes.region.clone(),
        attributes.line_of_business.clone(),
        attributes.legal_form.clone(),
        attributes.employer.clone(),
        attributes.position.clone(),
    ]
}

/// The numbers of somebody, in the order of the columns: the logarithm of one more than what finding them cost, absent where that is not known, and
/// whether they were introduced.
fn numbers(attributes: &Attributes) -> (Option<f64>, f64) {
    let cost = attributes.acquisition_cost_minor.map(|cost| (cost.max(0) as f64).ln_1p());
    (cost, f64::from(u8::from(attributes.introduced_by.is_some())))
}

/// Somebody who bought: what is known of them, and what they are worth.
#[derive(Clone, Debug)]
pub struct Buyer {
    categories: [String; CATEGORIES],
    numbers: (Option<f64>, f64),
    /// Logarithm of one more than the lifetime value in minor units; a loss counts as nothing.
    target: f64,
}

impl Buyer {
    /// Of attributes and lifetime value in minor units.
    pub fn new(attributes: &Attributes, lifetime_minor: i64) -> Self {
        let target = (lifetime_minor.max(0) as f64).ln_1p();
        Self { categories: categories(attributes), numbers: numbers(attributes), target }
    }
}

/// A fitted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Of each category how far those who have it lie from the mean of all.
    codes: [BTreeMap<String, f64>; CATEGORIES],
    weights: [f64; COLUMNS],
    intercept: f64,
    /// Between the least and the greatest that was seen: nobody is foretold beyond.
    range: (f64, f64),
    smearing: f64,
    /// The means of the numbers, of those of whom they are known: what is not known speaks neither for nor against anybody. Models kept before held
    /// numbers against 0, and go on to.
    #[serde(default)]
    usual: [f64; 2],
}

/// How well a model foretells customers that it has not seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Share of the variance of the logarithm of the lifetime value that is explained; below 0 where the mean of all does better.
    pub r_squared: f64,
    /// Spearman's correlation of ranks, -1 to 1.
    pub rank_correlation: f64,
}

/// Why there is no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFitted(pub String);

impl Model {
    /// Fits a model, and measures it by cross-validation.
    ///
    /// # Errors
    /// Too few buyers; no difference between them; a model that explains nothing.
    pub fn fit(buyers: &[Buyer], min_buyers: usize) -> Result<(Self, Quality), NotFitted> {
        if buyers.len() < min_buyers.max(2 * FOLDS) {
            let message = format!("{} buyers with attributes are too few, {min_buyers} are needed", buyers.len());
            return Err(NotFitted(message));
        }
        let mut pairs = Vec::with_capacity(buyers.len());
        for fold in 0..FOLDS {
            let (unseen, rest): (Vec<_>, Vec<_>) =
                buyers.iter().enumerate().partition(|(place, _)| self::fold(*place) == fold);
            let rest: Vec<&Buyer> = rest.into_iter().map(|(_, buyer)| buyer).collect();
            let model = Self::train(&rest)?;
            let foretold = |buyer: &Buyer| model.log_value(&buyer.categories, buyer.numbers);
            pairs.extend(unseen.into_iter().map(|(_, buyer)| (foretold(buyer), buyer.target)));
        }
        let quality = Quality { r_squared: r_squared(&pairs), rank_correlation: rank_correlation(&pairs) };
        if !(quality.r_squared > 0.0 && quality.rank_correlation > 0.0) {
            let message = format!(
                "attributes explain nothing of the lifetime value (cross-validated R² {:.3}, rank correlation {:.3})",
                quality.r_squared, quality.rank_correlation
            );
            return Err(NotFitted(message));
        }
        let all: Vec<&Buyer> = buyers.iter().collect();
        Ok((Self::train(&all)?, quality))
    }

    fn train(buyers: &[&Buyer]) -> Result<Self, NotFitted> {
        let count = buyers.len() as f64;
        let mean = buyers.iter().map(|buyer| buyer.target).sum::<f64>() / count;
        let mut sums: [BTreeMap<&str, Sums>; CATEGORIES] = Default::default();
        for (place, buyer) in buyers.iter().enumerate() {
            for (sums, category) in sums.iter_mut().zip(&buyer.categories) {
                sums.entry(category).or_default().add(fold(place), buyer.target - mean);
            }
        }
        sums.iter_mut().for_each(|sums| sums.retain(|_, sums| sums.count() >= MIN_SEEN));
        let codes = sums
            .clone()
            .map(|sums| sums.into_iter().map(|(category, sums)| (category.to_owned(), sums.code(None))).collect());
        let bounds = |(low, high): (f64, f64), buyer: &&Buyer| (low.min(buyer.target), high.max(buyer.target));
        let range = buyers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), bounds);
        let known: Vec<f64> = buyers.iter().filter_map(|buyer| buyer.numbers.0).collect();
        let introduced = buyers.iter().map(|buyer| buyer.numbers.1).sum::<f64>();
        let usual = [known.iter().sum::<f64>() / known.len().max(1) as f64, introduced / count];
        let mut model = Self { codes, weights: [0.0; COLUMNS], intercept: mean, range, smearing: 1.0, usual };
        // The weights are found on codes that nobody's own target is part of: else what is seen once would seem to explain everything.
        let rows = buyers.iter().enumerate().map(|(place, buyer)| {
            let coded = sums.iter().zip(&buyer.categories);
            let coded =
                coded.map(|(sums, category)| sums.get(category.as_str()).map(|sums| sums.code(Some(fold(place)))));
            model.row(coded, buyer.numbers)
        });
        let rows: Vec<_> = rows.collect();
        (model.weights, model.intercept) = ridge(&rows, buyers, mean)?;
        let residuals = buyers.iter().map(|b| (b.target - model.log_value(&b.categories, b.numbers)).exp());
        model.smearing = residuals.sum::<f64>() / count;
        let sound = model.weights.iter().all(|weight| weight.is_finite());
        if sound && model.intercept.is_finite() && model.smearing.is_finite() {
            Ok(model)
        } else {
            Err(NotFitted("the regression gave no finite weights".to_owned()))
        }
    }

    fn log_value(&self, categories: &[String; CATEGORIES], numbers: (Option<f64>, f64)) -> f64 {
        let coded = self.codes.iter().zip(categories).map(|(codes, category)| codes.get(category).copied());
        let row = self.row(coded, numbers);
        let value = self.intercept + self.weights.iter().zip(row).map(|(weight, value)| weight * value).sum::<f64>();
        value.clamp(self.range.0, self.range.1)
    }

    /// The lifetime value to expect of somebody with these attributes if they buy, in minor units, 0 or more.
    pub fn potential_minor(&self, attributes: &Attributes) -> i64 {
        let value = self.log_value(&categories(attributes), numbers(attributes)).exp() * self.smearing;
        (value.min(self.range.1.exp()) - 1.0).clamp(0.0, MAX_POTENTIAL).round() as i64
    }

    /// The lifetime value that half of those with these attributes exceed, in minor units, 0 or more: what is typical of them, where the few who are
    /// worth very much count no more than others. `None` where no attribute is known.
    pub fn typical_minor(&self, attributes: &Attributes) -> Option<i64> {
        if *attributes == Attributes::default() {
            return None;
        }
        let value = self.log_value(&categories(attributes), numbers(attributes)).exp();
        Some((value - 1.0).clamp(0.0, MAX_POTENTIAL).round() as i64)
    }

    /// What the weights are applied to, each from the mean of all, as the regression wants it. A category without a code lies there, and so does a
    /// cost that is not known.
    fn row(&self, coded: impl Iterator<Item = Option<f64>>, (cost, introduced): (Option<f64>, f64)) -> [f64; COLUMNS] {
        let mut row = [0.0; COLUMNS];
        let coded = coded.map(|code| code.unwrap_or(0.0));
        let [usual_cost, usually_introduced] = self.usual;
        let numbers = [cost.map_or(0.0, |cost| cost - usual_cost), introduced - usually_introduced];
        for (cell, value) in row.iter_mut().zip(coded.chain(numbers)) {
            *cell = value;
        }
        row
    }
}

/// How far those of one category lie from the mean of all, by the part that each is dealt into.
#[derive(Clone, Copy, Debug, Default)]
struct Sums([(f64, f64); FOLDS]);

impl Sums {
    fn add(&mut self, fold: usize, distance: f64) {
        if let Some((sum, count)) = self.0.get_mut(fold) {
            *sum += distance;
            *count += 1.0;
        }
    }

    fn count(&self) -> f64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Their mean, drawn towards that of all where they are few; `without` those of one part.
    fn code(&self, without: Option<usize>) -> f64 {
        let counted = self.0.iter().enumerate().filter(|(fold, _)| Some(*fold) != without);
        let (sum, count) = counted.fold((0.0, 0.0), |(sum, all), (_, (more, count))| (sum + more, all + count));
        sum / (count + SMOOTHING)
    }
}

/// The weights and the intercept that minimise half the mean squared error plus half the penalty times the squared weights: in one step (Hoerl and Kennard
/// 1970), whatever the columns have in common. Descending from column to column is slow where most of them say the same.
fn ridge(rows: &[[f64; COLUMNS]], buyers: &[&Buyer], mean: f64) -> Result<([f64; COLUMNS], f64), NotFitted> {
    let count = rows.len() as f64;
    let mut means = [0.0; COLUMNS];
    for row in rows {
        means.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / count);
    }
    let mut squares = Array2::eye(COLUMNS) * PENALTY;
    let mut products = Array2::zeros((COLUMNS, 1));
    for (row, buyer) in rows.iter().zip(buyers) {
        for column in 0..COLUMNS {
            let distance = (row[column] - means[column]) / count;
            products[(column, 0)] += distance * (buyer.target - mean);
            for other in 0..COLUMNS {
                squares[(column, other)] += distance * (row[other] - means[other]);
            }
        }
    }
    let solved = squares.solvec(&products).map_err(|error| NotFitted(format!("the regression failed: {error}")))?;
    let mut weights = [0.0; COLUMNS];
    weights.iter_mut().zip(&solved).for_each(|(weight, solved)| *weight = *solved);
    let intercept = mean - weights.iter().zip(means).map(|(weight, mean)| weight * mean).sum::<f64>();
    Ok((weights, intercept))
}

/// Which part a customer is dealt into: by chance, but the same each time, since places in turn could go with what customers are.
fn fold(place: usize) -> usize {
    // Multiplying by the golden ratio (Knuth) leaves no pattern in the upper bits.
    let mixed = (place as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize % FOLDS
}

/// Of (foretold, true) pairs.
fn r_squared(pairs: &[(f64, f64)]) -> f64 {
    let mean = pairs.iter().map(|(_, truth)| truth).sum::<f64>() / pairs.len() as f64;
    let error: f64 = pairs.iter().map(|(foretold, truth)| (truth - foretold).powi(2)).sum();
    let spread: f64 = pairs.iter().map(|(_, truth)| (truth - mean).powi(2)).sum();
    if spread > 0.0 { 1.0 - error / spread } else { 0.0 }
}

fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let (foretold, truth): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (left, right) = (ranks(&foretold), ranks(&truth));
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let (mut both, mut one, mut other) = (0.0, 0.0, 0.0);
    for (left, right) in left.iter().zip(&right) {
        both += (left - mean) * (right - mean);
        one += (left - mean).powi(2);
        other += (right - mean).powi(2);
    }
    if one > 0.0 && other > 0.0 { both / (one * other).sqrt() } else { 0.0 }
}

/// From 1 on; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count().max(1);
        let rank = (2 * start + tied + 1) as f64 / 2.0;
        for i in &order[start..start + tied] {
            ranks[*i] = rank;
        }
        start += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(name: &str) -> Attributes {
        Attributes { line_of_business: name.into(), ..Attributes::default() }
    }

    /// Buyers of two lines of business, one worth ten times the other, each scattered by a factor of two.
    fn buyers() -> Vec<Buyer> {
        let scatter = |n: u32| 2_f64.powf(f64::from(n * 7 % 11) / 5.0 - 1.0);
        let buyer = |n: u32| {
            let (name, value) = if n.is_multiple_of(3) { ("mining", 100_000.0) } else { ("retail", 10_000.0) };
            Buyer::new(&line(name), (value * scatter(n)) as i64)
        };
        (0..600).map(buyer).collect()
    }

    #[test]
    fn columns_that_say_the_same_share_the_weight() {
        let buyers: Vec<Buyer> = (0..100_i64)
            .map(|x| Buyer { categories: Default::default(), numbers: (None, 0.0), target: 2.0 * x as f64 + 1.0 })
            .collect();
        let mut rows = vec![[0.0; COLUMNS]; 100];
        for (x, row) in rows.iter_mut().enumerate() {
            (row[0], row[3]) = (x as f64, x as f64);
        }
        let (weights, intercept) = ridge(&rows, &buyers.iter().collect::<Vec<_>>(), 100.0).unwrap();
        // Of one column of variance v the weight is 2v / (v + penalty); of two alike each has half of that with half the penalty.
        let variance = (100.0 * 100.0 - 1.0) / 12.0;
        let each = 2.0 * variance / (2.0 * variance + PENALTY);
        assert!((weights[0] - each).abs() < 1e-9 && (weights[3] - each).abs() < 1e-9, "{weights:?}");
        assert!((intercept - (100.0 - 2.0 * each * 49.5)).abs() < 1e-6, "{intercept}");
    }

    #[test]
    fn what_attributes_tell_is_found_and_measured_on_unseen_customers() {
        let (model, quality) = Model::fit(&buyers(), 200).unwrap();
        assert!(quality.r_squared > 0.7 && quality.rank_correlation > 0.6, "{quality:?}");
        let (mining, retail) = (model.potential_minor(&line("mining")), model.potential_minor(&line("retail")));
        assert!((90_000..130_000).contains(&mining) && (9_000..13_000).contains(&retail), "{mining} {retail}");
        // The mean lies above what is typical: few are worth very much.
        let typical = model.typical_minor(&line("mining")).unwrap();
        assert!(60_000 < typical && typical < mining, "{typical} {mining}");
        assert_eq!(model.typical_minor(&Attributes::default()), None);
        // Somebody of whom nothing is known lies between.
        let unknown = model.potential_minor(&line("fishing"));
        assert!(retail < unknown && unknown < mining, "{unknown}");
    }

    #[test]
    fn a_model_is_read_as_it_was_kept() {
        let (model, _) = Model::fit(&buyers(), 200).unwrap();
        let kept: Model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
        assert_eq!(kept.potential_minor(&line("mining")), model.potential_minor(&line("mining")));
    }

    #[test]
    fn what_finding_somebody_cost_counts_where_it_is_known_and_nothing_where_it_is_not() {
        let found_for = |cost| Attributes { acquisition_cost_minor: cost, ..Attributes::default() };
        // The more it cost the more they are worth, from 1,000 to 100,000; of every third it is not known.
        let buyer = |n: u32| {
            let cost = 10_f64.powf(3.0 + 2.0 * f64::from(n % 100) / 99.0);
            let known = (!n.is_multiple_of(3)).then_some(cost as i64);
            Buyer::new(&found_for(known), (cost * 10.0 * 2_f64.powf(f64::from(n * 7 % 11) / 5.0 - 1.0)) as i64)
        };
        let (model, _) = Model::fit(&(0..900).map(buyer).collect::<Vec<_>>(), 200).unwrap();
        let potential = |cost| model.potential_minor(&found_for(cost));
        let (little, unknown, much) = (potential(Some(1_000)), potential(None), potential(Some(100_000)));
        assert!(little * 2 < unknown && unknown * 2 < much, "{little} {unknown} {much}");
        assert!(potential(Some(0)) <= little);
        // One kept before knows no usual one, and reads as it did.
        let kept = serde_json::to_value(&model).unwrap();
        let mut before = kept.as_object().unwrap().clone();
        before.remove("usual");
        let before: Model = serde_json::from_value(before.into()).unwrap();
        assert_eq!(before.potential_minor(&found_for(None)), before.potential_minor(&found_for(Some(0))));
    }

    #[test]
    fn names_that_each_has_for_themselves_do_not_hide_what_a_line_of_business_tells() {
        let with_employers = |each: usize| -> Vec<Buyer> {
            let named = |(n, buyer): (usize, Buyer)| {
                let mut categories = buyer.categories;
                categories[5] = format!("employer {}", n / each);
                Buyer { categories, ..buyer }
            };
            buyers().into_iter().enumerate().map(named).collect()
        };
        let (plain, _) = Model::fit(&buyers(), 200).unwrap();
        for each in [1, 6] {
            let (model, _) = Model::fit(&with_employers(each), 200).unwrap();
            for business in ["mining", "retail"] {
                let (named, plain) = (model.potential_minor(&line(business)), plain.potential_minor(&line(business)));
                assert!((named - plain).abs() * 5 < plain, "{each} {business}: {named} is far from {plain}");
            }
        }
    }

    #[test]
    fn too_few_buyers_and_attributes_that_tell_nothing_give_no_model() {
        let few = Model::fit(&buyers()[..199], 200).unwrap_err();
        assert!(few.0.contains("199 buyers"), "{few:?}");
        let nothing: Vec<Buyer> = (0..300_i64).map(|n| Buyer::new(&line("retail"), 1_000 + n * 37 % 300)).collect();
        let refused = Model::fit(&nothing, 200).unwrap_err();
        assert!(refused.0.contains("explain nothing"), "{refused:?}");
        let same: Vec<Buyer> = (0..300).map(|_| Buyer::new(&line("retail"), 1_000)).collect();
        Model::fit(&same, 200).unwrap_err();
    }

    #[test]
    fn ranks_of_equal_values_are_shared() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!((rank_correlation(&[(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)]) - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&[(1.0, 30.0), (2.0, 20.0), (3.0, 10.0)]) + 1.0).abs() < 1e-12);
    }

    proptest! {
        // Values at the ends of the type take the regression a thousand rounds each.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn whatever_buyers_are_worth_a_potential_lies_between_the_least_and_some_multiple_of_the_greatest(
            values in prop::collection::vec(any::<i64>(), 20..60),
            cost in any::<i64>(),
        ) {
            let attributes = |n: usize| Attributes {
                line_of_business: ["a", "b", "c"][n % 3].into(),
                acquisition_cost_minor: Some(cost),
                ..Attributes::default()
            };
            let buyers: Vec<Buyer> = values.iter().enumerate().map(|(n, value)| Buyer::new(&attributes(n), *value)).collect();
            if let Ok((model, quality)) = Model::fit(&buyers, 20) {
                prop_assert!(quality.r_squared.is_finite() && quality.rank_correlation.abs() <= 1.0 + 1e-9);
                let potential = model.potential_minor(&attributes(1));
                prop_assert!((0..=1_000_000_000_000_000).contains(&potential));
            }
        }
    }
}
