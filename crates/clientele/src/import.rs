//! Imports purchases from any delimited file, through the public API alone.
//!
//! Safe to run again, after a break too: a purchase's id comes from the file (a column, or the row's content and how often that content came
//! before), so the service recognises what it has.
use std::{
    collections::HashMap,
    io::Read,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::tz::TimeZone;
use proto::{
    common::v1::{ErrorReason, Money},
    profiles::v1 as profiles,
    scoring::v1 as scoring,
};
use tonic::Status;

use crate::{
    client::{Client, Error, Result, broke_off, is_passing, request},
    view,
};

mod records;
mod rejects;
mod value;

pub use records::Delimiter;
use records::{Columns, Record, Records, inflated};
use rejects::Rejects;
use value::{Decimal, parse_time};

/// Rows sent at a time: one transaction of the service.
const BATCH: usize = 5_000;
/// Identities resolved at a time: the limit of EnsureCustomers.
const IDENTITIES: usize = 1_000;
/// How long to go on trying while the server is away: a restart, not an outage.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest id of a customer or a purchase: the services' own limit of 128, less the number that lines of one id get.
const MAX_ID_CHARS: usize = 116;

/// What to import and how to read it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Column of the customer's id, by name or by number from 1.
    pub customer: String,
    /// Column of the time.
    pub time: String,
    /// Column of the amount, in major units; with `quantity`, of one piece.
    pub amount: String,
    /// Column of how many pieces; the amount is times that.
    pub quantity: Option<String>,
    /// Column of the purchase's id; absent makes one from the row's content.
    pub id: Option<String>,
    /// `strftime` format of the time; absent takes ISO 8601 and YYYYMMDD.
    pub time_format: Option<String>,
    /// Zone of times that do not say theirs.
    pub time_zone: TimeZone,
    /// ISO 4217 code of all amounts.
    pub currency: String,
    /// What parts the columns; absent finds it out.
    pub delimiter: Option<Delimiter>,
    /// What stands before the cents: a point or a comma.
    pub decimal: char,
    /// False where the first line is data; columns are then numbers.
    pub header: bool,
    /// Name of the system that the customers' ids come from.
    pub system: String,
    /// Name of the source that the purchases' ids come from.
    pub source: String,
    /// Rows to leave out.
    pub skip: Vec<Skip>,
    /// Where refused rows go.
    pub rejects: PathBuf,
}

/// Rows that an import leaves out, and counts, where it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Skip {
    /// Negative amounts
    Returns,
    /// Amounts of nothing: gifts, samples, lines of text
    Zero,
    /// Rows without a customer's id; not left out, they are rejected
    NoCustomer,
}

/// What an import did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rows read.
    pub rows: u64,
    /// What became of those sent.
    pub counts: scoring::PurchaseCounts,
    /// Rows refused, here or by the service.
    pub rejected: u64,
    /// Line and reason of the first of them.
    pub first_rejection: Option<String>,
    /// Rows left out as the plan says: returns, amounts of nothing, rows without a customer.
    pub skipped: Skipped,
    /// Amounts with more digits than the currency has, rounded to the nearest minor unit.
    pub rounded: u64,
    /// Different customers.
    pub customers: u64,
    /// Customers that were new.
    pub created: u64,
}

/// How many rows were left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Returns.
    pub returns: u64,
    /// Amounts of nothing.
    pub zero: u64,
    /// Rows without a customer's id.
    pub no_customer: u64,
}

impl Skipped {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.returns + self.zero + self.no_customer
    }
}

/// Why a row is not sent.
enum Why {
    Skip(Skip),
    Reject(String),
}

impl From<String> for Why {
    fn from(reason: String) -> Self {
        Self::Reject(reason)
    }
}

/// Imports `input` (of `size` bytes where known), drawing a progress bar when `progress`.
///
/// # Errors
/// A file that cannot be read as the plan says, or a server that stays away; what was acknowledged stays, and the same command goes on from there.
pub async fn run(client: &Client, plan: &Plan, input: impl Read, size: Option<u64>, progress: bool) -> Result<Outcome> {
    let bar = bar(size, progress);
    let mut reader = Records::new(inflated(bar.wrap_read(input))?, plan)?;
    let mut import = Import {
        client,
        plan,
        customers: HashMap::new(),
        seen: HashMap::new(),
        rejects: Rejects::new(&plan.rejects)?,
        outcome: Outcome::default(),
        reached: AtomicBool::new(false),
    };
    loop {
        let mut rows = Vec::with_capacity(BATCH);
        while rows.len() < BATCH {
            let Some(record) = reader.next()? else { break };
            import.outcome.rows += 1;
            match import.parse(&reader.columns, &record) {
                Ok(row) => rows.push(row),
                Err(Why::Skip(Skip::Returns)) => import.outcome.skipped.returns += 1,
                Err(Why::Skip(Skip::Zero)) => import.outcome.skipped.zero += 1,
                Err(Why::Skip(Skip::NoCustomer)) => import.outcome.skipped.no_customer += 1,
                Err(Why::Reject(reason)) => import.reject(record.line, &reason, &record.fields)?,
            }
        }
        let last = rows.len() < BATCH && reader.done;
        if !rows.is_empty() {
            import.send(rows).await?;
        }
        bar.set_message(format!("{} rows", view::count(i64::try_from(import.outcome.rows).unwrap_or(i64::MAX))));
        if last {
            break;
        }
    }
    bar.finish_and_clear();
    import.rejects.finish()?;
    import.outcome.customers = import.customers.len() as u64;
    Ok(import.outcome)
}

