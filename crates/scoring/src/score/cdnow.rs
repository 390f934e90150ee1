//! The CDNOW sample (Fader & Hardie): 2,357 customers, in US dollars, 1997-01-01 to 1998-06-30. For tests.

use std::collections::BTreeMap;

use jiff::civil::{Date, date};
use uuid::Uuid;

use super::{Books, Day, Models, Summary};

const ROWS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clientele/data/CDNOW_sample.txt"));

pub(crate) fn day(date: Date) -> Day {
    (date - jiff::civil::date(1970, 1, 1)).get_days()
}

/// The last day of the data.
pub(crate) fn last_day() -> Day {
    day(date(1998, 6, 30))
}

pub(crate) fn books() -> Books {
    Books { minor_per_major: 100.0, margin_rate: 0.3 }
}

/// That of the paper.
pub(crate) fn spend() -> value::GammaGamma {
    value::GammaGamma::new(6.25, 3.74, 15.44).unwrap()
}

/// What a fit on the whole period gives.
pub(crate) fn one_timers() -> value::MbgNbd {
    value::MbgNbd::new(value::Parameters { r: 0.61784, alpha: 8.65696, a: 0.55152, b: 1.00906 }).unwrap()
}

/// The same (MBG/NBD is the likeliest), and the Gamma-Gamma of the paper.
pub(crate) fn models() -> Models {
    let terms = value::clv::Terms::default();
    Models::new(Uuid::from_u128(1), one_timers().into(), Some(one_timers()), Some(spend()), terms)
}

/// Every customer as of `until`, by id.
pub(crate) fn summaries(until: Day) -> Vec<(Uuid, Summary)> {
    let mut days: BTreeMap<u128, BTreeMap<Day, i64>> = BTreeMap::new();
    for row in ROWS.lines() {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let [customer, _, when, _, dollars] = fields[..] else { panic!("a row has five fields: {row}") };
        let when: Date = format!("{}-{}-{}", &when[..4], &when[4..6], &when[6..]).parse().unwrap();
        let (whole, cents) = dollars.split_once('.').unwrap();
        let minor = whole.parse::<i64>().unwrap() * 100 + cents.parse::<i64>().unwrap();
        assert_eq!(cents.len(), 2);
        if day(when) <= until {
            *days.entry(customer.parse().unwrap()).or_default().entry(day(when)).or_default() += minor;
        }
    }
    let summary = |days: BTreeMap<Day, i64>| Summary {
        occasions: days.len() as u32,
        first_day: *days.first_key_value().unwrap().0,
        last_day: *days.last_key_value().unwrap().0,
        day_sum: days.keys().map(|day| i64::from(*day)).sum(),
        sales_minor: days.values().sum(),
        returns_minor: 0,
        first_sales_minor: *days.first_key_value().unwrap().1,
        ..Summary::default()
    };
    days.into_iter().map(|(customer, days)| (Uuid::from_u128(customer), summary(days))).collect()
}
