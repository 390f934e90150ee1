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
    purchase::{Kind, MAX_TOTAL_MINOR, Purchase, Refusal},
    score::Facts,
    standing::{self, Customer, TOPIC},
    store,
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
pub struct Call {
    /// The rows in the order of the call.
    pub rows: Arc<Vec<(usize, Purchase)>>,
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

/// Records calls one after the other, in one transaction and few statements.
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
    let batch = Batch::of(&admitted);
    let touched = write_rows(tx, &batch, &mut customers, &mut results).await?;

    let in_force = scorer.in_force(&**tx).await?;
    let now = tx.clock().now();
    let mut changed = Vec::with_capacity(touched.len());
    for (index, id) in touched.into_iter().enumerate() {
        standing::breathe(index).await;
        let Some(mut customer) = customers.remove(&id) else { continue };
        if let Some(change) = customer.restate(scorer, &in_force, now, pb::ChangeCause::Purchase) {
            let publish = || tx.publish(TOPIC, id, &change);
            match causes.get(&id) {
                Some(call) => call.span.in_scope(publish),
                // Whose purchase was given to somebody else.
                None => publish(),
            }
        }
        changed.push(customer);
    }
    store::customer::write(tx, changed.iter()).await?;
    Ok(results)
}

/// A row on its way into the ledger: of which call, and where in it.
struct Admitted<'a> {
    call: usize,
    row: &'a Purchase,
}

/// Takes the rows of a call whose customers are known and whose totals fit.
fn admit<'a>(
    call: &'a Call,
    number: usize,
    customers: &mut HashMap<Uuid, Customer>,
    admitted: &mut Vec<Admitted<'a>>,
) -> Recorded {
    let ask: BTreeSet<Uuid> = call
        .rows
        .iter()
        .map(|(_, row)| row.customer)
        .filter(|id| !customers.contains_key(id) && !call.asked.contains_key(id))
        .collect();
    if !ask.is_empty() {
        return Recorded::Ask(ask.into_iter().collect());
    }
    let mut refusals = Vec::new();
    // Sums of what this call brings, by customer and kind. A row that is sent again near the limit counts as if it were new, so it may be
    // refused where it would have changed nothing; no honest customer comes near.
    let mut brought: HashMap<(Uuid, bool), i64> = HashMap::new();
    for (index, row) in call.rows.iter() {
        let customer = match customers.entry(row.customer) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match call.asked.get(&row.customer) {
                Some(Some(profile)) => entry.insert(Customer::new(row.customer, profile.revision, profile.facts)),
                _ => {
                    let message = "customer_id: is not known to profiles; ensure the customer first";
                    refusals.push(Refusal::new(*index, ErrorReason::CustomerUnknown, message));
                    continue;
                }
            },
        };
        let is_sale = row.kind == Kind::Sale;
        let total = if is_sale { customer.summary.sales_minor } else { customer.summary.returns_minor };
        let sum = brought.entry((row.customer, is_sale)).or_default();
        if total.saturating_add(*sum).saturating_add(row.amount_minor) > MAX_TOTAL_MINOR {
            let message = format!("amount.minor_units: the customer's total would exceed {MAX_TOTAL_MINOR}");
            refusals.push(Refusal::new(*index, ErrorReason::AmountTooLarge, message));
            continue;
        }
        *sum += row.amount_minor;
        admitted.push(Admitted { call: number, row });
    }
    let rejected = i64::try_from(refusals.len()).unwrap_or(i64::MAX);
    Recorded::Done { counts: pb::PurchaseCounts { rejected, ..Default::default() }, refusals }
}

/// What is to be written of the admitted rows: of each (source, purchase id) the last.
struct Batch<'a> {
    /// Each key's last row, by key: two transactions that insert the same keys do so in the same order and never wait in a circle.
    rows: Vec<&'a Purchase>,
    /// Each row that is the first of its key in the batch: its call. What became of it shows against the ledger.
    firsts: Vec<(usize, &'a Purchase)>,
    /// The others: their call, and whether they differ from the row before.
    others: Vec<(usize, bool)>,
}

