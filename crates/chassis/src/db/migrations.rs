//! The chassis's own tables, the same in every service's database.
use sea_orm::DatabaseBackend;
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, binary, integer, string, string_null, text, uuid},
};

/// Creates a table whose rows stand in the order of their key, which suits short rows that are found by it: on SQLite each would otherwise stand in
/// two trees, one for the row and one for its key. PostgreSQL has no such thing.
///
/// # Errors
/// As [`SchemaManager::create_table`].
pub async fn create_keyed_table(manager: &SchemaManager<'_>, mut table: TableCreateStatement) -> Result<(), DbErr> {
    if manager.get_database_backend() == DatabaseBackend::Sqlite {
        table.extra("WITHOUT ROWID");
    }
    manager.create_table(table).await
}

/// A step that leaves room in the pages of a table whose rows change again and again. PostgreSQL keeps a changed row beside the one before where its page
/// has room, and need not touch the table's indexes then; in a full page it has to. SQLite writes rows in place.
#[derive(Clone, Copy, Debug)]
pub struct RoomForChanges {
    /// Name of the step.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
}

impl MigrationName for RoomForChanges {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for RoomForChanges {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            // For one change of each row; more, as those before it are cleared away.
            let text = format!("ALTER TABLE {} SET (fillfactor = 50)", self.table);
            manager.get_connection().execute_unprepared(&text).await?;
        }
        Ok(())
    }
}

/// To be put before a service's own migrations.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Chassis), Box::new(Pages)]
}

struct Chassis;

impl MigrationName for Chassis {
    fn name(&self) -> &str {
        "m0000_chassis"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Chassis {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // To SQLite, INTEGER PRIMARY KEY and nothing else is the number of the row itself.
        let mut seq = match manager.get_database_backend() {
            DatabaseBackend::Sqlite => integer("seq"),
            _ => big_integer("seq"),
        };
        manager
            .create_table(
                Table::create()
                    .table("outbox")
                    .col(seq.primary_key().take())
                    .col(string("topic"))
                    .col(uuid("key"))
                    .col(binary("payload"))
                    .col(string_null("traceparent"))
                    .col(big_integer("create_time"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("feed_head")
                    .col(big_integer("id").primary_key())
                    .col(big_integer("seq"))
                    .col(big_integer("trimmed"))
                    .col(uuid("epoch"))
                    .to_owned(),
            )
            .await?;
        // The epoch tells this database's cursors from those of any other.
        let random = match manager.get_database_backend() {
            DatabaseBackend::Postgres => "gen_random_uuid()",
            _ => "randomblob(16)",
        };
        let insert = format!("INSERT INTO feed_head (id, seq, trimmed, epoch) VALUES (1, 0, 0, {random})");
        manager.get_connection().execute_unprepared(&insert).await?;
        manager
            .create_table(
                Table::create()
                    .table("follower")
                    .col(string("name").primary_key())
                    .col(text("cursor"))
                    .col(string("holder"))
                    .col(big_integer("held_until"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("request")
                    .col(string("rpc"))
                    .col(string("request_id"))
                    .col(binary("fingerprint"))
                    .col(binary("reply"))
                    .col(big_integer("create_time"))
                    .primary_key(Index::create().col("rpc").col("request_id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(Index::create().name("request_create_time").table("request").col("create_time").to_owned())
            .await
    }
}

/// The outbox in pages of changes. What was in it goes: who had not read all of it starts again with a snapshot, as after any long absence.
struct Pages;

impl MigrationName for Pages {
    fn name(&self) -> &str {
        "m0000_outbox_pages"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Pages {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
        let connection = manager.get_connection();
        // First, as whoever publishes does: from here to the commit nobody takes another number.
        connection.execute_unprepared("UPDATE feed_head SET trimmed = seq").await?;
        // A replica of the version before cannot publish any more, and so commits nothing that nobody would hear of.
        manager.drop_table(Table::drop().table("outbox").to_owned()).await?;
        let mut last = if postgres { big_integer("last") } else { integer("last") };
        manager
            .create_table(
                Table::create()
                    .table("outbox")
                    .col(last.primary_key().take())
                    .col(big_integer("first"))
                    .col(big_integer("create_time"))
                    .col(binary("changes"))
                    .to_owned(),
            )
            .await?;
        if postgres {
            // Packing them would take longer than writing them.
            connection.execute_unprepared("ALTER TABLE outbox ALTER COLUMN changes SET STORAGE EXTERNAL").await?;
        }
        Ok(())
    }
}
