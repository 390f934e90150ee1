//! The file of refused rows.
use std::path::{Path, PathBuf};

use crate::client::{Error, Result};

/// The file of refused rows; made when the first row is refused.
pub(super) struct Rejects {
    path: PathBuf,
    file: Option<csv::Writer<std::fs::File>>,
}

impl Rejects {
    /// Takes away what an earlier run left: a clean run leaves no such file.
    pub(super) fn new(path: &Path) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(format!("cannot replace {}: {error}", path.display())))
            }
            _ => Ok(Self { path: path.to_owned(), file: None }),
        }
    }

    pub(super) fn write(&mut self, line: u64, reason: &str, fields: &[String]) -> Result<()> {
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

    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        Ok(())
    }
}
