//! What was recorded by releases before.
use chassis::testing::{Backend, TempDb};
use complaints::migrations::Migrator;
use sea_orm::{ConnectionTrait, Database, Statement};
use sea_orm_migration::MigratorTrait;

chassis::db_tests!(a_step_that_an_older_release_recorded_has_no_owner);

async fn a_step_that_an_older_release_recorded_has_no_owner(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let mode = if backend == Backend::Sqlite { "?mode=rwc" } else { "" };
    let db = Database::connect(format!("{}{mode}", temp.url())).await.unwrap();
    let before = Migrator::migrations().iter().position(|migration| migration.name() == "m0004_owners").unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let id = if backend == Backend::Sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
    let record = format!(
        "INSERT INTO step (complaint_id, number, time, action, state, actor_id, note) VALUES ({id}, 1, 0, 'filed', 1, 'someone', '')"
    );
    db.execute_unprepared(&record).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    // A replica of it may run on beside the new ones for a while.
    db.execute_unprepared(&record).await.unwrap();
    let owners = Statement::from_string(db.get_database_backend(), "SELECT owner_id FROM step");
    let owners: Vec<String> =
        db.query_all_raw(owners).await.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    assert_eq!(owners, ["", ""]);
}
