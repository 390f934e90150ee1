//! What all rows of the books have in common: a key, a customer, a time that has come, money in the one currency.
use chassis::parse::Check;
use jiff::{SignedDuration, Timestamp};
use proto::{
    common::v1::{ErrorReason, Money},
    scoring::v1 as pb,
};
use uuid::Uuid;

use crate::{
    calendar::{self, Calendar},
    score::Summary,
};

/// Rows of one batch: below a megabyte as a message, and a transaction of a fraction of a second.
pub const MAX_ROWS: usize = 5_000;
/// Largest amount of one row, in minor units: 100 thousand million in a currency with cents.
pub const MAX_AMOUNT_MINOR: i64 = 10_000_000_000_000;
/// Largest total of one customer: far beyond any, and far below where sums of two would not fit.
pub const MAX_TOTAL_MINOR: i64 = i64::MAX / 4;

/// A row of the books.
pub trait Row: Clone + PartialEq + Send + Sync {
    /// Why a standing changes that such rows change.
    const CAUSE: pb::ChangeCause;

    /// The system it comes from, and its id there.
    fn key(&self) -> (&str, &str);
    /// Whose it is.
    fn customer(&self) -> Uuid;
    /// A total of the customer that must stay within [`MAX_TOTAL_MINOR`]: its number, how much it is, and what the row adds to it.
    fn adds(&self, summary: &Summary) -> (u8, i64, i64);
    /// What it adds to the cost of serving the customer.
    fn service_cost_minor(&self) -> i64 {
        0
    }
}

/// What rows are held against.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The calendar of the business.
    pub calendar: Calendar,
    /// The currency that the books are kept in.
    pub currency: String,
    /// How far clocks may differ.
    pub future_tolerance: SignedDuration,
}

impl Rules {
    /// Money of the books as protobuf has it.
    pub fn money(&self, minor_units: i64) -> Money {
        Money { currency_code: self.currency.clone(), minor_units }
    }
}

/// Why a row is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the row within its call.
    pub index: usize,
    /// Machine-readable.
    pub reason: ErrorReason,
    /// The field within the row, what was wrong and what is allowed.
    pub message: String,
}

impl Refusal {
    /// A refusal that names a field of the row.
    pub fn new(index: usize, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { index, reason, message: message.into() }
    }

    /// As protobuf has it, for a row of the field `list` of its request.
    pub fn to_proto(&self, list: &str) -> pb::RowRejection {
        let index = i64::try_from(self.index).unwrap_or(i64::MAX);
        let message = format!("{list}[{index}].{}", self.message);
        pb::RowRejection { index, reason: self.reason.into(), message }
    }
}

/// Reads one row. Malformed fields are all told at once; of the other reasons to refuse it, the first.
#[derive(Debug)]
pub struct Reader<'a> {
    /// What is malformed.
    pub check: Check,
    rules: &'a Rules,
    now: Timestamp,
    other: Option<(ErrorReason, String)>,
}

impl<'a> Reader<'a> {
    /// A reader of one row.
    pub fn new(rules: &'a Rules, now: Timestamp) -> Self {
        Self { check: Check::new(), rules, now, other: None }
    }

    fn refuse(&mut self, reason: ErrorReason, message: String) {
        self.other.get_or_insert((reason, message));
    }

    /// Source, id in the source, and customer.
    pub fn head(&mut self, source: &str, id_field: &str, id: &str, customer: &str) -> (String, String, Uuid) {
        let source = self.check.token("source", source, 1..=64);
        let id = self.check.text(id_field, id, 1..=128);
        (source, id, self.check.uuid("customer_id", customer))
    }

    /// Money of the deployment's currency, zero or more; its minor units.
    pub fn amount(&mut self, field: &str, money: Option<&Money>) -> i64 {
        let Some(money) = money else {
            self.check.fault(field, "is not set");
            return 0;
        };
        if money.minor_units < 0 {
            let message = "is negative; 0 or more is allowed";
            self.check.fault(format!("{field}.minor_units"), message);
        }
        let currency = &self.rules.currency;
        if money.currency_code != *currency {
            if Money::is_currency(&money.currency_code) {
                let message = format!(
                    "{field}.currency_code: the books are kept in {currency} (scoring.currency); convert the amount first, or say which \
                     currency it is in"
                );
                self.refuse(ErrorReason::CurrencyMismatch, message);
            } else {
                self.check.fault(format!("{field}.currency_code"), Money::CURRENCY);
            }
        }
        if money.minor_units > MAX_AMOUNT_MINOR {
            let message = format!("{field}.minor_units: at most {MAX_AMOUNT_MINOR} is allowed for one row");
            self.refuse(ErrorReason::AmountTooLarge, message);
        }
        money.minor_units
    }

    /// A moment that has come, but for what clocks may differ.
    pub fn past(&mut self, field: &str, time: Option<&prost_types::Timestamp>) -> Timestamp {
        let time = self.check.time(field, time);
        if time.duration_since(self.now) > self.rules.future_tolerance {
            let seconds = self.rules.future_tolerance.as_secs();
            // By day: rows that are refused for the same reason are counted by it.
            let pb::Date { year, month, day } = calendar::to_proto(self.rules.calendar.day(self.now));
            let message = format!(
                "{field}: lies in the future: today is {year:04}-{month:02}-{day:02} here, and at most {seconds} s ahead is allowed"
            );
            self.refuse(ErrorReason::PurchaseInFuture, message);
        }
        time
    }

    /// Nothing, or why row `index` is refused.
    ///
    /// # Errors
    /// The refusal.
    pub fn done(mut self, index: usize) -> Result<(), Refusal> {
        let faults = self.check.take();
        if !faults.is_empty() {
            let texts: Vec<_> = faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
            return Err(Refusal::new(index, ErrorReason::InvalidField, texts.join("; ")));
        }
        match self.other {
            Some((reason, message)) => Err(Refusal::new(index, reason, message)),
            None => Ok(()),
        }
    }
}
