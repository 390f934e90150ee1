//! Imports purchases, service costs and payments from any delimited file, through the public API alone.
//!
//! Safe to run again, after a break too: a row's id comes from the file (a column, or the row's content and how often that content came
//! before), so the service recognises what it has. Memory stays the same however long the file is: one batch is sent while the next is read,
//! and what must be remembered of all lines is kept in a temporary file.
use std::{
    collections::BTreeMap,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proto::{profiles::v1 as profiles, scoring::v1 as scoring};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::{
    client::{Client, Error, Result, broke_off, is_passing, request},
    progress::Progress,
    serve,
};

mod command;
mod pace;
mod plan;
mod records;
mod rejects;
mod row;
mod scratch;
mod value;

pub use command::{CostsArgs, PaymentsArgs, PurchasesArgs, costs, describe, payments, purchases};
pub use pace::Tenth;
pub use plan::{Columns, Plan, Rows, Skip};
pub use records::Delimiter;

use pace::Pace;
use records::{Record, Records, inflated};
use rejects::Rejects;
use row::{Batch, Draft, Entry, Recorded, Why};
use scratch::Scratch;

/// Rows sent at a time: one transaction of the service.
const BATCH: usize = 5_000;
/// Identities resolved at a time: the limit of EnsureCustomers.
const IDENTITIES: usize = 1_000;
/// How long to go on trying while the server is away: a restart, not an outage.
const PATIENCE: Duration = Duration::from_secs(60);
/// Different reasons to refuse rows that are counted one by one: what a person reads, and no measure of a file of nonsense.
const MAX_REASONS: usize = 1_000;
/// What all further ones are counted as.
const OTHER_REASONS: &str = "other reasons";
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// What an import did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rows read.
    pub rows: u64,
    /// What became of those sent.
    pub counts: scoring::RowCounts,
    /// Rows refused, here or by the service.
    pub rejected: u64,
    /// The first line of them, and what is told of it: line and reason.
    pub first_rejection: Option<(u64, String)>,
    /// How many were refused for which reason.
    pub reasons: BTreeMap<String, u64>,
    /// Rows left out as the plan says: returns, amounts of nothing, rows without a customer.
    pub skipped: Skipped,
    /// Rows passed without sending them, up to the line that the plan names.
    pub passed: u64,
    /// Amounts with more digits than the currency has, rounded to the nearest minor unit.
    pub rounded: u64,
    /// Different customers of the rows sent.
    pub customers: u64,
    /// Customers that were new.
    pub created: u64,
    /// How long each tenth of the rows sent took; empty where they were few.
    pub tenths: Vec<Tenth>,
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

    fn count(&mut self, what: Skip) {
        match what {
            Skip::Returns => self.returns += 1,
            Skip::Zero => self.zero += 1,
            Skip::NoCustomer => self.no_customer += 1,
        }
    }
}

/// Imports `input` (of `size` bytes where known), saying how far it is when `progress`.
///
/// # Errors
/// A file that cannot be read as the plan says, a server that stays away, or Ctrl-C; what was acknowledged stays, the same command goes on from
/// there, and the error says how to do so sooner.
pub async fn run(client: &Client, plan: &Plan, input: impl Read, size: Option<u64>, progress: bool) -> Result<Outcome> {
    let progress = Progress::bytes("importing", size, progress);
    let reader = Records::new(inflated(progress.wrap_read(input))?, plan)?;
    let rejects = Rejects::new(&plan.rejects, reader.header.as_deref(), plan.after_line)?;
    let mut import = Import {
        client,
        plan,
        reader,
        scratch: Scratch::new().await?,
        ready: Vec::with_capacity(2 * BATCH),
        rejects,
        outcome: Outcome::default(),
        reached: Arc::default(),
        acknowledged: plan.after_line,
        sent: 0,
        pace: Pace::new(),
    };
    let result = tokio::select! {
        result = import.run(&progress) => result,
        () = serve::signalled() => Err(Error::new("broken off")),
    };
    progress.finish();
    import.rejects.finish()?;
    if let Err(error) = result {
        // Nothing was sent, or all of it can be sent again as soon.
        if import.sent == 0 {
            return Err(error);
        }
        return Err(Error::new(format!(
            "{error}\n  {}\n  What was acknowledged stays. Run the same command again to go on: nothing is recorded twice. With \
             --after-line {} it passes what is acknowledged without sending it again.",
            command::describe_broken_off(&import.outcome, plan),
            import.acknowledged
        )));
    }
    import.outcome.customers = import.scratch.finish().await?;
    import.outcome.tenths = import.pace.tenths();
    Ok(import.outcome)
}

