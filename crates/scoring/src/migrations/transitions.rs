//! The record of moves between states.
use chassis::db::create_keyed_table;
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, uuid},
};

pub(super) struct Transitions;

impl MigrationName for Transitions {
    fn name(&self) -> &str {
        "m0003_transitions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Transitions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // By time, as they come and as they are asked for.
        create_keyed_table(
            manager,
            Table::create()
                .table("transition")
                .col(uuid("customer_id"))
                .col(big_integer("revision"))
                .col(big_integer("time_us"))
                .col(big_integer("cause"))
                .col(big_integer("relationship_before"))
                .col(big_integer("stage_before"))
                .col(big_integer("tier_before"))
                .col(big_integer("relationship"))
                .col(big_integer("stage"))
                .col(big_integer("tier"))
                .primary_key(Index::create().col("time_us").col("customer_id").col("revision"))
                .to_owned(),
        )
        .await?;
        // Who was announced before there was a record: all that is known is since when they stand as they do.
        manager
            .get_connection()
            .execute_unprepared(
                "INSERT INTO transition (customer_id, revision, time_us, cause, relationship_before, stage_before, tier_before, \
                 relationship, stage, tier) SELECT customer_id, revision, since_us, 0, 0, 0, 0, relationship, stage, tier \
                 FROM customer WHERE revision > 0",
            )
            .await?;
        Ok(())
    }
}
