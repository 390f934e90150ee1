//! Parses requests once, at the edge, into types that cannot be wrong, and gathers everything that is wrong with one.
use std::ops::RangeInclusive;

use jiff::Timestamp;
use proto::common::v1::Money;
use uuid::Uuid;

use crate::error::{Error, Result, Violation};

/// Longest `request_id`.
pub const REQUEST_ID_CHARS: usize = 64;
/// Most violations that one answer lists: a caller mends a few at a time, and a batch of thousands must not answer with megabytes.
pub const MAX_VIOLATIONS: usize = 50;
/// Text of all violations of one answer. It travels three times, as the message (percent-encoded) and twice in the details (base64), four times
/// as long in all, in headers of which an HTTP/2 client usually takes 16 KiB.
pub const MAX_VIOLATION_BYTES: usize = 2_500;

/// Gathers what is wrong with a request. A method that finds a fault notes it and returns a stand-in; call [`Check::done`]
/// before the values are used.
#[derive(Debug, Default)]
pub struct Check {
    violations: Vec<Violation>,
    bytes: usize,
    /// For configurations alone: of each number what is allowed. Requests do not pay for it.
    ranges: Option<Vec<(String, String)>>,
}

impl Check {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which also notes what is allowed of each number.
    pub(crate) fn noting_ranges() -> Self {
        Self { ranges: Some(Vec::new()), ..Self::default() }
    }

    /// The range of each number that was looked at, by its field.
    pub(crate) fn ranges(&mut self) -> Vec<(String, String)> {
        self.ranges.take().unwrap_or_default()
    }

    /// Fails with all that was found.
    pub fn done(&mut self) -> Result<()> {
        if self.violations.is_empty() { Ok(()) } else { Err(Error::Invalid(std::mem::take(&mut self.violations))) }
    }

    /// Takes the faults found so far, leaving none: for rows that are refused one by one.
    pub fn take(&mut self) -> Vec<Violation> {
        self.bytes = 0;
        std::mem::take(&mut self.violations)
    }