/// A row that can be sent.
#[derive(Debug)]
struct Row {
    line: u64,
    fields: Vec<String>,
    customer: String,
    entry: Entry,
}

/// A batch that is on its way.
struct Flight {
    rows: Vec<Row>,
    answer: JoinHandle<Result<Recorded>>,
}

struct Import<'a> {
    client: &'a Client,
    plan: &'a Plan,
    reader: Records<Box<dyn Read + 'a>>,
    /// What was seen of ids and customers.
    scratch: Scratch,
    /// Rows read and not sent yet.
    ready: Vec<Row>,
    rejects: Rejects,
    outcome: Outcome,
    /// Whether the server has answered before.
    reached: Arc<AtomicBool>,
    /// The line up to which all is done with.
    acknowledged: u64,
    /// Rows acknowledged.
    sent: u64,
    pace: Pace,
}

impl Import<'_> {
    async fn run(&mut self, progress: &Progress) -> Result<()> {
        let mut flight: Option<Flight> = None;
        loop {
            // The next batch is made ready while the one before is on its way, and sent behind it: of what stands twice in the file the later
            // counts.
            let more = self.fill().await?;
            let batch = self.take().await?;
            if let Some(flight) = flight.take() {
                self.land(flight).await?;
                progress.rows(self.outcome.rows);
            }
            flight = batch.map(|(rows, batch)| self.launch(rows, batch));
            if !more && self.ready.is_empty() {
                break;
            }
        }
        match flight {
            Some(flight) => self.land(flight).await,
            None => Ok(()),
        }
    }

    /// Reads lines until there is a batch of rows that can be sent; false at the end of the file.
    async fn fill(&mut self) -> Result<bool> {
        while self.ready.len() < BATCH {
            let mut lines = Vec::with_capacity(BATCH);
            while lines.len() < BATCH {
                let Some(record) = self.reader.next()? else { break };
                lines.push(record);
            }
            let more = lines.len() == BATCH;
            self.outcome.rows += lines.len() as u64;
            self.read(lines).await?;
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads some lines, numbers those of one id, and keeps what can be sent.
    async fn read(&mut self, lines: Vec<Record>) -> Result<()> {
        // A payment is stated again under the id it has; the lines of an invoice, or purchases all alike, share one and are several.
        let numbers = !matches!(self.plan.columns.rows, Rows::Payments { .. });
        let (mut ids, mut drafts) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
        for record in lines {
            let (id, draft) = match row::given_id(&self.reader.columns, &record) {
                // The number of a line within its invoice is the same whatever is left out or refused, so all are numbered.
                Ok(Some(id)) => (Some(id.to_owned()), row::draft(self.plan, &self.reader.columns, &record)),
                Ok(None) => {
                    let draft = row::draft(self.plan, &self.reader.columns, &record);
                    (draft.as_ref().ok().map(|draft| format!("{:016x}", hash(&draft.content))), draft)
                }
                Err(why) => (None, Err(why)),
            };
            let place = id.map(|id| {
                ids.push(id);
                ids.len() - 1
            });
            drafts.push((record, place, draft));
        }
        let counts = if numbers { self.scratch.count(&ids).await? } else { vec![1; ids.len()] };
        let mark = if self.plan.columns.id.is_some() { "#" } else { "-" };
        for (record, place, draft) in drafts {
            if record.line <= self.plan.after_line {
                self.outcome.passed += 1;
                continue;
            }
            match draft {
                Ok(Draft { customer, rounded, mut entry, .. }) => {
                    let id = place.map(|place| match counts[place] {
                        1 => std::mem::take(&mut ids[place]),
                        count => format!("{}{mark}{count}", ids[place]),
                    });
                    entry.set_id(id.unwrap_or_default());
                    self.outcome.rounded += u64::from(rounded);
                    self.ready.push(Row { line: record.line, fields: record.fields, customer, entry });
                }
                Err(Why::Skip(what)) => self.outcome.skipped.count(what),
                Err(Why::Reject(reason)) => self.reject(record.line, &reason, &record.fields)?,
            }
        }
        Ok(())
    }

    /// Makes the next batch ready to be sent, if there is one.
    async fn take(&mut self) -> Result<Option<(Vec<Row>, Batch)>> {
        let rows: Vec<Row> = self.ready.drain(..self.ready.len().min(BATCH)).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let mut external: Vec<&str> = rows.iter().map(|row| row.customer.as_str()).collect();
        external.sort_unstable();
        external.dedup();
        let mut customers = self.scratch.customers(&external).await?;
        external.retain(|id| !customers.contains_key(*id));
        for chunk in external.chunks(IDENTITIES) {
            let found = self.ensure(chunk).await?;
            let pairs: Vec<(&str, &str)> = chunk.iter().copied().zip(found.iter().map(String::as_str)).collect();
            self.scratch.remember(&pairs).await?;
            customers.extend(chunk.iter().map(|id| (*id).to_owned()).zip(found));
        }
        let mut batch = Batch::default();
        for row in &rows {
            batch.push(row.entry.clone(), customers.get(&row.customer).cloned().unwrap_or_default());
        }
        Ok(Some((rows, batch)))
    }

    fn launch(&self, rows: Vec<Row>, batch: Batch) -> Flight {
        let (client, reached) = (self.client.clone(), self.reached.clone());
        let answer = tokio::spawn(async move { patiently(&reached, || batch.clone().record(&client)).await });
        Flight { rows, answer }
    }

    /// Finds or creates customers, in order.
    async fn ensure(&mut self, external: &[&str]) -> Result<Vec<String>> {
        let item = |id: &&str| {
            let identity = profiles::ExternalIdentity { system: self.plan.system.clone(), id: (*id).to_owned() };
            profiles::EnsureCustomer { identity: Some(identity), customer: None }
        };
        let message = profiles::EnsureCustomersRequest { items: external.iter().map(item).collect() };
        let profiles = self.client.profiles();
        let reply = patiently(&self.reached, || {
            let (mut profiles, message) = (profiles.clone(), message.clone());
            async move { profiles.ensure_customers(request(message)).await.map(tonic::Response::into_inner) }
        })
        .await?;
        if reply.customers.len() != external.len() {
            return Err(Error::new("profiles answered for another number of customers than it was asked for"));
        }
        self.outcome.created += reply.customers.iter().map(|ensured| u64::from(ensured.created)).sum::<u64>();
        Ok(reply.customers.into_iter().map(|ensured| ensured.customer_id).collect())
    }

    /// Waits for the answer to a batch.
    async fn land(&mut self, flight: Flight) -> Result<()> {
        let recorded = flight.answer.await.map_err(|error| Error::new(error.to_string()))??;
        let total = &mut self.outcome.counts;
        total.recorded += recorded.counts.recorded;
        total.replaced += recorded.counts.replaced;
        total.unchanged += recorded.counts.unchanged;
        total.rejected += recorded.counts.rejected;
        total.moved += recorded.counts.moved;
        // The currency, or the day's format: what is wrong with all of so many is wrong with the rest.
        let hopeless = self.sent == 0 && flight.rows.len() == BATCH && recorded.rejections.len() == BATCH;
        for (index, reason) in recorded.rejections {
            let Some(row) = flight.rows.get(index) else { continue };
            self.reject(row.line, &reason, &row.fields)?;
        }
        if hopeless {
            let (_, first) = self.outcome.first_rejection.take().unwrap_or_default();
            return Err(Error::new(format!(
                "each of the first {BATCH} rows was refused, so that the others are not sent; the first: {first}\n  All stand, with line \
                 and reason, in {}",
                self.plan.rejects.display()
            )));
        }
        self.sent += flight.rows.len() as u64;
        self.acknowledged = flight.rows.last().map_or(self.acknowledged, |row| row.line);
        self.pace.mark(self.sent);
        Ok(())
    }

    fn reject(&mut self, line: u64, reason: &str, fields: &[String]) -> Result<()> {
        self.outcome.rejected += 1;
        // What the service refuses is heard of later than what is refused here.
        if self.outcome.first_rejection.as_ref().is_none_or(|(first, _)| line < *first) {
            self.outcome.first_rejection = Some((line, format!("line {line}: {reason}")));
        }
        let reasons = &mut self.outcome.reasons;
        let known = reasons.len() < MAX_REASONS || reasons.contains_key(reason);
        *reasons.entry(if known { reason } else { OTHER_REASONS }.to_owned()).or_default() += 1;
        self.rejects.write(line, reason, fields)
    }
}

/// Sends again while the server is away, restarting or overloaded: every call of an import may be sent twice.
///
/// A server that was never reached is not away: it is somewhere else, and that is said at once.
async fn patiently<T, F>(reached: &AtomicBool, call: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<T, Status>>,
{
    let mut waited = Duration::ZERO;
    loop {
        let answer = call().await;
        // A connection that broke was one.
        if answer.as_ref().err().is_none_or(broke_off) {
            reached.store(true, Ordering::Relaxed);
        }
        match answer {
            Ok(reply) => return Ok(reply),
            Err(status) if reached.load(Ordering::Relaxed) && is_passing(&status) && waited < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
                waited += PAUSE;
            }
            Err(status) => return Err(status.into()),
        }
    }
}

/// FNV-1a, 64 bits: stable over versions and machines, which ids that must be the same next year need.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
