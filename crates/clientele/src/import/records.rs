//! The lines of a delimited file, packed or not, whatever parts its columns.
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
};

use super::Plan;
use crate::client::{Error, Result};

/// Longest line: beyond it the file is not what it was said to be.
const MAX_LINE_BYTES: usize = 1024 * 1024;

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

/// The text in a file that may be packed by gzip, whatever it is called: nothing else begins so.
pub(super) fn inflated<'a>(mut input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    let mut first = Vec::with_capacity(MAGIC.len());
    (&mut input).take(MAGIC.len() as u64).read_to_end(&mut first)?;
    let packed = first == MAGIC;
    let whole = std::io::Cursor::new(first).chain(input);
    Ok(if packed { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// Indices of the columns.
pub(super) struct Columns {
    pub(super) customer: usize,
    pub(super) time: usize,
    pub(super) amount: usize,
    pub(super) quantity: Option<usize>,
    pub(super) id: Option<usize>,
    /// Columns of the header, where there is one.
    pub(super) width: Option<usize>,
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
            quantity: plan.quantity.as_deref().map(|column| find("--quantity", column)).transpose()?,
            id: plan.id.as_deref().map(|id| find("--id", id)).transpose()?,
            width: header.map(<[String]>::len),
        })
    }
}

/// One line of the file.
pub(super) struct Record {
    pub(super) line: u64,
    pub(super) fields: Vec<String>,
}

impl Record {
    pub(super) fn get(&self, index: usize, name: &str) -> std::result::Result<&str, String> {
        self.fields
            .get(index)
            .map(|field| field.trim())
            .ok_or_else(|| format!("column {name}: the row has only {}", self.fields.len()))
    }
}

/// The lines of a file, whatever parts its columns.
pub(super) struct Records<R> {
    source: Source<R>,
    pub(super) columns: Columns,
    pub(super) line: u64,
    pub(super) done: bool,
}

/// The first line, put back in front of the rest.
type Whole<R> = std::io::Chain<std::io::Cursor<Vec<u8>>, BufReader<R>>;

enum Source<R> {
    Csv(Box<csv::Reader<Whole<R>>>),
    Blanks(BufReader<Whole<R>>),
}

impl<R: Read> Records<R> {
    pub(super) fn new(input: R, plan: &Plan) -> Result<Self> {
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
        let columns = Columns { customer: 0, time: 0, amount: 0, quantity: None, id: None, width: None };
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

    pub(super) fn next(&mut self) -> Result<Option<Record>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_file_reads_as_the_plain_one_and_a_broken_one_is_refused() {
        use std::io::Write;
        let text = "customer,time,amount\n1,19970101,5\n".repeat(1_000);
        let pack = |text: &str| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(text.as_bytes()).unwrap();
            packer.finish().unwrap()
        };
        let read = |bytes: &[u8]| {
            let mut found = String::new();
            inflated(bytes).unwrap().read_to_string(&mut found).map(|_| found)
        };
        // Packed in two parts, as some tools do, too.
        let (half, packed) = ([pack(&text), pack(&text)].concat(), pack(&text));
        assert_eq!(read(&packed).unwrap(), text);
        assert_eq!(read(&half).unwrap(), text.repeat(2));
        assert_eq!(read(text.as_bytes()).unwrap(), text);
        assert_eq!([read(b"").unwrap(), read(b"x").unwrap()], ["", "x"]);
        assert!(read(&packed[..packed.len() / 2]).is_err());
    }

    #[test]
    fn the_delimiter_is_found_out() {
        assert_eq!(guess(b"a,b,c\n"), Delimiter::Byte(b','));
        assert_eq!(guess(b"a;b,c;d\n"), Delimiter::Byte(b';'));
        assert_eq!(guess(b" 00004 0001 19970101  2   29.33\n"), Delimiter::Blanks);
    }
}
