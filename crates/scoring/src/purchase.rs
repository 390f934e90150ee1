//! One row of the ledger: how it is read from a request, and for what it is refused.
use chassis::parse::Check;
use jiff::{SignedDuration, Timestamp};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use uuid::Uuid;

use crate::{calendar::Calendar, score::Day};

/// Rows of one batch: below a megabyte as a message, and a transaction of a few hundredths of a second.
pub const MAX_ROWS: usize = 5_000;
/// Largest amount of one purchase, in minor units: 100 thousand million in a currency with cents.
pub const MAX_AMOUNT_MINOR: i64 = 10_000_000_000_000;
/// Largest total of one customer: far beyond any, and far below where sums of two would not fit.
pub const MAX_TOTAL_MINOR: i64 = i64::MAX / 4;

/// A sale or a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goods or services bought.
    Sale,
    /// Goods given back.
    Return,
}

impl Kind {
    /// As it is stored.
    pub fn code(self) -> i64 {
        match self {
            Self::Sale => 1,
            Self::Return => 2,
        }
    }

    /// From how it is stored.
    pub fn from_code(code: i64) -> Self {
        if code == 2 { Self::Return } else { Self::Sale }
    }
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The system it comes from.
    pub source: String,
    /// Its id there.
    pub purchase_id: String,
    /// Whose it is.
    pub customer: Uuid,
    /// When it happened, in microseconds since 1970.
    pub time_us: i64,
    /// The day of the business's calendar that it happened on.
    pub day: Day,
    /// Minor units, 0 or more.
    pub amount_minor: i64,
    /// Sale or return.
    pub kind: Kind,
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

    /// As protobuf has it.
    pub fn to_proto(&self) -> pb::PurchaseRejection {
        let index = i64::try_from(self.index).unwrap_or(i64::MAX);
        pb::PurchaseRejection {
            index,
            reason: self.reason.into(),
            message: format!("purchases[{index}].{}", self.message),
        }
    }
}

impl Purchase {
    /// Reads row `index` of a batch.
    ///
    /// # Errors
    /// The first thing that it is refused for; all malformed fields at once.
    pub fn parse(row: pb::Purchase, index: usize, rules: &Rules, now: Timestamp) -> Result<Self, Refusal> {
        let mut check = Check::new();
        check.token("source", &row.source, 1..=64);
        let purchase_id = check.text("purchase_id", &row.purchase_id, 1..=128);
        let customer = check.uuid("customer_id", &row.customer_id);
        let time = check.time("purchase_time", row.purchase_time.as_ref());
        let kind = match check.known_or_default::<pb::PurchaseKind>("kind", row.kind) {
            pb::PurchaseKind::Unspecified | pb::PurchaseKind::Sale => Kind::Sale,
            pb::PurchaseKind::Return => Kind::Return,
        };
        let amount = row.amount.unwrap_or_else(|| {
            check.fault("amount", "is not set");
            proto::common::v1::Money { currency_code: rules.currency.clone(), minor_units: 0 }
        });
        let foreign = amount.currency_code != rules.currency;
        if foreign && !is_currency(&amount.currency_code) {
            check.fault("amount.currency_code", "must be an ISO 4217 code: three capital letters");
        }
        if amount.minor_units < 0 {
            check.fault("amount.minor_units", "is negative; 0 or more is allowed, and a return is a kind of its own");
        }
        let faults = check.take();
        if !faults.is_empty() {
            let texts: Vec<_> = faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
            return Err(Refusal::new(index, ErrorReason::InvalidField, texts.join("; ")));
        }
        if foreign {
            let message = format!("amount.currency_code: the books are kept in {}; convert it first", rules.currency);
            return Err(Refusal::new(index, ErrorReason::CurrencyMismatch, message));
        }
        if amount.minor_units > MAX_AMOUNT_MINOR {
            let message = format!("amount.minor_units: at most {MAX_AMOUNT_MINOR} is allowed for one purchase");
            return Err(Refusal::new(index, ErrorReason::AmountTooLarge, message));
        }
        if time.duration_since(now) > rules.future_tolerance {
            let seconds = rules.future_tolerance.as_secs();
            let message = format!("purchase_time: lies in the future; at most {seconds} s ahead is allowed");
            return Err(Refusal::new(index, ErrorReason::PurchaseInFuture, message));
        }
        Ok(Self {
            source: row.source,
            purchase_id,
            customer,
            time_us: time.as_microsecond(),
            day: rules.calendar.day(time),
            amount_minor: amount.minor_units,
            kind,
        })
    }

