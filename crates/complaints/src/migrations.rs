//! The schema. A migration that has been released never changes: add the next one (expand, then contract).
use chassis::db::{RoomForChanges, create_keyed_table, sql};
use sea_orm::ConnectionTrait;
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, boolean, integer, string, text, uuid},
};

/// The chassis's tables, then ours.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = chassis::db::migrations();
        all.push(Box::new(Tables));
        all.push(Box::new(Causes));
        all.push(Box::new(RoomForChanges { name: "m0003_room", table: "customer" }));
        all.push(Box::new(Owners));
        all
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "m0001_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("complaint")
                    .col(uuid("complaint_id").primary_key())
                    .col(uuid("customer_id"))
                    .col(string("cause_id"))
                    .col(integer("severity"))
                    .col(text("description"))
                    .col(integer("state"))
                    .col(string("owner_id"))
                    .col(integer("escalation_level"))
                    .col(integer("tier"))
                    .col(big_integer("allowed_micros"))
                    .col(big_integer("floor_micros"))
                    .col(big_integer("elapsed_micros"))
                    .col(big_integer_null("running_since"))
                    // The largest number where there is none: those come last in every order.
                    .col(big_integer("due_time"))
                    .col(big_integer("sweep_time"))
                    .col(integer("swept"))
                    .col(boolean("breached"))
                    .col(text("answer"))
                    .col(integer("customer_word"))
                    .col(big_integer("create_time"))
                    .col(big_integer("update_time"))
                    .col(big_integer("revision"))
                    .to_owned(),
            )
            .await?;
        let indexes: [(&str, &[&str]); 5] = [
            ("complaint_due", &["due_time", "complaint_id"]),
            ("complaint_owner_due", &["owner_id", "due_time", "complaint_id"]),
            ("complaint_customer", &["customer_id", "complaint_id"]),
            ("complaint_state_due", &["state", "due_time", "complaint_id"]),
            ("complaint_sweep", &["sweep_time", "complaint_id"]),
        ];
        for (name, columns) in indexes {
            let mut index = Index::create().name(name).table("complaint").to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        manager
            .create_table(
                Table::create()
                    .table("step")
                    .col(uuid("complaint_id"))
                    .col(big_integer("number"))
                    .col(big_integer("time"))
                    .col(string("action"))
                    .col(integer("state"))
                    .col(string("actor_id"))
                    .col(text("note"))
                    .primary_key(Index::create().col("complaint_id").col("number"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("cause")
                    .col(string("cause_id").primary_key())
                    .col(string("parent_id"))
                    .col(string("display_name"))
                    .to_owned(),
            )
            .await?;
        create_keyed_table(
            manager,
            Table::create()
                .table("customer")
                .col(uuid("customer_id").primary_key())
                .col(integer("tier"))
                .col(big_integer("revision"))
                .to_owned(),
        )
        .await
    }
}

/// The causes that every company starts with: (id, parent, name).
const CAUSES: [(&str, &str, &str); 16] = [
    ("quality", "", "Product or service quality"),
    ("product-quality", "quality", "Product quality"),
    ("service-quality", "quality", "Service quality"),
    ("attitude", "", "Attitude or manner of service"),
    ("deception", "", "Deception"),
    ("overstated-advertising", "deception", "Overstated advertising"),
    ("broken-promise", "deception", "Broken promise"),
    ("price-and-billing", "", "Price and billing"),
    ("price", "price-and-billing", "Price"),
    ("billing", "price-and-billing", "Billing"),
    ("delivery-and-availability", "", "Delivery and availability"),
    ("delivery", "delivery-and-availability", "Delivery"),
    ("availability", "delivery-and-availability", "Availability"),
    ("safety", "", "Safety"),
    ("privacy", "", "Privacy"),
    ("other", "", "Other"),
];

struct Causes;

impl MigrationName for Causes {
    fn name(&self) -> &str {
        "m0002_causes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Causes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for (id, parent, name) in CAUSES {
            let text = "INSERT INTO cause (cause_id, parent_id, display_name) VALUES ($1, $2, $3)";
            connection.execute_raw(sql(connection, text, [id.into(), parent.into(), name.into()])).await?;
        }
        Ok(())
    }
}

/// Who owned the case after each step.
struct Owners;

impl MigrationName for Owners {
    fn name(&self) -> &str {
        "m0004_owners"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Owners {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let owner = string("owner_id").default("").take();
        manager.alter_table(Table::alter().table("step").add_column(owner).to_owned()).await
    }
}
