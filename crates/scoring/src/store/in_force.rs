//! `in_force` (one row), `model`, `ranking`: what scores are computed with.
use std::sync::Arc;

use chassis::{
    Error, Result, Tx,
    clock::at_micros,
    db::{Columns, sql},
};
use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use crate::{
    books::Terms,
    fitted::Fitted,
    in_force::InForce,
    pyramid::Ranking,
    rank::LastRanking,
    score::{Day, Models},
};

/// What is in force is kept in memory under the id that no customer has.
pub const KEY: Uuid = Uuid::nil();

/// Which version of models and cut-offs is in force. Grows with every change of them.
pub async fn version<C: ConnectionTrait>(connection: &C) -> Result<i64> {
    versions(connection).await.map(|(version, _)| version)
}

/// The same, and the version of the segments.
pub async fn versions<C: ConnectionTrait>(connection: &C) -> Result<(i64, i64)> {
    let text = "SELECT version, (SELECT version FROM segment_set WHERE id = 1) FROM in_force WHERE id = 1";
    let row = connection.query_one_raw(sql(connection, text, [])).await?.ok_or_else(missing)?;
    let mut columns = Columns::of(&row);
    Ok((columns.take()?, columns.take()?))
}

fn missing() -> Error {
    Error::Internal("in_force has no row".to_owned())
}

/// What the books are kept in, locked; absent before the first start.
pub async fn terms_for_update(tx: &Tx<'_>) -> Result<Option<Terms>> {
    let text = format!("SELECT currency, time_zone FROM in_force WHERE id = 1{}", tx.for_update());
    let row = tx.query_one_raw(sql(&**tx, text, [])).await?.ok_or_else(missing)?;
    terms(&mut Columns::of(&row))
}

fn terms(columns: &mut Columns<'_>) -> Result<Option<Terms>> {
    let (currency, time_zone) = (columns.take::<Option<String>>()?, columns.take::<Option<String>>()?);
    Ok(currency.zip(time_zone).map(|(currency, time_zone)| Terms { currency, time_zone }))
}

/// Settles what the books are kept in. The version grows, so that every replica reads it before its next row.
pub async fn set_terms(tx: &Tx<'_>, terms: &Terms) -> Result<()> {
    tx.alters(KEY);
    let text = "UPDATE in_force SET version = version + 1, currency = $1, time_zone = $2 WHERE id = 1";
    let values = [terms.currency.as_str().into(), terms.time_zone.as_str().into()];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    Ok(())
}

/// The row of what is in force: ids of the models, and what the books are kept in.
struct Row {
    version: i64,
    terms: Option<Terms>,
    buying: Option<Uuid>,
    one_timers: Option<Uuid>,
    spend: Option<Uuid>,
    ranking: Option<Uuid>,
}

async fn row<C: ConnectionTrait>(connection: &C) -> Result<Row> {
    let text = "SELECT version, currency, time_zone, buying, one_timers, spend, ranking FROM in_force WHERE id = 1";
    let row = connection.query_one_raw(sql(connection, text, [])).await?.ok_or_else(missing)?;
    let mut columns = Columns::of(&row);
    Ok(Row {
        version: columns.take()?,
        terms: terms(&mut columns)?,
        buying: columns.take()?,
        one_timers: columns.take()?,
        spend: columns.take()?,
        ranking: columns.take()?,
    })
}

/// What is in force, all of one moment: the ids are read at once, and what stands under them never changes.
pub async fn load<C: ConnectionTrait>(connection: &C, terms: &value::clv::Terms) -> Result<InForce> {
    let row = row(connection).await?;
    let models = match row.buying {
        Some(id) => {
            let buying = model(connection, id).await?.buying()?;
            let one_timers = match row.one_timers {
                Some(id) => Some(model(connection, id).await?.mbg_nbd()?),
                None => None,
            };
            let spend = match row.spend {
                Some(id) => Some(model(connection, id).await?.spend()?),
                None => None,
            };
            Some(Models::new(id, buying, one_timers, spend, *terms))
        }
        None => None,
    };
    let cut_offs = match row.ranking {
        Some(id) => Some(ranking(connection, id).await?.ranking.cut_offs),
        None => None,
    };
    let potential = super::potential::find(connection).await?.map(Arc::new);
    let segments = Arc::default();
    Ok(InForce { version: row.version, terms: row.terms, models, cut_offs, potential, segments })
}

/// The ids of the models of buying and of spending that scores are computed with.
pub async fn models_in_force<C: ConnectionTrait>(connection: &C) -> Result<[Option<Uuid>; 2]> {
    let row = row(connection).await?;
    Ok([row.buying, row.spend])
}

/// Models that a fit puts into force, where it has them.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// By which buying is foretold.
    pub buying: Option<Uuid>,
    /// By which those who bought once are judged.
    pub one_timers: Option<Uuid>,
    /// By which spending is foretold.
    pub spend: Option<Uuid>,
}

/// Puts models into force. Where there is none, the one before stays: a poor month takes nothing away.
pub async fn set_models(tx: &Tx<'_>, chosen: &Chosen) -> Result<()> {
    tx.alters(KEY);
    let text = "UPDATE in_force SET version = version + 1, buying = COALESCE($1, buying), \
                one_timers = COALESCE($2, one_timers), spend = COALESCE($3, spend) WHERE id = 1";
    let values = [chosen.buying.into(), chosen.one_timers.into(), chosen.spend.into()];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    Ok(())
}