    /// As protobuf has it.
    pub fn to_proto(&self, currency: &str) -> pb::Purchase {
        pb::Purchase {
            source: self.source.clone(),
            purchase_id: self.purchase_id.clone(),
            customer_id: self.customer.to_string(),
            purchase_time: Some(chassis::clock::to_proto(chassis::clock::at_micros(self.time_us))),
            amount: Some(proto::common::v1::Money {
                currency_code: currency.to_owned(),
                minor_units: self.amount_minor,
            }),
            kind: match self.kind {
                Kind::Sale => pb::PurchaseKind::Sale,
                Kind::Return => pb::PurchaseKind::Return,
            }
            .into(),
        }
    }
}

/// Whether it looks like an ISO 4217 code.
pub fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use proto::common::v1::Money;

    use super::*;

    fn rules() -> Rules {
        Rules {
            calendar: Calendar::new("UTC").unwrap(),
            currency: "USD".into(),
            future_tolerance: SignedDuration::from_secs(300),
        }
    }

    fn now() -> Timestamp {
        chassis::testing::noon()
    }

    fn row() -> pb::Purchase {
        pb::Purchase {
            source: "shop".into(),
            purchase_id: "1".into(),
            customer_id: Uuid::max().to_string(),
            purchase_time: Some(chassis::clock::to_proto(now())),
            amount: Some(Money { currency_code: "USD".into(), minor_units: 100 }),
            kind: 0,
        }
    }

    fn refused(change: impl FnOnce(&mut pb::Purchase)) -> (ErrorReason, String) {
        let mut row = row();
        change(&mut row);
        let refusal = Purchase::parse(row, 7, &rules(), now()).unwrap_err();
        assert_eq!(refusal.index, 7);
        (refusal.reason, refusal.to_proto().message)
    }

    fn amount(row: &mut pb::Purchase, currency: &str, minor_units: i64) {
        row.amount = Some(Money { currency_code: currency.into(), minor_units });
    }

    #[test]
    fn a_sound_row_is_read() {
        let purchase = Purchase::parse(row(), 0, &rules(), now()).unwrap();
        assert_eq!((purchase.amount_minor, purchase.kind), (100, Kind::Sale));
        assert_eq!(purchase.day, rules().calendar.day(now()));
    }

    #[test]
    fn zero_is_an_amount() {
        let mut free = row();
        amount(&mut free, "USD", 0);
        assert_eq!(Purchase::parse(free, 0, &rules(), now()).unwrap().amount_minor, 0);
    }

    #[test]
    fn every_odd_row_is_refused_for_its_own_reason() {
        use ErrorReason::{AmountTooLarge, CurrencyMismatch, InvalidField, PurchaseInFuture};
        let ahead = |seconds| move |row: &mut pb::Purchase| row.purchase_time.as_mut().unwrap().seconds += seconds;
        let mut late = row();
        ahead(300)(&mut late);
        Purchase::parse(late, 0, &rules(), now()).unwrap();
        assert_eq!(refused(ahead(301)).0, PurchaseInFuture);
        assert_eq!(refused(|row| amount(row, "EUR", 1)).0, CurrencyMismatch);
        assert_eq!(refused(|row| amount(row, "USD", MAX_AMOUNT_MINOR + 1)).0, AmountTooLarge);
        assert_eq!(refused(|row| amount(row, "USD", i64::MAX)).0, AmountTooLarge);
        assert_eq!(refused(|row| amount(row, "USD", i64::MIN)).0, InvalidField);
        assert_eq!(refused(|row| amount(row, "usd", 1)).0, InvalidField);
        assert_eq!(refused(|row| row.amount = None).0, InvalidField);
        assert_eq!(refused(|row| row.kind = 9).0, InvalidField);
        assert_eq!(refused(|row| row.purchase_time = None).0, InvalidField);
        assert_eq!(refused(|row| row.purchase_time.as_mut().unwrap().seconds = i64::MIN).0, InvalidField);
        assert_eq!(refused(|row| row.source = "a b".into()).0, InvalidField);
        assert_eq!(refused(|row| row.purchase_id = "\0".into()).0, InvalidField);
        assert_eq!(refused(|row| row.customer_id = "7".into()).0, InvalidField);
    }

    #[test]
    fn a_refusal_names_every_field_by_its_path_and_no_value() {
        let (_, message) = refused(|row| {
            row.customer_id = "Mary Smith".into();
            row.source = String::new();
        });
        assert!(message.starts_with("purchases[7].source: ") && message.contains("; customer_id: "), "{message}");
        assert!(!message.contains("Mary"));
    }
}
