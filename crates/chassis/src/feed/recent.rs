//! The latest changes that this process committed, in memory: whoever follows closely need not read them back from the database.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prost::{
    bytes::Bytes,
    encoding::{self, message},
};
use proto::common::v1::FeedPosition;
use uuid::Uuid;

use super::{encode_cursor, position};

/// The fields of position and change in the answers of the RPCs that [`serve`](super::serve) answers.
const POSITION: u32 = 1;
const CHANGE: u32 = 2;

/// Bytes of changes kept: some ten thousand changes, as many as a large transaction makes, and a moment's worth of small ones.
const MAX_BYTES: usize = 6 << 20;
/// What a change takes besides its message, which it holds twice once it was sent.
const OVERHEAD: usize = 448;

/// A change as it was committed.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(super) seq: i64,
    pub(super) topic: &'static str,
    pub(super) key: Uuid,
    pub(super) payload: Bytes,
    pub(super) traceparent: Option<String>,
    /// Microseconds since 1970.
    pub(super) create_time: i64,
    /// As it is sent, once it was.
    pub(super) sent: OnceLock<Bytes>,
}

impl Committed {
    fn bytes(&self) -> usize {
        2 * self.payload.len() + OVERHEAD
    }

    /// Where it stands in the feed of the database with this epoch.
    pub(super) fn position(&self, epoch: Uuid) -> FeedPosition {
        let cursor = encode_cursor(epoch, self.topic, self.seq);
        position(cursor, self.seq, self.create_time, self.traceparent.clone())
    }

    /// The answer of a `Watch…` RPC that tells of it: the same to all who watch, so it is made once.
    pub(super) fn sent(&self, epoch: Uuid) -> Bytes {
        let encode = || {
            let position = self.position(epoch);
            let length =
                message::encoded_len(POSITION, &position) + encoding::bytes::encoded_len(CHANGE, &self.payload);
            let mut buffer = Vec::with_capacity(length);
            message::encode(POSITION, &position, &mut buffer);
            encoding::bytes::encode(CHANGE, &self.payload, &mut buffer);
            buffer.into()
        };
        self.sent.get_or_init(encode).clone()
    }
}

/// The changes of a stretch of numbers without a gap, all of them committed. What other processes commit to the same database makes a gap; the
/// database has those.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Stretch>);

#[derive(Debug, Default)]
struct Stretch {
    changes: VecDeque<Arc<Committed>>,
    bytes: usize,
}

impl Recent {
    /// Takes the changes of a transaction, after its commit. Two transactions may come here in another order than they were committed in: then those of
    /// the first are left to the database.
    pub(super) fn push(&self, changes: Vec<Committed>) {
        let mut stretch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), last) = (changes.first().map(|change| change.seq), stretch.changes.back()) else { return };
        let next = last.map_or(first, |last| last.seq + 1);
        if first < next {
            return;
        }
        if first > next {
            *stretch = Stretch::default();
        }
        stretch.bytes += changes.iter().map(Committed::bytes).sum::<usize>();
        stretch.changes.extend(changes.into_iter().map(Arc::new));
        while stretch.bytes > MAX_BYTES
            && let Some(dropped) = stretch.changes.pop_front()
        {
            stretch.bytes -= dropped.bytes();
        }
    }

    /// Drops what the database has dropped.
    pub(super) fn forget(&self, to: i64) {
        let mut stretch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(dropped) = stretch.changes.pop_front_if(|change| change.seq <= to) {
            stretch.bytes -= dropped.bytes();
        }
    }

    /// The changes of a topic above `after`, up to `limit` numbers of any topic and not above `to`, and the number up to which these are all. Absent where
    /// not all of them are at hand.
    pub(super) fn read(&self, topic: &str, after: i64, to: i64, limit: u64) -> Option<(Vec<Arc<Committed>>, i64)> {
        let stretch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (stretch.changes.front()?.seq, stretch.changes.back()?.seq);
        if after + 1 < first || after >= last {
            return None;
        }
        let to = to.min(last).min(after.saturating_add_unsigned(limit));
        let begin = usize::try_from(after + 1 - first).ok()?;
        let end = usize::try_from(to + 1 - first).ok()?;
        let of_topic = |change: &&Arc<Committed>| change.topic == topic;
        Some((stretch.changes.range(begin..end.max(begin)).filter(of_topic).cloned().collect(), to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(seqs: std::ops::RangeInclusive<i64>) -> Vec<Committed> {
        let change = |seq| Committed {
            seq,
            topic: if seq % 2 == 0 { "even" } else { "odd" },
            key: Uuid::nil(),
            payload: vec![0; 100].into(),
            traceparent: None,
            create_time: 0,
            sent: OnceLock::new(),
        };
        seqs.map(change).collect()
    }

    fn read(recent: &Recent, after: i64, to: i64, limit: u64) -> Option<(Vec<i64>, i64)> {
        recent
            .read("even", after, to, limit)
            .map(|(changes, to)| (changes.iter().map(|change| change.seq).collect(), to))
    }

    #[test]
    fn a_reader_gets_its_topic_up_to_where_it_asks() {
        let recent = Recent::default();
        recent.push(changes(5..=8));
        recent.push(changes(9..=12));
        assert_eq!(read(&recent, 4, 12, 100), Some((vec![6, 8, 10, 12], 12)));
        assert_eq!(read(&recent, 6, 9, 100), Some((vec![8], 9)));
        assert_eq!(read(&recent, 4, 12, 3), Some((vec![6], 7)));
        assert_eq!(read(&recent, 6, 7, 100), Some((vec![], 7)));
    }

    #[test]
    fn what_is_not_all_there_is_left_to_the_database() {
        let recent = Recent::default();
        assert_eq!(read(&recent, 0, 9, 100), None);
        recent.push(changes(5..=8));
        assert_eq!(read(&recent, 3, 8, 100), None);
        assert_eq!(read(&recent, 8, 9, 100), None);
    }

    #[test]
    fn a_gap_forgets_what_was_before_it_and_what_comes_late_is_left_out() {
        let recent = Recent::default();
        recent.push(changes(1..=4));
        recent.push(changes(7..=8));
        recent.push(changes(5..=6));
        assert_eq!(read(&recent, 3, 8, 100), None);
        assert_eq!(read(&recent, 6, 8, 100), Some((vec![8], 8)));
    }

    #[test]
    fn what_is_dropped_in_the_database_is_dropped_here() {
        let recent = Recent::default();
        recent.push(changes(1..=8));
        recent.forget(4);
        assert_eq!(read(&recent, 3, 8, 100), None);
        assert_eq!(read(&recent, 4, 8, 100), Some((vec![6, 8], 8)));
        recent.forget(8);
        assert_eq!(recent.0.lock().unwrap().bytes, 0);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let recent = Recent::default();
        for first in (1..100_000).step_by(1_000) {
            recent.push(changes(first..=first + 999));
        }
        let kept = recent.0.lock().unwrap();
        assert!(
            kept.bytes <= MAX_BYTES && kept.bytes == kept.changes.iter().map(|change| change.bytes()).sum::<usize>()
        );
        assert_eq!(kept.changes.back().unwrap().seq, 100_000);
    }
}