    /// Notes a fault: what was wrong, then what is allowed.
    pub fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        let violation = Violation { field: field.into(), message: message.into() };
        self.bytes += violation.field.len() + violation.message.len();
        // The first always counts: a refusal that names nothing would be none.
        if self.violations.is_empty() || self.bytes <= MAX_VIOLATION_BYTES {
            self.violations.push(violation);
        }
    }

    /// Notes a fault unless `ok`.
    pub fn require(&mut self, ok: bool, field: &str, message: &str) {
        if !ok {
            self.fault(field, message);
        }
    }

    /// A UUID in any of its text forms.
    pub fn uuid(&mut self, field: &str, text: &str) -> Uuid {
        Uuid::parse_str(text).unwrap_or_else(|_| {
            self.fault(field, if text.is_empty() { "is empty; a UUID is required" } else { "is not a UUID" });
            Uuid::nil()
        })
    }

    /// A UUID, or nothing where the text is empty.
    pub fn optional_uuid(&mut self, field: &str, text: &str) -> Option<Uuid> {
        (!text.is_empty()).then(|| self.uuid(field, text))
    }

    /// Text of so many characters, without control characters except line breaks and tabs. Surrounding white space is taken off.
    pub fn text(&mut self, field: &str, text: &str, chars: RangeInclusive<usize>) -> String {
        let text = text.trim();
        // A character takes at most four bytes: anything longer need not be counted.
        let count = if text.len() > chars.end() * 4 { usize::MAX } else { text.chars().count() };
        if !chars.contains(&count) {
            let found = match count {
                0 => "is empty".to_owned(),
                usize::MAX => "is too long".to_owned(),
                count => format!("has {count} characters"),
            };
            self.fault(field, format!("{found}; {} to {} characters are allowed", chars.start(), chars.end()));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.fault(field, "has control characters; only line breaks and tabs are allowed");
        }
        text.to_owned()
    }

    /// A short name for machines: so many characters out of letters, digits and `._-`.
    pub fn token(&mut self, field: &str, text: &str, chars: RangeInclusive<usize>) -> String {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !chars.contains(&text.len()) || !text.bytes().all(allowed) {
            self.fault(
                field,
                format!("must be {} to {} characters of A-Z, a-z, 0-9, '.', '_' and '-'", chars.start(), chars.end()),
            );
        }
        text.to_owned()
    }

    /// A name that stands in an URL or a file: 1 to `max` characters of a-z, 0-9 and '-'.
    pub fn slug(&mut self, field: &str, text: &str, max: usize) -> String {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > max || !text.bytes().all(allowed) {
            self.fault(field, format!("must be 1 to {max} characters of a-z, 0-9 and '-'"));
        }
        text.to_owned()
    }

    /// A number within a range.
    pub fn range<N: PartialOrd + Copy + std::fmt::Display>(
        &mut self,
        field: &str,
        value: N,
        allowed: RangeInclusive<N>,
    ) -> N {
        if let Some(ranges) = &mut self.ranges {
            ranges.push((field.to_owned(), format!("{} to {}", allowed.start(), allowed.end())));
        }
        // Negated so that a NaN, which is in no range, is caught too.
        if !allowed.contains(&value) {
            self.fault(field, format!("is {value}; {} to {} is allowed", allowed.start(), allowed.end()));
        }
        value
    }

    /// A value of a protobuf enum that is not its `_UNSPECIFIED`.
    pub fn known<E: TryFrom<i32> + Default + PartialEq>(&mut self, field: &str, value: i32) -> E {
        let parsed = self.known_or_default(field, value);
        if value == 0 {
            self.fault(field, "is not set");
        }
        parsed
    }

    /// A value of a protobuf enum, `_UNSPECIFIED` included.
    pub fn known_or_default<E: TryFrom<i32> + Default>(&mut self, field: &str, value: i32) -> E {
        E::try_from(value).unwrap_or_else(|_| {
            self.fault(field, format!("is {value}, which this version does not know"));
            E::default()
        })
    }

    /// A moment that is set and lies in the calendar.
    pub fn time(&mut self, field: &str, time: Option<&prost_types::Timestamp>) -> Timestamp {
        match time {
            None => {
                self.fault(field, "is not set");
                Timestamp::UNIX_EPOCH
            }
            Some(time) => self.optional_time(field, Some(time)).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// A moment, where one is set. Cut to whole microseconds.
    pub fn optional_time(&mut self, field: &str, time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
        let time = time?;
        let parsed = (0..1_000_000_000)
            .contains(&time.nanos)
            .then(|| Timestamp::new(time.seconds, time.nanos).ok())
            .flatten()
            // The range that both databases and every calendar computation hold.
            .filter(|time| (MIN_TIME..=MAX_TIME).contains(&time.as_second()));
        if parsed.is_none() {
            self.fault(field, "is not a moment between the years 1900 and 2200");
        }
        parsed.map(|time| crate::clock::at_micros(time.as_microsecond()))
    }

    /// A duration in whole microseconds within a range of seconds.
    pub fn duration(
        &mut self,
        field: &str,
        duration: Option<&prost_types::Duration>,
        seconds: RangeInclusive<i64>,
    ) -> jiff::SignedDuration {
        let valid = duration.filter(|d| (0..1_000_000_000).contains(&d.nanos) && seconds.contains(&d.seconds));
        // A fraction on top of the last second is already out of range.
        match valid.filter(|d| d.seconds < *seconds.end() || d.nanos == 0) {
            Some(duration) => jiff::SignedDuration::new(duration.seconds, duration.nanos),
            None => {
                self.fault(field, format!("must be set, from {} s to {} s", seconds.start(), seconds.end()));
                jiff::SignedDuration::ZERO
            }
        }
    }

    /// Money with a currency and an amount in a range of minor units.
    pub fn money(&mut self, field: &str, money: Option<&Money>, minor_units: RangeInclusive<i64>) -> Money {
        let Some(money) = money else {
            self.fault(field, "is not set");
            return Money::default();
        };
        if !Money::is_currency(&money.currency_code) {
            self.fault(format!("{field}.currency_code"), Money::CURRENCY);
        }
        self.range(&format!("{field}.minor_units"), money.minor_units, minor_units);
        money.clone()
    }

    /// How many items a request may hold.
    pub fn count(&mut self, field: &str, count: usize, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&count) {
            self.fault(field, format!("has {count} items; {} to {} are allowed", allowed.start(), allowed.end()));
        }
    }
}

const MIN_TIME: i64 = -2_208_988_800; // 1900-01-01T00:00:00Z
const MAX_TIME: i64 = 7_258_118_400; // 2200-01-01T00:00:00Z

/// A duration as protobuf has it.
pub fn duration_to_proto(duration: jiff::SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(run: impl FnOnce(&mut Check)) -> Vec<String> {
        let mut check = Check::new();
        run(&mut check);
        check.take().into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let fields = faults(|c| {
            c.uuid("a", "nope");
            c.text("b", "", 1..=5);
            c.text("c", "\u{0}", 1..=5);
            c.range("d", f64::NAN, 0.0..=1.0);
            c.token("e", "a b", 1..=5);
            c.slug("f", "ABC", 5);
            c.time("g", None);
            c.optional_time("h", Some(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }));
            c.optional_time("i", Some(&prost_types::Timestamp { seconds: 0, nanos: -1 }));
            c.money("j", Some(&Money { currency_code: "XXQ".into(), minor_units: -1 }), 0..=10);
            c.duration("k", Some(&prost_types::Duration { seconds: 10, nanos: 1 }), 1..=10);
            c.known::<proto::scoring::v1::Tier>("l", 99);
        });
        assert_eq!(fields, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j.currency_code", "j.minor_units", "k", "l"]);
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        let count = faults(|c| (0..1000).for_each(|i| c.fault(format!("f{i}"), "is wrong"))).len();
        assert_eq!(count, MAX_VIOLATIONS);
    }
}
