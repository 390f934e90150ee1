//! Segments and who is in them.
use chassis::db::create_keyed_table;
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, string, text, text_null, uuid, uuid_null},
};

pub(super) struct Segments;

impl MigrationName for Segments {
    fn name(&self) -> &str {
        "m0004_segments"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Segments {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("segment")
                    .col(string("segment_id").primary_key())
                    .col(big_integer("revision"))
                    .col(text("display_name"))
                    .col(text("description"))
                    .col(text("expression"))
                    .col(big_integer("state"))
                    .col(big_integer("create_time"))
                    .col(big_integer("update_time"))
                    .col(uuid_null("fill_after"))
                    .to_owned(),
            )
            .await?;
        create_keyed_table(
            manager,
            Table::create()
                .table("segment_member")
                .col(string("segment_id"))
                .col(uuid("customer_id"))
                .col(big_integer("since_us"))
                .primary_key(Index::create().col("segment_id").col("customer_id"))
                .to_owned(),
        )
        .await?;
        manager
            .create_index(
                Index::create()
                    .name("segment_member_customer")
                    .table("segment_member")
                    .col("customer_id")
                    .col("segment_id")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("segment_set")
                    .col(big_integer("id").primary_key())
                    .col(big_integer("version"))
                    .col(text_null("clustering"))
                    .to_owned(),
            )
            .await?;
        manager.get_connection().execute_unprepared("INSERT INTO segment_set (id, version) VALUES (1, 0)").await?;
        Ok(())
    }
}
