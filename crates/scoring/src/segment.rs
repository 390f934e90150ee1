//! Segments: named groups of customers, each kept by change.
//!
//! Whenever a customer is judged anew (see [`crate::standing::Findings`]), every expression is evaluated for them, in the same transaction and under
//! the same lock, and who enters or leaves is written and published with it: by whichever replica comes first, and by no other. A new or
//! changed segment is filled by going through everybody, a page to a transaction that also moves the cursor.
use std::{sync::Arc, time::Duration};

use chassis::{Context, Db, Error, Result, Tx};
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use sea_orm::ConnectionTrait;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    cluster::Clustering,
    in_force::Scorer,
    standing::{self, Findings},
    store,
};

pub mod expression;
pub mod field;
mod words;

pub use expression::{Expression, Fault};
pub use field::{Field, Fields};

/// The topic that entries and exits are published to.
pub const TOPIC: &str = "segments";
/// Segments that there may be: each is evaluated for whoever buys, and who is in which fits into 128 bits.
pub const MAX_SEGMENTS: usize = 100;
/// Longest id.
pub const MAX_ID: usize = 64;
/// Customers of one page of filling: a transaction of some milliseconds, for whose locks a purchase may have to wait.
const FILL_PAGE: u64 = 1_000;
/// How soon a replica notices a segment that was changed at another one.
const POLL: Duration = Duration::from_secs(1);

/// How far the membership is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everybody is being gone through.
    Filling,
    /// Kept by change.
    Ready,
    /// Deleted; its members are leaving.
    Leaving,
}

/// A segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Chosen at creation.
    pub id: String,
    /// From 1 on.
    pub revision: i64,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Who is in it.
    pub expression: String,
    /// How far it is.
    pub state: State,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

impl Segment {
    /// The etag of its revision.
    pub fn etag(&self) -> String {
        self.revision.to_string()
    }

    /// As protobuf has it.
    pub fn to_proto(&self) -> pb::Segment {
        let state = match self.state {
            State::Filling | State::Leaving => pb::SegmentState::Filling,
            State::Ready => pb::SegmentState::Ready,
        };
        pb::Segment {
            segment_id: self.id.clone(),
            etag: self.etag(),
            display_name: self.display_name.clone(),
            description: self.description.clone(),
            expression: self.expression.clone(),
            state: state.into(),
            create_time: Some(chassis::clock::to_proto(self.create_time)),
            update_time: Some(chassis::clock::to_proto(self.update_time)),
        }
    }
}

/// Which of a [`Set`]'s segments, a bit for each.
pub type Mask = u128;

/// One segment as it is evaluated.
#[derive(Clone, Debug)]
struct Rule {
    id: String,
    text: String,
    /// Absent for one that this version cannot read, whose members stay as they are.
    expression: Option<Arc<Expression>>,
}

/// All segments of one moment, each read once.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Grows with every change of an expression.
    pub version: i64,
    /// The clusters in force.
    pub clustering: Option<Clustering>,
    rules: Vec<Rule>,
    /// Those without an expression.
    unread: Mask,
}

impl Set {
    /// Reads the segments; those whose text is as in `before` are not read again.
    ///
    /// # Errors
    /// As [`Expression::parse`]: nobody is judged by a part of the segments.
    pub fn of(
        version: i64,
        segments: Vec<Segment>,
        clustering: Option<Clustering>,
        before: Option<&Self>,
    ) -> Result<Self> {
        Self::read(version, segments, clustering, before, Expression::parse)
    }

