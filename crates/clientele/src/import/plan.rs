//! What to import and how to read it.
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::records::Delimiter;
use crate::client::{Error, Result};

/// What to import and how to read it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which columns say what.
    pub columns: Columns,
    /// `strftime` format of all times; absent takes ISO 8601 and YYYYMMDD.
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
    /// Name of the source that the rows' ids come from.
    pub source: String,
    /// Rows to leave out.
    pub skip: Vec<Skip>,
    /// Lines up to this one were acknowledged before and are not sent again; 0 sends all.
    pub after_line: u64,
    /// Where refused rows go.
    pub rejects: PathBuf,
}

/// The columns of a file: named by a person (by name, or by number from 1), or found in a file.
#[derive(Clone, Debug)]
pub struct Columns<C = String> {
    /// The customer's id.
    pub customer: C,
    /// The row's id; absent makes one from the row's content.
    pub id: Option<C>,
    /// The amount, in major units.
    pub amount: C,
    /// What else, by what the rows are.
    pub rows: Rows<C>,
}

/// What the rows of a file are, and the columns that only such rows have.
#[derive(Clone, Debug)]
pub enum Rows<C = String> {
    /// Purchases; negative amounts are returns.
    Purchases {
        /// When it happened.
        time: C,
        /// How many pieces: the amount is then that of one.
        quantity: Option<C>,
        /// What was taken off the list price.
        discount: Option<C>,
    },
    /// Costs of serving customers.
    Costs {
        /// When it arose.
        time: C,
    },
    /// Invoices and credits, and what was paid of them. The same id again is the same payment, later: the last row counts.
    Payments {
        /// When it was issued.
        issued: C,
        /// By when it is to be paid.
        due: C,
        /// When it was paid; empty while it was not.
        paid: Option<C>,
        /// How much of it; absent takes what has a day of payment as paid in full.
        paid_amount: Option<C>,
        /// What went wrong with it.
        trouble: Option<C>,
    },
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

/// A column that was found.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// As the person named it.
    pub(super) name: String,
    /// Where it stands, from 0.
    pub(super) index: usize,
}

impl Columns {
    /// Finds the columns in a header; without one they must be numbers.
    pub(super) fn find(&self, header: Option<&[String]>) -> Result<Columns<Column>> {
        let find = |flag: &str, name: &String| column(flag, name, header);
        let optional = |flag: &str, name: &Option<String>| name.as_ref().map(|name| find(flag, name)).transpose();
        Ok(Columns {
            customer: find("--customer", &self.customer)?,
            id: optional("--id", &self.id)?,
            amount: find("--amount", &self.amount)?,
            rows: match &self.rows {
                Rows::Purchases { time, quantity, discount } => Rows::Purchases {
                    time: find("--time", time)?,
                    quantity: optional("--quantity", quantity)?,
                    discount: optional("--discount", discount)?,
                },
                Rows::Costs { time } => Rows::Costs { time: find("--time", time)? },
                Rows::Payments { issued, due, paid, paid_amount, trouble } => Rows::Payments {
                    issued: find("--issued", issued)?,
                    due: find("--due", due)?,
                    paid: optional("--paid", paid)?,
                    paid_amount: optional("--paid-amount", paid_amount)?,
                    trouble: optional("--trouble", trouble)?,
                },
            },
        })
    }
}

fn column(flag: &str, name: &str, header: Option<&[String]>) -> Result<Column> {
    let at = |index| Ok(Column { name: name.to_owned(), index });
    if let Some(header) = header {
        let folded = name.to_lowercase();
        let exact = header.iter().position(|title| title == name);
        if let Some(index) = exact.or_else(|| header.iter().position(|title| title.to_lowercase() == folded)) {
            return at(index);
        }
    }
    if let Some(index) = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
        return at(index);
    }
    let text = |title: &String| !title.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    Err(Error::new(match header {
        Some(header) if !header.iter().all(text) => {
            format!("{flag} {name}: no such column; the first line is no text in UTF-8, so it names none")
        }
        Some(header) => format!("{flag} {name}: no such column; the file has: {}", header.join(", ")),
        None => format!("{flag} {name}: without a header, give the column's number, from 1"),
    }))
}
