//! The lines of a delimited file, packed or not, whatever parts its columns.
use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use super::plan::{Column, Columns, Plan};
use crate::client::{Error, Result};

/// Longest line: beyond it the file is not what it was said to be.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// What is said of a longer one.
const TOO_LONG: &str = "a line has more than 1 MiB; is a quotation mark left open, or is this no delimited file?";

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
    let whole = io::Cursor::new(first).chain(input);
    Ok(if packed { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// One line of the file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) line: u64,
    pub(super) fields: Vec<String>,
    /// Columns of the header, where there is one.
    pub(super) width: Option<usize>,
}

impl Record {
    pub(super) fn get(&self, column: &Column) -> std::result::Result<&str, String> {
        self.fields
            .get(column.index)
            .map(|field| field.trim())
            .ok_or_else(|| format!("column {}: the row has only {}", column.name, self.fields.len()))
    }
}

/// Stops a line that never ends, as behind a quotation mark that is left open, before it fills the memory.
struct Limited<R> {
    input: R,
    /// What may still be read for the line that is being read.
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(TOO_LONG));
        }
        let count = self.input.read(buffer)?;
        self.left.set(left.saturating_sub(count));
        Ok(count)
    }
}

/// The lines of a file, whatever parts its columns.
pub(super) struct Records<R> {
    source: Source<R>,
    pub(super) columns: Columns<Column>,
    /// The names of all columns, where the first line has them.
    pub(super) header: Option<Vec<String>>,
    line: u64,
}

/// The first line, put back in front of the rest.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, BufReader<R>>;

enum Source<R> {
    Csv { reader: Box<csv::Reader<Limited<Whole<R>>>>, left: Rc<Cell<usize>> },
    Blanks(BufReader<Whole<R>>),
}

impl<R: Read> Records<R> {
    pub(super) fn new(input: R, plan: &Plan) -> Result<Self> {
        // The first line tells what parts the columns; it is put back in front.
        let mut input = BufReader::with_capacity(256 * 1024, input);
        let mut first = Vec::new();
        (&mut input).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut first)?;
        let delimiter = plan.delimiter.unwrap_or_else(|| guess(&first));
        let whole = io::Cursor::new(first).chain(input);
        let mut source = match delimiter {
            Delimiter::Byte(byte) => {
                let left = Rc::new(Cell::new(MAX_LINE_BYTES));
                let limited = Limited { input: whole, left: left.clone() };
                let reader =
                    csv::ReaderBuilder::new().delimiter(byte).has_headers(false).flexible(true).from_reader(limited);
                Source::Csv { reader: Box::new(reader), left }
            }
            Delimiter::Blanks => Source::Blanks(BufReader::new(whole)),
        };
        let mut line = 0;
        let header = if plan.header {
            let Some(fields) = source.next(&mut line)? else { return Err(Error::new("the file is empty")) };
            let mut names: Vec<String> = fields.iter().map(|name| name.trim().to_owned()).collect();
            // Spreadsheets put a byte order mark in front.
            if let Some(name) = names.first_mut() {
                *name = name.trim_start_matches('\u{feff}').to_owned();
            }
            Some(names)
        } else {
            None
        };
        let columns = plan.columns.find(header.as_deref())?;
        Ok(Self { source, columns, header, line })
    }

    /// The next line that is not empty; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        let fields = self.source.next(&mut self.line)?;
        let width = self.header.as_ref().map(Vec::len);
        Ok(fields.map(|fields| Record { line: self.line, fields, width }))
    }
}

impl<R: Read> Source<R> {
    fn next(&mut self, number: &mut u64) -> Result<Option<Vec<String>>> {
        let failed =
            |error: &dyn std::fmt::Display, line: u64| Error::new(format!("the file, behind line {line}: {error}"));
        loop {
            let fields: Vec<String> = match self {
                Self::Csv { reader, left } => {
                    left.set(MAX_LINE_BYTES);
                    let mut record = csv::ByteRecord::new();
                    let more = reader.read_byte_record(&mut record).map_err(|error| failed(&error, *number))?;
                    if !more {
                        return Ok(None);
                    }
                    *number = record.position().map_or(*number + 1, csv::Position::line);
                    // Latin-1 and other encodings: what is not UTF-8 is marked, and rarely stands in the columns that count.
                    record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect()
                }
                Self::Blanks(reader) => {
                    let mut line = Vec::new();
                    let count = reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line);
                    let count = count.map_err(|error| failed(&error, *number))?;
                    if count == 0 {
                        return Ok(None);
                    }
                    if count == MAX_LINE_BYTES {
                        return Err(failed(&TOO_LONG, *number));
                    }
                    *number += 1;
                    String::from_utf8_lossy(&line).split_whitespace().map(str::to_owned).collect()
                }
            };
            if fields.iter().any(|field| !field.trim().is_empty()) {
                return Ok(Some(fields));
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
