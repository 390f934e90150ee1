//! Business hours: when the company is open, and how much of that lies between two moments.
//!
//! The hours are meant on the wall clock of the time zone. Where that clock jumps forward, the part it skips is no business time;
//! where it jumps back, a time that it shows twice means the first one. So opening hours never overlap, whatever the zone does.
use std::collections::BTreeSet;

use chassis::parse::Check;
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::{AmbiguousOffset, TimeZone},
};
use serde::{Deserialize, Serialize};

/// Days that a search goes through at most: twenty years. Beyond that no promise to a customer means anything.
pub const MAX_DAYS: usize = 7_305;
/// Most holidays in a configuration: those of twenty years and several countries.
pub const MAX_HOLIDAYS: usize = 1_000;
/// Most stretches of opening hours a day.
pub const MAX_OPENINGS: usize = 8;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// The configuration of a [`Calendar`]; see `defaults.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// IANA name of the time zone.
    pub time_zone: String,
    /// Days without business, `YYYY-MM-DD`.
    pub holidays: Vec<String>,
    /// Opening hours, `HH:MM-HH:MM` in order.
    pub monday: Vec<String>,
    /// As on Monday.
    pub tuesday: Vec<String>,
    /// As on Monday.
    pub wednesday: Vec<String>,
    /// As on Monday.
    pub thursday: Vec<String>,
    /// As on Monday.
    pub friday: Vec<String>,
    /// As on Monday.
    pub saturday: Vec<String>,
    /// As on Monday.
    pub sunday: Vec<String>,
}

/// Weekly opening hours in a time zone, less the holidays. There is always some opening in the week.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    /// From Monday; each day's hours as minutes of the day, in order, not touching in the wrong way.
    week: [Vec<(u16, u16)>; 7],
    holidays: BTreeSet<Date>,
}

impl Calendar {
    /// Reads a configuration, noting everything that is wrong with it under `key`. Use the calendar only once `check` is done.
    pub fn parse(check: &mut Check, key: &str, config: &Config) -> Self {
        let zone = TimeZone::get(&config.time_zone).unwrap_or_else(|_| {
            check.fault(format!("{key}.time_zone"), "is not a time zone of the IANA database, such as Europe/Berlin");
            TimeZone::UTC
        });
        check.count(&format!("{key}.holidays"), config.holidays.len(), 0..=MAX_HOLIDAYS);
        let mut holidays = BTreeSet::new();
        for (index, text) in config.holidays.iter().enumerate() {
            match text.parse::<Date>() {
                Ok(date) => drop(holidays.insert(date)),
                Err(_) => check.fault(format!("{key}.holidays[{index}]"), "is not a day written YYYY-MM-DD"),
            }
        }
        let days = [
            ("monday", &config.monday),
            ("tuesday", &config.tuesday),
            ("wednesday", &config.wednesday),
            ("thursday", &config.thursday),
            ("friday", &config.friday),
            ("saturday", &config.saturday),
            ("sunday", &config.sunday),
        ];
        let week = days.map(|(day, texts)| parse_day(check, &format!("{key}.{day}"), texts));
        check.require(
            week.iter().any(|day| !day.is_empty()),
            key,
            "has no opening hours at all; give at least one day of the week some",
        );
        Self { zone, week, holidays }
    }

    /// Opening hours of a week without holidays and without a change of the zone's offset.
    pub fn weekly(&self) -> SignedDuration {
        let minutes: i64 = self.week.iter().flatten().map(|(open, close)| i64::from(close - open)).sum();
        SignedDuration::from_mins(minutes)
    }

    /// The moment when, counted from `start`, so much business time has run; `start` itself for none. Where it runs out at closing time, that is the
    /// moment, not the next opening. Beyond [`MAX_DAYS`] it is that horizon.
    pub fn add_business_time(&self, start: Timestamp, duration: SignedDuration) -> Timestamp {
        if duration <= SignedDuration::ZERO {
            return start;
        }
        let mut left = duration;
        for (open, close) in self.openings_after(start) {
            let from = open.max(start);
            let span = close.duration_since(from);
            if left <= span {
                return from.checked_add(left).unwrap_or(Timestamp::MAX);
            }
            left -= span;
        }
        start.checked_add(SignedDuration::from_hours(24 * MAX_DAYS as i64)).unwrap_or(Timestamp::MAX)
    }

    /// Business time from `a` to `b`; none where `b` is not after `a`. Counts at most [`MAX_DAYS`].
    pub fn business_time_between(&self, a: Timestamp, b: Timestamp) -> SignedDuration {
        if b <= a {
            return SignedDuration::ZERO;
        }
        self.openings_after(a)
            .take_while(|(open, _)| *open < b)
            .map(|(open, close)| close.min(b).duration_since(open.max(a)))
            .fold(SignedDuration::ZERO, SignedDuration::saturating_add)
    }

    /// The stretches of business time that end after `start`, in order. Ends after [`MAX_DAYS`].
    fn openings_after(&self, start: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        // From the day before: around a change of offset at midnight the moment may belong to the hours of two dates.
        let today = self.zone.to_datetime(start).date();
        let first = today.yesterday().unwrap_or(today);
        std::iter::successors(Some(first), |date| date.tomorrow().ok())
            .take(MAX_DAYS)
            .filter(|date| !self.holidays.contains(date))
            .flat_map(move |date| {
                let weekday = date.weekday().to_monday_zero_offset();
                let hours =
                    usize::try_from(weekday).ok().and_then(|day| self.week.get(day)).map_or(&[][..], Vec::as_slice);
                hours
                    .iter()
                    .filter_map(move |(open, close)| Some((self.instant(date, *open)?, self.instant(date, *close)?)))
            })
            .filter(move |(open, close)| open < close && *close > start)
    }

    /// The moment when the wall clock shows that minute; for one that it skips, the moment of the jump.
    fn instant(&self, date: Date, minute: u16) -> Option<Timestamp> {
        let (date, minute) = if minute >= DAY { (date.tomorrow().ok()?, 0) } else { (date, minute) };
        let time = Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
        let found = self.zone.to_ambiguous_timestamp(date.to_datetime(time));
        match found.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => found.earlier().ok(),
            AmbiguousOffset::Gap { .. } => {
                let before = found.earlier().ok()?;
                self.zone.following(before).next().map(|jump| jump.timestamp())
            }
        }
    }
}

fn parse_day(check: &mut Check, key: &str, texts: &[String]) -> Vec<(u16, u16)> {
    check.count(key, texts.len(), 0..=MAX_OPENINGS);
    let mut hours: Vec<(u16, u16)> = Vec::with_capacity(texts.len().min(MAX_OPENINGS));
    for (index, text) in texts.iter().take(MAX_OPENINGS).enumerate() {
        let parsed = text.split_once('-').and_then(|(open, close)| Some((parse_minute(open)?, parse_minute(close)?)));
        match parsed.filter(|(open, close)| open < close) {
            None => {
                check.fault(format!("{key}[{index}]"), "is not written HH:MM-HH:MM with the end after the beginning")
            }
            Some((open, _)) if hours.last().is_some_and(|(_, before)| open < *before) => {
                check.fault(format!("{key}[{index}]"), "begins before the hours in front of it end");
            }
            Some(span) => hours.push(span),
        }
    }
    hours
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests;
