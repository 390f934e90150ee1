//! Recording: rows into the ledger, summaries and announced standings, all in one transaction.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use chassis::{Result, Tx};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use uuid::Uuid;

use crate::{
    in_force::Scorer,
    purchase::{Kind, Purchase},
    row::{MAX_TOTAL_MINOR, Refusal, Row},
    score::{Facts, Summary},
    standing::{self, Customer, Findings},
    store::{
        self,
        rows::{self, ByKey, Stored},
    },
    summary::{self, Addition},
};

/// What profiles said of a customer when asked.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Revision of the record.
    pub revision: i64,
    /// What it says.
    pub facts: Facts,
}

/// The sound rows of one call, each with its index there, and what profiles said of customers that are not known here.
#[derive(Clone, Debug)]
pub struct Call<R = Purchase> {
    /// The rows in the order of the call.
    pub rows: Arc<Vec<(usize, R)>>,
    /// Absent under an id that was not asked for; `None` for one that profiles does not know.
    pub asked: HashMap<Uuid, Option<Profile>>,
    /// The call's trace, to which the changes belong that it causes, whosoever else's rows are written along with it.
    pub span: tracing::Span,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// Its rows are in the ledger.
    Done {
        /// What became of the rows.
        counts: pb::PurchaseCounts,
        /// The rows refused here.
        refusals: Vec<Refusal>,
    },
    /// Nothing was written: these customers are not known here, and profiles must be asked first, outside of any transaction.
    Ask(Vec<Uuid>),
}

/// Records calls of purchases one after the other, in one transaction and few statements.
///
/// # Errors
/// `Database`.
pub async fn record(tx: &Tx<'_>, scorer: &Scorer, calls: &[Call]) -> Result<Vec<Recorded>> {
    let ids: BTreeSet<Uuid> = calls.iter().flat_map(|call| call.rows.iter().map(|(_, row)| row.customer)).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    // First of all, so that who comes second waits here and then sees everything that the first one wrote.
    let mut customers = store::customer::lock(tx, &ids).await?;

    let mut results: Vec<Recorded> = Vec::with_capacity(calls.len());
    let mut admitted = Vec::new();
    for (call, number) in calls.iter().zip(0..) {
        results.push(admit(call, number, &mut customers, &mut admitted));
    }
    let causes: HashMap<Uuid, &Call> =
        admitted.iter().filter_map(|row| Some((row.row.customer, calls.get(row.call)?))).collect();
    let cause = |id| causes.get(&id).map(|call| &call.span);
    let batch = Batch::of(&admitted);
    let additions = additions(batch.rows.iter().copied());
    // Before the rows are written: what the ledger says of the time before them.
    let sold = sold_before(tx, &additions, &customers).await?;
    if tx.is_first_try() {
        // All new, as usual: new rows should not pay for a look at what is there. A duplicate key runs the transaction again, and then looks.
        count(&batch, &HashMap::new(), &mut results);
        apply(&additions, &sold, &mut customers);
        let touched = additions.into_keys().collect();
        if !batch.rows.is_empty() {
            store::purchase::will_write(tx).await?;
        }
        restate(tx, scorer, Purchase::CAUSE, customers, touched, cause, rows::insert(tx, &batch.rows)).await?;
    } else {
        let touched = correct(tx, &batch, &sold, &mut customers, &mut results).await?;
        restate(tx, scorer, Purchase::CAUSE, customers, touched, cause, std::future::ready(Ok(()))).await?;
    }
    Ok(results)
}

/// Computes the standings of whom rows touched anew, publishes those that changed, and writes them all. What there is to write before them, the
/// database writes while the standings are computed.
async fn restate<'a>(
    tx: &Tx<'_>,
    scorer: &Scorer,
    why: pb::ChangeCause,
    mut customers: HashMap<Uuid, Customer>,
    touched: BTreeSet<Uuid>,
    cause: impl Fn(Uuid) -> Option<&'a tracing::Span>,
    before: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut findings = Findings::new(tx, scorer, why, &touched).await?;
    let has_not_bought = |customer: &&mut Customer| customer.summary.occasions == 0 && touched.contains(&customer.id);
    findings.estimate(tx, customers.values_mut().filter(has_not_bought)).await?;
    let ((), changed) = futures::try_join!(before, judge(tx, &mut findings, customers, touched, cause))?;
    store::customer::write(tx, changed.iter()).await?;
    findings.write(tx).await
}

