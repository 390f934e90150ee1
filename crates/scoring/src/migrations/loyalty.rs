//! What assessments rest on: discounts, costs of serving customers, payments, attributes followed from profiles.
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, double, string, text, uuid, uuid_null},
};

pub(super) struct Loyalty;

impl MigrationName for Loyalty {
    fn name(&self) -> &str {
        "m0002_loyalty"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Loyalty {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let discount = big_integer_null("discount_minor").take();
        manager.alter_table(Table::alter().table("purchase").add_column(discount).to_owned()).await?;
        // One by one: SQLite adds one column to a statement.
        for name in ["discount_minor", "service_cost_minor"] {
            let column = big_integer(name).default(0).take();
            manager.alter_table(Table::alter().table("customer").add_column(column).to_owned()).await?;
        }
        let potential = big_integer_null("potential_minor").take();
        manager.alter_table(Table::alter().table("customer").add_column(potential).to_owned()).await?;
        manager
            .create_table(
                Table::create()
                    .table("potential")
                    .col(uuid("model_id").primary_key())
                    .col(big_integer("as_of_day"))
                    .col(big_integer("customers"))
                    .col(double("r_squared"))
                    .col(double("rank_correlation"))
                    .col(text("model"))
                    .col(big_integer("fit_time"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("service_cost")
                    .col(string("source"))
                    .col(string("cost_id"))
                    .col(uuid("customer_id"))
                    .col(big_integer("time_us"))
                    .col(big_integer("day"))
                    .col(big_integer("amount_minor"))
                    .col(big_integer("record_time"))
                    .primary_key(Index::create().col("source").col("cost_id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("payment")
                    .col(string("source"))
                    .col(string("payment_id"))
                    .col(uuid("customer_id"))
                    .col(big_integer("issue_us"))
                    .col(big_integer("due_us"))
                    .col(big_integer("due_day"))
                    .col(big_integer("amount_minor"))
                    .col(big_integer_null("paid_us"))
                    .col(big_integer_null("paid_day"))
                    .col(big_integer_null("paid_minor"))
                    .col(big_integer("trouble"))
                    .col(big_integer("record_time"))
                    .primary_key(Index::create().col("source").col("payment_id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("attribute")
                    .col(uuid("customer_id").primary_key())
                    .col(big_integer("revision"))
                    .col(big_integer("kind"))
                    .col(text("employer"))
                    .col(text("position"))
                    .col(text("line_of_business"))
                    .col(text("legal_form"))
                    .col(text("region"))
                    .col(big_integer("source"))
                    .col(big_integer_null("acquisition_cost_minor"))
                    .col(uuid_null("introduced_by"))
                    .to_owned(),
            )
            .await?;
        let indices = [
            ("service_cost_customer_day", "service_cost", ["customer_id", "day"].as_slice()),
            ("payment_customer_issue", "payment", &["customer_id", "issue_us"]),
            ("attribute_introduced_by", "attribute", &["introduced_by"]),
        ];
        for (name, table, columns) in indices {
            let mut index = Index::create().name(name).table(table).to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        // What was followed before had no attributes: a snapshot of profiles brings them.
        manager.get_connection().execute_unprepared("UPDATE follower SET cursor = ''").await?;
        Ok(())
    }
}
