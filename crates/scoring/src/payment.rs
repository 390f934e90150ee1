//! An invoice or a credit with what was paid of it: one row, how it is read from a request.
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use uuid::Uuid;

use crate::{
    row::{Reader, Refusal, Row, Rules},
    score::{Day, Summary},
};

/// What came in for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// When the last of it came, in microseconds since 1970.
    pub time_us: i64,
    /// The day of that.
    pub day: Day,
    /// In all, at most what is owed.
    pub amount_minor: i64,
}

/// An invoice or a credit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The system it comes from.
    pub source: String,
    /// Its id there.
    pub payment_id: String,
    /// Whose it is.
    pub customer: Uuid,
    /// When it was issued, in microseconds since 1970.
    pub issue_us: i64,
    /// By when it is to be paid, in microseconds since 1970.
    pub due_us: i64,
    /// The day of that.
    pub due_day: Day,
    /// What is owed, in minor units.
    pub amount_minor: i64,
    /// Absent while nothing was paid.
    pub paid: Option<Paid>,
    /// Beyond being late.
    pub trouble: pb::PaymentTrouble,
}

impl Payment {
    /// Reads row `index` of a batch.
    ///
    /// # Errors
    /// What it is refused for.
    pub fn parse(row: &pb::Payment, index: usize, rules: &Rules, now: Timestamp) -> Result<Self, Refusal> {
        let mut reader = Reader::new(rules, now);
        let (source, payment_id, customer) = reader.head(&row.source, "payment_id", &row.payment_id, &row.customer_id);
        let trouble = reader.check.known_or_default("trouble", row.trouble);
        let due = reader.check.time("due_time", row.due_time.as_ref());
        let amount_minor = reader.amount("amount", row.amount.as_ref());
        let issue = reader.past("issue_time", row.issue_time.as_ref());
        reader.check.require(due >= issue, "due_time", "lies before issue_time; the same moment or later is allowed");
        let paid = match (&row.paid_time, &row.paid_amount) {
            (None, None) => None,
            (time, amount) => {
                let amount_minor = reader.amount("paid_amount", amount.as_ref());
                let time = reader.past("paid_time", time.as_ref());
                Some(Paid { time_us: time.as_microsecond(), day: rules.calendar.day(time), amount_minor })
            }
        };
        let fits = paid.is_none_or(|paid| paid.amount_minor <= amount_minor);
        reader.check.require(fits, "paid_amount.minor_units", "is more than what is owed; at most `amount` is allowed");
        reader.done(index)?;
        let (issue_us, due_us, due_day) = (issue.as_microsecond(), due.as_microsecond(), rules.calendar.day(due));
        Ok(Self { source, payment_id, customer, issue_us, due_us, due_day, amount_minor, paid, trouble })
    }
}

impl Row for Payment {
    const CAUSE: pb::ChangeCause = pb::ChangeCause::Payment;

    fn key(&self) -> (&str, &str) {
        (&self.source, &self.payment_id)
    }

    fn customer(&self) -> Uuid {
        self.customer
    }

    fn adds(&self, _: &Summary) -> (u8, i64, i64) {
        // No total is kept: what is owed depends on the day that is asked for. Where it is added up, it stops at what 64 bits hold.
        (0, 0, 0)
    }
}