/// Computes standings and publishes those that changed; whose rows are to be written.
async fn judge<'a>(
    tx: &Tx<'_>,
    findings: &mut Findings<'_>,
    mut customers: HashMap<Uuid, Customer>,
    touched: BTreeSet<Uuid>,
    cause: impl Fn(Uuid) -> Option<&'a tracing::Span>,
) -> Result<Vec<Customer>> {
    let mut changed = Vec::with_capacity(touched.len());
    for (index, id) in touched.into_iter().enumerate() {
        standing::breathe(index).await;
        let Some(mut customer) = customers.remove(&id) else { continue };
        let mut judge = || findings.judge(tx, &mut customer);
        match cause(id) {
            Some(span) => span.in_scope(judge),
            // Whose row was given to somebody else.
            None => judge(),
        };
        changed.push(customer);
    }
    Ok(changed)
}

/// Records one call of rows that tell of no purchase: costs and payments.
///
/// # Errors
/// `Database`.
pub async fn record_others<R: Stored<N>, const N: usize>(
    tx: &Tx<'_>,
    scorer: &Scorer,
    call: &Call<R>,
) -> Result<Recorded> {
    let ids: BTreeSet<Uuid> = call.rows.iter().map(|(_, row)| row.customer()).collect();
    let mut customers = store::customer::lock(tx, &ids.into_iter().collect::<Vec<_>>()).await?;
    let mut admitted = Vec::new();
    let mut results = vec![admit(call, 0, &mut customers, &mut admitted)];
    let batch = Batch::of(&admitted);
    let there = rows::lock(tx, &batch.rows).await?;
    let sorted = Sorted::of(&batch, &there);
    rows::insert(tx, &sorted.new).await?;
    rows::replace(tx, &sorted.replaced).await?;
    count(&batch, &there, &mut results);

    // By customer what the rows change: what is new comes, what was there before goes, for whose row it was, too.
    let mut changes: BTreeMap<Uuid, i64> = BTreeMap::new();
    for row in sorted.new.iter().chain(&sorted.replaced) {
        *changes.entry(row.customer()).or_default() += row.service_cost_minor();
        if let Some(before) = there.get(&rows::owned(row.key())) {
            *changes.entry(before.customer()).or_default() -= before.service_cost_minor();
        }
    }
    let others: Vec<Uuid> = changes.keys().copied().filter(|id| !customers.contains_key(id)).collect();
    customers.extend(store::customer::lock(tx, &others).await?);
    for (id, change) in &changes {
        if let Some(customer) = customers.get_mut(id) {
            customer.summary.service_cost_minor += change;
        }
    }
    // Nobody else: payments change nothing that is kept of a customer.
    let moved = |id: &Uuid, change: i64| change != 0 || customers.get(id).is_some_and(|customer| customer.is_new);
    let touched = changes.into_iter().filter(|(id, change)| moved(id, *change)).map(|(id, _)| id).collect();
    restate(tx, scorer, R::CAUSE, customers, touched, |_| Some(&call.span), std::future::ready(Ok(()))).await?;
    results.pop().ok_or_else(|| chassis::Error::Internal("a batch without a result".to_owned()))
}

/// A row on its way into the ledger: of which call, and where in it.
struct Admitted<'a, R> {
    call: usize,
    row: &'a R,
}

