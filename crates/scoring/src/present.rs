//! Customers as they are now: from memory where they cannot have changed since they were read, else read together with whoever is asked for at once.
use std::{collections::HashMap, sync::Arc};

use chassis::{
    Db, Result,
    db::{Batcher, Kept},
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    estimate,
    in_force::{InForce, Scorer},
    standing::Customer,
    store,
};

/// A customer, absent where not known here, and what is in force.
type Found = (Option<Customer>, Arc<InForce>);

/// Finds single customers.
#[derive(Clone, Debug)]
pub struct Present {
    memory: Arc<Memory>,
    reader: Batcher<Uuid, Found>,
}

#[derive(Debug)]
struct Memory {
    buyers: Kept<Customer>,
    in_force: Kept<Arc<InForce>>,
}

impl Present {
    /// Keeps up to `most` buyers in memory.
    pub fn new(db: Db, scorer: &Arc<Scorer>, most: usize) -> Self {
        let memory = Arc::new(Memory { buyers: Kept::new(&db, most), in_force: Kept::new(&db, most.min(1)) });
        let (filled, scorer) = (Arc::clone(&memory), Arc::clone(scorer));
        let reader = Batcher::spawn_reader(db, "get_score", move |connection, ids: &[Uuid]| {
            let (filled, scorer) = (Arc::clone(&filled), Arc::clone(&scorer));
            Box::pin(async move { filled.read(connection, &scorer, ids).await })
        });
        Self { memory, reader }
    }

    /// A customer as they are now, who knows of everything that was acknowledged before the question.
    ///
    /// # Errors
    /// `Database`; `NotServing` as [`Scorer::in_force`].
    pub async fn find(&self, id: Uuid) -> Result<Found> {
        if let Some(customer) = self.memory.buyers.find(id)
            && let Some(in_force) = self.memory.in_force.find(store::in_force::KEY)
        {
            return Ok((Some(customer), in_force));
        }
        self.reader.submit(id).await
    }
}

impl Memory {
    async fn read<C: ConnectionTrait>(&self, connection: &C, scorer: &Scorer, ids: &[Uuid]) -> Result<Vec<Found>> {
        let stamps: Vec<_> = ids.iter().map(|id| self.buyers.stamp(*id)).collect();
        let of_in_force = self.in_force.stamp(store::in_force::KEY);
        let (customers, in_force) = read(connection, scorer, ids).await?;
        if let Some(stamp) = of_in_force {
            self.in_force.keep(stamp, Arc::clone(&in_force));
        }
        let found = ids.iter().zip(stamps).map(|(id, stamp)| {
            let customer = customers.get(id);
            // Who has not bought is estimated by their attributes, which change by themselves.
            if let Some((customer, stamp)) = customer.filter(|customer| customer.summary.occasions > 0).zip(stamp) {
                self.buyers.keep(stamp, customer.clone());
            }
            (customer.cloned(), Arc::clone(&in_force))
        });
        Ok(found.collect())
    }
}

/// Those of these customers that are known here, as they are now, and what is in force.
///
/// # Errors
/// As [`Present::find`].
pub async fn read<C: ConnectionTrait>(
    connection: &C,
    scorer: &Scorer,
    ids: &[Uuid],
) -> Result<(HashMap<Uuid, Customer>, Arc<InForce>)> {
    let (mut customers, in_force) = known(connection, scorer, ids).await?;
    estimate::refresh(connection, &in_force, customers.values_mut()).await?;
    Ok((customers, in_force))
}

/// The same, with who has not bought as they were estimated last.
///
/// # Errors
/// As [`Present::find`].
pub async fn known<C: ConnectionTrait>(
    connection: &C,
    scorer: &Scorer,
    ids: &[Uuid],
) -> Result<(HashMap<Uuid, Customer>, Arc<InForce>)> {
    Ok((store::customer::find(connection, ids).await?, scorer.in_force(connection).await?))
}
