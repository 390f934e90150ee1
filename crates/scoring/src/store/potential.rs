//! `potential`: the models of what who has not bought would be worth. The newest is in force.
use chassis::{
    Error, Result, Tx,
    db::{Columns, sql},
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    potential::{Model, Quality},
    score::Day,
};

/// Keeps a model, which is in force from then on: the version of what is in force must grow in the same transaction.
pub async fn insert(tx: &Tx<'_>, id: Uuid, as_of: Day, customers: i64, fitted: &(Model, Quality)) -> Result<()> {
    tx.alters(super::in_force::KEY);
    let (model, quality) = fitted;
    let model = serde_json::to_string(model).map_err(|error| Error::Internal(format!("cannot be kept: {error}")))?;
    let text = "INSERT INTO potential (model_id, as_of_day, customers, r_squared, rank_correlation, model, fit_time) \
                VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = [
        id.into(),
        i64::from(as_of).into(),
        customers.into(),
        quality.r_squared.into(),
        quality.rank_correlation.into(),
        model.into(),
        tx.clock().now_micros().into(),
    ];
    tx.execute_raw(sql(&**tx, text, values)).await?;
    Ok(())
}

/// The model in force; absent before the first.
pub async fn find<C: ConnectionTrait>(connection: &C) -> Result<Option<Model>> {
    let text = "SELECT model FROM potential ORDER BY model_id DESC LIMIT 1";
    let Some(row) = connection.query_one_raw(sql(connection, text, [])).await? else { return Ok(None) };
    let model: String = Columns::of(&row).take()?;
    serde_json::from_str(&model)
        .map(Some)
        .map_err(|error| Error::Internal(format!("what was kept cannot be read: {error}")))
}
