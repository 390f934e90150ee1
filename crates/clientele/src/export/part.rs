//! An export that is not complete: `FILE.part`, and beside it `FILE.part.json`, which says how far it is.
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{ErrorKind, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chassis::clock::stopwatch;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::client::{Error, Result};

/// How old a part may be that is gone on with where no moment was asked for: who exports every day wants today's scores, not those of the export
/// that broke off yesterday.
const FRESH: SignedDuration = SignedDuration::from_hours(12);
/// Pause between two notes of how far it is: so much is done again at most, and the disk is hardly waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// What was asked for: only the same is gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// The servers.
    pub(super) server: Vec<String>,
    /// The moment, as it was written.
    pub(super) as_of: Option<String>,
    /// The system whose ids are added.
    pub(super) identity: Option<String>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    /// Where the next page begins; empty at the very beginning.
    pub(super) page_token: String,
    /// Customers written.
    pub(super) customers: u64,
    /// Length of what was written.
    pub(super) bytes: u64,
    /// The model of buying that the scores come from; empty while none was seen.
    pub(super) model_id: String,
}

#[derive(Serialize, Deserialize)]
struct Note {
    asked: Asked,
    reached: Reached,
    /// Microseconds since 1970.
    saved_us: i64,
}

/// A file that takes its name once it is complete, and can be gone on with until then.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    asked: Asked,
    /// When it was last noted how far it is.
    saved: Option<Instant>,
    /// Whether there is such a note.
    noted: bool,
}

impl Part {
    /// Opens the part of `path`, and says how far it is: nowhere, where there is none of what is asked for, or `anew`.
    pub(super) fn open(path: &Path, asked: Asked, anew: bool, now: Timestamp) -> Result<(Self, Reached)> {
        let part = with(path, ".part");
        if path.is_dir() {
            return Err(Error::new(format!("cannot write {}: it is a folder", path.display())));
        }
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&part);
        let file = file.map_err(|error| failed(&part, &error))?;
        match file.try_lock() {
            // Where files cannot be locked, two exports to one name are the caller's to avoid.
            Ok(()) => {}
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(failed(&part, &error)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(format!(
                    "another export is writing {}; wait for it, or end it",
                    part.display()
                )));
            }
        }
        let mut part = Self { path: path.to_owned(), file, asked, saved: None, noted: false };
        let reached = part.note().filter(|note| !anew && part.goes_on(note, now)).map(|note| note.reached);
        match reached {
            Some(reached) => {
                part.cut(reached.bytes)?;
                part.noted = true;
                Ok((part, reached))
            }
            None => {
                part.begin_anew()?;
                Ok((part, Reached::default()))
            }
        }
    }

    fn note(&self) -> Option<Note> {
        serde_json::from_slice(&fs::read(with(&self.path, ".part.json")).ok()?).ok()
    }

    fn goes_on(&self, note: &Note, now: Timestamp) -> bool {
        let age = SignedDuration::from_micros(now.as_microsecond().saturating_sub(note.saved_us));
        let fresh = self.asked.as_of.is_some() || age.abs() < FRESH;
        // A power cut may leave less than was noted.
        let whole = self.file.metadata().is_ok_and(|metadata| metadata.len() >= note.reached.bytes);
        note.asked == self.asked && fresh && whole
    }

    /// Throws away what is there.
    pub(super) fn begin_anew(&mut self) -> Result<()> {
        let note = with(&self.path, ".part.json");
        match fs::remove_file(&note) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&note, &error)),
            _ => {}
        }
        (self.saved, self.noted) = (None, false);
        self.cut(0)
    }

    fn cut(&mut self, bytes: u64) -> Result<()> {
        let cut = |file: &mut File| {
            file.set_len(bytes)?;
            file.seek(SeekFrom::Start(bytes)).map(|_| ())
        };
        cut(&mut self.file).map_err(|error| failed(&with(&self.path, ".part"), &error))
    }

    /// Writes a page, and notes now and then how far it is.
    pub(super) fn write(&mut self, bytes: &[u8], reached: &Reached, now: Timestamp) -> Result<()> {
        let part = with(&self.path, ".part");
        self.file.write_all(bytes).map_err(|error| failed(&part, &error))?;
        // Behind the last page there is nothing to go on with.
        if reached.page_token.is_empty() || self.saved.is_some_and(|saved| saved.elapsed() < PAUSE) {
            return Ok(());
        }
        // On the disk before it is noted that it is.
        self.file.sync_data().map_err(|error| failed(&part, &error))?;
        let (note, new) = (with(&self.path, ".part.json"), with(&self.path, ".part.json.new"));
        let text = serde_json::to_vec(&Note {
            asked: self.asked.clone(),
            reached: reached.clone(),
            saved_us: now.as_microsecond(),
        });
        let text = text.map_err(|error| failed(&note, &error))?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, &note)).map_err(|error| failed(&note, &error))?;
        (self.saved, self.noted) = (Some(stopwatch()), true);
        Ok(())
    }

    /// Breaks off; whether it can be gone on with. Where nothing is noted, nothing is left.
    pub(super) fn break_off(self) -> bool {
        if !self.noted {
            let _ = fs::remove_file(with(&self.path, ".part"));
        }
        self.noted
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        let (part, note) = (with(&self.path, ".part"), with(&self.path, ".part.json"));
        self.file.sync_all().map_err(|error| failed(&part, &error))?;
        fs::rename(&part, &self.path).map_err(|error| failed(&self.path, &error))?;
        // Without its part a note is of nothing, so that one left behind does no harm.
        let _ = fs::remove_file(note);
        Ok(())
    }
}