fn bar(size: Option<u64>, progress: bool) -> ProgressBar {
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::no_length(),
    };
    let template = match size {
        Some(_) => "  importing {bar:30} {percent:>3} %  {msg}, {bytes_per_sec}, {eta} left",
        None => "  importing {spinner} {msg}, {bytes_per_sec}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if !progress {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// A row that can be sent.
struct Row {
    line: u64,
    fields: Vec<String>,
    customer: String,
    purchase: scoring::Purchase,
}

struct Import<'a> {
    client: &'a Client,
    plan: &'a Plan,
    /// The customer of each external id seen so far.
    customers: HashMap<String, String>,
    /// How often each purchase id came, so that lines alike stay apart and are the same again next time.
    seen: HashMap<u64, u32>,
    rejects: Rejects,
    outcome: Outcome,
    /// Whether the server has answered before.
    reached: AtomicBool,
}

impl Import<'_> {
    fn parse(&mut self, columns: &Columns, record: &Record) -> std::result::Result<Row, Why> {
        // One column too many is most often a number with an unquoted mark in it, and then every column behind it is the wrong one.
        if columns.width.is_some_and(|width| record.fields.len() > width) {
            return Err(format!("the row has {} columns, more than the header", record.fields.len()).into());
        }
        // Before anything can leave the row out: the number of a line within its invoice is the same whatever is left out.
        let given_id = match columns.id {
            Some(index) => {
                let name = self.plan.id.as_deref().unwrap_or_default();
                let id = record.get(index, name)?;
                check_id(id).map_err(|reason| format!("column {name}: {reason}"))?;
                Some(self.numbered(id.to_owned(), "#"))
            }
            None => None,
        };
        let skips = |skip: Skip| self.plan.skip.contains(&skip);
        let customer = record.get(columns.customer, &self.plan.customer)?;
        if customer.is_empty() && skips(Skip::NoCustomer) {
            return Err(Why::Skip(Skip::NoCustomer));
        }
        check_id(customer).map_err(|reason| format!("column {}: {reason}", self.plan.customer))?;
        let time_text = record.get(columns.time, &self.plan.time)?;
        let time = parse_time(time_text, self.plan.time_format.as_deref(), &self.plan.time_zone)
            .map_err(|reason| format!("column {}: {reason}", self.plan.time))?;
        let decimal_in = |index: usize, name: &str| -> std::result::Result<Decimal, String> {
            Decimal::parse(record.get(index, name)?, self.plan.decimal)
                .map_err(|reason| format!("column {name}: {reason}"))
        };
        let mut amount = decimal_in(columns.amount, &self.plan.amount)?;
        if let (Some(index), Some(name)) = (columns.quantity, &self.plan.quantity) {
            amount = amount.times(decimal_in(index, name)?);
        }
        let exponent = Money::exponent(&self.plan.currency);
        let (minor_units, rounded) =
            amount.minor_units(exponent).map_err(|reason| format!("column {}: {reason}", self.plan.amount))?;
        // By the exact amount: what only rounds to nothing was paid for.
        if amount.digits < 0 && skips(Skip::Returns) {
            return Err(Why::Skip(Skip::Returns));
        }
        if amount.digits == 0 && skips(Skip::Zero) {
            return Err(Why::Skip(Skip::Zero));
        }
        self.outcome.rounded += u64::from(rounded);
        let id = match given_id {
            Some(id) => id,
            None => {
                let content = format!("{customer}\u{1f}{}\u{1f}{minor_units}", time.as_microsecond());
                self.numbered(format!("{:016x}", hash(&content)), "-")
            }
        };
        // A return is written as a negative amount.
        let kind = if amount.digits < 0 { scoring::PurchaseKind::Return } else { scoring::PurchaseKind::Sale };
        let purchase = scoring::Purchase {
            source: self.plan.source.clone(),
            purchase_id: id,
            customer_id: String::new(),
            purchase_time: Some(chassis::clock::to_proto(time)),
            amount: Some(Money { currency_code: self.plan.currency.clone(), minor_units: minor_units.abs() }),
            kind: kind.into(),
            discount: None,
        };
        Ok(Row { line: record.line, fields: record.fields.clone(), customer: customer.to_owned(), purchase })
    }

    /// The id itself when it comes first, and with its number when it comes again: the lines of one invoice, or two alike.
    fn numbered(&mut self, id: String, mark: &str) -> String {
        let count = self.seen.entry(hash(&id)).or_insert(0);
        *count += 1;
        if *count == 1 { id } else { format!("{id}{mark}{count}") }
    }

    async fn send(&mut self, rows: Vec<Row>) -> Result<()> {
        self.resolve(&rows).await?;
        let mut purchases = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut purchase = row.purchase.clone();
            purchase.customer_id = self.customers.get(&row.customer).cloned().unwrap_or_default();
            purchases.push(purchase);
        }
        let message = scoring::RecordPurchasesRequest { purchases };
        let scoring = self.client.scoring();
        let reply = patiently(&self.reached, || {
            let (mut scoring, message) = (scoring.clone(), message.clone());
            async move { scoring.record_purchases(request(message)).await }
        })
        .await?;
        if let Some(counts) = reply.counts {
            let total = &mut self.outcome.counts;
            total.recorded += counts.recorded;
            total.replaced += counts.replaced;
            total.unchanged += counts.unchanged;
            total.rejected += counts.rejected;
        }
        for rejection in reply.rejections {
            let Some(row) = usize::try_from(rejection.index).ok().and_then(|index| rows.get(index)) else { continue };
            let reason = ErrorReason::try_from(rejection.reason).unwrap_or_default();
            let reason = format!("{}: {}", reason.as_str_name().trim_start_matches("ERROR_REASON_"), rejection.message);
            self.reject(row.line, &reason, &row.fields)?;
        }
        Ok(())
    }

    /// Finds or creates the customers that were not seen before.
    async fn resolve(&mut self, rows: &[Row]) -> Result<()> {
        let mut new: Vec<&str> = rows.iter().map(|row| row.customer.as_str()).collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|customer| !self.customers.contains_key(*customer));
        for chunk in new.chunks(IDENTITIES) {
            let items = chunk
                .iter()
                .map(|id| profiles::EnsureCustomer {
                    identity: Some(profiles::ExternalIdentity {
                        system: self.plan.system.clone(),
                        id: (*id).to_owned(),
                    }),
                    customer: None,
                })
                .collect();
            let message = profiles::EnsureCustomersRequest { items };
            let profiles = self.client.profiles();
            let reply = patiently(&self.reached, || {
                let (mut profiles, message) = (profiles.clone(), message.clone());
                async move { profiles.ensure_customers(request(message)).await }
            })
            .await?;
            if reply.customers.len() != chunk.len() {
                return Err(Error::new("profiles answered for another number of customers than it was asked for"));
            }
            for (id, ensured) in chunk.iter().zip(reply.customers) {
                self.outcome.created += u64::from(ensured.created);
                self.customers.insert((*id).to_owned(), ensured.customer_id);
            }
        }
        Ok(())
    }

    fn reject(&mut self, line: u64, reason: &str, fields: &[String]) -> Result<()> {
        self.outcome.rejected += 1;
        self.outcome.first_rejection.get_or_insert_with(|| format!("line {line}: {reason}"));
        self.rejects.write(line, reason, fields)
    }
}

