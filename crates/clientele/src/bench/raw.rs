//! The same rows by the database's fastest bulk insert, into a table of the same columns with the same key: no summaries, no outbox, one
//! transaction.
use std::time::Duration;

use chassis::{
    clock::stopwatch,
    testing::{Backend, TempDb},
};
use futures::TryStreamExt;
use proto::scoring::v1::Purchase;
use sqlx::{Connection, Executor, sqlite::SqliteConnectOptions};

use super::parse_uuid;
use crate::client::{Error, Result};

/// Rows in one statement: eight columns stay below SQLite's 32,766 bind parameters.
const CHUNK: usize = 4_000;
const TABLE: &str = "CREATE TABLE purchase (source TEXT NOT NULL, purchase_id TEXT NOT NULL, customer_id UUID NOT NULL, \
                     time_us BIGINT NOT NULL, day INTEGER NOT NULL, amount_minor BIGINT NOT NULL, kind INTEGER NOT NULL, \
                     record_time BIGINT NOT NULL, PRIMARY KEY (source, purchase_id))";

/// How long the rows take.
pub(super) async fn insert(backend: Backend, rows: &[Purchase]) -> Result<Duration> {
    let database = TempDb::new(backend).await;
    match backend {
        Backend::Sqlite => sqlite(&database, rows).await,
        Backend::Postgres => postgres(&database, rows).await,
    }
    .map_err(|error| Error::new(format!("the bare database: {error}")))
}

struct Plain {
    customer: uuid::Uuid,
    time_us: i64,
    day: i32,
    amount: i64,
}

fn plain(row: &Purchase) -> Plain {
    let seconds = row.purchase_time.as_ref().map_or(0, |time| time.seconds);
    Plain {
        customer: parse_uuid(&row.customer_id),
        time_us: seconds * 1_000_000,
        day: i32::try_from(seconds / 86_400).unwrap_or(0),
        amount: row.amount.as_ref().map_or(0, |amount| amount.minor_units),
    }
}

async fn sqlite(database: &TempDb, rows: &[Purchase]) -> std::result::Result<Duration, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(database.url().trim_start_matches("sqlite:"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
        .pragma("cache_size", "-65536");
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
    connection.execute(TABLE).await?;
    let begin = stopwatch();
    let mut tx = connection.begin().await?;
    for chunk in rows.chunks(CHUNK) {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("INSERT INTO purchase ");
        query.push_values(chunk, |mut values, row| {
            let plain = plain(row);
            values
                .push_bind(row.source.as_str())
                .push_bind(row.purchase_id.as_str())
                .push_bind(plain.customer)
                .push_bind(plain.time_us)
                .push_bind(plain.day)
                .push_bind(plain.amount)
                .push_bind(row.kind)
                .push_bind(plain.time_us);
        });
        query.build().execute(&mut *tx).await?;
    }
    tx.commit().await?;
    let elapsed = begin.elapsed();
    connection.close().await?;
    Ok(elapsed)
}

async fn postgres(database: &TempDb, rows: &[Purchase]) -> std::result::Result<Duration, sqlx::Error> {
    let mut connection = sqlx::PgConnection::connect(database.url()).await?;
    connection.execute(TABLE).await?;
    let begin = stopwatch();
    let mut copy = connection.copy_in_raw("COPY purchase FROM STDIN (FORMAT binary)").await?;
    let mut buffer = Vec::with_capacity(1 << 20);
    buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for row in rows {
        let plain = plain(row);
        buffer.extend_from_slice(&8_i16.to_be_bytes());
        field(&mut buffer, row.source.as_bytes());
        field(&mut buffer, row.purchase_id.as_bytes());
        field(&mut buffer, plain.customer.as_bytes());
        field(&mut buffer, &plain.time_us.to_be_bytes());
        field(&mut buffer, &plain.day.to_be_bytes());
        field(&mut buffer, &plain.amount.to_be_bytes());
        field(&mut buffer, &row.kind.to_be_bytes());
        field(&mut buffer, &plain.time_us.to_be_bytes());
        if buffer.len() > 1 << 20 {
            copy.send(std::mem::take(&mut buffer)).await?;
        }
    }
    buffer.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(buffer).await?;
    copy.finish().await?;
    let elapsed = begin.elapsed();
    connection.close().await?;
    Ok(elapsed)
}

/// One field of a binary COPY row: length, then bytes.
fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    buffer.extend_from_slice(bytes);
}

/// How long a plain SELECT of all columns of everybody who bought takes, by key, from a scoring database with so many of them.
pub(super) async fn select(url: &str, customers: usize) -> Result<Duration> {
    const SELECT: &str = "SELECT * FROM customer WHERE occasions > 0 ORDER BY customer_id";
    async fn count<'c, E: Executor<'c>>(connection: E) -> std::result::Result<usize, sqlx::Error> {
        connection.fetch(SELECT).try_fold(0, |count, _| async move { Ok(count + 1) }).await
    }
    let begin = stopwatch();
    let rows = if url.starts_with("sqlite:") {
        let options = SqliteConnectOptions::new().filename(url.trim_start_matches("sqlite:")).row_buffer_size(1_024);
        match sqlx::SqliteConnection::connect_with(&options).await {
            Ok(mut connection) => count(&mut connection).await,
            Err(error) => Err(error),
        }
    } else {
        match sqlx::PgConnection::connect(url).await {
            Ok(mut connection) => count(&mut connection).await,
            Err(error) => Err(error),
        }
    };
    let rows = rows.map_err(|error| Error::new(format!("the bare database: {error}")))?;
    if rows == customers {
        Ok(begin.elapsed())
    } else {
        Err(Error::new(format!("{rows} of {customers} customers have bought")))
    }
}
