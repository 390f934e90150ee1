//! Connections that are cut, full disks, locks of other processes.

use chassis::{
    Error,
    db::sql,
    testing::{Backend, TempDb, fault},
};
use futures::future::join_all;
use sea_orm::{ConnectionTrait, TransactionTrait};
use tonic::Code;

use crate::support::{self, bump, connect, contents, ids, number};

chassis::db_tests!(connections_that_were_cut_are_replaced,);

async fn connections_that_were_cut_are_replaced(backend: Backend) {
    if backend == Backend::Sqlite {
        // There is nothing between a file and its reader that could be cut.
        return;
    }
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    let id = &[id];
    join_all((0..16).map(|_| bump(&db, id, 1))).await.into_iter().for_each(|done| drop(done.unwrap()));
    let text = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let admin = sea_orm::Database::connect(temp.url()).await.unwrap();
    assert!(number(&admin, text).await > 1);
    // As many failures as there were connections, each of them named; then it works again.
    let mut failures = 0;
    while let Err(error) = bump(&db, id, 2).await {
        assert!(error.is_outage(), "{error:?}");
        failures += 1;
        assert!(failures <= 16);
    }
    assert_eq!(contents(db.read(), "customer").await[&id[0]], (17, 2));
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_ends_with_it() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(temp.url()).await;
    let ids = &ids(4);
    bump(&db, &ids[..1], 1).await.unwrap();
    for round in 0..3 {
        let full = db
            .run_tx::<(), Error, _>("fills_the_disk", |tx| {
                Box::pin(async move {
                    // The limit holds for this connection: the one writer.
                    let pages = number(&**tx, "PRAGMA page_count").await;
                    tx.execute_unprepared(&format!("PRAGMA max_page_count = {}", pages + 4)).await?;
                    tx.execute_raw(sql(&**tx, "UPDATE customer SET state = 99 WHERE id = $1", [ids[0].into()])).await?;
                    for _ in 0..64 {
                        let text = "INSERT INTO request (rpc, request_id, fingerprint, reply, create_time) \
                                    VALUES ('x', hex(randomblob(16)), x'00', randomblob(4000), 0)";
                        tx.execute_unprepared(text).await?;
                    }
                    Ok(())
                })
            })
            .await
            .unwrap_err();
        assert!(full.is_outage(), "{full:?}");
        let (code, reason, _) = fault(&full.into());
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));

        // A transaction that is refused afterwards and one that is acknowledged must each be what they seem.
        let refused = db
            .run_tx::<(), Error, _>("refused", |tx| {
                Box::pin(async move {
                    support::bump_in(tx, &ids[1..2], 1).await?;
                    Err(Error::not_found("customer", "x"))
                })
            })
            .await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
        bump(&db, &ids[2..3], round).await.unwrap();
        let seen = contents(db.read(), "customer").await;
        assert_eq!(seen, [(ids[0], (1, 1)), (ids[2], (round + 1, round))].into(), "in round {round}");
    }
}

#[tokio::test]
async fn a_lock_held_by_another_process_is_waited_for() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    bump(&db, &[id], 1).await.unwrap();
    // A writer that is none of ours, such as somebody's sqlite3 shell.
    let shell = sea_orm::Database::connect(temp.url()).await.unwrap();
    let held = shell.begin().await.unwrap();
    held.execute_raw(sql(&held, "UPDATE customer SET state = 5 WHERE id = $1", [id.into()])).await.unwrap();
    let writer = tokio::spawn({
        let db = db.clone();
        async move { bump(&db, &[id], 2).await }
    });
    // Readers do not wait for either.
    assert_eq!(contents(db.read(), "customer").await[&id], (1, 1));
    held.commit().await.unwrap();
    assert_eq!(writer.await.unwrap().unwrap(), [2]);
}
