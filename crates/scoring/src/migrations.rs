//! The tables, as they came to be: expand first, contract later.
//!
//! Whole numbers are all 64 bits wide, so that sums and columns read alike on both databases.
use chassis::db::{RoomForChanges, create_keyed_table};
use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, boolean, double, double_null, string, string_null, text, text_null, uuid,
        uuid_null,
    },
};

mod loyalty;
mod models;
mod segments;
mod transitions;

/// The chassis's migrations, then scoring's own.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = chassis::db::migrations();
        all.push(Box::new(Ledger));
        all.push(Box::new(loyalty::Loyalty));
        all.push(Box::new(models::Models));
        all.push(Box::new(transitions::Transitions));
        all.push(Box::new(segments::Segments));
        all.push(Box::new(RoomForChanges { name: "m0011_room", table: "customer" }));
        all
    }
}

struct Ledger;

impl MigrationName for Ledger {
    fn name(&self) -> &str {
        "m0001_ledger"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Ledger {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("purchase")
                    .col(string("source"))
                    .col(string("purchase_id"))
                    .col(uuid("customer_id"))
                    .col(big_integer("time_us"))
                    .col(big_integer("day"))
                    .col(big_integer("amount_minor"))
                    .col(big_integer("kind"))
                    .col(big_integer("record_time"))
                    .primary_key(Index::create().col("source").col("purchase_id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("purchase_customer_day")
                    .table("purchase")
                    .col("customer_id")
                    .col("day")
                    .to_owned(),
            )
            .await?;
        create_keyed_table(
            manager,
            Table::create()
                .table("customer")
                .col(uuid("customer_id").primary_key())
                .col(big_integer("profile_revision"))
                .col(boolean("showed_interest"))
                .col(boolean("targeted"))
                .col(big_integer("occasions"))
                .col(big_integer("first_day"))
                .col(big_integer("last_day"))
                .col(big_integer("day_sum"))
                .col(big_integer("sales_minor"))
                .col(big_integer("returns_minor"))
                .col(big_integer("first_sales_minor"))
                .col(big_integer("relationship"))
                .col(big_integer("stage"))
                .col(big_integer("tier"))
                .col(big_integer("code"))
                .col(boolean("estimated"))
                .col(big_integer("revision"))
                .col(big_integer("since_us"))
                .to_owned(),
        )
        .await?;
        manager
            .create_table(
                Table::create()
                    .table("model")
                    .col(uuid("model_id").primary_key())
                    .col(big_integer("kind"))
                    .col(text("parameters"))
                    .col(double("log_likelihood"))
                    .col(big_integer("customers"))
                    .col(big_integer("as_of_day"))
                    .col(big_integer("fit_time"))
                    .col(double_null("correlation"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("ranking")
                    .col(uuid("ranking_id").primary_key())
                    .col(big_integer("as_of_day"))
                    .col(big_integer("rank_time"))
                    .col(big_integer("customers"))
                    .col(text("ranking"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("in_force")
                    .col(big_integer("id").primary_key())
                    .col(big_integer("version"))
                    .col(uuid_null("buying"))
                    .col(uuid_null("one_timers"))
                    .col(uuid_null("spend"))
                    .col(uuid_null("ranking"))
                    .col(big_integer("swept_version"))
                    .col(big_integer("swept_day"))
                    .col(string_null("currency"))
                    .col(string_null("time_zone"))
                    .to_owned(),
            )
            .await?;
        manager
            .get_connection()
            .execute_unprepared("INSERT INTO in_force (id, version, swept_version, swept_day) VALUES (1, 0, 0, 0)")
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("operation")
                    .col(uuid("operation_id").primary_key())
                    .col(big_integer("kind"))
                    .col(big_integer("state"))
                    .col(big_integer("as_of_day"))
                    .col(boolean("trial"))
                    .col(big_integer("done"))
                    .col(big_integer("total"))
                    .col(string("phase"))
                    .col(big_integer("create_time"))
                    .col(big_integer_null("end_time"))
                    .col(big_integer_null("error_reason"))
                    .col(text_null("error_message"))
                    .col(ColumnDef::new("result").binary().null().take())
                    .col(string_null("holder"))
                    .col(big_integer("held_until"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("operation_state").table("operation").col("state").col("operation_id").to_owned(),
            )
            .await
    }
}
