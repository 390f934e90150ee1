//! The file of refused rows.
use std::{
    fmt::Display,
    fs::File,
    path::{Path, PathBuf},
};

use crate::{
    client::{Error, Result},
    output::Output,
};

/// What stands in front of a row's own columns.
const FIRST: [&str; 2] = ["line", "reason"];
/// What stands over a row's own columns where the file does not name them.
const UNNAMED: &str = "the row's columns";

/// The file of refused rows; made when the first row is refused.
pub(super) struct Rejects {
    path: PathBuf,
    /// Its first line.
    header: Vec<String>,
    file: Option<csv::Writer<File>>,
}

impl Rejects {
    /// Takes away what an earlier run left of lines behind `after_line`, or all of it: a clean run leaves no such file.
    /// `names` are those of the imported file's columns.
    pub(super) fn new(path: &Path, names: Option<&[String]>, after_line: u64) -> Result<Self> {
        let unnamed = [UNNAMED.to_owned()];
        let header = FIRST.map(str::to_owned).into_iter().chain(names.unwrap_or(&unnamed).iter().cloned()).collect();
        let mut rejects = Self { path: path.to_owned(), header, file: None };
        if after_line == 0 {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::new(format!("cannot replace {}: {error}", path.display())))
                }
                _ => Ok(rejects),
            };
        }
        if path.exists() {
            rejects.keep(after_line)?;
            let file = File::options().append(true).open(path).map_err(|error| failed(path, &error))?;
            rejects.file = Some(writer().from_writer(file));
        }
        Ok(rejects)
    }

    /// Keeps the refused rows up to a line.
    fn keep(&self, after_line: u64) -> Result<()> {
        let wrong = |error: csv::Error| failed(&self.path, &error);
        let mut old = csv::ReaderBuilder::new().flexible(true).from_path(&self.path).map_err(wrong)?;
        let mut new = writer().from_writer(Output::create(&self.path)?);
        new.write_record(&self.header).map_err(wrong)?;
        for row in old.byte_records() {
            let row = row.map_err(wrong)?;
            let line = row.get(0).and_then(|line| str::from_utf8(line).ok()).and_then(|line| line.parse::<u64>().ok());
            if line.is_some_and(|line| line <= after_line) {
                new.write_byte_record(&row).map_err(wrong)?;
            }
        }
        new.into_inner().map_err(|error| failed(&self.path, &error.error()))?.finish()
    }

    pub(super) fn write(&mut self, line: u64, reason: &str, fields: &[String]) -> Result<()> {
        if self.file.is_none() {
            let mut file = writer().from_path(&self.path).map_err(|error| failed(&self.path, &error))?;
            file.write_record(&self.header).map_err(|error| failed(&self.path, &error))?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            let line = line.to_string();
            let columns = [line.as_str(), reason].into_iter().chain(fields.iter().map(String::as_str));
            file.write_record(columns).map_err(|error| failed(&self.path, &error))?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        Ok(())
    }
}

/// As many columns behind the first two as the row has.
fn writer() -> csv::WriterBuilder {
    let mut builder = csv::WriterBuilder::new();
    builder.flexible(true);
    builder
}

fn failed(path: &Path, error: &dyn Display) -> Error {
    Error::new(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_keeps_what_was_refused_before_and_nothing_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.csv");
        let write = |after_line, lines: &[u64]| {
            let mut rejects = Rejects::new(&path, Some(&["x".to_owned(), "y".to_owned()]), after_line).unwrap();
            for line in lines {
                rejects.write(*line, "wrong, \"so\" to speak", &["a".to_owned(), "b\nc".to_owned()]).unwrap();
            }
            rejects.finish().unwrap();
        };
        let lines = || -> Vec<String> {
            let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(&path).unwrap();
            reader.records().map(|row| row.unwrap()[0].to_owned()).collect()
        };
        write(0, &[2, 5, 9]);
        write(5, &[8, 9]);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("line,reason,x,y\n"));
        assert_eq!(lines(), ["2", "5", "8", "9"]);
        write(20, &[]);
        assert_eq!(lines(), ["2", "5", "8", "9"]);
        write(0, &[]);
        assert!(!path.exists());
        write(7, &[]);
        assert!(!path.exists());
    }
}
