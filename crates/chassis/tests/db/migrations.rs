//! Opening a database: its URL, its schema, replicas that start at once.

use chassis::{
    Db, Error, Result,
    clock::Clock,
    db::{RoomForChanges, sql},
    testing::{Backend, TempDb, noon, postgres_or_say_so},
};
use futures::future::join_all;
use sea_orm::ConnectionTrait;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager, prelude::DbErr};

use crate::support::{self, bump, connect, ids, number};

chassis::db_tests!(
    replicas_that_start_at_once_migrate_once,
    a_schema_newer_than_the_program_is_refused_in_plain_words,
    pages_have_room_for_changes,
);

struct Roomy;

impl MigratorTrait for Roomy {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let room = RoomForChanges { name: "m0002_room", table: "customer" };
        support::Migrator::migrations().into_iter().chain([Box::new(room) as Box<dyn MigrationTrait>]).collect()
    }
}

async fn pages_have_room_for_changes(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = Db::connect::<Roomy>(temp.url(), &Clock::mock(noon())).await.unwrap();
    if backend == Backend::Postgres {
        let text = "SELECT COUNT(*) FROM pg_class WHERE relname = 'customer' AND reloptions = '{fillfactor=50}'";
        assert_eq!(number(db.read(), text).await, 1);
    }
    bump(&db, &ids(2), 1).await.unwrap();
}

async fn replicas_that_start_at_once_migrate_once(backend: Backend) {
    for _ in 0..3 {
        let temp = TempDb::new(backend).await;
        let starts = (0..6).map(|_| {
            let url = temp.url().to_owned();
            tokio::spawn(async move { Db::connect::<support::Migrator>(&url, &Clock::mock(noon())).await })
        });
        let replicas: Vec<Db> = join_all(starts).await.into_iter().map(|started| started.unwrap().unwrap()).collect();
        assert_eq!(number(replicas[0].read(), "SELECT COUNT(*) FROM seaql_migrations").await, 3);
        assert_eq!(number(replicas[0].read(), "SELECT COUNT(*) FROM feed_head").await, 1);
    }
}

/// Notes in the database how long a statement of a migration may take, and one of a transaction.
struct Limits;

impl MigrationName for Limits {
    fn name(&self) -> &str {
        "m0002_limits"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Limits {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let text = "CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS of_a_statement";
        manager.get_connection().execute_unprepared(text).await.map(|_| ())
    }
}

struct Noting;

impl MigratorTrait for Noting {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        support::Migrator::migrations().into_iter().chain([Box::new(Limits) as Box<dyn MigrationTrait>]).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_take_longer_than_any_other_statement() {
    if !postgres_or_say_so() {
        return;
    }
    let temp = TempDb::new(Backend::Postgres).await;
    let db = Db::connect::<Noting>(temp.url(), &Clock::mock(noon())).await.unwrap();
    let ask = async |text: &str| -> String {
        db.read().query_one_raw(sql(db.read(), text, [])).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    };
    assert_eq!(ask("SELECT of_a_statement FROM limits").await, "0");
    assert_eq!(ask("SELECT current_setting('statement_timeout')").await, "1min");
}

async fn a_schema_newer_than_the_program_is_refused_in_plain_words(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    db.run_tx::<_, Error, _>("newer", |tx| {
        Box::pin(async move {
            let text = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_from_the_future', 0)";
            tx.execute_unprepared(text).await?;
            Ok(())
        })
    })
    .await
    .unwrap();
    let error = Db::connect::<support::Migrator>(temp.url(), &Clock::mock(noon())).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("older than the database") && text.contains("m9999_from_the_future"), "{text}");
    // And what was there goes on working.
    bump(&db, &ids(1), 1).await.unwrap();
}

#[tokio::test]
async fn urls_of_no_known_database_are_refused_without_repeating_them() {
    for url in ["mysql://user:secret@host/db", "sqlite:", "sqlite::memory:", "postgres://user:secret@[", "secret"] {
        let error = Db::connect::<support::Migrator>(url, &Clock::mock(noon())).await.unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
