//! `transition`: one row for each move of a customer between relationships, stages or tiers.
use std::ops::Range;

use chassis::{
    Error, Result, Tx,
    clock::at_micros,
    db::{Columns, bulk, sql},
};
use jiff::Timestamp;
use sea_orm::{ConnectionTrait, QueryResult, Value};

use crate::transition::{State, Tally, Transition};

const INSERT: &str = "INSERT INTO transition (customer_id, revision, time_us, cause, relationship_before, stage_before, \
                      tier_before, relationship, stage, tier)";

/// Writes moves, a few statements however many they are.
pub async fn insert(tx: &Tx<'_>, transitions: &[Transition]) -> Result<()> {
    let rows = transitions.iter().map(|transition| -> [Value; 10] {
        let (before, after) = (&transition.before, &transition.after);
        [
            transition.customer.into(),
            transition.revision.into(),
            transition.time.as_microsecond().into(),
            i64::from(i32::from(transition.cause)).into(),
            i64::from(i32::from(before.relationship)).into(),
            i64::from(i32::from(before.stage)).into(),
            i64::from(i32::from(before.tier)).into(),
            i64::from(i32::from(after.relationship)).into(),
            i64::from(i32::from(after.stage)).into(),
            i64::from(i32::from(after.tier)).into(),
        ]
    });
    bulk::insert(&**tx, INSERT, rows, "").await?;
    Ok(())
}

/// When the first move was recorded.
pub async fn first<C: ConnectionTrait>(connection: &C) -> Result<Option<Timestamp>> {
    let row = connection.query_one_raw(sql(connection, "SELECT MIN(time_us) FROM transition", [])).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Columns::of(&row).take::<Option<i64>>()?.map(at_micros))
}

/// Customers by where they stood at the start of a period and at its end. Reads the moves since the start, whatever was before, and the announced
/// standing of everybody once.
pub async fn ends<C: ConnectionTrait>(connection: &C, period: &Range<Timestamp>) -> Result<Vec<Tally>> {
    // The first move from a moment on, by revision: clocks may jump back, revisions only grow.
    let from = |parameter: &str| {
        format!(
            "(SELECT customer_id, relationship_before, stage_before, tier_before FROM \
             (SELECT customer_id, relationship_before, stage_before, tier_before, \
             ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY revision) AS place \
             FROM transition WHERE time_us >= {parameter}) moves WHERE place = 1)"
        )
    };
    let text = format!(
        "SELECT COALESCE(a.relationship_before, c.relationship) AS r0, COALESCE(a.stage_before, c.stage) AS s0, \
         COALESCE(a.tier_before, c.tier) AS t0, COALESCE(b.relationship_before, c.relationship) AS r1, \
         COALESCE(b.stage_before, c.stage) AS s1, COALESCE(b.tier_before, c.tier) AS t1, COUNT(*) \
         FROM customer c LEFT JOIN {} a ON a.customer_id = c.customer_id \
         LEFT JOIN {} b ON b.customer_id = c.customer_id WHERE c.revision > 0 \
         GROUP BY 1, 2, 3, 4, 5, 6",
        from("$1"),
        from("$2"),
    );
    let values = [period.start.as_microsecond().into(), period.end.as_microsecond().into()];
    connection.query_all_raw(sql(connection, text, values)).await?.iter().map(read).collect()
}

/// The moves within a period.
pub async fn moves<C: ConnectionTrait>(connection: &C, period: &Range<Timestamp>) -> Result<Vec<Tally>> {
    let text = "SELECT relationship_before, stage_before, tier_before, relationship, stage, tier, COUNT(*) FROM transition \
                WHERE time_us >= $1 AND time_us < $2 GROUP BY 1, 2, 3, 4, 5, 6";
    let values = [period.start.as_microsecond().into(), period.end.as_microsecond().into()];
    connection.query_all_raw(sql(connection, text, values)).await?.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<Tally> {
    let mut columns = Columns::of(row);
    let mut state = || {
        Ok::<_, Error>(State {
            relationship: known(columns.narrow()?)?,
            stage: known(columns.narrow()?)?,
            tier: known(columns.narrow()?)?,
        })
    };
    let (before, after) = (state()?, state()?);
    Ok(Tally { before, after, count: columns.take()? })
}

fn known<E: TryFrom<i32>>(number: i32) -> Result<E> {
    E::try_from(number)
        .map_err(|_| Error::Internal(format!("transition: {number} is no state that this program knows")))
}
