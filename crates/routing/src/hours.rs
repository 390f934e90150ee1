//! When a channel is open: hours by weekday in the business's time zone, also across changes of the clock.
use chassis::parse::Check;
use jiff::{
    SignedDuration, Timestamp,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone},
};
use proto::routing::v1 as pb;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Opening hours of a week.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// From Monday; all closed means always open.
    days: [Option<Span>; 7],
}

/// From when to when, in minutes after midnight; `closes` is at most 24:00 and after `opens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    opens: u16,
    closes: u16,
}

/// Whether it is open, as it holds from the moment it was asked for until `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Open now.
    pub open: bool,
    /// When it opens next; absent while it is open.
    pub opens: Option<Timestamp>,
    /// When to ask again.
    pub until: Timestamp,
}

impl Hours {
    /// Parses opening hours: at most one entry for a day; none means always.
    pub fn parse(check: &mut Check, field: &str, entries: &[pb::OpeningHours]) -> Self {
        let mut hours = Self::default();
        check.count(field, entries.len(), 0..=7);
        for (index, entry) in entries.iter().enumerate().take(7) {
            let path = format!("{field}[{index}]");
            let weekday: pb::Weekday = check.known(&format!("{path}.weekday"), entry.weekday);
            let opens = minute(&entry.opens).filter(|minute| *minute < DAY);
            check.require(opens.is_some(), &format!("{path}.opens"), "must be HH:MM from 00:00 to 23:59");
            let closes = minute(&entry.closes).filter(|minute| *minute > 0);
            check.require(closes.is_some(), &format!("{path}.closes"), "must be HH:MM from 00:01 to 24:00");
            if let (Some(opens), Some(closes)) = (opens, closes) {
                check.require(closes > opens, &format!("{path}.closes"), "must be after `opens`");
                let day = usize::try_from(weekday as i32 - 1).ok().and_then(|day| hours.days.get_mut(day));
                if let Some(day) = day {
                    check.require(day.is_none(), &format!("{path}.weekday"), "has an entry already");
                    *day = Some(Span { opens, closes });
                }
            }
        }
        hours
    }

    /// From Monday on.
    pub fn to_proto(&self) -> Vec<pb::OpeningHours> {
        let entry = |(day, span): (i32, Span)| pb::OpeningHours {
            weekday: day,
            opens: clock_time(span.opens),
            closes: clock_time(span.closes),
        };
        (1..).zip(self.days).filter_map(|(day, span)| Some(entry((day, span?)))).collect()
    }

    /// Whether it is open at `now`.
    ///
    /// A day's hours run from the first moment at which the clock on the wall shows `opens`, or is past it where that time is skipped, to the last moment
    /// before it shows `closes`. So in the night when the clock is put back nothing opens twice.
    pub fn at(&self, zone: &TimeZone, now: Timestamp) -> Opening {
        let always = Opening { open: true, opens: None, until: Timestamp::MAX };
        if self.days.iter().all(Option::is_none) {
            return always;
        }
        // From yesterday, whose hours may end after midnight where the clock is put back then, to the same weekday next week.
        let mut date = zone.to_datetime(now).date().yesterday().ok();
        for _ in 0..=9 {
            let Some(day) = date else { break };
            let span = usize::try_from(day.weekday().to_monday_zero_offset()).ok().and_then(|day| self.days[day]);
            if let Some((from, to)) = span.and_then(|span| span.on(zone, day)) {
                if (from..to).contains(&now) {
                    return Opening { until: to, ..always };
                }
                if from > now {
                    return Opening { open: false, opens: Some(from), until: from };
                }
            }
            date = day.tomorrow().ok();
        }
        // Only at the end of the calendar.
        Opening { open: false, opens: None, until: Timestamp::MAX }
    }

    /// As it is stored: (weekday from Monday = 1, opens, closes), in minutes.
    pub fn to_rows(&self) -> Vec<(u8, u16, u16)> {
        (1..).zip(self.days).filter_map(|(day, span)| span.map(|span| (day, span.opens, span.closes))).collect()
    }

