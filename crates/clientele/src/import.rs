//! Imports purchases from any delimited file, through the public API alone.
//!
//! Safe to run again, after a break too: a purchase's id comes from the file (a column, or the row's content and how often that content came
//! before), so the service recognises what it has.
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{Timestamp, civil, tz::TimeZone};
use proto::{
    common::v1::{ErrorReason, Money},
    profiles::v1 as profiles,
    scoring::v1 as scoring,
};
use tonic::Status;

use crate::{
    client::{Client, Error, Result, is_passing, request},
    view,
};

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
/// Longest line: beyond it the file is not what it was said to be.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// What to import and how to read it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Column of the customer's id, by name or by number from 1.
    pub customer: String,
    /// Column of the time.
    pub time: String,
    /// Column of the amount, in major units.
    pub amount: String,
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
    /// Where refused rows go.
    pub rejects: PathBuf,
}

/// What parts the columns of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// One character; fields may be quoted.
    Byte(u8),
    /// Runs of blanks.
    Blanks,
}

impl std::str::FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "tab" | "\\t" | "\t" => Ok(Self::Byte(b'\t')),
            "blanks" | "whitespace" | " " => Ok(Self::Blanks),
            _ => match text.as_bytes() {
                [byte] if byte.is_ascii_punctuation() => Ok(Self::Byte(*byte)),
                _ => Err("must be one character such as ',' or ';', or 'tab', or 'blanks'".to_owned()),
            },
        }
    }
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
    /// Amounts with more digits than the currency has, rounded to the nearest minor unit.
    pub rounded: u64,
    /// Different customers.
    pub customers: u64,
    /// Customers that were new.
    pub created: u64,
}

