//! `import …`: flags, and what is said at the end.
use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Columns, Delimiter, Outcome, Plan, Rows, Skip, Tenth, run};
use crate::{
    cli::Target,
    client::{Error, Result},
    commands, view,
};

/// Longest name of a system or a source: the services' own limit.
const MAX_NAME_CHARS: usize = 64;

/// Reasons told of refused rows; all stand in the file.
const REASONS: usize = 5;

/// Flags that every import has.
#[derive(Debug, Args)]
struct FileArgs {
    /// The file, packed by gzip or not; - reads standard input
    file: PathBuf,
    /// Column of the customer's id (name, or number from 1)
    #[arg(long, value_name = "COL")]
    customer: String,
    /// How times are written (strftime); left out, ISO 8601 and YYYYMMDD
    #[arg(long, value_name = "F")]
    time_format: Option<String>,
    /// Time zone of times that do not name theirs
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    time_zone: String,
    /// ISO 4217 code of the amounts
    #[arg(long, default_value = "USD", value_name = "C", value_parser = commands::currency)]
    currency: String,
    /// What parts the columns: a character, 'tab' or 'blanks'; left out, found out
    #[arg(long, value_name = "D")]
    delimiter: Option<Delimiter>,
    /// What stands before the cents: '.' or ','
    #[arg(long, default_value_t = '.', value_name = "MARK", value_parser = decimal)]
    decimal: char,
    /// The first line is data; columns are numbers
    #[arg(long)]
    no_header: bool,
    /// Name of the system that the customers' ids come from
    #[arg(long, default_value = "import", value_name = "NAME", value_parser = name)]
    system: String,
    /// Name of the source that the rows' ids come from: the same id from the same source is the same row, whatever the file is called
    #[arg(long, default_value = "import", value_name = "NAME", value_parser = name)]
    source: String,
    /// Rows to leave out and count; left in, negative amounts are returns where there can be any, amounts of nothing recorded, and rows without a customer rejected
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    skip: Vec<Skip>,
    /// Pass the lines up to this one without sending them; an import that breaks off names the line
    #[arg(long, value_name = "LINE", default_value_t = 0, hide_default_value = true)]
    after_line: u64,
    /// File for refused rows; left out, the file's name with .rejected.csv
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `import purchases`.
#[derive(Debug, Args)]
pub struct PurchasesArgs {
    /// Column of the time
    #[arg(long, value_name = "COL")]
    time: String,
    /// Column of the amount in major units; negative amounts are returns
    #[arg(long, value_name = "COL")]
    amount: String,
    /// Column of the number of pieces: the amount is then the price of one, and the product is rounded to the currency's digits, half away from zero
    #[arg(long, value_name = "COL")]
    quantity: Option<String>,
    /// Column of what was taken off the list price of the row; the amount is what is left
    #[arg(long, value_name = "COL")]
    discount: Option<String>,
    /// Column of the purchase's id; the lines of one invoice may share it, and are told apart by their order; left out, ids are made from the rows' content
    #[arg(long, value_name = "COL")]
    id: Option<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// Flags of `import costs`.
#[derive(Debug, Args)]
pub struct CostsArgs {
    /// Column of the time when the cost arose
    #[arg(long, value_name = "COL")]
    time: String,
    /// Column of the cost in major units
    #[arg(long, value_name = "COL")]
    amount: String,
    /// Column of the cost's id; rows may share it, and are told apart by their order; left out, ids are made from the rows' content
    #[arg(long, value_name = "COL")]
    id: Option<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// Flags of `import payments`.
#[derive(Debug, Args)]
pub struct PaymentsArgs {
    /// Column of the invoice's id; the same id again is the same invoice, and its last row counts
    #[arg(long, value_name = "COL")]
    id: String,
    /// Column of when it was issued
    #[arg(long, value_name = "COL")]
    issued: String,
    /// Column of by when it is to be paid
    #[arg(long, value_name = "COL")]
    due: String,
    /// Column of what is owed, in major units
    #[arg(long, value_name = "COL")]
    amount: String,
    /// Column of when the last of what was paid came in; empty in rows of what was not paid
    #[arg(long, value_name = "COL")]
    paid: Option<String>,
    /// Column of what was paid in all; left out, what has a day of payment was paid in full
    #[arg(long, value_name = "COL", requires = "paid")]
    paid_amount: Option<String>,
    /// Column of what went wrong: written-off, in-court, or empty
    #[arg(long, value_name = "COL")]
    trouble: Option<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// `import purchases`.
///
/// # Errors
/// A file that cannot be read, or a server that stays away.
pub async fn purchases(args: PurchasesArgs) -> Result<()> {
    let PurchasesArgs { file, time, amount, quantity, discount, id } = args;
    file.import(id, amount, Rows::Purchases { time, quantity, discount }).await
}

/// `import costs`.
///
/// # Errors
/// A file that cannot be read, or a server that stays away.
pub async fn costs(args: CostsArgs) -> Result<()> {
    let CostsArgs { file, time, amount, id } = args;
    file.import(id, amount, Rows::Costs { time }).await
}

/// `import payments`.
///
/// # Errors
/// A file that cannot be read, or a server that stays away.
pub async fn payments(args: PaymentsArgs) -> Result<()> {
    let PaymentsArgs { file, id, issued, due, amount, paid, paid_amount, trouble } = args;
    file.import(Some(id), amount, Rows::Payments { issued, due, paid, paid_amount, trouble }).await
}

impl FileArgs {
    async fn import(self, id: Option<String>, amount: String, rows: Rows) -> Result<()> {
        let client = self.target.client()?;
        let stdin = self.file.as_os_str() == "-";
        let time_zone = TimeZone::get(&self.time_zone)
            .map_err(|_| Error::new(format!("--time-zone {}: is no zone such as Europe/Berlin", self.time_zone)))?;
        let plan = Plan {
            columns: Columns { customer: self.customer, id, amount, rows },
            time_format: self.time_format,
            time_zone,
            currency: self.currency,
            delimiter: self.delimiter,
            decimal: self.decimal,
            header: !self.no_header,
            system: self.system,
            source: self.source,
            skip: self.skip,
            after_line: self.after_line,
            rejects: self.rejects.unwrap_or_else(|| {
                if stdin { "stdin.rejected.csv".into() } else { self.file.with_extension("rejected.csv") }
            }),
        };
        let progress = !self.target.json;
        let outcome = if stdin {
            run(&client, &plan, std::io::stdin(), None, progress).await?
        } else {
            let file = File::open(&self.file)
                .map_err(|error| Error::new(format!("cannot open {}: {error}", self.file.display())))?;
            let metadata = file.metadata().ok();
            if metadata.as_ref().is_some_and(std::fs::Metadata::is_dir) {
                return Err(Error::new(format!("cannot read {}: it is a folder", self.file.display())));
            }
            let size = metadata.map(|metadata| metadata.len());
            run(&client, &plan, file, size, progress).await?
        };
        if self.target.json {
            view::line(as_json(&outcome).to_string());
        } else {
            view::line(describe(&outcome));
            if let Some(pace) = pace(&outcome.tenths) {
                view::line(pace);
            }
            if let Some((_, first)) = &outcome.first_rejection {
                let reasons = reasons(&outcome);
                let rejects = plan.rejects.display();
                // Not the file of refused rows: rows that share an id are told apart by their order, which is another one there.
                let mend = if stdin {
                    "Mend them where they come from".to_owned()
                } else {
                    format!("Mend them in {}", self.file.display())
                };
                let again = if plan.after_line > 0 {
                    "run it again without --after-line"
                } else {
                    "run the same command again"
                };
                view::line(format!(
                    "{reasons}The first: {first}\nAll stand, with line and reason, in {rejects}\n{mend} and {again}: what is recorded already is \
                     not recorded twice."
                ));
            }
        }
        if let Some(moved) = moved(&outcome, &plan.source) {
            let _ = writeln!(io::stderr(), "warning: {moved}");
        }
        if outcome.rows > 0 && outcome.rejected + outcome.skipped.total() == outcome.rows {
            return Err(Error::new("no row could be imported"));
        }
        Ok(())
    }
}

fn as_json(outcome: &Outcome) -> serde_json::Value {
    let tenth =
        |tenth: &Tenth| json!({ "rows": tenth.rows, "seconds": tenth.seconds, "rows_per_s": tenth.rows_per_s() });
    json!({
        "rows": outcome.rows,
        "recorded": outcome.counts.recorded,
        "replaced": outcome.counts.replaced,
        "unchanged": outcome.counts.unchanged,
        "moved": outcome.counts.moved,
        "rejected": outcome.rejected,
        "first_rejection": outcome.first_rejection.as_ref().map(|(_, told)| told),
        "reasons": outcome.reasons,
        "rounded": outcome.rounded,
        "skipped": {
            "returns": outcome.skipped.returns,
            "zero": outcome.skipped.zero,
            "no_customer": outcome.skipped.no_customer,
        },
        "passed": outcome.passed,
        "customers": outcome.customers,
        "created": outcome.created,
        "tenths": outcome.tenths.iter().map(tenth).collect::<Vec<_>>(),
        "last_to_first": to_first(&outcome.tenths).map(|(last, _)| last),
        "slowest_to_first": to_first(&outcome.tenths).map(|(_, slowest)| slowest),
    })
}

/// How fast the last tenth and the slowest one went in, to how fast the first one did.
fn to_first(tenths: &[Tenth]) -> Option<(f64, f64)> {
    let first = tenths.first()?.rows_per_s();
    let slowest = tenths.iter().map(Tenth::rows_per_s).fold(f64::INFINITY, f64::min);
    Some((tenths.last()?.rows_per_s() / first, slowest / first))
}

/// How steadily rows went in.
fn pace(tenths: &[Tenth]) -> Option<String> {
    #[allow(clippy::cast_possible_truncation, reason = "rows in a second")]
    let rates: Vec<String> = tenths.iter().map(|tenth| view::count(tenth.rows_per_s().round() as i64)).collect();
    let (last, slowest) = to_first(tenths)?;
    let rates = rates.join("  ");
    Some(format!("Rows a second, by tenths: {rates}. To the first: the last {last:.2}, the slowest {slowest:.2}."))
}

/// What an import did, in one or two sentences.
pub fn describe(outcome: &Outcome) -> String {
    let mut text = format!(
        "{} of {} ({} new): {}.",
        view::counted(outcome.rows, "row"),
        view::counted(outcome.customers, "customer"),
        n(outcome.created),
        became(outcome),
    );
    if outcome.passed > 0 {
        text.push_str(&format!(" {} passed without being sent.", n(outcome.passed)));
    }
    if outcome.skipped.total() > 0 {
        let left_out = outcome.skipped;
        text.push_str(&format!(
            " Left out as asked: {}, {} of nothing, {} without a customer.",
            view::counted(left_out.returns, "return"),
            view::counted(left_out.zero, "amount"),
            n(left_out.no_customer)
        ));
    }
    if outcome.rounded > 0 {
        let was = if outcome.rounded == 1 { "was" } else { "were" };
        let amounts = view::counted(outcome.rounded, "amount");
        text.push_str(&format!(" {amounts} had more digits than the currency and {was} rounded."));
    }
    text
}

/// What an import had done when it broke off.
pub(super) fn describe_broken_off(outcome: &Outcome, plan: &Plan) -> String {
    let moved = moved(outcome, &plan.source).map_or(String::new(), |moved| format!("\n  {moved}"));
    format!("Until then: {}.{moved}", became(outcome))
}

/// What became of the rows.
fn became(outcome: &Outcome) -> String {
    let c = &outcome.counts;
    format!(
        "{} recorded, {} replaced, {} there already, {} rejected",
        view::count(c.recorded),
        view::count(c.replaced),
        view::count(c.unchanged),
        n(outcome.rejected)
    )
}

/// What is to be said of rows that were taken from other customers, which nobody wants who imports a second system.
fn moved(outcome: &Outcome, source: &str) -> Option<String> {
    let count = u64::try_from(outcome.counts.moved).ok().filter(|count| *count > 0)?;
    Some(format!(
        "{} of the same id had been another customer's and {} taken away from there.\n  If the ids are those of another system, name it \
         with --source NAME (these went in as {source}); import the earlier file again first, which gives its customers back what was theirs.",
        view::counted(count, "row"),
        if count == 1 { "was" } else { "were" },
    ))
}

/// Why rows were refused, the most frequent reasons first, a line each.
fn reasons(outcome: &Outcome) -> String {
    let mut reasons: Vec<(&String, u64)> = outcome.reasons.iter().map(|(reason, count)| (reason, *count)).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest: u64 = reasons.iter().skip(REASONS).map(|(_, count)| count).sum();
    let mut text = String::from("Rejected:\n");
    for (reason, count) in reasons.iter().take(REASONS) {
        text.push_str(&format!("  {}: {reason}\n", n(*count)));
    }
    if rest > 0 {
        text.push_str(&format!("  {} for other reasons\n", n(rest)));
    }
    text
}

fn n(count: u64) -> String {
    view::count(i64::try_from(count).unwrap_or(i64::MAX))
}

/// A name that the services take for a system or a source: found out here, before all rows are refused for it.
fn name(text: &str) -> std::result::Result<String, String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_NAME_CHARS).contains(&text.len()) && text.bytes().all(known) {
        return Ok(text.to_owned());
    }
    Err(format!("must be 1 to {MAX_NAME_CHARS} characters of A-Z, a-z, 0-9, '.', '_' and '-'"))
}

fn decimal(text: &str) -> std::result::Result<char, String> {
    match text {
        "." => Ok('.'),
        "," => Ok(','),
        _ => Err("must be '.' or ','".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_told_in_tenths_and_to_the_first_of_them() {
        let tenth = |seconds| Tenth { rows: 1_000_000, seconds };
        let tenths: Vec<Tenth> = [50.0, 40.0, 40.0, 40.0, 100.0, 40.0, 40.0, 40.0, 40.0, 62.5].map(tenth).into();
        let said = pace(&tenths).unwrap();
        assert!(said.starts_with("Rows a second, by tenths: 20,000  25,000  "), "{said}");
        assert!(said.ends_with("To the first: the last 0.80, the slowest 0.50."), "{said}");
        assert_eq!(pace(&[]), None);
    }
}
