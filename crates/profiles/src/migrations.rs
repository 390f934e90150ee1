//! The schema, step by step. A step that was released is never changed: add the next one.
use chassis::db::{RoomForChanges, create_keyed_table};
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
        all.push(Box::new(NoEdit));
        all.push(Box::new(Standings));
        all.push(Box::new(RoomForChanges { name: "m0004_room", table: "standing" }));
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
                    .col(big_integer("edit"))
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
        create_keyed_table(
            manager,
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

/// The revision counts the changes of callers alone: a count of its own tells the same.
struct NoEdit;

impl MigrationName for NoEdit {
    fn name(&self) -> &str {
        "m0002_no_edit"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for NoEdit {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // For a while the first step made none.
        if !manager.has_column("customer", "edit").await? {
            return Ok(());
        }
        manager.alter_table(Table::alter().table("customer").drop_column("edit").to_owned()).await
    }
}

/// Where a customer stands changes with every purchase: a short row of its own, so that the record need not be written each time.
struct Standings;

impl MigrationName for Standings {
    fn name(&self) -> &str {
        "m0003_standings"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Standings {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let standing = Table::create()
            .table("standing")
            .col(uuid("customer_id").primary_key())
            .col(big_integer("revision"))
            .col(integer("relationship"))
            .col(integer("stage"))
            .col(integer("tier"))
            .col(integer("code"))
            .col(boolean("estimated"))
            .col(big_integer_null("since"))
            .to_owned();
        create_keyed_table(manager, standing).await?;
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            // From here to the commit no replica of the version before puts a standing where it would be dropped.
            manager.get_connection().execute_unprepared("LOCK TABLE customer IN ACCESS EXCLUSIVE MODE").await?;
        }
        let copy = "INSERT INTO standing SELECT customer_id, standing_revision, relationship, stage, tier, code, estimated, since \
                    FROM customer WHERE standing_revision > 0 ORDER BY customer_id";
        manager.get_connection().execute_unprepared(copy).await?;
        // One by one: SQLite drops one column to a statement.
        for column in ["standing_revision", "relationship", "stage", "tier", "code", "estimated", "since"] {
            manager.alter_table(Table::alter().table("customer").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create().name(format!("{table}_{}", columns.join("_"))).table(table).to_owned();
    for column in columns {
        index.col(*column);
    }
    index
}

#[cfg(test)]
mod tests {
    use chassis::{
        Clock, Db, Ids,
        db::sql,
        testing::{Backend, TempDb, noon},
    };
    use prost::Message;
    use sea_orm::ConnectionTrait;
    use uuid::Uuid;

    use super::*;
    use crate::{
        customer::{Customer, Details},
        store,
    };

    chassis::db_tests!(
        a_database_of_the_first_step_takes_new_customers,
        a_database_that_never_had_the_count_does_too,
        standings_on_records_move_to_rows_of_their_own,
    );

    /// The service as it was after its first step.
    struct First;

    #[async_trait::async_trait]
    impl MigratorTrait for First {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            let mut all = chassis::db::migrations();
            all.push(Box::new(Customers));
            all
        }
    }

    async fn counts_edits(db: &Db) -> bool {
        SchemaManager::new(db.read()).has_column("customer", "edit").await.unwrap()
    }

    /// Goes on from there, and writes a customer.
    async fn goes_on(temp: &TempDb, clock: &Clock) {
        let db = Db::connect::<Migrator>(temp.url(), clock).await.unwrap();
        assert!(!counts_edits(&db).await);
        let customer = Customer::new(Ids::new(clock.clone()).next(), Details::kept(Default::default()), noon());
        db.run_tx("test", |tx| Box::pin(store::insert(tx, std::slice::from_ref(&customer)))).await.unwrap();
    }

    async fn a_database_of_the_first_step_takes_new_customers(backend: Backend) {
        let (temp, clock) = (TempDb::new(backend).await, Clock::mock(noon()));
        let db = Db::connect::<First>(temp.url(), &clock).await.unwrap();
        assert!(counts_edits(&db).await);
        drop(db);
        goes_on(&temp, &clock).await;
    }

    async fn a_database_that_never_had_the_count_does_too(backend: Backend) {
        let (temp, clock) = (TempDb::new(backend).await, Clock::mock(noon()));
        let db = Db::connect::<First>(temp.url(), &clock).await.unwrap();
        let dropped = db.run_tx::<_, chassis::Error, _>("test", |tx| {
            Box::pin(async move { Ok(tx.execute_unprepared("ALTER TABLE customer DROP COLUMN edit").await?) })
        });
        dropped.await.unwrap();
        drop(db);
        goes_on(&temp, &clock).await;
    }

    async fn standings_on_records_move_to_rows_of_their_own(backend: Backend) {
        let (temp, clock) = (TempDb::new(backend).await, Clock::mock(noon()));
        let db = Db::connect::<First>(temp.url(), &clock).await.unwrap();
        // One whom scoring has spoken of, and one whom it has not.
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let written = db.run_tx::<_, chassis::Error, _>("test", |tx| {
            Box::pin(async move {
                for (id, revision) in ids.into_iter().zip([7_i64, 0]) {
                    let text = "INSERT INTO customer (customer_id, revision, edit, kind, name_key, details, standing_revision, \
                                relationship, stage, tier, code, estimated, since, open_complaints, create_time, update_time) \
                                VALUES ($1, 1, 1, 1, '', $2, $3, 3, 4, 2, 1, TRUE, 1000000, 0, 0, 0)";
                    let details = Details::kept(Default::default()).as_proto().encode_to_vec();
                    tx.execute_raw(sql(&**tx, text, [id.into(), details.into(), revision.into()])).await?;
                }
                Ok(())
            })
        });
        written.await.unwrap();
        drop(db);
        let db = Db::connect::<Migrator>(temp.url(), &clock).await.unwrap();
        let standing = store::get(db.read(), ids[0]).await.unwrap().standing.unwrap();
        assert_eq!(
            (
                standing.revision,
                standing.relationship,
                standing.stage,
                standing.tier,
                standing.code,
                standing.estimated
            ),
            (7, 3, 4, 2, 1, true)
        );
        assert_eq!(standing.since.unwrap().seconds, 1);
        assert!(store::get(db.read(), ids[1]).await.unwrap().standing.is_none());
    }
}
