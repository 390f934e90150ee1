//! How a customer's summary grows with purchases. The summary is always what the ledger adds up to, whatever order rows came in.
use crate::score::{Day, Summary};

/// What a batch brings to one customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addition {
    /// Sales of each day that has any, in minor units, by day.
    pub sales: Vec<(Day, i64)>,
    /// Returns in minor units.
    pub returns_minor: i64,
    /// Taken off the list price of its sales, in minor units.
    pub discount_minor: i64,
}

impl Addition {
    /// Adds a sale.
    pub fn sell(&mut self, day: Day, amount_minor: i64) {
        match self.sales.binary_search_by_key(&day, |(day, _)| *day) {
            Ok(found) => self.sales[found].1 += amount_minor,
            Err(place) => self.sales.insert(place, (day, amount_minor)),
        }
    }
}

/// Whether only the ledger knows if a sale on `day` is a new occasion: it lies between the first and the last, and some
/// days between are taken and some are free.
pub fn must_ask(summary: &Summary, day: Day) -> bool {
    let between = summary.occasions > 2 && summary.first_day < day && day < summary.last_day;
    between && i64::from(summary.occasions) < i64::from(summary.last_day) - i64::from(summary.first_day) + 1
}

/// Adds what a batch brings. `was_sold` answers, for the days that [`must_ask`] names, whether the customer bought on that day before the batch.
pub fn add(summary: &mut Summary, addition: &Addition, was_sold: impl Fn(Day) -> bool) {
    let before = summary.clone();
    for &(day, amount_minor) in &addition.sales {
        let first = summary.occasions == 0 || day < summary.first_day;
        if is_new(&before, day, &was_sold) {
            summary.occasions += 1;
            summary.day_sum += i64::from(day);
        }
        if first {
            summary.first_day = day;
            summary.first_sales_minor = amount_minor;
        } else if day == summary.first_day {
            summary.first_sales_minor += amount_minor;
        }
        if summary.occasions == 1 || day > summary.last_day {
            summary.last_day = day;
        }
        summary.sales_minor += amount_minor;
    }
    summary.returns_minor += addition.returns_minor;
    summary.discount_minor += addition.discount_minor;
}

/// Whether a sale on `day` is a new occasion to a customer as they were before the batch.
fn is_new(before: &Summary, day: Day, was_sold: &impl Fn(Day) -> bool) -> bool {
    if before.occasions == 0 || day < before.first_day || day > before.last_day {
        return true;
    }
    if day == before.first_day || day == before.last_day {
        return false;
    }
    if must_ask(before, day) { !was_sold(day) } else { before.occasions <= 2 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The summary by its definition.
    fn by_definition(rows: &[(Day, i64, bool)]) -> Summary {
        let mut days: BTreeMap<Day, i64> = BTreeMap::new();
        let mut summary = Summary::default();
        for &(day, amount, sale) in rows {
            if sale {
                *days.entry(day).or_default() += amount;
                summary.sales_minor += amount;
            } else {
                summary.returns_minor += amount;
            }
        }
        if let (Some((first, amount)), Some((last, _))) = (days.first_key_value(), days.last_key_value()) {
            summary.occasions = days.len() as u32;
            summary.first_day = *first;
            summary.last_day = *last;
            summary.first_sales_minor = *amount;
            summary.day_sum = days.keys().map(|day| i64::from(*day)).sum();
        }
        summary
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_gives_what_the_ledger_adds_up_to(
            batches in prop::collection::vec(prop::collection::vec((-4_i32..12, 0_i64..500, prop::bool::weighted(0.85)), 1..6), 1..8),
        ) {
            let mut ledger: Vec<(Day, i64, bool)> = Vec::new();
            let mut summary = Summary::default();
            for batch in batches {
                let mut addition = Addition::default();
                for &(day, amount, sale) in &batch {
                    if sale { addition.sell(day, amount) } else { addition.returns_minor += amount }
                }
                add(&mut summary, &addition, |day| ledger.iter().any(|row| row.2 && row.0 == day));
                ledger.extend(batch);
                prop_assert_eq!(&summary, &by_definition(&ledger));
            }
        }
    }

    #[test]
    fn purchases_in_order_never_ask_the_ledger() {
        let mut summary = Summary::default();
        for day in [5, 5, 9, 20, 20] {
            assert!(!must_ask(&summary, day));
            add(&mut summary, &Addition { sales: vec![(day, 1)], ..Addition::default() }, |_| panic!("asked"));
        }
        assert_eq!((summary.occasions, summary.first_sales_minor, summary.sales_minor), (3, 2, 5));
        assert!(must_ask(&summary, 10));
    }
}
