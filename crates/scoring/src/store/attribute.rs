//! `attribute`: what is followed of the records in profiles, as [`Attributes`] allows.
use std::collections::HashMap;

use chassis::{
    Result, Tx,
    db::{Columns, bulk},
};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use crate::attributes::Attributes;

/// Keeps what records say. Unless they are `authoritative`, only those that are newer than what is kept. No customer may come twice.
pub async fn put<'a>(
    tx: &Tx<'_>,
    news: impl ExactSizeIterator<Item = (Uuid, i64, &'a Attributes)>,
    authoritative: bool,
) -> Result<()> {
    let head = "INSERT INTO attribute (customer_id, revision, kind, employer, position, line_of_business, legal_form, region, \
                source, acquisition_cost_minor, introduced_by)";
    let newer = if authoritative { "" } else { " WHERE attribute.revision < excluded.revision" };
    let tail = format!(
        " ON CONFLICT (customer_id) DO UPDATE SET revision = excluded.revision, kind = excluded.kind, \
         employer = excluded.employer, position = excluded.position, line_of_business = excluded.line_of_business, \
         legal_form = excluded.legal_form, region = excluded.region, source = excluded.source, \
         acquisition_cost_minor = excluded.acquisition_cost_minor, introduced_by = excluded.introduced_by{newer}"
    );
    let rows = news.map(|(id, revision, attributes)| -> [Value; 11] {
        [
            id.into(),
            revision.into(),
            i64::from(i32::from(attributes.kind)).into(),
            attributes.employer.as_str().into(),
            attributes.position.as_str().into(),
            attributes.line_of_business.as_str().into(),
            attributes.legal_form.as_str().into(),
            attributes.region.as_str().into(),
            i64::from(i32::from(attributes.source)).into(),
            attributes.acquisition_cost_minor.into(),
            attributes.introduced_by.into(),
        ]
    });
    bulk::insert(&**tx, head, rows, &tail).await?;
    Ok(())
}

/// What is kept of these customers.
pub async fn find<C: ConnectionTrait>(connection: &C, customers: &[Uuid]) -> Result<HashMap<Uuid, Attributes>> {
    let head = "SELECT customer_id, kind, employer, position, line_of_business, legal_form, region, source, \
                acquisition_cost_minor, introduced_by FROM attribute WHERE customer_id IN (";
    let rows = bulk::find(connection, head, customers.iter().map(|id| [(*id).into()]), ")").await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let id = columns.take()?;
            // What a later version wrote and this one does not know is not known.
            let kind: i32 = columns.narrow()?;
            let (employer, position) = (columns.take()?, columns.take()?);
            let (line_of_business, legal_form, region) = (columns.take()?, columns.take()?, columns.take()?);
            let source: i32 = columns.narrow()?;
            let attributes = Attributes {
                kind: kind.try_into().unwrap_or_default(),
                employer,
                position,
                line_of_business,
                legal_form,
                region,
                source: source.try_into().unwrap_or_default(),
                acquisition_cost_minor: columns.take()?,
                introduced_by: columns.take()?,
            };
            Ok((id, attributes))
        })
        .collect()
}