/// Takes the rows of a call whose customers are known and whose totals fit.
fn admit<'a, R: Row>(
    call: &'a Call<R>,
    number: usize,
    customers: &mut HashMap<Uuid, Customer>,
    admitted: &mut Vec<Admitted<'a, R>>,
) -> Recorded {
    let ask: BTreeSet<Uuid> = call
        .rows
        .iter()
        .map(|(_, row)| row.customer())
        .filter(|id| !customers.contains_key(id) && !call.asked.contains_key(id))
        .collect();
    if !ask.is_empty() {
        return Recorded::Ask(ask.into_iter().collect());
    }
    let mut refusals = Vec::new();
    // Sums of what this call brings, by customer and total. A row that is sent again near the limit counts as if it were new, so it may be
    // refused where it would have changed nothing; no honest customer comes near.
    let mut brought: HashMap<(Uuid, u8), i64> = HashMap::new();
    for (index, row) in call.rows.iter() {
        let id = row.customer();
        let customer = match customers.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match call.asked.get(&id) {
                Some(Some(profile)) => entry.insert(Customer::new(id, profile.revision, profile.facts)),
                _ => {
                    let message = "customer_id: is not known to profiles; ensure the customer first";
                    refusals.push(Refusal::new(*index, ErrorReason::CustomerUnknown, message));
                    continue;
                }
            },
        };
        let (which, total, amount_minor) = row.adds(&customer.summary);
        let sum = brought.entry((id, which)).or_default();
        if total.saturating_add(*sum).saturating_add(amount_minor) > MAX_TOTAL_MINOR {
            let message = format!("amount.minor_units: the customer's total would exceed {MAX_TOTAL_MINOR}");
            refusals.push(Refusal::new(*index, ErrorReason::AmountTooLarge, message));
            continue;
        }
        *sum += amount_minor;
        admitted.push(Admitted { call: number, row });
    }
    let rejected = i64::try_from(refusals.len()).unwrap_or(i64::MAX);
    Recorded::Done { counts: pb::PurchaseCounts { rejected, ..Default::default() }, refusals }
}

/// What is to be written of the admitted rows: of each (source, purchase id) the last.
struct Batch<'a, R> {
    /// Each key's last row, by key: two transactions that insert the same keys do so in the same order and never wait in a circle.
    rows: Vec<&'a R>,
    /// Each row that is the first of its key in the batch: its call. What became of it shows against the ledger.
    firsts: Vec<(usize, &'a R)>,
    /// The others: their call, the row, and the row before.
    others: Vec<(usize, &'a R, &'a R)>,
}

impl<'a, R: Row> Batch<'a, R> {
    fn of(admitted: &[Admitted<'a, R>]) -> Self {
        let mut last: HashMap<(&str, &str), &R> = HashMap::with_capacity(admitted.len());
        let (mut firsts, mut others) = (Vec::with_capacity(admitted.len()), Vec::new());
        for Admitted { call, row } in admitted {
            match last.insert(row.key(), row) {
                None => firsts.push((*call, *row)),
                Some(before) => others.push((*call, *row, before)),
            }
        }
        let mut rows: Vec<_> = last.into_values().collect();
        rows.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        Self { rows, firsts, others }
    }
}

/// The rows of a batch against what is there.
struct Sorted<'a, R> {
    new: Vec<&'a R>,
    /// There, with other content.
    replaced: Vec<&'a R>,
}

impl<'a, R: Row> Sorted<'a, R> {
    fn of(batch: &Batch<'a, R>, there: &ByKey<R>) -> Self {
        let mut sorted = Self { new: Vec::new(), replaced: Vec::new() };
        for row in &batch.rows {
            match there.get(&rows::owned(row.key())) {
                None => sorted.new.push(row),
                Some(before) if before != *row => sorted.replaced.push(row),
                Some(_) => {}
            }
        }
        sorted
    }
}

