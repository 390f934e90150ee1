//! One row of the ledger: how it is read from a request, and for what it is refused.
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use uuid::Uuid;

use crate::{
    row::{Reader, Refusal, Row, Rules},
    score::{Day, Summary},
};

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
    /// Taken off the list price, in minor units, where it is known.
    pub discount_minor: Option<i64>,
}

impl Row for Purchase {
    const CAUSE: pb::ChangeCause = pb::ChangeCause::Purchase;

    fn key(&self) -> (&str, &str) {
        (&self.source, &self.purchase_id)
    }

    fn customer(&self) -> Uuid {
        self.customer
    }

    fn adds(&self, summary: &Summary) -> (u8, i64, i64) {
        match self.kind {
            Kind::Sale => {
                let list_minor = self.amount_minor.saturating_add(self.discount_minor.unwrap_or(0));
                (0, summary.sales_minor.saturating_add(summary.discount_minor), list_minor)
            }
            Kind::Return => (1, summary.returns_minor, self.amount_minor),
        }
    }
}

impl Purchase {
    /// Reads row `index` of a batch.
    ///
    /// # Errors
    /// The first thing that it is refused for; all malformed fields at once.
    pub fn parse(row: pb::Purchase, index: usize, rules: &Rules, now: Timestamp) -> Result<Self, Refusal> {
        let mut reader = Reader::new(rules, now);
        let (source, purchase_id, customer) =
            reader.head(&row.source, "purchase_id", &row.purchase_id, &row.customer_id);
        let kind = match reader.check.known_or_default::<pb::PurchaseKind>("kind", row.kind) {
            pb::PurchaseKind::Unspecified | pb::PurchaseKind::Sale => Kind::Sale,
            pb::PurchaseKind::Return => Kind::Return,
        };
        let amount_minor = reader.amount("amount", row.amount.as_ref());
        let discount_minor = row.discount.as_ref().map(|discount| reader.amount("discount", Some(discount)));
        let fits = kind == Kind::Sale || discount_minor.is_none();
        reader.check.require(fits, "discount", "is set on a return; only a sale has one");
        let time = reader.past("purchase_time", row.purchase_time.as_ref());
        reader.done(index)?;
        Ok(Self {
            source,
            purchase_id,
            customer,
            time_us: time.as_microsecond(),
            day: rules.calendar.day(time),
            amount_minor,
            kind,
            discount_minor,
        })
    }

    /// As protobuf has it.
    pub fn to_proto(&self, rules: &Rules) -> pb::Purchase {
        pb::Purchase {
            source: self.source.clone(),
            purchase_id: self.purchase_id.clone(),
            customer_id: self.customer.to_string(),
            purchase_time: Some(chassis::clock::to_proto(chassis::clock::at_micros(self.time_us))),
            amount: Some(rules.money(self.amount_minor)),
            kind: match self.kind {
                Kind::Sale => pb::PurchaseKind::Sale,
                Kind::Return => pb::PurchaseKind::Return,
            }
            .into(),
            discount: self.discount_minor.map(|minor| rules.money(minor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proto::common::v1::{ErrorReason, Money};

    use super::*;
    use crate::{calendar::Calendar, row::MAX_AMOUNT_MINOR};

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
            discount: None,
        }
    }

    fn refused(change: impl FnOnce(&mut pb::Purchase)) -> (ErrorReason, String) {
        let mut row = row();
        change(&mut row);
        let refusal = Purchase::parse(row, 7, &rules(), now()).unwrap_err();
        assert_eq!(refusal.index, 7);
        (refusal.reason, refusal.to_proto("purchases").message)
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
        let off = |minor_units| Some(Money { currency_code: "USD".into(), minor_units });
        assert_eq!(refused(|row| row.discount = off(-1)).0, InvalidField);
        assert_eq!(refused(|row| row.discount = off(MAX_AMOUNT_MINOR + 1)).0, AmountTooLarge);
        assert_eq!(refused(|row| (row.kind, row.discount) = (2, off(1))).0, InvalidField);
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
