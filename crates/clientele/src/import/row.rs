//! A line of the file as a row of the books.
use jiff::{Timestamp, tz::TimeZone};
use proto::{
    common::v1::{ErrorReason, Money},
    scoring::v1 as scoring,
};
use tonic::Status;

use super::{
    plan::{Column, Columns, Plan, Rows, Skip},
    records::Record,
    value::{Decimal, parse_time},
};
use crate::client::{Client, request};

/// Longest id of a customer or a row: the services' own limit of 128, less the number that lines of one id get.
const MAX_ID_CHARS: usize = 116;

/// Why a line is not sent.
#[derive(Debug)]
pub(super) enum Why {
    /// Left out as the plan says.
    Skip(Skip),
    /// Refused, and for what.
    Reject(String),
}

impl From<String> for Why {
    fn from(reason: String) -> Self {
        Self::Reject(reason)
    }
}

/// A row of the books, complete but for its ids.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Purchase(scoring::Purchase),
    Cost(scoring::ServiceCost),
    Payment(scoring::Payment),
}

/// What was read of a line.
#[derive(Debug)]
pub(super) struct Draft {
    /// The customer's id in the other system.
    pub(super) customer: String,
    /// What tells it from others where the file gives no id.
    pub(super) content: String,
    /// Whether digits beyond the currency's were rounded away.
    pub(super) rounded: bool,
    pub(super) entry: Entry,
}

/// The id that the file gives a line.
pub(super) fn given_id<'a>(columns: &Columns<Column>, record: &'a Record) -> Result<Option<&'a str>, Why> {
    // One column too many is most often a number with an unquoted mark in it, and then every column behind it is the wrong one.
    if record.width.is_some_and(|width| record.fields.len() > width) {
        return Err(format!("the row has {} columns, more than the header", record.fields.len()).into());
    }
    let Some(column) = &columns.id else { return Ok(None) };
    let id = record.get(column)?;
    check_id(id).map_err(|reason| format!("column {}: {reason}", column.name))?;
    Ok(Some(id))
}

