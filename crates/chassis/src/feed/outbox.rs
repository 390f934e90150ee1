//! `outbox`: what transactions published, in pages. A page holds changes of one transaction, so a thousand changes cost little more than one: most of what
//! a row costs is the row.
use std::sync::OnceLock;

use prost::{Message, bytes::Bytes};
use sea_orm::{ConnectionTrait, TryGetable};
use uuid::Uuid;

use super::recent::Committed;
use crate::{
    db::{Columns, sql},
    error::{Error, Result},
};

/// Changes of one page at most.
const PAGE: i64 = 512;
/// Bytes of messages from which on a page takes no more of them: whoever reads from its middle reads all of it.
const FULL: usize = 256 * 1_024;

/// The changes of a page. Their numbers end with the row's.
#[derive(Clone, PartialEq, prost::Message)]
struct Page {
    /// The topics that they are of.
    #[prost(string, repeated, tag = "1")]
    topics: Vec<String>,
    /// W3C trace contexts of the calls that made them.
    #[prost(string, repeated, tag = "2")]
    causes: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    changes: Vec<Item>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Item {
    /// The place of its topic.
    #[prost(uint32, tag = "1")]
    topic: u32,
    /// The place of its cause, from 1 on; 0 where there is none.
    #[prost(uint32, tag = "2")]
    cause: u32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    payload: Bytes,
}

impl Page {
    fn of(changes: &[Committed]) -> Self {
        let mut page = Self { changes: Vec::with_capacity(changes.len()), ..Self::default() };
        for change in changes {
            let topic = place(&mut page.topics, change.topic);
            // Changes of one call come one after the other.
            let cause = change.traceparent.as_deref().map_or(0, |cause| match page.causes.last() {
                Some(last) if last == cause => page.causes.len(),
                _ => {
                    page.causes.push(cause.to_owned());
                    page.causes.len()
                }
            });
            page.changes.push(Item {
                topic: u32::try_from(topic).unwrap_or(u32::MAX),
                cause: u32::try_from(cause).unwrap_or(u32::MAX),
                key: Bytes::copy_from_slice(change.key.as_bytes()),
                payload: change.payload.clone(),
            });
        }
        page
    }