fn with(path: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(extension);
    PathBuf::from(name)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked { server: vec!["http://127.0.0.1:7100".to_owned()], as_of: None, identity: None }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn reached(bytes: u64) -> Reached {
        Reached { page_token: "next".to_owned(), customers: 2, bytes, model_id: String::new() }
    }

    /// Writes a page that is noted and one that is not, and breaks off.
    fn broken_off(path: &Path) {
        let (mut part, nothing) = Part::open(path, asked(), true, at(0)).unwrap();
        assert_eq!(nothing, Reached::default());
        part.write(b"a\nb\n", &reached(4), at(0)).unwrap();
        part.write(b"c\nd\n", &reached(8), at(0)).unwrap();
    }

    #[test]
    fn what_broke_off_is_gone_on_with_behind_what_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        broken_off(&path);
        assert!(!path.exists());
        let (mut part, found) = Part::open(&path, asked(), false, at(11)).unwrap();
        assert_eq!(found, reached(4));
        part.write(b"C\n", &Reached { page_token: String::new(), ..reached(6) }, at(11)).unwrap();
        part.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nC\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half done lies about");
    }

    #[test]
    fn only_the_same_export_is_gone_on_with_and_only_while_it_is_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        let goes_on = |asked: Asked, anew: bool, hours: i64| {
            broken_off(&path);
            Part::open(&path, asked, anew, at(hours)).unwrap().1 != Reached::default()
        };
        assert!(goes_on(asked(), false, 0));
        assert!(!goes_on(asked(), true, 0));
        assert!(!goes_on(asked(), false, 13), "yesterday's scores are not today's");
        assert!(!goes_on(Asked { identity: Some("shop".to_owned()), ..asked() }, false, 0));
        assert!(!goes_on(Asked { server: Vec::new(), ..asked() }, false, 0));
        broken_off(&path);
        fs::write(with(&path, ".part"), "a").unwrap();
        assert_eq!(Part::open(&path, asked(), false, at(0)).unwrap().1, Reached::default(), "the disk lost some of it");
        // Of a moment that is asked for it does not matter how long ago that was.
        let fixed = Asked { as_of: Some("1998-06-30".to_owned()), ..asked() };
        let (mut part, _) = Part::open(&path, fixed.clone(), false, at(0)).unwrap();
        part.write(b"a\nb\n", &reached(4), at(0)).unwrap();
        drop(part);
        assert_eq!(Part::open(&path, fixed, false, at(1_000)).unwrap().1, reached(4));
    }

    #[test]
    fn two_exports_do_not_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        let one = Part::open(&path, asked(), false, at(0)).unwrap();
        let two = Part::open(&path, asked(), false, at(0)).unwrap_err().to_string();
        assert!(two.contains("another export is writing") && two.contains("scores.csv.part"), "{two}");
        drop(one);
        Part::open(&path, asked(), false, at(0)).unwrap();
    }
}
