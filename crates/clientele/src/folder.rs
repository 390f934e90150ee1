//! The data folder: one process at a time on each of its databases, and the demo only in a folder of its own.
//!
//! SQLite itself would let two processes write, each by its own clock and with its own model in memory.
use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use chassis::{Clock, Error, Result};
use jiff::{SignedDuration, Timestamp};

use crate::client::SERVICES;

/// The file that the demo leaves in its folder.
const DEMO: &str = ".demo";
/// What it says to who opens it.
const DEMO_SAYS: &str = "Made by `clientele demo`. Delete the folder to begin anew.\n";
/// How it goes on: what the demo's clock read, and when that was.
const CLOCK_READ: &str = "The clock read ";

/// The SQLite file of a service in a data folder.
pub fn database(data_dir: &Path, service: &str) -> PathBuf {
    data_dir.join(format!("{service}.db"))
}

/// Databases that are this process's, or that it shares with others like it, until this is dropped or the process ends, however it does.
#[derive(Debug, Default)]
pub struct Locks {
    own: Vec<(&'static str, File)>,
    shared: Vec<File>,
}

impl Locks {
    /// Whether no other clientele can open a service's database while this is held.
    pub fn hold(&self, service: &str) -> bool {
        self.own.iter().any(|(held, _)| *held == service)
    }

    /// Shares a SQLite file, that an address of its own leads to, with other processes that do the same: none can take it for itself meanwhile.
    ///
    /// # Errors
    /// `Invalid` where another process has it for itself.
    pub fn share(&mut self, service: &'static str, database: &Path) -> Result<()> {
        // Where there is no writing beside the file, opening it will say so in better words.
        let Ok(file) = File::options().create(true).truncate(false).write(true).open(beside(database)) else {
            return Ok(());
        };
        match file.try_lock_shared() {
            Ok(()) => self.shared.push(file),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::invalid(
                    format!("{service}.database_url"),
                    format!(
                        "another clientele has the file {} for itself, as its data folder's; end that one first, or name another file",
                        database.display()
                    ),
                ));
            }
            Err(TryLockError::Error(_)) => {}
        }
        Ok(())
    }
}

/// The file whose lock stands for a database's.
fn beside(database: &Path) -> PathBuf {
    let name = database.file_stem().unwrap_or_default().to_string_lossy();
    database.with_file_name(format!(".{name}.lock"))
}

/// Takes the databases of these services for this process.
///
/// # Errors
/// `Invalid` where another process has one of them, or the folder cannot be written to.
pub fn lock(data_dir: &Path, services: &[&'static str]) -> Result<Locks> {
    let shown = data_dir.display();
    let cannot = |error: io::Error| {
        Error::invalid("data_dir", format!("cannot write to {shown}: {error}; name another folder with --data-dir"))
    };
    if !services.is_empty() {
        std::fs::create_dir_all(data_dir).map_err(cannot)?;
    }
    let mut locks = Locks::default();
    for service in services {
        let path = beside(&database(data_dir, service));
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => locks.own.push((*service, file)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::invalid(
                    "data_dir",
                    format!(
                        "another clientele runs {service} on the folder {shown}; end that one first, or name another folder with --data-dir"
                    ),
                ));
            }
            // Some network file systems know no locks. Nothing can be said of others then.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(%error, "the data folder cannot be locked: see to it that no other process runs on it");
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
    }
    Ok(locks)
}

