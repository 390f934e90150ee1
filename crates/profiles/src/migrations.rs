//! The schema, step by step. A step that was released is never changed: add the next one.
use sea_orm::{DatabaseBackend, sea_query::IndexCreateStatement};
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, binary, boolean, integer, string, string_len, text, uuid},
};

pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = chassis::db::migrations();
        all.push(Box::new(Customers));
        all
    }
}

struct Customers;

impl MigrationName for Customers {
    fn name(&self) -> &str {
        "m0001_customers"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Customers {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut name_key = text("name_key");
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            // By bytes, as SQLite does: the order and the prefix search must not hang on the server's locale.
            name_key = name_key.extra("COLLATE \"C\"").to_owned();
        }
        manager
            .create_table(
                Table::create()
                    .table("customer")
                    .col(uuid("customer_id").primary_key())
                    .col(big_integer("revision"))
                    .col(integer("kind"))
                    .col(name_key)
                    .col(binary("details"))
                    .col(big_integer("standing_revision"))
                    .col(integer("relationship"))
                    .col(integer("stage"))
                    .col(integer("tier"))
                    .col(integer("code"))
                    .col(boolean("estimated"))
                    .col(big_integer_null("since"))
                    .col(integer("open_complaints"))
                    .col(big_integer("create_time"))
                    .col(big_integer("update_time"))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("customer", &["create_time", "customer_id"])).await?;
        manager.create_index(index("customer", &["name_key", "customer_id"])).await?;
        // Few have an open complaint: the index holds those alone and costs the others nothing.
        let open = index("customer", &["open_complaints"]).cond_where(Expr::col("open_complaints").gt(0)).to_owned();
        manager.create_index(open).await?;
        manager
            .create_table(
                Table::create()
                    .table("identity")
                    .col(string_len("system", 64))
                    .col(string("id"))
                    .col(uuid("customer_id"))
                    .primary_key(Index::create().col("system").col("id"))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("identity", &["customer_id"])).await?;
        manager
            .create_table(
                Table::create()
                    .table("complaint")
                    .col(uuid("complaint_id").primary_key())
                    .col(uuid("customer_id"))
                    .col(big_integer("revision"))
                    .col(boolean("open"))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("complaint", &["customer_id"])).await
    }
}

fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create().name(format!("{table}_{}", columns.join("_"))).table(table).to_owned();
    for column in columns {
        index.col(*column);
    }
    index
}