/// Reads a line.
pub(super) fn draft(plan: &Plan, columns: &Columns<Column>, record: &Record) -> Result<Draft, Why> {
    let line = Line { plan, record };
    let skips = |skip: Skip| plan.skip.contains(&skip);
    let customer = record.get(&columns.customer)?;
    if customer.is_empty() && skips(Skip::NoCustomer) {
        return Err(Why::Skip(Skip::NoCustomer));
    }
    check_id(customer).map_err(|reason| format!("column {}: {reason}", columns.customer.name))?;
    let times: Vec<&Column> = match &columns.rows {
        Rows::Purchases { time, .. } | Rows::Costs { time } => vec![time],
        Rows::Payments { issued, due, .. } => vec![issued, due],
    };
    let times: Vec<Timestamp> = times.into_iter().map(|column| line.time(column)).collect::<Result<_, _>>()?;
    let time = times.first().copied().unwrap_or_default();
    let mut amount = line.decimal(&columns.amount)?;
    if let Rows::Purchases { quantity: Some(quantity), .. } = &columns.rows {
        amount = amount.times(line.decimal(quantity)?);
    }
    let exponent = Money::exponent(&plan.currency);
    let in_column = |reason| format!("column {}: {reason}", columns.amount.name);
    let (minor_units, mut rounded) = amount.minor_units(exponent).map_err(in_column)?;
    // By the exact amount: what only rounds to nothing was paid for.
    if amount.digits < 0 && skips(Skip::Returns) {
        return Err(Why::Skip(Skip::Returns));
    }
    if amount.digits == 0 && skips(Skip::Zero) {
        return Err(Why::Skip(Skip::Zero));
    }
    let content = format!("{customer}\u{1f}{}\u{1f}{minor_units}", time.as_microsecond());
    let money = |minor_units| Some(Money { currency_code: plan.currency.clone(), minor_units });
    let source = plan.source.clone();
    let entry = match &columns.rows {
        Rows::Purchases { discount, .. } => {
            // A return is written as a negative amount.
            let kind = if amount.digits < 0 { scoring::PurchaseKind::Return } else { scoring::PurchaseKind::Sale };
            let discount = match discount {
                Some(column) => line.money(column, &mut rounded)?.filter(|_| amount.digits >= 0),
                None => None,
            };
            Entry::Purchase(scoring::Purchase {
                source,
                purchase_id: String::new(),
                customer_id: String::new(),
                purchase_time: Some(chassis::clock::to_proto(time)),
                amount: money(minor_units.abs()),
                kind: kind.into(),
                discount: discount.and_then(money),
            })
        }
        Rows::Costs { .. } => Entry::Cost(scoring::ServiceCost {
            source,
            cost_id: String::new(),
            customer_id: String::new(),
            cost_time: Some(chassis::clock::to_proto(time)),
            amount: money(minor_units),
        }),
        Rows::Payments { paid, paid_amount, trouble, .. } => {
            let due = times.last().copied().unwrap_or_default();
            // A day without a time is its noon: what was issued on the afternoon of its due day is due all the same.
            let due = if same_day(time, due, &plan.time_zone) { due.max(time) } else { due };
            let paid_time = match paid {
                Some(column) => line.optional(column, |column| line.time(column))?,
                None => None,
            };
            let paid_units = match paid_amount {
                Some(column) => line.money(column, &mut rounded)?,
                None => paid_time.map(|_| minor_units),
            };
            // Many systems write 0 for what was not paid.
            let paid_units = paid_units.filter(|units| paid_time.is_some() || *units != 0);
            Entry::Payment(scoring::Payment {
                source,
                payment_id: String::new(),
                customer_id: String::new(),
                issue_time: Some(chassis::clock::to_proto(time)),
                due_time: Some(chassis::clock::to_proto(due)),
                amount: money(minor_units),
                paid_time: paid_time.map(chassis::clock::to_proto),
                paid_amount: paid_units.and_then(money),
                trouble: match trouble {
                    Some(column) => line.trouble(column)?.into(),
                    None => scoring::PaymentTrouble::Unspecified.into(),
                },
            })
        }
    };
    Ok(Draft { customer: customer.to_owned(), content, rounded, entry })
}

/// A line, read column by column.
struct Line<'a> {
    plan: &'a Plan,
    record: &'a Record,
}

impl Line<'_> {
    fn time(&self, column: &Column) -> Result<Timestamp, String> {
        parse_time(self.record.get(column)?, self.plan.time_format.as_deref(), &self.plan.time_zone)
            .map_err(|reason| format!("column {}: {reason}", column.name))
    }

    fn decimal(&self, column: &Column) -> Result<Decimal, String> {
        Decimal::parse(self.record.get(column)?, self.plan.decimal)
            .map_err(|reason| format!("column {}: {reason}", column.name))
    }

    /// Minor units; nothing where the column is empty.
    fn money(&self, column: &Column, rounded: &mut bool) -> Result<Option<i64>, String> {
        let exponent = Money::exponent(&self.plan.currency);
        let Some(amount) = self.optional(column, |column| self.decimal(column))? else { return Ok(None) };
        let (minor_units, some) =
            amount.minor_units(exponent).map_err(|reason| format!("column {}: {reason}", column.name))?;
        *rounded |= some;
        Ok(Some(minor_units))
    }

    fn trouble(&self, column: &Column) -> Result<scoring::PaymentTrouble, String> {
        let text = self.record.get(column)?.to_lowercase().replace(['_', ' '], "-");
        match text.as_str() {
            "" | "none" => Ok(scoring::PaymentTrouble::Unspecified),
            "written-off" => Ok(scoring::PaymentTrouble::WrittenOff),
            "in-court" => Ok(scoring::PaymentTrouble::InCourt),
            _ => Err(format!("column {}: must be written-off, in-court, none or empty", column.name)),
        }
    }

    fn optional<T>(
        &self,
        column: &Column,
        read: impl FnOnce(&Column) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        if self.record.get(column)?.is_empty() { Ok(None) } else { read(column).map(Some) }
    }
}