    fn read(
        version: i64,
        segments: Vec<Segment>,
        clustering: Option<Clustering>,
        before: Option<&Self>,
        parse: impl Fn(&str) -> Result<Result<Expression, Fault>>,
    ) -> Result<Self> {
        let rules = segments
            .into_iter()
            .take(MAX_SEGMENTS)
            .map(|segment| {
                let text = if segment.state == State::Leaving { String::new() } else { segment.expression };
                let same = before.and_then(|set| set.rules.iter().find(|rule| rule.text == text));
                let expression = match same {
                    Some(rule) => rule.expression.clone(),
                    None if text.is_empty() => Some(Arc::new(Expression::never())),
                    None => match parse(&text)? {
                        Ok(expression) => Some(Arc::new(expression)),
                        Err(fault) => {
                            // Written by a version that knew more: it stays as it is until that one comes back.
                            tracing::error!(segment = segment.id, place = ?fault.place, "this version cannot read the expression");
                            None
                        }
                    },
                };
                Ok(Rule { id: segment.id, text, expression })
            })
            .collect::<Result<Vec<Rule>>>()?;
        let unread = rules.iter().enumerate().filter(|(_, rule)| rule.expression.is_none());
        let unread = unread.map(|(index, _)| 1 << index).sum();
        Ok(Self { version, clustering, rules, unread })
    }

    /// Whether it knows who belongs in a segment.
    pub fn knows(&self, id: &str) -> bool {
        self.rules.iter().any(|rule| rule.id == id && rule.expression.is_some())
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any speaks of what is followed of the records.
    pub fn speaks_of_attributes(&self) -> bool {
        self.rules
            .iter()
            .filter_map(|rule| rule.expression.as_ref())
            .any(|expression| expression.fields().iter().any(|field| field.is_attribute()))
    }

    /// The segments that a customer belongs in.
    pub fn matching(&self, customer: &Fields<'_>) -> Mask {
        let matches = |rule: &Rule| rule.expression.as_ref().is_some_and(|expression| expression.matches(customer));
        self.rules.iter().enumerate().filter(|(_, rule)| matches(rule)).map(|(index, _)| 1 << index).sum()
    }

    /// The segments of these ids; one that is not there any more counts for nothing.
    pub fn mask<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> Mask {
        ids.into_iter().filter_map(|id| self.rules.iter().position(|rule| rule.id == *id)).map(|index| 1 << index).sum()
    }

    /// What a customer enters and leaves who is in `kept` and belongs in `wanted`.
    pub fn moves(&self, kept: Mask, wanted: Mask) -> (Mask, Mask) {
        (wanted & !kept & !self.unread, kept & !wanted & !self.unread)
    }

    /// The ids of a mask's segments.
    pub fn ids(&self, mask: Mask) -> impl Iterator<Item = &str> {
        self.rules.iter().enumerate().filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, rule)| rule.id.as_str())
    }
}

/// Where a customer belongs, found in a transaction that holds their lock.
#[derive(Debug)]
pub struct Belonging {
    /// Who.
    pub customer: Uuid,
    /// Where.
    pub wanted: Mask,
    /// The trace that it is part of.
    pub span: tracing::Span,
}

/// Writes and publishes what changes by where customers belong.
///
/// # Errors
/// `Database`.
pub async fn settle(tx: &Tx<'_>, set: &Set, belongings: &[Belonging], cause: pb::ChangeCause) -> Result<()> {
    if set.is_empty() || belongings.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = belongings.iter().map(|belonging| belonging.customer).collect();
    let kept = store::segment::of_customers(&**tx, &ids).await?;
    let (mut entries, mut exits) = (Vec::new(), Vec::new());
    for Belonging { customer, wanted, span } in belongings {
        let kept = kept.get(customer).map_or(0, |kept| set.mask(kept));
        let (entered, left) = set.moves(kept, *wanted);
        if entered | left == 0 {
            continue;
        }
        entries.extend(set.ids(entered).map(|id| (id, *customer)));
        exits.extend(set.ids(left).map(|id| (id, *customer)));
        let change = pb::SegmentChange {
            customer_id: customer.to_string(),
            entered: set.ids(entered).map(str::to_owned).collect(),
            left: set.ids(left).map(str::to_owned).collect(),
            cause: cause.into(),
        };
        span.in_scope(|| tx.publish(TOPIC, *customer, &change));
    }
    store::segment::enter(tx, &entries).await?;
    store::segment::leave(tx, &exits).await
}

/// Woken by segments that are to be filled.
pub type News = watch::Sender<u64>;