/// Makes the folder the demo's, or finds that it is. What the demo's clock is to read: `begin` in a new folder, and in an old one no earlier than
/// anything in it, since a clock that jumps back would have things happen in the future.
///
/// # Errors
/// `Invalid` where it holds databases that no demo made or anything else that is somebody's, or cannot be written to.
pub fn claim_for_demo(data_dir: &Path, begin: Timestamp) -> Result<Timestamp> {
    let shown = data_dir.display();
    let marker = data_dir.join(DEMO);
    let there = std::fs::read_to_string(&marker).ok();
    if there.is_none() && SERVICES.iter().any(|service| database(data_dir, service).exists()) {
        return Err(Error::invalid(
            "data_dir",
            format!(
                "the folder {shown} holds databases that no demo made, and the demo would mix its customers into them; name another \
                 folder with --data-dir, or run `clientele serve --data-dir {shown}` on this one"
            ),
        ));
    }
    // Whoever wants to begin anew deletes the demo's folder, so nothing else may be in it.
    if there.is_none()
        && let Some(found) = foreign(data_dir)
    {
        return Err(Error::invalid(
            "data_dir",
            format!(
                "the folder {shown} holds other things ({found}); the demo wants one of its own: name an empty or a new one with --data-dir"
            ),
        ));
    }
    let reads = there.and_then(|text| go_on(&text, last_written(data_dir)?)).unwrap_or(begin);
    let says = format!("{DEMO_SAYS}{CLOCK_READ}{reads} at {}.\n", Clock::system().now());
    let made = std::fs::create_dir_all(data_dir).and_then(|()| std::fs::write(marker, says));
    made.map_err(|error| {
        Error::invalid("data_dir", format!("cannot write to {shown}: {error}; name another folder with --data-dir"))
    })?;
    Ok(reads)
}

/// The name of something in a folder that no clientele put there, nor the file system or a file manager.
fn foreign(folder: &Path) -> Option<String> {
    let locks: Vec<_> = SERVICES
        .iter()
        .filter_map(|service| beside(&database(folder, service)).file_name().map(OsStr::to_owned))
        .collect();
    let known = |name: &OsStr| name == "lost+found" || name == ".DS_Store" || locks.iter().any(|lock| lock == name);
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    names.filter(|name| !known(name)).min().map(|name| name.to_string_lossy().into_owned())
}

/// Takes the demo's mark off a folder in which it got no further: there is nothing of it yet, and `serve` may have it.
pub fn give_back(data_dir: &Path) {
    if !SERVICES.iter().any(|service| database(data_dir, service).exists()) {
        // Where that fails, the folder is the demo's, as it says.
        let _ = std::fs::remove_file(data_dir.join(DEMO));
    }
}

/// What the demo's clock read when the databases were written last, and a second more.
fn go_on(marker: &str, written: Timestamp) -> Option<Timestamp> {
    let line = marker.lines().find_map(|line| line.strip_prefix(CLOCK_READ))?;
    let (read, at) = line.trim_end_matches('.').split_once(" at ")?;
    let (read, at): (Timestamp, Timestamp) = (read.parse().ok()?, at.parse().ok()?);
    let ran = written.duration_since(at).max(SignedDuration::ZERO);
    read.checked_add(ran.checked_add(SignedDuration::from_secs(1))?).ok()
}

/// When any of the databases was written last, by the system's clock. While services run that is now: their followers write every second.
fn last_written(data_dir: &Path) -> Option<Timestamp> {
    let files = SERVICES.iter().flat_map(|service| {
        let file = database(data_dir, service);
        [file.with_extension("db-wal"), file]
    });
    let written = |file: PathBuf| Timestamp::try_from(std::fs::metadata(file).ok()?.modified().ok()?).ok();
    files.filter_map(written).max()
}