/// Sends again while the server is away, restarting or overloaded: every call of an import may be sent twice.
///
/// A server that was never reached is not away: it is somewhere else, and that is said at once.
async fn patiently<T, F>(reached: &AtomicBool, call: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
{
    let mut waited = Duration::ZERO;
    loop {
        let answer = call().await;
        // A connection that broke was one.
        if answer.as_ref().err().is_none_or(broke_off) {
            reached.store(true, Ordering::Relaxed);
        }
        match answer {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(status) if !reached.load(Ordering::Relaxed) => return Err(status.into()),
            Err(status) if is_passing(&status) && waited < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
                waited += PAUSE;
            }
            Err(status) => {
                let error = Error::from(status);
                return Err(Error::new(format!(
                    "{error}\n  What was acknowledged stays. Run the same command again to go on: nothing is recorded twice."
                )));
            }
        }
    }
}

/// What the services take as an id of another system, checked here so that one row's fault is that row's alone.
fn check_id(id: &str) -> std::result::Result<(), String> {
    match id.chars().count() {
        0 => Err("is empty".to_owned()),
        // The number that tells lines of one id apart must fit, too.
        _ if id.contains(char::REPLACEMENT_CHARACTER) => Err("is not UTF-8; convert the file first".to_owned()),
        1..=MAX_ID_CHARS if !id.chars().any(char::is_control) => Ok(()),
        1..=MAX_ID_CHARS => Err("has line breaks or control characters".to_owned()),
        count => Err(format!("has {count} characters; at most {MAX_ID_CHARS} are allowed")),
    }
}

/// FNV-1a, 64 bits: stable over versions and machines, which ids that must be the same next year need.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
