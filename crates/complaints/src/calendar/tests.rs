use proptest::prelude::*;

use super::*;

fn config(zone: &str, weekdays: &[&str], weekend: &[&str], holidays: &[&str]) -> Config {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Config {
        time_zone: zone.to_owned(),
        holidays: texts(holidays),
        monday: texts(weekdays),
        tuesday: texts(weekdays),
        wednesday: texts(weekdays),
        thursday: texts(weekdays),
        friday: texts(weekdays),
        saturday: texts(weekend),
        sunday: texts(weekend),
    }
}

fn calendar(zone: &str, weekdays: &[&str], weekend: &[&str], holidays: &[&str]) -> Calendar {
    let mut check = Check::new();
    let calendar = Calendar::parse(&mut check, "calendar", &config(zone, weekdays, weekend, holidays));
    check.done().unwrap();
    calendar
}

fn office(zone: &str) -> Calendar {
    calendar(zone, &["09:00-17:00"], &[], &[])
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[test]
fn time_runs_within_the_hours_alone() {
    let office = office("UTC");
    // Friday, an hour before closing: one hour on Friday, one on Monday.
    assert_eq!(office.add_business_time(at("2026-01-16T16:00:00Z"), hours(2)), at("2026-01-19T10:00:00Z"));
    assert_eq!(office.business_time_between(at("2026-01-16T16:00:00Z"), at("2026-01-19T10:00:00Z")), hours(2));
    // From Saturday night on, the clock begins with Monday's opening.
    assert_eq!(office.add_business_time(at("2026-01-17T23:00:00Z"), minutes(1)), at("2026-01-19T09:01:00Z"));
}

#[test]
fn nothing_lies_between_a_moment_and_an_earlier_one() {
    let (earlier, later) = (at("2026-01-16T10:00:00Z"), at("2026-01-16T11:00:00Z"));
    assert_eq!(office("UTC").business_time_between(later, earlier), hours(0));
}

#[test]
fn time_that_runs_out_at_closing_is_over_at_closing() {
    let office = office("UTC");
    assert_eq!(office.add_business_time(at("2026-01-16T16:00:00Z"), hours(1)), at("2026-01-16T17:00:00Z"));
    assert_eq!(office.add_business_time(at("2026-01-17T12:00:00Z"), hours(0)), at("2026-01-17T12:00:00Z"));
}

#[test]
fn holidays_are_passed_over() {
    let calendar = calendar("Europe/Berlin", &["09:00-12:00", "13:00-17:00"], &[], &["2026-12-25", "2026-12-28"]);
    // Thursday 11:00 in Berlin: one hour before noon, four after, then Tuesday.
    assert_eq!(calendar.add_business_time(at("2026-12-24T10:00:00Z"), hours(6)), at("2026-12-29T09:00:00Z"));
}

#[test]
fn the_hours_keep_to_the_wall_clock_through_the_year() {
    let office = office("Europe/Berlin");
    // 09:00 is 08:00 UTC in winter and 07:00 UTC in summer; the change is on Sunday, 2026-03-29.
    assert_eq!(office.add_business_time(at("2026-03-27T15:00:00Z"), hours(2)), at("2026-03-30T08:00:00Z"));
    assert_eq!(office.add_business_time(at("2026-10-23T14:00:00Z"), hours(2)), at("2026-10-26T09:00:00Z"));
}

#[test]
fn a_day_has_23_or_25_hours_where_the_clocks_change() {
    for (zone, spring, autumn) in
        [("Europe/Berlin", "2026-03-29", "2026-10-25"), ("America/New_York", "2026-03-08", "2026-11-01")]
    {
        let always = calendar(zone, &["00:00-24:00"], &["00:00-24:00"], &[]);
        let day = |text: &str| {
            let date: Date = text.parse().unwrap();
            let midnight = |date: Date| date.to_zoned(TimeZone::get(zone).unwrap()).unwrap().timestamp();
            always.business_time_between(midnight(date), midnight(date.tomorrow().unwrap()))
        };
        assert_eq!((day(spring), day(autumn)), (hours(23), hours(25)), "{zone}");
    }
}

#[test]
fn hours_that_the_clock_skips_are_none_and_hours_shown_twice_count_once() {
    let night = calendar("Europe/Berlin", &[], &["01:30-02:30", "02:45-03:15"], &[]);
    let day = |from: &str, to: &str| night.business_time_between(at(from), at(to));
    // 02:00 is 03:00 at once: half an hour before the jump, then the quarter after it.
    assert_eq!(day("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), minutes(45));
    // 03:00 is 02:00 again: the first 02:30 closes, the first 02:45 opens, and 03:15 comes after the hour was shown again.
    assert_eq!(day("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), minutes(60 + 90));
}

#[test]
fn a_day_that_a_zone_left_out_has_no_hours() {
    let office = calendar("Pacific/Apia", &["09:00-17:00"], &["09:00-17:00"], &[]);
    // Samoa went from Thursday the 29th at UTC−10 to Saturday the 31st at UTC+14, at 10:00 UTC on the 30th.
    assert_eq!(office.business_time_between(at("2011-12-29T10:00:00Z"), at("2011-12-31T10:00:00Z")), hours(16));
}

#[test]
fn a_search_always_ends() {
    let rare = calendar("UTC", &[], &["09:00-09:01"], &[]);
    let start = at("2026-01-14T12:00:00Z");
    let horizon = start + hours(24 * MAX_DAYS as i64);
    assert_eq!(rare.add_business_time(start, SignedDuration::MAX), horizon);
    assert_eq!(rare.add_business_time(Timestamp::MAX, hours(1)), Timestamp::MAX);
    assert!(rare.add_business_time(Timestamp::MIN, hours(1)) > Timestamp::MIN);
    assert!(rare.business_time_between(Timestamp::MIN, Timestamp::MAX) > SignedDuration::ZERO);
    assert_eq!(rare.business_time_between(Timestamp::MAX, Timestamp::MIN), SignedDuration::ZERO);
}

#[test]
fn a_calendar_that_makes_no_sense_is_refused() {
    let faults = |config: Config| {
        let mut check = Check::new();
        Calendar::parse(&mut check, "c", &config);
        check.take().into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    assert_eq!(faults(config("UTC", &[], &[], &[])), ["c"]);
    assert_eq!(faults(config("Nowhere", &[], &["10:00-11:00"], &["2026-02-30"])), ["c.time_zone", "c.holidays[0]"]);
    for bad in [
        "",
        "9:00-17:00",
        "09:00",
        "09:00-24:01",
        "17:00-09:00",
        "09:00-09:00",
        "09:60-10:00",
        "+9:00-10:00",
        "09:00-17:00-18:00",
    ] {
        assert_eq!(faults(config("UTC", &["10:00-11:00"], &[bad], &[])), ["c.saturday[0]", "c.sunday[0]"], "{bad}");
    }
    let many = Config {
        holidays: vec!["2026-01-01".to_owned(); MAX_HOLIDAYS + 1],
        ..config("UTC", &["10:00-11:00"], &[], &[])
    };
    assert_eq!(faults(many), ["c.holidays"]);
    let many = Config { monday: vec!["00:00-00:01".to_owned(); 9], ..config("UTC", &["10:00-11:00"], &[], &[]) };
    assert!(faults(many).contains(&"c.monday".to_owned()));
}

/// Calendars of several kinds, in zones with and without changes of the clock.
fn any_calendar() -> impl Strategy<Value = Calendar> {
    let zones =
        ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"];
    let weeks: [(&[&str], &[&str]); 5] = [
        (&["09:00-17:00"], &[]),
        (&["08:30-12:00", "13:00-17:15"], &["10:00-13:00"]),
        (&["00:00-24:00"], &["00:00-24:00"]),
        (&["00:00-02:30", "02:30-03:10", "22:00-24:00"], &["01:15-02:15", "02:45-04:00"]),
        (&[], &["02:00-03:00"]),
    ];
    (prop::sample::select(zones.to_vec()), prop::sample::select(weeks.to_vec()), any::<bool>()).prop_map(
        |(zone, (weekdays, weekend), holidays)| {
            let holidays: &[&str] = if holidays { &["2026-03-30", "2026-11-02", "2026-12-25"] } else { &[] };
            calendar(zone, weekdays, weekend, holidays)
        },
    )
}

/// A moment of 2026; every other one in the hours around a change of the clock.
fn any_moment() -> impl Strategy<Value = Timestamp> {
    let year = at("2026-01-01T00:00:00Z").as_microsecond()..at("2027-01-01T00:00:00Z").as_microsecond();
    let changes =
        ["2026-03-08T07:00:00Z", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-11-01T06:00:00Z"].map(at);
    let around = (prop::sample::select(changes.to_vec()), -90_000_000_000_i64..90_000_000_000)
        .prop_map(|(change, by)| change + SignedDuration::from_micros(by));
    prop_oneof![year.prop_map(|micros| Timestamp::from_microsecond(micros).unwrap()), around]
}

/// Up to a working month.
fn any_time() -> impl Strategy<Value = SignedDuration> {
    (0_i64..160 * 3_600 * 1_000_000).prop_map(SignedDuration::from_micros)
}

proptest! {
    #[test]
    fn adding_in_two_steps_is_adding_at_once(c in any_calendar(), start in any_moment(), a in any_time(), b in any_time()) {
        prop_assert_eq!(c.add_business_time(c.add_business_time(start, a), b), c.add_business_time(start, a + b));
    }

    #[test]
    fn what_was_added_lies_between(c in any_calendar(), start in any_moment(), a in any_time()) {
        prop_assert_eq!(c.business_time_between(start, c.add_business_time(start, a)), a);
    }

    #[test]
    fn adding_what_lies_between_never_goes_beyond(c in any_calendar(), x in any_moment(), y in any_moment()) {
        let (a, b) = (x.min(y), x.max(y));
        let between = c.business_time_between(a, b);
        let reached = c.add_business_time(a, between);
        prop_assert!(reached <= b);
        // And nothing is left from there on.
        prop_assert_eq!(c.business_time_between(reached, b), SignedDuration::ZERO);
    }

    #[test]
    fn parts_add_up_to_the_whole(c in any_calendar(), mut moments in prop::array::uniform3(any_moment())) {
        moments.sort();
        let [a, b, d] = moments;
        prop_assert_eq!(c.business_time_between(a, b) + c.business_time_between(b, d), c.business_time_between(a, d));
        prop_assert_eq!(c.business_time_between(d, a), SignedDuration::ZERO);
        prop_assert!(c.business_time_between(a, d) <= d.duration_since(a));
    }

    #[test]
    fn later_starts_and_longer_times_never_end_sooner(
        c in any_calendar(), x in any_moment(), y in any_moment(), a in any_time(), b in any_time(),
    ) {
        prop_assert!(c.add_business_time(x.min(y), a) <= c.add_business_time(x.max(y), a));
        prop_assert!(c.add_business_time(x, a.min(b)) <= c.add_business_time(x, a.max(b)));
    }
}
