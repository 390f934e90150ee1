//! What of a batch of changes counts for each key.
use std::collections::{BTreeMap, btree_map::Entry};

use uuid::Uuid;

use super::Change;

/// What a batch says last of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest<'c, T> {
    /// What counts.
    pub item: T,
    /// W3C trace context of the call that made it so; empty where there is none.
    pub cause: &'c str,
    /// Its revision, by the publisher's count.
    pub revision: i64,
    /// True where a snapshot named the key: the item then replaces what is kept, whatever the revisions are. Otherwise it does so only if its
    /// revision is higher than the one kept.
    pub authoritative: bool,
}

/// The newest of each key, by key, which is also a safe order of locking. `read` takes key, revision and whatever else is wanted out of a message;
/// `None` where there is nothing to follow.
///
/// A snapshot's item is the publisher's present state, read after everything it had published before. It therefore counts even where its
/// revision is lower: the publisher was restored from an older copy then and counts on from there. Live changes behind it are newer by their
/// revision, and win over what the follower kept just as the snapshot does.
///
/// A key that is no UUID cannot be followed. It is named in the log and left out: one malformed change must not hold up all the others for ever.
pub fn newest<'c, M, T>(
    changes: &'c [Change<M>],
    read: impl Fn(&'c M) -> Option<(&'c str, i64, T)>,
) -> BTreeMap<Uuid, Newest<'c, T>> {
    let mut newest = BTreeMap::new();
    for change in changes {
        let Some((key, revision, item)) = read(&change.message) else { continue };
        let Ok(key) = Uuid::parse_str(key) else {
            tracing::error!(sequence = change.sequence, "a followed change has no valid id; it is left out");
            continue;
        };
        let came = Newest { item, cause: &change.cause, revision, authoritative: change.snapshot };
        match newest.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(came);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                let replaces = came.authoritative && !known.authoritative;
                if replaces || known.revision < came.revision {
                    *known = Newest { authoritative: known.authoritative || came.authoritative, ..came };
                }
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "01900000-0000-7000-8000-000000000001";
    const OTHER: &str = "01900000-0000-7000-8000-000000000000";

    type Message = (&'static str, i64);

    fn live(key: &'static str, revision: i64) -> Change<Message> {
        Change { message: (key, revision), sequence: 0, cause: String::new(), snapshot: false }
    }

    fn item(key: &'static str, revision: i64) -> Change<Message> {
        Change { snapshot: true, ..live(key, revision) }
    }

    /// Revision and flag of each key, by key.
    fn of(changes: &[Change<Message>]) -> Vec<(i64, bool)> {
        let newest = newest(changes, |(key, revision)| (*revision > 0).then_some((*key, *revision, *revision)));
        assert!(newest.values().all(|newest| newest.item == newest.revision));
        newest.values().map(|newest| (newest.revision, newest.authoritative)).collect()
    }

    #[test]
    fn of_live_changes_the_highest_revision_counts_in_whatever_order_they_come() {
        assert_eq!(of(&[live(KEY, 2), live(KEY, 3), live(KEY, 1)]), [(3, false)]);
    }

    #[test]
    fn keys_come_in_their_order() {
        assert_eq!(of(&[live(KEY, 1), item(OTHER, 2)]), [(2, true), (1, false)]);
    }

    #[test]
    fn a_snapshot_counts_more_than_a_live_change_before_it() {
        assert_eq!(of(&[live(KEY, 9), item(KEY, 2)]), [(2, true)]);
    }

    #[test]
    fn a_newer_live_change_after_a_snapshot_counts_and_replaces_what_is_kept_as_the_snapshot_would() {
        assert_eq!(of(&[item(KEY, 2), live(KEY, 3)]), [(3, true)]);
        assert_eq!(of(&[item(KEY, 2), live(KEY, 1)]), [(2, true)]);
    }

    #[test]
    fn of_a_snapshots_items_the_highest_revision_counts() {
        // What changed while the snapshot was being read comes behind its items and belongs to it.
        assert_eq!(of(&[item(KEY, 2), item(KEY, 3)]), [(3, true)]);
    }

    #[test]
    fn what_has_no_valid_key_and_what_is_not_followed_is_left_out() {
        assert_eq!(of(&[live("nobody", 1), live("", 1), live(OTHER, 0), live(KEY, 1)]), [(1, false)]);
    }
}