fn same_day(one: Timestamp, other: Timestamp, zone: &TimeZone) -> bool {
    one.to_zoned(zone.clone()).date() == other.to_zoned(zone.clone()).date()
}

impl Entry {
    /// Gives it the ids that the service knows it by.
    pub(super) fn set_id(&mut self, id: String) {
        match self {
            Self::Purchase(row) => row.purchase_id = id,
            Self::Cost(row) => row.cost_id = id,
            Self::Payment(row) => row.payment_id = id,
        }
    }

    fn of(mut self, customer: String) -> Self {
        match &mut self {
            Self::Purchase(row) => row.customer_id = customer,
            Self::Cost(row) => row.customer_id = customer,
            Self::Payment(row) => row.customer_id = customer,
        }
        self
    }
}

/// A batch of rows, as one call takes them.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    purchases: Vec<scoring::Purchase>,
    costs: Vec<scoring::ServiceCost>,
    payments: Vec<scoring::Payment>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) counts: scoring::RowCounts,
    /// Index of each refused row, and why it was.
    pub(super) rejections: Vec<(usize, String)>,
}

impl Batch {
    /// Adds a row of a customer.
    pub(super) fn push(&mut self, entry: Entry, customer: String) {
        match entry.of(customer) {
            Entry::Purchase(row) => self.purchases.push(row),
            Entry::Cost(row) => self.costs.push(row),
            Entry::Payment(row) => self.payments.push(row),
        }
    }

    /// Sends it. All rows of a file are of one kind, so that one call takes them.
    pub(super) async fn record(self, client: &Client) -> Result<Recorded, Status> {
        let mut scoring = client.scoring();
        if !self.costs.is_empty() {
            let message = scoring::RecordServiceCostsRequest { costs: self.costs };
            let reply = scoring.record_service_costs(request(message)).await?.into_inner();
            return Ok(Recorded::new(reply.counts, reply.rejections));
        }
        if !self.payments.is_empty() {
            let message = scoring::RecordPaymentsRequest { payments: self.payments };
            let reply = scoring.record_payments(request(message)).await?.into_inner();
            return Ok(Recorded::new(reply.counts, reply.rejections));
        }
        let message = scoring::RecordPurchasesRequest { purchases: self.purchases };
        let reply = scoring.record_purchases(request(message)).await?.into_inner();
        // The same, under the names that the first kind of row got.
        let counts = reply.counts.map(|counts| scoring::RowCounts {
            recorded: counts.recorded,
            replaced: counts.replaced,
            unchanged: counts.unchanged,
            rejected: counts.rejected,
            moved: counts.moved,
        });
        let rejections = reply.rejections.into_iter().map(|of| scoring::RowRejection {
            index: of.index,
            reason: of.reason,
            message: of.message,
        });
        Ok(Recorded::new(counts, rejections.collect()))
    }
}

impl Recorded {
    fn new(counts: Option<scoring::RowCounts>, rejections: Vec<scoring::RowRejection>) -> Self {
        let refused = rejections.into_iter().filter_map(|of| {
            let reason = ErrorReason::try_from(of.reason).unwrap_or_default();
            let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
            // Where the row stood in its call says nothing to who knows its line, and would make every reason another one.
            let message = of.message.split_once("].").map_or(of.message.as_str(), |(_, message)| message);
            Some((usize::try_from(of.index).ok()?, format!("{reason}: {message}")))
        });
        Self { counts: counts.unwrap_or_default(), rejections: refused.collect() }
    }
}

/// What the services take as an id of another system, checked here so that one row's fault is that row's alone.
fn check_id(id: &str) -> Result<(), String> {
    match id.chars().count() {
        0 => Err("is empty".to_owned()),
        _ if id.contains(char::REPLACEMENT_CHARACTER) => Err("is not UTF-8; convert the file first".to_owned()),
        1..=MAX_ID_CHARS if !id.chars().any(char::is_control) => Ok(()),
        1..=MAX_ID_CHARS => Err("has line breaks or control characters".to_owned()),
        count => Err(format!("has {count} characters; at most {MAX_ID_CHARS} are allowed")),
    }
}
