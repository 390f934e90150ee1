//! Days of the business's calendar.
use chassis::{Error, Result, parse::Check};
use jiff::{Timestamp, Unit, civil, tz::TimeZone};
use proto::scoring::v1 as pb;

use crate::score::Day;

/// Microseconds of a second, seconds of a day.
const MICROS: i64 = 1_000_000;
const SECONDS_A_DAY: i64 = 86_400;

/// The last day that there is, 9999-12-31.
pub const LAST_DAY: Day = 2_932_896;

/// The calendar of the business's time zone.
#[derive(Clone, Debug)]
pub struct Calendar(TimeZone);

impl Calendar {
    /// The calendar of an IANA time zone.
    ///
    /// # Errors
    /// `Invalid` naming `time_zone` for a name that is none.
    pub fn new(time_zone: &str) -> Result<Self> {
        TimeZone::get(time_zone)
            .map(Self)
            .map_err(|_| Error::invalid("scoring.time_zone", "is not an IANA time zone such as Europe/London"))
    }

    /// The day that a moment falls on.
    pub fn day(&self, time: Timestamp) -> Day {
        let offset = i64::from(self.0.to_offset(time).seconds());
        let seconds = time.as_microsecond().div_euclid(MICROS) + offset;
        // Timestamps end with the year 9999, so their days fit.
        Day::try_from(seconds.div_euclid(SECONDS_A_DAY)).unwrap_or(Day::MAX)
    }

    /// The first moment of a day: midnight, or where the clocks skip it, the moment after.
    pub fn start(&self, day: Day) -> Timestamp {
        let end = if day < 0 { Timestamp::MIN } else { Timestamp::MAX };
        date(day).to_zoned(self.0.clone()).map_or(end, |zoned| zoned.timestamp())
    }
}

/// A day as protobuf has it.
pub fn to_proto(day: Day) -> pb::Date {
    let date = date(day);
    pb::Date { year: date.year().into(), month: date.month().into(), day: date.day().into() }
}

/// Parses a day from 1900 to `today`; absent means `today`.
pub fn parse(check: &mut Check, field: &str, date: Option<&pb::Date>, today: Day) -> Day {
    let Some(date) = date else { return today };
    match find(date) {
        Some(day) if day <= today => day,
        Some(_) => {
            check.fault(field, "lies in the future; a day up to today is allowed");
            today
        }
        None => {
            check.fault(field, "is not a day of the calendar from 1900 on");
            today
        }
    }
}

/// A day of the calendar from 1900 on.
pub fn find(date: &pb::Date) -> Option<Day> {
    let part = |value: i32| i8::try_from(value).unwrap_or(0);
    let year = i16::try_from(date.year).unwrap_or(0);
    let date = civil::Date::new(year, part(date.month), part(date.day)).ok().filter(|date| date.year() >= 1900);
    date.map(of_date)
}

/// The number of a civil date.
pub fn of_date(date: civil::Date) -> Day {
    date.since((Unit::Day, epoch())).map_or(Day::MAX, |span| span.get_days())
}

fn date(day: Day) -> civil::Date {
    epoch().checked_add(jiff::Span::new().try_days(day).unwrap_or_default()).unwrap_or(civil::Date::MAX)
}

fn epoch() -> civil::Date {
    civil::Date::constant(1970, 1, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_falls_on_the_day_of_the_business() {
        let moment: Timestamp = "2026-03-29T23:30:00Z".parse().unwrap();
        let utc = Calendar::new("UTC").unwrap().day(moment);
        // London has just gone over to summer time.
        assert_eq!(Calendar::new("Europe/London").unwrap().day(moment), utc + 1);
        assert_eq!(Calendar::new("America/New_York").unwrap().day(moment), utc);
        assert_eq!(to_proto(utc), pb::Date { year: 2026, month: 3, day: 29 });
    }

    #[test]
    fn a_day_starts_at_midnight_of_the_business() {
        let day = of_date(civil::date(2026, 3, 29));
        let starts = |zone, moment: &str| {
            assert_eq!(Calendar::new(zone).unwrap().start(day), moment.parse::<Timestamp>().unwrap(), "{zone}");
        };
        starts("UTC", "2026-03-29T00:00:00Z");
        starts("Europe/London", "2026-03-29T00:00:00Z");
        starts("America/New_York", "2026-03-29T04:00:00Z");
        // Clocks that go forward at midnight: the day begins at one.
        starts("Asia/Beirut", "2026-03-28T22:00:00Z");
        for zone in ["UTC", "Asia/Beirut", "America/New_York"] {
            let calendar = Calendar::new(zone).unwrap();
            let start = calendar.start(day);
            assert_eq!(calendar.day(start), day, "{zone}");
            assert_eq!(calendar.day(start - jiff::SignedDuration::from_micros(1)), day - 1, "{zone}");
        }
    }

    #[test]
    fn days_before_1970_are_negative() {
        let day = Calendar::new("UTC").unwrap().day("1969-12-31T23:59:59.5Z".parse().unwrap());
        assert_eq!(day, -1);
        assert_eq!(to_proto(day), pb::Date { year: 1969, month: 12, day: 31 });
    }

    #[test]
    fn a_day_that_is_none_or_lies_ahead_is_refused() {
        let dates = [(2026, 2, 30), (1899, 12, 31), (2026, 1, 2), (i32::MAX, 1, 1), (2026, 0, 1), (2026, 300, 1)];
        let today = of_date(civil::date(2026, 1, 1));
        for (year, month, day) in dates {
            let mut check = Check::new();
            parse(&mut check, "as_of", Some(&pb::Date { year, month, day }), today);
            assert!(check.done().is_err(), "{year}-{month}-{day}");
        }
        let mut check = Check::new();
        assert_eq!(parse(&mut check, "as_of", Some(&pb::Date { year: 2025, month: 12, day: 31 }), today), today - 1);
        assert_eq!(parse(&mut check, "as_of", None, today), today);
        check.done().unwrap();
    }

    #[test]
    fn a_name_that_is_no_time_zone_is_refused() {
        assert!(Calendar::new("Mars/Olympus").is_err());
    }
}
