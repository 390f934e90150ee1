//! The service's schema.
use chassis::db::{RoomForChanges, create_keyed_table};
use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, binary, binary_null, boolean, double, integer, string, string_null, text, uuid,
        uuid_null,
    },
};

pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = chassis::db::migrations();
        migrations.push(Box::new(Initial));
        migrations.push(Box::new(RoomForChanges { name: "m0002_room", table: "customer" }));
        migrations
    }
}

struct Initial;

impl MigrationName for Initial {
    fn name(&self) -> &str {
        "m0001_initial"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Initial {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One row: whoever changes channels or queues locks it; the key of the contact points' hashes.
        let setup = Table::create()
            .table("setup")
            .col(big_integer("id").primary_key())
            .col(big_integer("revision"))
            .col(binary("point_key"))
            .to_owned();
        manager.create_table(setup).await?;
        let key = match manager.get_database_backend() {
            // 244 random bits: each of the two UUIDs has 122.
            sea_orm::DatabaseBackend::Postgres => "uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())",
            _ => "randomblob(32)",
        };
        let insert = format!("INSERT INTO setup (id, revision, point_key) VALUES (1, 0, {key})");
        manager.get_connection().execute_unprepared(&insert).await?;

        let channel = Table::create()
            .table("channel")
            .col(string("channel_id").primary_key())
            .col(big_integer("revision"))
            .col(string("display_name"))
            .col(integer("kind"))
            .col(string("currency"))
            .col(big_integer("cost"))
            .col(integer("capacity"))
            .col(text("hours"))
            .col(double("relationship_building"))
            .col(boolean("enabled"))
            .to_owned();
        manager.create_table(channel).await?;

        let queue = Table::create()
            .table("queue")
            .col(string("queue_id").primary_key())
            .col(big_integer("revision"))
            .col(string("display_name"))
            .col(string("channel_id"))
            .col(text("tiers"))
            .col(text("purposes"))
            .col(integer("priority"))
            .col(big_integer("answer"))
            .col(big_integer("handling"))
            .col(boolean("enabled"))
            .to_owned();
        manager.create_table(queue).await?;

        let contact = Table::create()
            .table("contact")
            .col(uuid("contact_id").primary_key())
            .col(uuid_null("decision_id"))
            .col(uuid_null("customer_id"))
            .col(string("channel_id"))
            .col(string_null("queue_id"))
            .col(integer("purpose"))
            .col(big_integer("arrive_time"))
            .col(big_integer_null("answer_time"))
            .col(big_integer("end_time"))
            .col(integer("outcome"))
            .col(string("agent_id"))
            .col(big_integer("create_time"))
            .to_owned();
        manager.create_table(contact).await?;
        let index = |name: &str| Index::create().name(name).table("contact").to_owned();
        manager.create_index(index("contact_arrive").col("arrive_time").col("contact_id").to_owned()).await?;
        manager
            .create_index(
                index("contact_customer_arrive").col("customer_id").col("arrive_time").col("contact_id").to_owned(),
            )
            .await?;

        // Projection: all that a decision needs of a customer, one row, so that one statement replaces it.
        let customer = Table::create()
            .table("customer")
            .col(uuid("customer_id").primary_key())
            .col(big_integer("standing_revision").default(0))
            .col(integer("relationship").default(0))
            .col(integer("stage").default(0))
            .col(integer("tier").default(0))
            .col(integer("code").default(0))
            .col(boolean("estimated").default(false))
            .col(big_integer("since").default(0))
            .col(big_integer("profile_revision").default(0))
            .col(binary_null("points"))
            .col(integer("open_complaints").default(0))
            .to_owned();
        create_keyed_table(manager, customer).await?;

        // Projection: every complaint that was heard of, to know how many of a customer are open.
        let pause = Table::create()
            .table("pause")
            .col(uuid("complaint_id").primary_key())
            .col(uuid("customer_id"))
            .col(big_integer("revision"))
            .col(boolean("is_open"))
            .to_owned();
        manager.create_table(pause).await?;
        manager.create_index(Index::create().name("pause_customer").table("pause").col("customer_id").to_owned()).await
    }
}
