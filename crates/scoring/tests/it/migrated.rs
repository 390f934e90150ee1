//! Replicas that are killed while a migration goes through a big table: the next one does all of it.
use chassis::{
    db_tests,
    testing::{Backend, TempDb, eventually, noon},
};
use proto::scoring::v1 as pb;
use scoring::migrations::Migrator;
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection};
use sea_orm_migration::MigratorTrait;

use crate::replica::{Random, Replicas};

db_tests!(a_backfill_is_done_whole_whoever_is_killed_on_the_way);

/// The migration that records where those stand who were announced before there was a record of moves.
const BACKFILL: &str = "m0003_transitions";
/// Enough that it takes a good part of a second.
const CUSTOMERS: u64 = 150_000;
const ROUNDS: usize = 8;

async fn count(db: &DatabaseConnection, of: &str) -> i64 {
    let text = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {of}");
    let row = db.query_one_raw(sea_orm::Statement::from_string(db.get_database_backend(), text)).await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// Whether somebody is at it. `probe` is a connection that is not patient.
async fn under_way(probe: &DatabaseConnection) -> bool {
    if probe.get_database_backend() == DatabaseBackend::Postgres {
        let backfill = "state = 'active' AND query LIKE 'INSERT INTO transition%'";
        return count(probe, &format!("pg_stat_activity WHERE datname = current_database() AND {backfill}")).await > 0;
    }
    // The file has one writer: who cannot write at once finds another one at it.
    let free = probe.execute_unprepared("BEGIN IMMEDIATE").await.is_ok();
    if free {
        probe.execute_unprepared("ROLLBACK").await.unwrap();
    }
    !free
}

/// One connection, so that what is begun is ended on the same.
async fn connect(url: &str) -> DatabaseConnection {
    sea_orm::Database::connect(sea_orm::ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap()
}

async fn a_backfill_is_done_whole_whoever_is_killed_on_the_way(backend: Backend) {
    let mut random = Random::seeded();
    let temp = TempDb::new(backend).await;
    let db = if backend == Backend::Sqlite {
        let db = connect(&format!("{}?mode=rwc", temp.url())).await;
        db.execute_unprepared("PRAGMA journal_mode = WAL").await.unwrap();
        db
    } else {
        connect(temp.url()).await
    };
    let probe = connect(temp.url()).await;
    if backend == Backend::Sqlite {
        probe.execute_unprepared("PRAGMA busy_timeout = 0").await.unwrap();
    }
    let migrations = Migrator::migrations();
    let before = migrations.iter().position(|migration| migration.name() == BACKFILL).unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let id = if backend == Backend::Sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
    let fill = format!(
        "INSERT INTO customer (customer_id, profile_revision, showed_interest, targeted, occasions, first_day, last_day, day_sum, sales_minor, \
         returns_minor, first_sales_minor, relationship, stage, tier, code, estimated, revision, since_us) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {CUSTOMERS}) \
         SELECT {id}, 1, TRUE, FALSE, 1, 20000, 20000, 20000, 500, 0, 500, 4, 2, i % 5, 3, FALSE, i % 4, 1700000000000000 + i FROM n"
    );
    db.execute_unprepared(&fill).await.unwrap();

    let replicas = Replicas::new(&temp, noon());
    let mut hits = 0;
    for _ in 0..ROUNDS {
        // Both at once: one migrates, the other waits for it.
        replicas.spawn(0);
        replicas.spawn(1);
        let done = async || count(&db, "seaql_migrations").await == migrations.len() as i64;
        eventually("the table is gone through, or was", || async { done().await || under_way(&probe).await }).await;
        tokio::time::sleep(random.moment(150)).await;
        hits += u32::from(under_way(&probe).await);
        replicas.kill(0);
        replicas.kill(1);
        // All of it or nothing.
        let applied = count(&db, "seaql_migrations").await;
        assert!(applied == before as i64 || applied == migrations.len() as i64, "{applied}");
    }
    assert!(hits > 0, "nobody was at it when they were killed");
    for number in [0, 1] {
        replicas.start(number).await;
    }
    assert_eq!(count(&db, "seaql_migrations").await, migrations.len() as i64);
    let announced = CUSTOMERS as i64 / 4 * 3;
    assert_eq!(count(&db, "customer WHERE revision > 0").await, announced);
    assert_eq!(count(&db, "transition").await, announced);
    let same = "transition t JOIN customer c ON c.customer_id = t.customer_id AND c.revision = t.revision AND c.since_us = t.time_us \
                AND c.relationship = t.relationship AND c.stage = t.stage AND c.tier = t.tier \
                WHERE t.cause = 0 AND t.relationship_before = 0 AND t.stage_before = 0 AND t.tier_before = 0";
    assert_eq!(count(&db, same).await, announced);
    // And it serves.
    let counts = replicas.client(1).unwrap().get_standing_counts(pb::GetStandingCountsRequest {}).await.unwrap();
    assert_eq!(counts.into_inner().counts.iter().map(|count| count.customers).sum::<i64>(), announced);
    println!("{backend:?}: {hits} of {ROUNDS} kills hit the backfill");
}
