//! What stands in a field: a moment, an exact decimal.
use jiff::{Timestamp, civil, tz::TimeZone};

/// Reads a moment. A day without a time is its noon: the same day wherever the business's own zone lies within half a day of the file's.
pub(super) fn parse_time(text: &str, format: Option<&str>, zone: &TimeZone) -> std::result::Result<Timestamp, String> {
    let zoned = |datetime: civil::DateTime| {
        datetime
            .to_zoned(zone.clone())
            .map(|zoned| zoned.timestamp())
            .map_err(|_| "is no moment in its time zone".to_owned())
    };
    if let Some(format) = format {
        let parts = jiff::fmt::strtime::parse(format, text).map_err(|_| format!("does not fit the format {format}"))?;
        if let Ok(time) = parts.to_timestamp() {
            return Ok(time);
        }
        if let (Some(_), Ok(datetime)) = (parts.hour(), parts.to_datetime()) {
            return zoned(datetime);
        }
        let date = parts.to_date().map_err(|_| format!("the format {format} gives no day"))?;
        return zoned(date.at(12, 0, 0, 0));
    }
    let wrong = || {
        "is not a time such as 1998-06-30, 19980630 or 1998-06-30T14:05:00Z; name yours with --time-format".to_owned()
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date = if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        jiff::fmt::strtime::parse("%Y%m%d", text).and_then(|parts| parts.to_date()).map_err(|_| wrong())?
    } else if text.len() > 10 {
        return zoned(text.parse::<civil::DateTime>().map_err(|_| wrong())?);
    } else {
        text.parse::<civil::Date>().map_err(|_| wrong())?
    };
    zoned(date.at(12, 0, 0, 0))
}

/// A decimal number, exact: `digits` × 10^-`places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: i128,
    places: u32,
}

impl Decimal {
    /// Most digits: two such numbers multiply within 128 bits, and more than any money has.
    const MAX_DIGITS: usize = 18;

    /// Reads a number without floats.
    pub(super) fn parse(text: &str, decimal: char) -> std::result::Result<Self, String> {
        let wrong = || {
            let other = if decimal == '.' { " (--decimal , for 29,33)" } else { "" };
            format!("is not an amount such as 29{decimal}33, without marks between thousands{other}")
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once(decimal).unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return Err(wrong());
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if whole.len() + fraction.len() > Self::MAX_DIGITS {
            return Err("has more digits than any amount of money".to_owned());
        }
        let digits: i128 = format!("0{whole}{fraction}").parse().map_err(|_| wrong())?;
        let places = u32::try_from(fraction.len()).map_err(|_| wrong())?;
        Ok(Self { digits: if negative { -digits } else { digits }, places })
    }

    pub(super) fn times(self, other: Self) -> Self {
        // Of 18 digits each: far within 128 bits.
        Self { digits: self.digits * other.digits, places: self.places + other.places }
    }

    /// In units of 10^-`exponent`, half away from zero; true where digits beyond were rounded.
    pub(super) fn minor_units(self, exponent: u32) -> std::result::Result<(i64, bool), String> {
        let too_large = || "is larger than any amount of money".to_owned();
        let (units, rounded) = match self.places.checked_sub(exponent) {
            None | Some(0) => {
                let more = 10_i128.pow(exponent - self.places);
                (self.digits.checked_mul(more).ok_or_else(too_large)?, false)
            }
            Some(beyond) => {
                let one = 10_i128.pow(beyond);
                let half = self.digits.signum() * (one / 2);
                ((self.digits + half) / one, self.digits % one != 0)
            }
        };
        Ok((i64::try_from(units).map_err(|_| too_large())?, rounded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_amount(text: &str, decimal: char, exponent: u32) -> std::result::Result<(i64, bool), String> {
        Decimal::parse(text, decimal)?.minor_units(exponent)
    }

    #[test]
    fn a_price_times_a_quantity_is_exact_and_rounded_once() {
        let line = |price: &str, pieces: &str| {
            Decimal::parse(price, '.').unwrap().times(Decimal::parse(pieces, '.').unwrap()).minor_units(2)
        };
        assert_eq!(line("2.55", "6"), Ok((1_530, false)));
        assert_eq!(line("0.001", "12"), Ok((1, true)));
        assert_eq!(line("0.125", "4"), Ok((50, false)));
        assert_eq!(line("4.25", "-80995"), Ok((-34_422_875, false)));
        assert_eq!(line("0.005", "-1"), Ok((-1, true)));
        assert!(line("999999999999999999", "999999999999999999").is_err());
    }

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(parse_amount("29.33", '.', 2), Ok((2_933, false)));
        assert_eq!(parse_amount("-5", '.', 2), Ok((-500, false)));
        assert_eq!(parse_amount(".5", '.', 2), Ok((50, false)));
        assert_eq!(parse_amount("1.005", '.', 2), Ok((101, true)));
        assert_eq!(parse_amount("1.004", '.', 2), Ok((100, true)));
        assert_eq!(parse_amount("1.500", '.', 2), Ok((150, false)));
        assert_eq!(parse_amount("100", '.', 0), Ok((100, false)));
        assert_eq!(parse_amount("29,33", ',', 2), Ok((2_933, false)));
        for bad in ["", "-", ".", "1e5", "1,000.00", "abc", "--1", "99999999999999999999", "NaN"] {
            assert!(parse_amount(bad, '.', 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_in_the_usual_forms() {
        let parse = |text, format| parse_time(text, format, &TimeZone::UTC).map(|time| time.to_string());
        assert_eq!(parse("19970101", None).unwrap(), "1997-01-01T12:00:00Z");
        assert_eq!(parse("1997-01-01", None).unwrap(), "1997-01-01T12:00:00Z");
        assert_eq!(parse("1997-01-01 08:30:00", None).unwrap(), "1997-01-01T08:30:00Z");
        assert_eq!(parse("1997-01-01T08:30:00+02:00", None).unwrap(), "1997-01-01T06:30:00Z");
        assert_eq!(parse("12/1/2010 8:26", Some("%m/%d/%Y %H:%M")).unwrap(), "2010-12-01T08:26:00Z");
        assert_eq!(parse("01.12.2010", Some("%d.%m.%Y")).unwrap(), "2010-12-01T12:00:00Z");
        for bad in ["", "1997-13-01", "19970230", "yesterday"] {
            assert!(parse(bad, None).is_err(), "{bad}");
        }
    }
}
