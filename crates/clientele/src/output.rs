//! Files that the program writes: whole or not at all.
use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::client::{Error, Result};

/// Where a command writes: standard output, or a file that takes its name only once it is complete, so that nobody ever reads half of one and a
/// command that broke off can be run again.
#[derive(Debug)]
pub struct Output {
    to: To,
    name: String,
}

#[derive(Debug)]
enum To {
    Stdout(BufWriter<io::Stdout>),
    File { path: PathBuf, file: Box<BufWriter<NamedTempFile>> },
}

impl Output {
    /// Begins to write to `path`; `-` is standard output.
    ///
    /// # Errors
    /// A folder that is not there or cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if path.as_os_str() == "-" {
            return Ok(Self { to: To::Stdout(BufWriter::new(io::stdout())), name });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(Error::new(format!("cannot write {name}: it is a folder")));
        }
        if !folder.is_dir() {
            return Err(Error::new(format!("cannot write {name}: there is no folder {}", folder.display())));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".clientele-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any other file of the user's: the mask takes away what it should.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).map_err(|error| Error::new(format!("cannot write {name}: {error}")))?;
        Ok(Self { to: To::File { path: path.to_owned(), file: Box::new(BufWriter::new(file)) }, name })
    }

    /// Whether people read what is written where they would read anything else.
    pub fn is_stdout(&self) -> bool {
        matches!(self.to, To::Stdout(_))
    }

    /// Writes what is left and gives the file its name.
    ///
    /// # Errors
    /// A full disk, or a name that cannot be taken.
    pub fn finish(self) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::new(format!("cannot write {}: {error}", self.name));
        match self.to {
            To::Stdout(mut out) => out.flush().or_else(quiet).map_err(|error| failed(&error)),
            To::File { path, file } => {
                let file = file.into_inner().map_err(|error| failed(error.error()))?;
                // On the disk before it has its name, or a power cut leaves the name and not what it stands for.
                file.as_file().sync_all().map_err(|error| failed(&error))?;
                file.persist(path).map(|_| ()).map_err(|error| failed(&error.error))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::Stdout(out) => out.write(bytes).or_else(quiet),
            To::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Stdout(out) => out.flush().or_else(quiet),
            To::File { file, .. } => file.flush(),
        }
    }
}

/// A reader that went away (`| head`) ends the program quietly, as it does for other tools.
fn quiet<T>(error: io::Error) -> io::Result<T> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_its_name_only_once_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        std::fs::write(&path, "the one before").unwrap();
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the one before");
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"all of it").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "all of it");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Output::create(&folder.path().join("nowhere").join("scores.csv")).is_err());
    }
}