    /// From what is stored; rows that cannot be are left out.
    pub fn from_rows(rows: &[(u8, u16, u16)]) -> Self {
        let mut hours = Self::default();
        for (day, opens, closes) in rows {
            if let Some(slot) = usize::from(*day).checked_sub(1).and_then(|day| hours.days.get_mut(day))
                && opens < closes
                && *closes <= DAY
            {
                *slot = Some(Span { opens: *opens, closes: *closes });
            }
        }
        hours
    }
}

impl Span {
    fn on(self, zone: &TimeZone, date: Date) -> Option<(Timestamp, Timestamp)> {
        Some((instant(zone, date, self.opens, false)?, instant(zone, date, self.closes, true)?))
    }
}

/// The moment when the clock on the wall shows so many minutes after midnight: the first or the `last` one where it does so
/// twice, the moment of the jump where it never does.
fn instant(zone: &TimeZone, date: Date, minute: u16, last: bool) -> Option<Timestamp> {
    let (date, minute) = if minute == DAY { (date.tomorrow().ok()?, 0) } else { (date, minute) };
    let local = date.at(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0);
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.compatible().ok(),
        AmbiguousOffset::Fold { .. } if last => ambiguous.later().ok(),
        AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
        AmbiguousOffset::Gap { .. } => {
            let after = ambiguous.later().ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
            zone.preceding(after).next().map(|jump| jump.timestamp())
        }
    }
}

