//! From purchases to what was known on a day.

use value::{BgNbd, Error, History, MbgNbd, Model, Occasion, Parameters, Spend, Summary, holdout};

fn history(purchases: &[(i32, f64)]) -> History {
    History::new(purchases.iter().map(|&(day, value)| Occasion { day, value })).unwrap()
}

#[test]
fn purchases_of_one_day_are_one_occasion_whatever_their_order() {
    let history = history(&[(30, 5.0), (10, 7.0), (30, 2.5), (-3, 1.0)]);
    let days: Vec<(i32, f64)> = history.occasions().iter().map(|o| (o.day, o.value)).collect();
    assert_eq!(days, [(-3, 1.0), (10, 7.0), (30, 7.5)]);
    assert_eq!((history.count(-4, 30), history.count(-3, 29), history.count(30, -3)), (3, 1, 0));
}

#[test]
fn a_summary_knows_nothing_of_what_comes_later() {
    let history = history(&[(0, 9.0), (10, 4.0), (30, 8.0)]);
    assert_eq!(history.summary(-1), None);
    assert_eq!(history.summary(9), Some((Summary::from_days(0, 0, 9).unwrap(), Spend::NONE)));
    assert_eq!(history.summary(29), Some((Summary::from_days(1, 10, 29).unwrap(), Spend::new(1, 4.0).unwrap())));
    assert_eq!(history.summary(40), Some((Summary::from_days(2, 30, 40).unwrap(), Spend::new(2, 6.0).unwrap())));
}

#[test]
fn an_occasion_without_value_counts_as_one_but_not_as_spend() {
    let history = history(&[(0, 9.0), (10, 0.0), (30, 8.0), (31, -8.0)]);
    let (summary, spend) = history.summary(40).unwrap();
    assert_eq!((summary.x(), spend), (3, Spend::new(1, 8.0).unwrap()));
}

#[test]
fn values_and_days_that_are_none_are_refused_by_name() {
    let field = |day, value| match History::new([Occasion { day, value }]) {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(0, f64::NAN), "value");
    assert_eq!(field(0, f64::INFINITY), "value");
    assert_eq!(field(i32::MAX, 1.0), "day");
    assert_eq!(field(i32::MIN, 1.0), "day");
    assert_eq!(History::new([]).unwrap().summary(0), None);
}

#[test]
fn the_chance_to_be_alive_falls_in_silence_and_leaps_at_an_occasion() {
    let parameters = Parameters { r: 0.525, alpha: 6.183, a: 0.891, b: 1.614 };
    let history = history(&[(0, 9.0), (10, 4.0), (100, 8.0)]);
    let model = Model::from(MbgNbd::new(parameters).unwrap());
    let course: Vec<(i32, f64)> = history.p_alive_over(&model, -5..=150).collect();
    assert_eq!((course.len(), course[0].0), (151, 0));
    for pair in course.windows(2) {
        let leap = history.occasions().iter().any(|occasion| occasion.day == pair[1].0);
        assert_eq!(pair[1].1 > pair[0].1, leap, "{pair:?}");
    }
    let bg = Model::from(BgNbd::new(parameters).unwrap());
    assert!(history.p_alive_over(&bg, 0..10).all(|(_, p)| p == 1.0));
}

#[test]
fn a_holdout_that_cannot_be_is_refused_with_the_reason() {
    let some = [history(&[(0, 9.0), (10, 4.0)]), history(&[(5, 1.0)])];
    assert!(matches!(holdout::report(&some, 10, 10), Err(Error::Invalid { field: "end", .. })));
    assert_eq!(holdout::report(&some, -1, 10).unwrap_err(), Error::NoCustomers);
    assert_eq!(holdout::report(&some, 9, 20).unwrap_err(), Error::NoRepeatBuyers);
}