/// Keeps a fitted model.
pub async fn insert_model(tx: &Tx<'_>, fitted: &Fitted) -> Result<()> {
    let text = "INSERT INTO model (model_id, kind, parameters, log_likelihood, customers, as_of_day, fit_time, correlation, \
                quality) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let values = [
        fitted.id.into(),
        i64::from(i32::from(fitted.kind)).into(),
        json(&fitted.parameters)?.into(),
        fitted.log_likelihood.into(),
        fitted.customers.into(),
        i64::from(fitted.as_of).into(),
        fitted.fit_time.as_microsecond().into(),
        fitted.correlation.into(),
        json(&fitted.quality)?.into(),
    ];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    Ok(())
}

const MODEL: &str = "SELECT model_id, kind, parameters, log_likelihood, customers, as_of_day, fit_time, correlation, quality \
     FROM model";

fn read_model(row: &QueryResult) -> Result<Fitted> {
    let mut columns = Columns::of(row);
    let id = columns.take()?;
    let kind: i32 = columns.narrow()?;
    let parameters: String = columns.take()?;
    Ok(Fitted {
        id,
        kind: kind.try_into().unwrap_or_default(),
        parameters: from_json(&parameters)?,
        log_likelihood: columns.take()?,
        customers: columns.take()?,
        as_of: columns.narrow()?,
        fit_time: at_micros(columns.take()?),
        correlation: columns.take()?,
        quality: columns.take::<Option<String>>()?.map(|text| from_json(&text)).transpose()?.unwrap_or_default(),
    })
}

async fn model<C: ConnectionTrait>(connection: &C, id: Uuid) -> Result<Fitted> {
    let text = format!("{MODEL} WHERE model_id = $1");
    let row = connection.query_one_raw(sql(connection, text, [id.into()])).await?;
    read_model(&row.ok_or_else(|| Error::Internal(format!("model {id} is in force and not there")))?)
}

/// One page of models, newest first: their ids grow with time.
pub async fn list_models<C: ConnectionTrait>(connection: &C, after: Option<Uuid>, limit: u64) -> Result<Vec<Fitted>> {
    let after = after.unwrap_or(Uuid::max());
    let text = format!("{MODEL} WHERE model_id < $1 ORDER BY model_id DESC LIMIT $2");
    let values = [after.into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    connection.query_all_raw(sql(connection, text, values)).await?.iter().map(read_model).collect()
}

/// Keeps a ranking and puts its cut-offs into force.
pub async fn set_ranking(tx: &Tx<'_>, id: Uuid, ranked: &LastRanking) -> Result<()> {
    let text = "INSERT INTO ranking (ranking_id, as_of_day, rank_time, customers, ranking) VALUES ($1, $2, $3, $4, $5)";
    let values = [
        id.into(),
        i64::from(ranked.as_of).into(),
        ranked.rank_time.as_microsecond().into(),
        ranked.customers.into(),
        json(&ranked.ranking)?.into(),
    ];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    tx.alters(KEY);
    let text = "UPDATE in_force SET version = version + 1, ranking = $1 WHERE id = 1";
    tx.execute_raw(sql(&**tx, text, [id.into()])).await?;
    Ok(())
}

async fn ranking<C: ConnectionTrait>(connection: &C, id: Uuid) -> Result<LastRanking> {
    let text = "SELECT as_of_day, rank_time, customers, ranking FROM ranking WHERE ranking_id = $1";
    let row = connection.query_one_raw(sql(connection, text, [id.into()])).await?;
    let row = row.ok_or_else(|| Error::Internal(format!("ranking {id} is in force and not there")))?;
    let mut columns = Columns::of(&row);
    let (as_of, rank_time, customers) = (columns.narrow()?, at_micros(columns.take()?), columns.take()?);
    let ranking: Ranking = from_json(&columns.take::<String>()?)?;
    Ok(LastRanking { as_of, rank_time, customers, ranking })
}

/// The ranking in force.
pub async fn find_ranking<C: ConnectionTrait>(connection: &C) -> Result<Option<LastRanking>> {
    match row(connection).await?.ranking {
        Some(id) => Ok(Some(ranking(connection, id).await?)),
        None => Ok(None),
    }
}

/// The version and day that the sweep went through everybody for last.
pub async fn swept<C: ConnectionTrait>(connection: &C) -> Result<(i64, Day)> {
    let text = "SELECT swept_version, swept_day FROM in_force WHERE id = 1";
    let row = connection.query_one_raw(sql(connection, text, [])).await?.ok_or_else(missing)?;
    let mut columns = Columns::of(&row);
    Ok((columns.take()?, columns.narrow()?))
}

/// Notes that the sweep went through everybody.
pub async fn set_swept(tx: &Tx<'_>, version: i64, day: Day) -> Result<()> {
    let text = "UPDATE in_force SET swept_version = $1, swept_day = $2 WHERE id = 1";
    tx.execute_raw(sql(&**tx, text, [version.into(), i64::from(day).into()])).await?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("cannot be kept: {error}")))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Internal(format!("what was kept cannot be read: {error}")))
}
