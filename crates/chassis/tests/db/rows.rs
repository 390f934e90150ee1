//! Many rows in one statement.

use chassis::{
    Error,
    db::{Columns, bulk, each},
    testing::{Backend, TempDb},
};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use crate::support::{connect, ids, number};

use crate::tally;

chassis::db_tests!(
    rows_are_written_once_however_many_they_are,
    what_is_written_in_bulk_reads_back_as_it_was,
    a_query_whose_rows_cannot_be_read_ends_and_its_connection_serves_on,
);

async fn rows_are_written_once_however_many_they_are(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let created = db.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move {
            Ok(tx.execute_unprepared("CREATE TABLE line (id UUID NOT NULL, note BIGINT, nth BIGINT NOT NULL)").await?)
        })
    });
    created.await.unwrap();
    let into = "INSERT INTO line (id, note, nth)";
    // Around every count at which the form of a statement changes.
    for rows in [0_usize, 1, 15, 16, 17, 24, 127, 128, 129, 300] {
        let given = ids(rows);
        let given = &given;
        db.run_tx::<_, Error, _>("test", |tx| {
            Box::pin(async move {
                tx.execute_unprepared("DELETE FROM line").await?;
                tx.execute_unprepared("DELETE FROM tally").await?;
                let row = |(id, nth): (&Uuid, i64)| -> [Value; 3] {
                    // Nulls of its own, in the first row above all, are no rows to leave out.
                    [(*id).into(), (nth % 2 == 1).then_some(nth).into(), nth.into()]
                };
                let numbered: Vec<_> = given.iter().zip(0..).map(row).collect();
                assert_eq!(bulk::insert(&**tx, into, numbered.into_iter(), "").await?, rows as u64);
                // Half of them are there already, and replaced.
                let into = "INSERT INTO tally (id, n)";
                let tail = " ON CONFLICT (id) DO UPDATE SET n = tally.n + excluded.n WHERE excluded.n > 0 RETURNING id";
                let half = given.iter().take(rows / 2).map(|id| [(*id).into(), 1_i64.into()]);
                bulk::insert(&**tx, into, half, "").await?;
                let all = given.iter().map(|id| [(*id).into(), 2_i64.into()]);
                assert_eq!(bulk::insert_returning(&**tx, into, all, tail).await?.len(), rows);
                Ok(())
            })
        })
        .await
        .unwrap();
        let count = i64::try_from(rows).unwrap();
        let read = async |text: &str| number(db.read(), text).await;
        assert_eq!(read("SELECT COUNT(DISTINCT id) FROM line").await, count);
        assert_eq!(read("SELECT COUNT(*) FROM line").await, count);
        assert_eq!(read("SELECT COUNT(*) FROM line WHERE note IS NULL").await, (count + 1) / 2);
        assert_eq!(tally(&db).await, 2 * count + count / 2);
    }
}

async fn what_is_written_in_bulk_reads_back_as_it_was(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let blob = if backend == Backend::Postgres { "BYTEA" } else { "BLOB" };
    let create = format!(
        "CREATE TABLE kind (id UUID NOT NULL, flag BOOLEAN, narrow INTEGER, wide BIGINT, real DOUBLE PRECISION, words TEXT, bytes {blob})"
    );
    let words = ["", "NULL", r#"a "quoted" \ path"#, "{1,2}", "two\nlines", "ünïcode ☃", "$1 ? 'x'"];
    let row = |n: usize| -> [Value; 7] {
        let given = !n.is_multiple_of(3);
        let bytes: Vec<u8> = (0..n).map(|byte| (byte * 37 % 256) as u8).collect();
        [
            Uuid::from_u128(n as u128 + 1).into(),
            given.then_some(n.is_multiple_of(2)).into(),
            given.then_some(i32::MIN + n as i32).into(),
            given.then_some(i64::MAX - n as i64).into(),
            given.then_some(-0.1_f64 / (n as f64)).into(),
            given.then_some(words[n % words.len()]).into(),
            given.then_some(bytes).into(),
        ]
    };
    let rows: Vec<_> = (0..40).map(row).collect();
    let written = &rows;
    let create = &create;
    db.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move {
            tx.execute_unprepared(create).await?;
            let into = "INSERT INTO kind (id, flag, narrow, wide, real, words, bytes)";
            bulk::insert(&**tx, into, written.iter().cloned(), "").await
        })
    })
    .await
    .unwrap();
    // Asked for by keys as well.
    let keys = rows.iter().map(|row| [row[0].clone()]);
    let read = bulk::find(db.read(), "SELECT * FROM kind WHERE id IN (", keys, ") ORDER BY id").await.unwrap();
    let read: Vec<[Value; 7]> = read
        .iter()
        .map(|row| {
            [
                row.try_get_by_index::<Uuid>(0).unwrap().into(),
                row.try_get_by_index::<Option<bool>>(1).unwrap().into(),
                row.try_get_by_index::<Option<i32>>(2).unwrap().into(),
                row.try_get_by_index::<Option<i64>>(3).unwrap().into(),
                row.try_get_by_index::<Option<f64>>(4).unwrap().into(),
                row.try_get_by_index::<Option<String>>(5).unwrap().into(),
                row.try_get_by_index::<Option<Vec<u8>>>(6).unwrap().into(),
            ]
        })
        .collect();
    assert_eq!(read, rows);
}

async fn a_query_whose_rows_cannot_be_read_ends_and_its_connection_serves_on(backend: Backend) {
    // More than what is read ahead of the caller.
    const ROWS: usize = 5_000;
    const ALL: &str = "SELECT n FROM tally ORDER BY n";
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let given = ids(ROWS);
    let given = &given;
    let written = db.run_tx::<_, Error, _>("test", |tx| {
        Box::pin(async move {
            let rows = given.iter().zip(1..).map(|(id, n): (_, i64)| [(*id).into(), n.into()]);
            bulk::insert(&**tx, "INSERT INTO tally (id, n)", rows.collect::<Vec<_>>().into_iter(), "").await
        })
    });
    written.await.unwrap();
    fn up_to(last: i64) -> impl Fn(&QueryResult) -> Result<i64, Error> {
        move |row| {
            let n = Columns::of(row).take()?;
            if n > last { Err(Error::Internal(format!("{n} is too many"))) } else { Ok(n) }
        }
    }
    let everything: Vec<i64> = (1..).take(ROWS).collect();
    let tx = db.read_tx().await.unwrap();
    // More often than there are connections.
    for _ in 0..20 {
        let refused = db.read_apart(|connection| async move { each(&connection, ALL, [], up_to(7)).await }).await;
        assert!(refused.unwrap_err().to_string().contains("8 is too many"));
        let refused = each(&tx, ALL, [], up_to(7)).await;
        assert!(refused.unwrap_err().to_string().contains("8 is too many"));
        assert_eq!(each(&tx, ALL, [], up_to(i64::MAX)).await.unwrap(), everything);
    }
    tx.commit().await.unwrap();
    assert_eq!(each(db.read(), ALL, [], up_to(i64::MAX)).await.unwrap(), everything);
}