/// Imports `input` (of `size` bytes where known), drawing a progress bar when `progress`.
///
/// # Errors
/// A file that cannot be read as the plan says, or a server that stays away; what was acknowledged stays, and the same command goes on from there.
pub async fn run(client: &Client, plan: &Plan, input: impl Read, size: Option<u64>, progress: bool) -> Result<Outcome> {
    let bar = bar(size, progress);
    let mut reader = Records::new(bar.wrap_read(input), plan)?;
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
                Err(reason) => import.reject(record.line, &reason, &record.fields)?,
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
    fn parse(&mut self, columns: &Columns, record: &Record) -> std::result::Result<Row, String> {
        // One column too many is most often a number with an unquoted mark in it, and then every column behind it is the wrong one.
        if columns.width.is_some_and(|width| record.fields.len() > width) {
            return Err(format!("the row has {} columns, more than the header", record.fields.len()));
        }
        let customer = record.get(columns.customer, &self.plan.customer)?;
        check_id(customer).map_err(|reason| format!("column {}: {reason}", self.plan.customer))?;
        let time_text = record.get(columns.time, &self.plan.time)?;
        let time = parse_time(time_text, self.plan.time_format.as_deref(), &self.plan.time_zone)
            .map_err(|reason| format!("column {}: {reason}", self.plan.time))?;
        let amount_text = record.get(columns.amount, &self.plan.amount)?;
        let (minor_units, rounded) = parse_amount(amount_text, self.plan.decimal, Money::exponent(&self.plan.currency))
            .map_err(|reason| format!("column {}: {reason}", self.plan.amount))?;
        self.outcome.rounded += u64::from(rounded);
        let id = match columns.id {
            Some(index) => {
                let name = self.plan.id.as_deref().unwrap_or_default();
                let id = record.get(index, name)?;
                check_id(id).map_err(|reason| format!("column {name}: {reason}"))?;
                self.numbered(id.to_owned(), "#")
            }
            None => {
                let content = format!("{customer}\u{1f}{}\u{1f}{minor_units}", time.as_microsecond());
                self.numbered(format!("{:016x}", hash(&content)), "-")
            }
        };
        // A return is written as a negative amount.
        let kind = if minor_units < 0 { scoring::PurchaseKind::Return } else { scoring::PurchaseKind::Sale };
        let purchase = scoring::Purchase {
            source: self.plan.source.clone(),
            purchase_id: id,
            customer_id: String::new(),
            purchase_time: Some(chassis::clock::to_proto(time)),
            amount: Some(Money { currency_code: self.plan.currency.clone(), minor_units: minor_units.abs() }),
            kind: kind.into(),
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
/// A server that never answered is not away: it is somewhere else, and that is said at once.
async fn patiently<T, F>(reached: &AtomicBool, call: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
{
    let mut waited = Duration::ZERO;
    loop {
        match call().await {
            Ok(reply) => {
                reached.store(true, Ordering::Relaxed);
                return Ok(reply.into_inner());
            }
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

/// Reads a moment. A day without a time is its noon: the same day wherever the business's own zone lies within half a day of the file's.
fn parse_time(text: &str, format: Option<&str>, zone: &TimeZone) -> std::result::Result<Timestamp, String> {
    let zoned = |datetime: civil::DateTime| {
        datetime
            .to_zoned(zone.clone())
            .map(|zoned| zoned.timestamp())
            .map_err(|_| "is no moment in its time zone".to_owned())
    };
    if let Some(format) = format {
        let parts = jiff::fmt::strtime::parse(format, text).map_err(|_| format!("does not fit the format {format}"))?;
        if let Ok(time) = parts.to_timestamp() {
            return Ok(time);
        }
        if let (Some(_), Ok(datetime)) = (parts.hour(), parts.to_datetime()) {
            return zoned(datetime);
        }
        let date = parts.to_date().map_err(|_| format!("the format {format} gives no day"))?;
        return zoned(date.at(12, 0, 0, 0));
    }
    let wrong = || {
        "is not a time such as 1998-06-30, 19980630 or 1998-06-30T14:05:00Z; name yours with --time-format".to_owned()
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date = if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        jiff::fmt::strtime::parse("%Y%m%d", text).and_then(|parts| parts.to_date()).map_err(|_| wrong())?
    } else if text.len() > 10 {
        return zoned(text.parse::<civil::DateTime>().map_err(|_| wrong())?);
    } else {
        text.parse::<civil::Date>().map_err(|_| wrong())?
    };
    zoned(date.at(12, 0, 0, 0))
}

/// Reads a decimal number of major units exactly, without floats; true where digits beyond the minor unit were rounded (half away from zero).
fn parse_amount(text: &str, decimal: char, exponent: u32) -> std::result::Result<(i64, bool), String> {
    let wrong =
        || format!("is not an amount such as 29{decimal}33, without marks between thousands (--decimal , for 29,33)");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once(decimal).unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let places = exponent as usize;
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(places).collect();
    let rest = fraction.get(places..).unwrap_or("");
    let too_large = || "is larger than any amount of money".to_owned();
    let mut minor: i64 = format!("0{whole}{kept}").parse().map_err(|_| too_large())?;
    if rest.as_bytes().first().is_some_and(|digit| *digit >= b'5') {
        minor = minor.checked_add(1).ok_or_else(too_large)?;
    }
    let rounded = rest.bytes().any(|digit| digit != b'0');
    Ok((if negative { -minor } else { minor }, rounded))
}

/// Indices of the columns.
struct Columns {
    customer: usize,
    time: usize,
    amount: usize,
    id: Option<usize>,
    /// Columns of the header, where there is one.
    width: Option<usize>,
}

impl Columns {
    fn find(plan: &Plan, header: Option<&[String]>) -> Result<Self> {
        let find = |flag: &str, column: &str| -> Result<usize> {
            if let Some(header) = header {
                if let Some(index) = header.iter().position(|name| name == column) {
                    return Ok(index);
                }
                let folded = |name: &str| name.to_lowercase();
                if let Some(index) = header.iter().position(|name| folded(name) == folded(column)) {
                    return Ok(index);
                }
            }
            if let Some(index) = column.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
                return Ok(index);
            }
            Err(Error::new(match header {
                Some(header) => format!("{flag} {column}: no such column; the file has: {}", header.join(", ")),
                None => format!("{flag} {column}: without a header, give the column's number, from 1"),
            }))
        };
        Ok(Self {
            customer: find("--customer", &plan.customer)?,
            time: find("--time", &plan.time)?,
            amount: find("--amount", &plan.amount)?,
            id: plan.id.as_deref().map(|id| find("--id", id)).transpose()?,
            width: header.map(<[String]>::len),
        })
    }
}

/// One line of the file.
struct Record {
    line: u64,
    fields: Vec<String>,
}

impl Record {
    fn get(&self, index: usize, name: &str) -> std::result::Result<&str, String> {
        self.fields
            .get(index)
            .map(|field| field.trim())
            .ok_or_else(|| format!("column {name}: the row has only {}", self.fields.len()))
    }
}

/// The lines of a file, whatever parts its columns.
struct Records<R> {
    source: Source<R>,
    columns: Columns,
    line: u64,
    done: bool,
}

/// The first line, put back in front of the rest.
type Whole<R> = std::io::Chain<std::io::Cursor<Vec<u8>>, BufReader<R>>;

enum Source<R> {
    Csv(Box<csv::Reader<Whole<R>>>),
    Blanks(BufReader<Whole<R>>),
}

impl<R: Read> Records<R> {
    fn new(input: R, plan: &Plan) -> Result<Self> {
        // The first line tells what parts the columns; it is put back in front.
        let mut input = BufReader::with_capacity(256 * 1024, input);
        let mut first = Vec::new();
        (&mut input).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut first)?;
        let delimiter = plan.delimiter.unwrap_or_else(|| guess(&first));
        let whole = std::io::Cursor::new(first).chain(input);
        let source = match delimiter {
            Delimiter::Byte(byte) => {
                let reader =
                    csv::ReaderBuilder::new().delimiter(byte).has_headers(false).flexible(true).from_reader(whole);
                Source::Csv(Box::new(reader))
            }
            Delimiter::Blanks => Source::Blanks(BufReader::new(whole)),
        };
        let columns = Columns { customer: 0, time: 0, amount: 0, id: None, width: None };
        let mut records = Self { source, columns, line: 0, done: false };
        let header = if plan.header {
            let Some(record) = records.next()? else { return Err(Error::new("the file is empty")) };
            let mut names: Vec<String> = record.fields.iter().map(|name| name.trim().to_owned()).collect();
            // Spreadsheets put a byte order mark in front.
            if let Some(name) = names.first_mut() {
                *name = name.trim_start_matches('\u{feff}').to_owned();
            }
            Some(names)
        } else {
            None
        };
        records.columns = Columns::find(plan, header.as_deref())?;
        Ok(records)
    }

    fn next(&mut self) -> Result<Option<Record>> {
        loop {
            let fields: Vec<String> = match &mut self.source {
                Source::Csv(reader) => {
                    let mut record = csv::ByteRecord::new();
                    let more = reader
                        .read_byte_record(&mut record)
                        .map_err(|error| Error::new(format!("the file: {error}")))?;
                    if !more {
                        self.done = true;
                        return Ok(None);
                    }
                    self.line = record.position().map_or(self.line + 1, csv::Position::line);
                    // Latin-1 and other encodings: what is not UTF-8 is marked, and rarely stands in the columns that count.
                    record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect()
                }
                Source::Blanks(reader) => {
                    let mut line = Vec::new();
                    if reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
                        self.done = true;
                        return Ok(None);
                    }
                    self.line += 1;
                    String::from_utf8_lossy(&line).split_whitespace().map(str::to_owned).collect()
                }
            };
            if fields.iter().any(|field| !field.trim().is_empty()) {
                return Ok(Some(Record { line: self.line, fields }));
            }
        }
    }
}

/// The mark that stands most often in the first line, or blanks where none does.
fn guess(first: &[u8]) -> Delimiter {
    let mut counts = BTreeMap::new();
    for mark in [b',', b';', b'\t', b'|'] {
        counts.insert(first.iter().filter(|byte| **byte == mark).count(), mark);
    }
    match counts.last_key_value() {
        Some((count, mark)) if *count > 0 => Delimiter::Byte(*mark),
        _ => Delimiter::Blanks,
    }
}

/// The file of refused rows; made when the first row is refused.
struct Rejects {
    path: PathBuf,
    file: Option<csv::Writer<std::fs::File>>,
}

impl Rejects {
    /// Takes away what an earlier run left: a clean run leaves no such file.
    fn new(path: &Path) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(format!("cannot replace {}: {error}", path.display())))
            }
            _ => Ok(Self { path: path.to_owned(), file: None }),
        }
    }

    fn write(&mut self, line: u64, reason: &str, fields: &[String]) -> Result<()> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| {
            Error::new(format!("cannot write {}: {error}", path.display()))
        };
        if self.file.is_none() {
            // As many columns behind the first two as the row has.
            let mut file = csv::WriterBuilder::new()
                .flexible(true)
                .from_path(&self.path)
                .map_err(|error| failed(&self.path, &error))?;
            file.write_record(["line", "reason", "the row's columns"]).map_err(|error| failed(&self.path, &error))?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            let line = line.to_string();
            let columns = [line.as_str(), reason].into_iter().chain(fields.iter().map(String::as_str));
            file.write_record(columns).map_err(|error| failed(&self.path, &error))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(parse_amount("29.33", '.', 2), Ok((2_933, false)));
        assert_eq!(parse_amount("-5", '.', 2), Ok((-500, false)));
        assert_eq!(parse_amount(".5", '.', 2), Ok((50, false)));
        assert_eq!(parse_amount("1.005", '.', 2), Ok((101, true)));
        assert_eq!(parse_amount("1.004", '.', 2), Ok((100, true)));
        assert_eq!(parse_amount("1.500", '.', 2), Ok((150, false)));
        assert_eq!(parse_amount("100", '.', 0), Ok((100, false)));
        assert_eq!(parse_amount("29,33", ',', 2), Ok((2_933, false)));
        for bad in ["", "-", ".", "1e5", "1,000.00", "abc", "--1", "99999999999999999999", "NaN"] {
            assert!(parse_amount(bad, '.', 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_in_the_usual_forms() {
        let parse = |text, format| parse_time(text, format, &TimeZone::UTC).map(|time| time.to_string());
        assert_eq!(parse("19970101", None).unwrap(), "1997-01-01T12:00:00Z");
        assert_eq!(parse("1997-01-01", None).unwrap(), "1997-01-01T12:00:00Z");
        assert_eq!(parse("1997-01-01 08:30:00", None).unwrap(), "1997-01-01T08:30:00Z");
        assert_eq!(parse("1997-01-01T08:30:00+02:00", None).unwrap(), "1997-01-01T06:30:00Z");
        assert_eq!(parse("12/1/2010 8:26", Some("%m/%d/%Y %H:%M")).unwrap(), "2010-12-01T08:26:00Z");
        assert_eq!(parse("01.12.2010", Some("%d.%m.%Y")).unwrap(), "2010-12-01T12:00:00Z");
        for bad in ["", "1997-13-01", "19970230", "yesterday"] {
            assert!(parse(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_delimiter_is_found_out() {
        assert_eq!(guess(b"a,b,c\n"), Delimiter::Byte(b','));
        assert_eq!(guess(b"a;b,c;d\n"), Delimiter::Byte(b';'));
        assert_eq!(guess(b" 00004 0001 19970101  2   29.33\n"), Delimiter::Blanks);
    }
}
