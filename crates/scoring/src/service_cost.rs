//! What serving a customer cost: one row, how it is read from a request.
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use uuid::Uuid;

use crate::{
    row::{Reader, Refusal, Row, Rules},
    score::{Day, Summary},
};

/// A cost of serving a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCost {
    /// The system it comes from.
    pub source: String,
    /// Its id there.
    pub cost_id: String,
    /// Whose it is.
    pub customer: Uuid,
    /// When it arose, in microseconds since 1970.
    pub time_us: i64,
    /// The day of the business's calendar that it arose on.
    pub day: Day,
    /// Minor units, 0 or more.
    pub amount_minor: i64,
}

impl ServiceCost {
    /// Reads row `index` of a batch.
    ///
    /// # Errors
    /// What it is refused for.
    pub fn parse(row: &pb::ServiceCost, index: usize, rules: &Rules, now: Timestamp) -> Result<Self, Refusal> {
        let mut reader = Reader::new(rules, now);
        let (source, cost_id, customer) = reader.head(&row.source, "cost_id", &row.cost_id, &row.customer_id);
        let amount_minor = reader.amount("amount", row.amount.as_ref());
        let time = reader.past("cost_time", row.cost_time.as_ref());
        reader.done(index)?;
        let day = rules.calendar.day(time);
        Ok(Self { source, cost_id, customer, time_us: time.as_microsecond(), day, amount_minor })
    }
}

impl Row for ServiceCost {
    const CAUSE: pb::ChangeCause = pb::ChangeCause::ServiceCost;

    fn key(&self) -> (&str, &str) {
        (&self.source, &self.cost_id)
    }

    fn customer(&self) -> Uuid {
        self.customer
    }

    fn adds(&self, summary: &Summary) -> (u8, i64, i64) {
        (0, summary.service_cost_minor, self.amount_minor)
    }

    fn service_cost_minor(&self) -> i64 {
        self.amount_minor
    }
}