    /// The changes of a topic above `after`; the page's numbers begin with `first`.
    fn changes(self, topic: &'static str, after: i64, first: i64, create_time: i64) -> Result<Vec<Committed>> {
        let Some(of_topic) = self.topics.iter().position(|known| known == topic) else { return Ok(Vec::new()) };
        let wanted = |(seq, item): &(i64, Item)| *seq > after && item.topic as usize == of_topic;
        let read = |(seq, item): (i64, Item)| {
            let key = Uuid::from_slice(&item.key).map_err(|error| Error::Internal(format!("outbox {seq}: {error}")))?;
            let cause = (item.cause as usize).checked_sub(1).and_then(|place| self.causes.get(place));
            Ok(Committed {
                seq,
                topic,
                key,
                payload: item.payload,
                traceparent: cause.cloned(),
                create_time,
                sent: OnceLock::new(),
            })
        };
        (first..).zip(self.changes).filter(wanted).map(read).collect()
    }
}

/// The place of a name in a list, to which it is added where it is not there yet.
fn place(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

/// Parts changes into pages, each of them by its end.
fn ends(changes: &[Committed]) -> impl Iterator<Item = usize> {
    let (mut count, mut bytes) = (0, 0);
    changes.iter().zip(1..).filter_map(move |(change, end)| {
        (count, bytes) = (count + 1, bytes + change.payload.len());
        let full = count == PAGE || bytes >= FULL || end == changes.len();
        if full {
            (count, bytes) = (0, 0);
        }
        full.then_some(end)
    })
}

/// Writes changes of one transaction, whose numbers follow each other.
pub(super) async fn write<C: ConnectionTrait>(connection: &C, changes: &[Committed]) -> Result<()> {
    let mut begin = 0;
    for end in ends(changes) {
        let page = &changes[begin..end];
        begin = end;
        let ([first, ..], [.., last]) = (page, page) else { continue };
        let text = "INSERT INTO outbox (last, first, create_time, changes) VALUES ($1, $2, $3, $4)";
        let changes = Page::of(page).encode_to_vec();
        let values = [last.seq.into(), first.seq.into(), first.create_time.into(), changes.into()];
        connection.execute_raw(sql(connection, text, values)).await?;
    }
    Ok(())
}

/// The changes of a topic above `after`, and the number up to which these are all: a page's worth of numbers and what else their pages hold. `to` is the last
/// number of a committed transaction, so that no page goes beyond it.
pub(super) async fn read<C: ConnectionTrait>(
    connection: &C,
    topic: &'static str,
    after: i64,
    to: i64,
) -> Result<(Vec<Committed>, i64)> {
    let until = to.min(after.saturating_add(PAGE));
    // No page ends more than its length behind any of its numbers.
    let text = "SELECT first, last, create_time, changes FROM outbox WHERE last > $1 AND last < $2 AND first <= $3 ORDER BY last";
    let values = [after.into(), until.saturating_add(PAGE).into(), until.into()];
    let (mut changes, mut read_to) = (Vec::new(), until);
    for row in connection.query_all_raw(sql(connection, text, values)).await? {
        let mut columns = Columns::of(&row);
        let (first, last): (i64, i64) = (columns.take()?, columns.take()?);
        let create_time = columns.take()?;
        let page = Page::decode(Bytes::from(columns.take::<Vec<u8>>()?));
        let page = page.map_err(|error| Error::Internal(format!("outbox {last}: {error}")))?;
        if i64::try_from(page.changes.len()) != Ok(last - first + 1) {
            return Err(Error::Internal(format!("outbox {last}: {} changes from {first} on", page.changes.len())));
        }
        changes.extend(page.changes(topic, after, first, create_time)?);
        read_to = read_to.max(last);
    }
    Ok((changes, read_to))
}

/// The last number that is older than `before` (microseconds since 1970), with all before it, and the last that was dropped.
pub(super) async fn old<C: ConnectionTrait>(connection: &C, before: i64) -> Result<(i64, i64)> {
    // Numbers are in commit order, times nearly so (a clock may jump): up to the first change that is young enough.
    let text = "SELECT COALESCE((SELECT first - 1 FROM outbox WHERE create_time >= $1 ORDER BY last LIMIT 1), seq) AS last, trimmed \
                FROM feed_head WHERE id = 1";
    let Some(row) = connection.query_one_raw(sql(connection, text, [before.into()])).await? else { return Ok((0, 0)) };
    let get = |column| i64::try_get(&row, "", column).map_err(sea_orm::DbErr::from);
    Ok((get("last")?, get("trimmed")?))
}

/// Drops the pages up to a number; how many changes they held.
pub(super) async fn drop_to<C: ConnectionTrait>(connection: &C, to: i64) -> Result<u64> {
    let text = "DELETE FROM outbox WHERE last <= $1 RETURNING last - first + 1";
    let rows = connection.query_all_raw(sql(connection, text, [to.into()])).await?;
    let count = |row| Columns::of(row).take::<i64>();
    Ok(rows.iter().map(count).sum::<Result<i64>>()?.unsigned_abs())
}

/// All that is still there of a topic.
pub(crate) async fn published<C: ConnectionTrait>(
    connection: &C,
    topic: &'static str,
) -> Result<Vec<(i64, Uuid, Vec<u8>)>> {
    let row = connection.query_one_raw(sql(
        connection,
        "SELECT COALESCE(MAX(last), 0), COALESCE(MIN(first), 1) FROM outbox",
        [],
    ));
    let Some(row) = row.await? else { return Ok(Vec::new()) };
    let mut columns = Columns::of(&row);
    let (to, first): (i64, i64) = (columns.take()?, columns.take()?);
    let (mut found, mut after) = (Vec::new(), first - 1);
    while after < to {
        let (changes, read_to) = read(connection, topic, after, to).await?;
        found.extend(changes.into_iter().map(|change| (change.seq, change.key, change.payload.to_vec())));
        after = read_to;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(seq: i64, topic: &'static str, cause: Option<&str>) -> Committed {
        Committed {
            seq,
            topic,
            key: Uuid::from_u128(seq.unsigned_abs().into()),
            payload: Bytes::from(seq.to_string()),
            traceparent: cause.map(str::to_owned),
            create_time: 7,
            sent: OnceLock::new(),
        }
    }

    #[test]
    fn a_page_gives_back_what_was_put_into_it() {
        let changes = [
            change(5, "even", Some("a")),
            change(6, "odd", Some("a")),
            change(7, "even", None),
            change(8, "even", Some("b")),
        ];
        let page = Page::of(&changes);
        assert_eq!(page.causes, ["a", "b"]);
        let decoded = Page::decode(Bytes::from(page.encode_to_vec())).unwrap();
        let read = |topic, after| -> Vec<_> {
            let read = decoded.clone().changes(topic, after, 5, 7).unwrap();
            read.into_iter().map(|change| (change.seq, change.key, change.payload, change.traceparent)).collect()
        };
        let kept = |topic, after| -> Vec<_> {
            let kept = changes.iter().filter(|change| change.topic == topic && change.seq > after);
            kept.map(|change| (change.seq, change.key, change.payload.clone(), change.traceparent.clone())).collect()
        };
        for (topic, after) in [("even", 4), ("even", 5), ("odd", 0), ("odd", 6), ("none", 0), ("even", 8)] {
            assert_eq!(read(topic, after), kept(topic, after), "{topic} after {after}");
        }
    }

    #[test]
    fn a_page_is_full_by_its_changes_or_by_their_bytes() {
        let changes = |count: i64, bytes: usize| -> Vec<_> {
            let payload = Bytes::from(vec![0; bytes]);
            (1..=count).map(|seq| Committed { payload: payload.clone(), ..change(seq, "even", None) }).collect()
        };
        let ends = |count, bytes| -> Vec<_> { super::ends(&changes(count, bytes)).collect() };
        assert_eq!(ends(0, 1), [0; 0]);
        assert_eq!(ends(512, 1), [512]);
        assert_eq!(ends(1_025, 1), [512, 1_024, 1_025]);
        assert_eq!(ends(5, 100 * 1_024), [3, 5]);
        assert_eq!(ends(2, 4 << 20), [1, 2]);
    }
}
