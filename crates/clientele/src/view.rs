//! How answers look: tables for people, protobuf JSON for programs.
use std::{
    io::{self, Write},
    sync::OnceLock,
};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use proto::{common::v1::Money, scoring::v1 as scoring};

use crate::client::{Error, Result};

mod table;
pub use table::{firm, table};

/// Prints a line to standard output. A reader that went away (`| head`) ends the program quietly, as it does for other tools.
pub fn line(text: impl AsRef<str>) {
    if writeln!(io::stdout().lock(), "{}", text.as_ref()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a message as protobuf JSON on one line, canonical but for 64-bit integers, which are numbers. `name` is its full name.
///
/// # Errors
/// A message that the descriptors do not know.
pub fn json(name: &str, message: &impl prost::Message) -> Result<()> {
    static POOL: OnceLock<std::result::Result<DescriptorPool, String>> = OnceLock::new();
    let pool = POOL
        .get_or_init(|| DescriptorPool::decode(proto::DESCRIPTORS).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|error| Error::new(format!("descriptors: {error}")))?;
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| Error::new(format!("no message {name}")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| Error::new(format!("{name}: {error}")))?;
    let mut out = serde_json::Serializer::new(Vec::new());
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false);
    dynamic.serialize_with_options(&mut out, &options).map_err(|error| Error::new(format!("{name}: {error}")))?;
    line(String::from_utf8_lossy(&out.into_inner()));
    Ok(())
}

/// A whole number with thousands apart: 244,091.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// How many of something: `1 row`, `6,919 rows`.
pub fn counted(number: u64, what: &str) -> String {
    let count = count(i64::try_from(number).unwrap_or(i64::MAX));
    if number == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

/// Money for people: `244,091.94 USD`; a dash where there is none.
pub fn money(money: Option<&Money>) -> String {
    money.map_or_else(|| "–".to_owned(), |of| format!("{} {}", amount(Some(of)), of.currency_code))
}

/// Money below a title that names its currency: `244,091.94`; a dash where there is none.
pub fn amount(money: Option<&Money>) -> String {
    let Some(money) = money else { return "–".to_owned() };
    let exponent = Money::exponent(&money.currency_code);
    let unit = 10_u64.pow(exponent);
    let (whole, rest) = (money.minor_units.unsigned_abs() / unit, money.minor_units.unsigned_abs() % unit);
    let sign = if money.minor_units < 0 { "-" } else { "" };
    let whole = count(i64::try_from(whole).unwrap_or(i64::MAX));
    let width = exponent as usize;
    let fraction = if exponent == 0 { String::new() } else { format!(".{rest:0width$}") };
    format!("{sign}{whole}{fraction}")
}

/// A share as per cent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A protobuf enum's name for people: `LIFE_CYCLE_STAGE_GROWTH` is `growth`.
pub fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => "–".to_owned(),
        word => word.to_lowercase().replace('_', " "),
    }
}

/// Tier for people.
pub fn tier(value: i32) -> String {
    word(scoring::Tier::try_from(value).unwrap_or_default().as_str_name(), "TIER_")
}

/// Customer code for people.
pub fn code(value: i32) -> String {
    word(scoring::CustomerCode::try_from(value).unwrap_or_default().as_str_name(), "CUSTOMER_CODE_").to_uppercase()
}

/// Stage for people.
pub fn stage(value: i32) -> String {
    word(scoring::LifeCycleStage::try_from(value).unwrap_or_default().as_str_name(), "LIFE_CYCLE_STAGE_")
}

/// Relationship for people.
pub fn relationship(value: i32) -> String {
    word(scoring::Relationship::try_from(value).unwrap_or_default().as_str_name(), "RELATIONSHIP_")
}

/// A day for people.
pub fn day(date: Option<&scoring::Date>) -> String {
    date.map_or_else(|| "–".to_owned(), |date| format!("{:04}-{:02}-{:02}", date.year, date.month, date.day))
}

/// A moment for people, in UTC.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    let Some(time) = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok()) else {
        return "–".to_owned();
    };
    Zoned::new(time, TimeZone::UTC).strftime("%a %Y-%m-%d %H:%M UTC").to_string()
}

/// A duration for people: `12 s`, `45 min`, `8 h`.
pub fn duration(duration: Option<&prost_types::Duration>) -> String {
    let Some(duration) = duration else { return "–".to_owned() };
    let seconds = duration.seconds;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 if seconds % 60 == 0 => format!("{} min", seconds / 60),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A short id for tables: the last twelve digits, which differ where the first are a time.
pub fn short(id: &str) -> String {
    id.rsplit('-').next().unwrap_or(id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_exactly() {
        let text = |code: &str, minor_units| money(Some(&Money { currency_code: code.into(), minor_units }));
        assert_eq!(text("USD", 24_409_194), "244,091.94 USD");
        assert_eq!(text("USD", -5), "-0.05 USD");
        assert_eq!(text("JPY", 1_234), "1,234 JPY");
        assert_eq!(text("KWD", 1_234), "1.234 KWD");
        assert_eq!(text("USD", i64::MIN), "-92,233,720,368,547,758.08 USD");
    }

    #[test]
    fn durations_are_written_in_the_largest_fitting_unit() {
        let text = |seconds| duration(Some(&prost_types::Duration { seconds, nanos: 0 }));
        assert_eq!([text(12), text(300), text(150), text(28_800)], ["12 s", "5 min", "2 min 30 s", "8 h"]);
    }
}