impl<'a> Batch<'a> {
    fn of(admitted: &[Admitted<'a>]) -> Self {
        let mut last: HashMap<(&str, &str), &Purchase> = HashMap::with_capacity(admitted.len());
        let (mut firsts, mut others) = (Vec::with_capacity(admitted.len()), Vec::new());
        for Admitted { call, row } in admitted {
            match last.insert((&row.source, &row.purchase_id), row) {
                None => firsts.push((*call, *row)),
                Some(before) => others.push((*call, before != *row)),
            }
        }
        let mut rows: Vec<_> = last.into_values().collect();
        rows.sort_unstable_by(|a, b| (&a.source, &a.purchase_id).cmp(&(&b.source, &b.purchase_id)));
        Self { rows, firsts, others }
    }
}

/// Writes the rows and brings the summaries up to date; whom they touch, by id.
async fn write_rows(
    tx: &Tx<'_>,
    batch: &Batch<'_>,
    customers: &mut HashMap<Uuid, Customer>,
    results: &mut [Recorded],
) -> Result<BTreeSet<Uuid>> {
    let additions = additions(batch.rows.iter().copied());
    // Before the rows are written: what the ledger says of the time before them.
    let sold = sold_before(tx, &additions, customers).await?;
    if store::purchase::insert_all_new(tx, &batch.rows).await? {
        count(batch, &HashMap::new(), results);
        apply(&additions, &sold, customers);
        return Ok(additions.into_keys().collect());
    }

    let there = store::purchase::lock(tx, &batch.rows).await?;
    let find = |row: &Purchase| there.get(&(row.source.clone(), row.purchase_id.clone()));
    let (known, new): (Vec<&Purchase>, Vec<&Purchase>) = batch.rows.iter().partition(|row| find(row).is_some());
    let replaced: Vec<&Purchase> = known.into_iter().filter(|row| find(row) != Some(*row)).collect();
    store::purchase::insert(tx, &new).await?;
    store::purchase::replace(tx, &replaced).await?;
    count(batch, &there, results);

    let additions = self::additions(new.into_iter());
    apply(&additions, &sold, customers);
    let mut touched: BTreeSet<Uuid> = additions.into_keys().collect();
    if !replaced.is_empty() {
        // A correction may take anything away, the first day or the last: add up anew, for whose row it was, too.
        let corrected: BTreeSet<Uuid> = replaced
            .iter()
            .flat_map(|row| [Some(row.customer), find(row).map(|before| before.customer)])
            .flatten()
            .collect();
        let others: Vec<Uuid> = corrected.iter().copied().filter(|id| !customers.contains_key(id)).collect();
        customers.extend(store::customer::lock(tx, &others).await?);
        let corrected: Vec<Uuid> = corrected.into_iter().collect();
        let mut sums = store::purchase::summaries_of(&**tx, &corrected, i64::MAX).await?;
        for id in &corrected {
            if let Some(customer) = customers.get_mut(id) {
                customer.summary = sums.remove(id).unwrap_or_default();
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
            Kind::Sale => addition.sell(row.day, row.amount_minor),
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
fn count(batch: &Batch<'_>, there: &HashMap<(String, String), Purchase>, results: &mut [Recorded]) {
    let mut counts = |call: usize, became: fn(&mut pb::PurchaseCounts) -> &mut i64| {
        if let Some(Recorded::Done { counts, .. }) = results.get_mut(call) {
            *became(counts) += 1;
        }
    };
    for &(call, row) in &batch.firsts {
        // Nothing is there where all rows are new: then no key need be made.
        let before = if there.is_empty() { None } else { there.get(&(row.source.clone(), row.purchase_id.clone())) };
        counts(
            call,
            match before {
                None => |counts| &mut counts.recorded,
                Some(before) if before == row => |counts| &mut counts.unchanged,
                Some(_) => |counts| &mut counts.replaced,
            },
        );
    }
    for &(call, differs) in &batch.others {
        counts(call, if differs { |counts| &mut counts.replaced } else { |counts| &mut counts.unchanged });
    }
}