/// Finds that the folder is not the demo's.
///
/// # Errors
/// `Invalid` where it is.
pub fn refuse_the_demos(data_dir: &Path) -> Result<()> {
    if !data_dir.join(DEMO).exists() {
        return Ok(());
    }
    let shown = data_dir.display();
    Err(Error::invalid(
        "data_dir",
        format!(
            "the folder {shown} is the demo's, whose clock stands at the last day of its data: by today's everybody in it would be long gone, and \
             be announced so; run `clientele demo --data-dir {shown}` on it, or name another folder with --data-dir"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_one_process_s_and_those_of_other_services_beside_it_are_free() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let scoring = lock(&data, &["scoring"]).unwrap();
        let refused = lock(&data, &["profiles", "scoring"]).unwrap_err().to_string();
        assert!(refused.contains(&data.display().to_string()) && refused.contains("another clientele"), "{refused}");
        // Who was refused holds nothing.
        let profiles = lock(&data, &["profiles"]).unwrap();
        drop(scoring);
        let again = lock(&data, &["scoring"]).unwrap();
        assert!(again.hold("scoring") && !again.hold("profiles"));
        drop(profiles);
        lock(&folder.path().join("absent"), &[]).unwrap();
        assert!(!folder.path().join("absent").exists());
    }

    #[test]
    fn a_database_with_an_address_of_its_own_is_shared_by_many_and_had_by_none_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = database(folder.path(), "scoring");
        let (mut one, mut other) = (Locks::default(), Locks::default());
        one.share("scoring", &file).unwrap();
        other.share("scoring", &file).unwrap();
        assert!(!one.hold("scoring"));
        lock(folder.path(), &["scoring"]).unwrap_err();
        drop((one, other));
        let alone = lock(folder.path(), &["scoring"]).unwrap();
        let refused = Locks::default().share("scoring", &file).unwrap_err().to_string();
        assert!(refused.starts_with("scoring.database_url: ") && refused.contains("for itself"), "{refused}");
        drop(alone);
        // Another file in the same folder is another matter.
        let _alone = lock(folder.path(), &["scoring"]).unwrap();
        Locks::default().share("profiles", &folder.path().join("other.db")).unwrap();
    }

    fn begin() -> Timestamp {
        "1998-06-30T14:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_demos_clock_never_jumps_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(claim_for_demo(folder.path(), begin()).unwrap(), begin());
        // Nothing was written, so nothing happened.
        assert_eq!(claim_for_demo(folder.path(), begin()).unwrap(), begin());
        let file = File::create(database(folder.path(), "routing")).unwrap();
        let written = Clock::system().now() + SignedDuration::from_hours(2);
        file.set_modified(written.into()).unwrap();
        let next = claim_for_demo(folder.path(), begin()).unwrap();
        assert!(
            next > begin() + SignedDuration::from_mins(119) && next < begin() + SignedDuration::from_mins(121),
            "{next}"
        );
        // The system's clock was set back: by a second it goes on all the same.
        file.set_modified((written - SignedDuration::from_hours(50)).into()).unwrap();
        assert_eq!(claim_for_demo(folder.path(), begin()).unwrap(), next + SignedDuration::from_secs(1));
        // A folder of a demo that did not note it.
        std::fs::write(folder.path().join(DEMO), DEMO_SAYS).unwrap();
        assert_eq!(claim_for_demo(folder.path(), begin()).unwrap(), begin());
    }

    #[test]
    fn the_demo_takes_an_empty_folder_and_its_own_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        claim_for_demo(&own, begin()).unwrap();
        // Where it did not start, it leaves nothing behind that would keep `serve` out.
        give_back(&own);
        refuse_the_demos(&own).unwrap();
        claim_for_demo(&own, begin()).unwrap();
        std::fs::write(database(&own, "scoring"), "").unwrap();
        give_back(&own);
        claim_for_demo(&own, begin()).unwrap();
        assert!(refuse_the_demos(&own).unwrap_err().to_string().contains("--data-dir"));
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(database(&other, "scoring"), "").unwrap();
        let refused = claim_for_demo(&other, begin()).unwrap_err().to_string();
        assert!(refused.contains("no demo made") && refused.contains("--data-dir"), "{refused}");
        assert!(!other.join(DEMO).exists());
        refuse_the_demos(&other).unwrap();
        let papers = folder.path().join("papers");
        std::fs::create_dir_all(&papers).unwrap();
        std::fs::write(papers.join(".DS_Store"), "").unwrap();
        drop(lock(&papers, &["scoring"]).unwrap());
        claim_for_demo(&papers, begin()).unwrap();
        give_back(&papers);
        for name in ["thesis.txt", ".ssh"] {
            let theirs = papers.join(name);
            std::fs::write(&theirs, "").unwrap();
            let refused = claim_for_demo(&papers, begin()).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains("--data-dir"), "{refused}");
            assert!(!papers.join(DEMO).exists());
            std::fs::remove_file(theirs).unwrap();
        }
    }
}
