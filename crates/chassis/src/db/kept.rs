//! What is kept in memory of a database that nobody but this process writes to.
//!
//! A kept value is as good as one that is read, because every transaction says which keys it alters ([`Tx::alters`](super::Tx::alters)): from just
//! before its commit until it is known how that ended nothing is kept under them, and what was kept before never counts again. Each key has a place with a
//! stamp. Who reads takes the stamp first; who keeps what was read keeps the stamp with it; and a kept value counts for as long as its place
//! still has that stamp.
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::sync::Cache;
use uuid::Uuid;

use super::Db;

/// Places of stamps, half a megabyte. Keys share them: a change of one lets the few others of its place be read once more.
const PLACES: usize = 1 << 16;
/// A stamp counts the commits under way that alter its place in its lower half, and those that have ended in its upper.
const ENDED: u64 = 1 << 32;

/// The stamps of one database.
pub(super) struct Stamps {
    places: Box<[AtomicU64]>,
    /// Places altered by commits of which nobody knows how they ended, or whether they have.
    doubtful: Mutex<Vec<usize>>,
}

impl Stamps {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), doubtful: Mutex::default() }
    }

    /// By Fibonacci hashing, which spreads ids wherever they differ.
    fn place(key: Uuid) -> usize {
        let (high, low) = key.as_u64_pair();
        (high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - PLACES.ilog2())
    }

    /// `None` while a commit that alters it is under way.
    fn read(&self, place: usize) -> Option<u64> {
        Some(self.places[place].load(Ordering::SeqCst)).filter(|stamp| stamp % ENDED == 0)
    }

    fn end(&self, places: &[usize]) {
        for place in places {
            self.places[*place].fetch_add(ENDED - 1, Ordering::SeqCst);
        }
    }

    /// To be called before the commit of a transaction that alters these keys, and kept until its end.
    pub(super) fn commit(self: &Arc<Self>, keys: Vec<Uuid>) -> Commit {
        let places: Vec<usize> = keys.into_iter().map(Self::place).collect();
        for place in &places {
            self.places[*place].fetch_add(1, Ordering::SeqCst);
        }
        Commit { stamps: Arc::clone(self), places }
    }

    /// To be called in a transaction that has begun: there is one at a time, so all before it have ended by now, however they did.
    pub(super) fn settle(&self) {
        let doubtful = std::mem::take(&mut *self.doubtful.lock().unwrap_or_else(PoisonError::into_inner));
        self.end(&doubtful);
    }
}

impl fmt::Debug for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamps").finish_non_exhaustive()
    }
}

/// The places that a commit under way alters. Dropped before it has succeeded, they stay in doubt: whoever goes away while it runs, or is told of a
/// failure, does not know how it ended.
pub(super) struct Commit {
    stamps: Arc<Stamps>,
    places: Vec<usize>,
}

impl Commit {
    /// To be called before anybody is told.
    pub(super) fn succeeded(mut self) {
        self.stamps.end(&std::mem::take(&mut self.places));
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.stamps.doubtful.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.places);
    }
}

/// When a key was read: before the reading, or what is read could be older than that.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    key: Uuid,
    stamp: u64,
}

/// Values kept in memory by key, at most so many: those asked for most lately and most often. Of a database that others may write to nothing is kept.
#[derive(Debug)]
pub struct Kept<V> {
    stamps: Option<Arc<Stamps>>,
    values: Cache<Uuid, (u64, V)>,
}

impl<V: Clone> Kept<V> {
    /// Keeps up to `most` values; none where that is 0.
    pub fn new(db: &Db, most: usize) -> Self {
        Self { stamps: db.0.stamps.clone().filter(|_| most > 0), values: Cache::new(most) }
    }

    /// What is kept under a key and cannot have changed since it was read.
    pub fn find(&self, key: Uuid) -> Option<V> {
        let stamps = self.stamps.as_ref()?;
        let (kept, value) = self.values.get(&key)?;
        (stamps.read(Stamps::place(key)) == Some(kept)).then_some(value)
    }

    /// To be taken before a key is read outside of a transaction; `None` where what is read then is not to be kept.
    pub fn stamp(&self, key: Uuid) -> Option<Stamp> {
        let stamp = self.stamps.as_ref()?.read(Stamps::place(key))?;
        Some(Stamp { key, stamp })
    }

    /// Keeps what was read after the stamp was taken.
    pub fn keep(&self, stamp: Stamp, value: V) {
        self.values.insert(stamp.key, (stamp.stamp, value));
    }
}