/// Fills segments until the service drains. Two replicas take turns, page by page.
pub async fn keep_filled(context: Context, db: Db, scorer: Arc<Scorer>, news: News) {
    let mut woken = news.subscribe();
    while !context.shutdown.is_cancelled() {
        woken.mark_unchanged();
        match fill(&db, &scorer).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(?error, "cannot fill a segment; trying again"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = tokio::time::sleep(POLL) => {}
            _ = woken.changed() => {}
        }
    }
}

/// Goes through one page of customers for the first segment that is not filled; false where there is none, but for those that only another
/// version of this program can read, which fills them.
async fn fill(db: &Db, scorer: &Scorer) -> Result<bool> {
    if !store::segment::any_to_fill(db.read()).await? {
        return Ok(false);
    }
    let Some(begun) = next_to_fill(db.read(), scorer).await? else { return Ok(false) };
    if begun.after.is_none() {
        store::writers::gone(db).await?;
    }
    let (id, version) = (&begun.segment.id, begun.version);
    db.run_tx("fill_segment", |tx| {
        Box::pin(async move {
            store::segment::lock_set(tx).await?;
            let Some(next) = next_to_fill(&**tx, scorer).await? else { return Ok(false) };
            let Next { segment, after, version: now } = next;
            if after.is_none() && (&segment.id, now) != (id, version) {
                // Changed since: those who were writing by then were not waited for.
                return Ok(true);
            }
            let ids = store::segment::customers_after(&**tx, after, FILL_PAGE).await?;
            let mut customers = store::customer::lock(tx, &ids).await?;
            let mut findings = Findings::new(tx, scorer, pb::ChangeCause::Segment, &ids).await?;
            findings.estimate(tx, customers.values_mut()).await?;
            for (index, customer) in customers.values().enumerate() {
                standing::breathe(index).await;
                findings.place(customer);
            }
            findings.write(tx).await?;
            match ids.last().filter(|_| ids.len() as u64 == FILL_PAGE) {
                Some(last) => store::segment::set_filled_to(tx, &segment.id, *last).await?,
                None if segment.state == State::Leaving => store::segment::delete(tx, &segment.id).await?,
                None => store::segment::set_ready(tx, &segment.id).await?,
            }
            Ok::<_, Error>(true)
        })
    })
    .await
}

/// The segment that is next to be filled or emptied.
struct Next {
    segment: Segment,
    /// How far it is.
    after: Option<Uuid>,
    /// Of the set.
    version: i64,
}

async fn next_to_fill<C: ConnectionTrait>(connection: &C, scorer: &Scorer) -> Result<Option<Next>> {
    let segments = &scorer.in_force(connection).await?.segments;
    let to_fill = store::segment::to_fill(connection).await?;
    let next = to_fill.into_iter().find(|(segment, _)| segments.knows(&segment.id));
    Ok(next.map(|(segment, after)| Next { segment, after, version: segments.version }))
}

#[cfg(test)]
mod tests {
    use chassis::testing::noon;

    use super::*;

    fn segment(id: &str, expression: &str) -> Segment {
        Segment {
            id: id.to_owned(),
            revision: 1,
            display_name: String::new(),
            description: String::new(),
            expression: expression.to_owned(),
            state: State::Ready,
            create_time: noon(),
            update_time: noon(),
        }
    }

    #[test]
    fn an_expression_that_cannot_be_read_just_now_is_read_later_and_nobody_is_judged_meanwhile() {
        let segments = || vec![segment("a", "occasions > 1"), segment("b", "occasions > 2"), segment("c", "new(1)")];
        let exhausted = |text: &str| match text {
            "occasions > 2" => Err(Error::Overloaded("expressions")),
            _ => Expression::parse(text),
        };
        assert!(matches!(Set::read(2, segments(), None, None, exhausted), Err(Error::Overloaded(_))));
        let before = Set::of(1, vec![segment("a", "occasions > 1")], None, None).unwrap();
        assert!(matches!(Set::read(2, segments(), None, Some(&before), exhausted), Err(Error::Overloaded(_))));
        let set = Set::of(2, segments(), None, Some(&before)).unwrap();
        assert_eq!(["a", "b", "c"].map(|id| set.knows(id)), [true, true, false]);
    }
}