/// Writes rows of which some are there, and brings the summaries up to date; whom they touch, by id.
async fn correct(
    tx: &Tx<'_>,
    batch: &Batch<'_, Purchase>,
    sold: &Days,
    customers: &mut HashMap<Uuid, Customer>,
    results: &mut [Recorded],
) -> Result<BTreeSet<Uuid>> {
    let there = rows::lock(tx, &batch.rows).await?;
    let Sorted { new, replaced } = Sorted::of(batch, &there);
    rows::insert(tx, &new).await?;
    rows::replace(tx, &replaced).await?;
    count(batch, &there, results);

    let additions = additions(new.into_iter());
    apply(&additions, sold, customers);
    let mut touched: BTreeSet<Uuid> = additions.into_keys().collect();
    if !replaced.is_empty() {
        // A correction may take anything away, the first day or the last: add up anew, for whose row it was, too.
        let corrected: BTreeSet<Uuid> = replaced
            .iter()
            .flat_map(|row| [Some(row.customer), there.get(&rows::owned(row.key())).map(|before| before.customer)])
            .flatten()
            .collect();
        let others: Vec<Uuid> = corrected.iter().copied().filter(|id| !customers.contains_key(id)).collect();
        customers.extend(store::customer::lock(tx, &others).await?);
        let corrected: Vec<Uuid> = corrected.into_iter().collect();
        let mut sums = store::purchase::summaries_of(&**tx, &corrected, i64::MAX).await?;
        for id in &corrected {
            if let Some(customer) = customers.get_mut(id) {
                let service_cost_minor = customer.summary.service_cost_minor;
                customer.summary = Summary { service_cost_minor, ..sums.remove(id).unwrap_or_default() };
            }
        }
        touched.extend(corrected);
    }
    Ok(touched)
}

/// What rows bring to each customer.
fn additions<'a>(rows: impl Iterator<Item = &'a Purchase>) -> BTreeMap<Uuid, Addition> {
    let mut additions: BTreeMap<Uuid, Addition> = BTreeMap::new();
    for row in rows {
        let addition = additions.entry(row.customer).or_default();
        match row.kind {
            Kind::Sale => {
                addition.sell(row.day, row.amount_minor);
                addition.discount_minor += row.discount_minor.unwrap_or(0);
            }
            Kind::Return => addition.returns_minor += row.amount_minor,
        }
    }
    additions
}

type Days = HashSet<(Uuid, crate::score::Day)>;

/// Of the days that only the ledger knows of: those with a sale.
async fn sold_before(
    tx: &Tx<'_>,
    additions: &BTreeMap<Uuid, Addition>,
    customers: &HashMap<Uuid, Customer>,
) -> Result<Days> {
    let mut ask = Vec::new();
    for (id, addition) in additions {
        if let Some(customer) = customers.get(id) {
            let days = addition.sales.iter().map(|(day, _)| *day);
            ask.extend(days.filter(|day| summary::must_ask(&customer.summary, *day)).map(|day| (*id, day)));
        }
    }
    store::purchase::sold(tx, &ask).await
}

fn apply(additions: &BTreeMap<Uuid, Addition>, sold: &Days, customers: &mut HashMap<Uuid, Customer>) {
    for (id, addition) in additions {
        if let Some(customer) = customers.get_mut(id) {
            summary::add(&mut customer.summary, addition, |day| sold.contains(&(*id, day)));
        }
    }
}

/// Counts for each call what became of its rows.
fn count<R: Row>(batch: &Batch<'_, R>, there: &ByKey<R>, results: &mut [Recorded]) {
    // Nothing is there where all rows are new: then no key need be made.
    let before = |row: &R| if there.is_empty() { None } else { there.get(&rows::owned(row.key())) };
    let firsts = batch.firsts.iter().map(|&(call, row)| (call, row, before(row)));
    let others = batch.others.iter().map(|&(call, row, before)| (call, row, Some(before)));
    for (call, row, before) in firsts.chain(others) {
        let Some(Recorded::Done { counts, .. }) = results.get_mut(call) else { continue };
        match before {
            None => counts.recorded += 1,
            Some(before) if before == row => counts.unchanged += 1,
            Some(before) => {
                counts.replaced += 1;
                counts.moved += i64::from(before.customer() != row.customer());
            }
        }
    }
}