/// Minutes after midnight of "HH:MM", up to 24:00.
fn minute(text: &str) -> Option<u16> {
    let digit = |at: usize| text.as_bytes().get(at).filter(|b| b.is_ascii_digit()).map(|b| u16::from(b - b'0'));
    if text.len() != 5 || text.as_bytes().get(2) != Some(&b':') {
        return None;
    }
    let (hours, minutes) = (digit(0)? * 10 + digit(1)?, digit(3)? * 10 + digit(4)?);
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

fn clock_time(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(weekday: i32, opens: &str, closes: &str) -> pb::OpeningHours {
        pb::OpeningHours { weekday, opens: opens.into(), closes: closes.into() }
    }

    fn hours(entries: &[(i32, &str, &str)]) -> Hours {
        let entries: Vec<_> = entries.iter().map(|(day, opens, closes)| entry(*day, opens, closes)).collect();
        let mut check = Check::new();
        let hours = Hours::parse(&mut check, "hours", &entries);
        check.done().unwrap();
        hours
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn malformed_hours_are_named_by_their_path() {
        let cases = [
            (vec![entry(0, "08:00", "09:00")], "hours[0].weekday"),
            (vec![entry(8, "08:00", "09:00")], "hours[0].weekday"),
            (vec![entry(1, "8:00", "09:00")], "hours[0].opens"),
            (vec![entry(1, "24:00", "24:00")], "hours[0].opens"),
            (vec![entry(1, "08:60", "09:00")], "hours[0].opens"),
            (vec![entry(1, "\u{661}8:0", "09:00")], "hours[0].opens"),
            (vec![entry(1, "08:00", "24:01")], "hours[0].closes"),
            (vec![entry(1, "00:00", "00:00")], "hours[0].closes"),
            (vec![entry(1, "09:00", "09:00")], "hours[0].closes"),
            (vec![entry(1, "08:00", "09:00"), entry(1, "10:00", "11:00")], "hours[1].weekday"),
            (vec![entry(1, "08:00", "09:00"); 8], "hours"),
        ];
        for (entries, field) in cases {
            let mut check = Check::new();
            Hours::parse(&mut check, "hours", &entries);
            assert_eq!(check.take()[0].field, field, "{entries:?}");
        }
    }

    #[test]
    fn no_hours_means_always_open() {
        assert!(Hours::default().at(&berlin(), time("2026-01-14T03:00:00Z")).open);
    }

    #[test]
    fn a_closed_channel_says_when_it_opens() {
        // Wednesday 2026-01-14; Berlin is an hour ahead of UTC.
        let hours = hours(&[(1, "08:00", "20:00"), (3, "08:00", "20:00")]);
        let at = |text| hours.at(&berlin(), time(text));
        assert_eq!(at("2026-01-14T06:59:59Z").opens, Some(time("2026-01-14T07:00:00Z")));
        assert!(at("2026-01-14T07:00:00Z").open);
        assert_eq!(at("2026-01-14T07:00:00Z").until, time("2026-01-14T19:00:00Z"));
        assert_eq!(at("2026-01-14T19:00:00Z").opens, Some(time("2026-01-19T07:00:00Z")));
    }

    #[test]
    fn a_channel_of_one_day_opens_a_week_later() {
        let hours = hours(&[(3, "08:00", "09:00")]);
        assert_eq!(hours.at(&berlin(), time("2026-01-14T09:00:00Z")).opens, Some(time("2026-01-21T07:00:00Z")));
    }

    #[test]
    fn a_skipped_opening_time_opens_at_the_jump() {
        // On 2026-03-29 the clock goes from 02:00 to 03:00 (01:00 UTC).
        let hours = hours(&[(7, "02:30", "12:00")]);
        assert_eq!(hours.at(&berlin(), time("2026-03-29T00:30:00Z")).opens, Some(time("2026-03-29T01:00:00Z")));
        assert!(hours.at(&berlin(), time("2026-03-29T01:00:00Z")).open);
    }

    #[test]
    fn an_hour_shown_twice_opens_once() {
        // On 2026-10-25 the clock goes from 03:00 back to 02:00 (01:00 UTC).
        let hours = hours(&[(7, "02:30", "02:45")]);
        assert_eq!(hours.at(&berlin(), time("2026-10-24T23:00:00Z")).opens, Some(time("2026-10-25T00:30:00Z")));
        let opening = hours.at(&berlin(), time("2026-10-25T01:10:00Z"));
        assert!(opening.open);
        assert_eq!(opening.until, time("2026-10-25T01:45:00Z"));
    }

    #[test]
    fn midnight_to_midnight_is_open_all_day() {
        let hours = hours(&[(1, "00:00", "24:00"), (2, "00:00", "24:00")]);
        assert!(hours.at(&TimeZone::UTC, time("2026-01-12T23:59:59Z")).open);
        assert!(hours.at(&TimeZone::UTC, time("2026-01-13T00:00:00Z")).open);
        assert!(!hours.at(&TimeZone::UTC, time("2026-01-14T00:00:00Z")).open);
    }

    proptest! {
        #[test]
        fn what_holds_now_holds_until_it_says(day in 1_u8..=7, from in 0_u16..1439, length in 1_u16..1440, second in 1_700_000_000_i64..1_900_000_000, step in 0.0..1.0_f64) {
            let hours = Hours::from_rows(&[(day, from, (from + length).min(DAY))]);
            let now = Timestamp::from_second(second).unwrap();
            let opening = hours.at(&berlin(), now);
            prop_assert!(opening.until > now);
            prop_assert_eq!(opening.open, opening.opens.is_none());
            let ahead = (opening.until.duration_since(now).as_secs_f64() * step) as i64;
            let later = hours.at(&berlin(), Timestamp::from_second(second + ahead).unwrap());
            prop_assert_eq!((opening.open, opening.opens, opening.until), (later.open, later.opens, later.until));
        }

        #[test]
        fn hours_survive_storage_and_the_wire(rows in proptest::collection::btree_map(1_u8..=7, (0_u16..1439, 1_u16..1440), 0..7)) {
            let rows: Vec<_> = rows.into_iter().map(|(day, (from, length))| (day, from, (from + length).min(DAY))).collect();
            let hours = Hours::from_rows(&rows);
            prop_assert_eq!(&Hours::parse(&mut Check::new(), "hours", &hours.to_proto()), &hours);
            prop_assert_eq!(hours.to_rows(), rows);
        }
    }
}
