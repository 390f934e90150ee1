//! One service's own database: SQLite or PostgreSQL, chosen by URL, and the one way to write to it.
//!
//! - Reads go through [`Db::read`] (many at a time).
//! - Writes go through [`Db::run_tx`]: one transaction, run again a bounded number of times when a race is lost. Changes published in it
//!   ([`Tx::publish`]) are numbered at its very end, so their order is the order of commits.
//! - Hot single writes and reads go through a [`Batcher`], which does together whatever queued up while the last ones ran.
//! - What is read again and again is [`Kept`], where nobody else writes to the database.
//!
//! SQLite has one writer connection, whose transactions begin `IMMEDIATE`, and a pool of readers: no reader waits for the
//! writer, and no caller ever sees `database is locked`.
use std::{
    future::Future,
    marker::PhantomData,
    ops::Deref,
    path::PathBuf,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel,
    SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
    Value,
};
use sea_orm_migration::MigratorTrait;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    clock::{Clock, stopwatch},
    config::DbUrl,
    error::{Error, Fault, Result},
    feed, telemetry,
};

use kept::Stamps;

mod batcher;
pub mod bulk;
mod checkpoint;
mod columns;
mod kept;
mod migrations;
pub use batcher::Batcher;
pub use columns::{Columns, Streams, each};
pub use kept::{Kept, Stamp};
pub use migrations::{RoomForChanges, create_keyed_table, migrations};

/// A future that can be sent to another thread: a transaction's body.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Readers of one SQLite file: more than the cores of a usual machine only wait for each other.
const SQLITE_READERS: u32 = 8;
/// Pages that the writer of a SQLite file keeps, and each reader: 64 and 8 MiB, as SQLite counts them. The readers lose theirs with every commit, and the
/// system's own cache is behind all of them.
const SQLITE_WRITER_CACHE: &str = "-65536";
const SQLITE_READER_CACHE: &str = "-8192";
/// Connections of one process to one PostgreSQL database: five services of ten replicas stay below a server's usual few hundred.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a statement waits for another process's lock on the same SQLite file, before the transaction runs again.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that a reading thread may be ahead of its caller: with sqlx's default of 50, a batch of thousands is mostly two threads waking each other.
const ROW_BUFFER: usize = 1_024;
/// How long a call waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that lay idle this long is asked whether it still lives before it is used: a fail-over may have cut it. A busy one has just proven itself.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);
/// Longest statement on PostgreSQL: bulk reads go in pages, so nothing honest takes that long.
const POSTGRES_STATEMENT_TIMEOUT: &str = "60s";
/// Longest wait for a row lock on PostgreSQL before the transaction runs again.
const POSTGRES_LOCK_TIMEOUT: &str = "5s";
/// How often a transaction that loses races is run before the caller is told: with back-off, about a second in all.
const MAX_ATTEMPTS: u32 = 8;
/// First pause after a lost race; doubles each time, up to a quarter of a second.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// A service's database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    write: DatabaseConnection,
    read: DatabaseConnection,
    /// For reading in transactions. On SQLite its connections are looked after when they come back, which costs another's thread a turn each time.
    snapshots: DatabaseConnection,
    clock: Clock,
    feed: feed::Head,
    /// Where nobody else writes.
    stamps: Option<Arc<Stamps>>,
    /// How many transactions were committed.
    commits: AtomicU64,
    /// Nothing is asked of it any more.
    closed: AtomicBool,
}

impl Db {
    /// Connects, brings the schema up to date under a lock (replicas may start at once), and refuses a schema newer than this
    /// program knows.
    ///
    /// `url` is `sqlite:PATH` (created if absent) or `postgres://…`. Of a SQLite file that nobody else writes to ([`DbUrl::alone`]) rows
    /// may be [`Kept`].
    ///
    /// # Errors
    /// `Database` where it cannot be reached; `Internal` for a URL of another kind or an unknown schema.
    pub async fn connect<M: MigratorTrait>(url: impl Into<DbUrl>, clock: &Clock) -> Result<Self> {
        let url = url.into();
        let (alone, url) = (url.is_alone(), url.expose());
        let (write, read, snapshots) = if url.starts_with("sqlite:") {
            connect_sqlite(url).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = connect_postgres(url).await?;
            (pool.clone(), pool.clone(), pool)
        } else {
            return Err(Error::Internal("database URL: must start with sqlite: or postgres:".to_owned()));
        };
        migrate::<M>(&write).await?;
        let feed = feed::Head::read(&read).await?;
        let stamps = (alone && read.get_database_backend() == DatabaseBackend::Sqlite).then(|| Arc::new(Stamps::new()));
        let (commits, closed) = (AtomicU64::new(0), AtomicBool::new(false));
        let db = Self(Arc::new(Inner { write, read, snapshots, clock: clock.clone(), feed, stamps, commits, closed }));
        feed::spawn_poller(&db);
        checkpoint::spawn(&db);
        Ok(db)
    }

    /// A connection for reading; sees what is committed. For several queries of one state see [`Db::read_tx`]: no transaction may begin on this one.
    pub fn read(&self) -> &DatabaseConnection {
        &self.0.read
    }

    /// Reads in a task of its own, in which no span is current: where many rows come. On PostgreSQL sqlx enters and leaves the current span twice for
    /// each of them, which is a fifth of what reading them costs. A log line of it says nothing of whose it is. Given up where the caller goes away.
    ///
    /// # Errors
    /// Those of `read`; `Internal` where it panics.
    pub async fn read_apart<T, F>(&self, read: impl FnOnce(DatabaseConnection) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let reading = AbortOnDropHandle::new(tokio::spawn(read(self.read().clone())));
        reading.await.map_err(|error| Error::Internal(format!("reading broke off: {error}")))?
    }

    /// Which database it is.
    pub fn backend(&self) -> DatabaseBackend {
        self.0.write.get_database_backend()
    }

    /// The clock of this database's service.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Closes all connections once they are back; whoever asks for one afterwards is refused. The last one of a SQLite file brings the log into it and
    /// removes the log.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        for pool in [&self.0.snapshots, &self.0.read, &self.0.write] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::warn!(%error, "a database was not closed properly");
            }
        }
    }

    pub(crate) fn feed(&self) -> &feed::Head {
        &self.0.feed
    }

    /// Nobody else writes to it.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.stamps.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn downgrade(&self) -> WeakDb {
        WeakDb(Arc::downgrade(&self.0))
    }

    /// A transaction for reading in which several queries see one and the same state. Keep it short: on PostgreSQL it holds back the vacuum.
    ///
    /// # Errors
    /// `Database`.
    pub async fn read_tx(&self) -> Result<DatabaseTransaction> {
        let isolation_level = match self.backend() {
            DatabaseBackend::Postgres => Some(IsolationLevel::RepeatableRead),
            _ => None,
        };
        begin(&self.0.snapshots, TransactionOptions { isolation_level, ..Default::default() }).await
    }

    /// Runs `body` in a transaction and commits it with all that it published. Where the race with another writer is lost, it runs again, at most eight
    /// times: the body must have no effect but through its `Tx`. It borrows what it needs (`let command = &command;` before it).
    ///
    /// On PostgreSQL the isolation is READ COMMITTED: read what you decide by with `FOR UPDATE` (see [`Tx::for_update`]), or rely on
    /// a unique key (a duplicate runs the body again). `name` is the RPC or task, for the metrics.
    ///
    /// # Errors
    /// The body's own; `Database` where the database is away or the races were lost too often.
    pub async fn run_tx<'env, T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'c> Fn(&'c Tx<'env>) -> BoxFuture<'c, Result<T, E>> + Send + Sync,
        T: Send,
        E: Fault,
    {
        let started = stopwatch();
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let result = self.attempt(&body, attempt == 1).await;
            let race = matches!(&result, Err(error) if error.shared().is_some_and(Error::is_race));
            if race && attempt < MAX_ATTEMPTS {
                // Writers that collided must not collide again: the pause differs from one transaction to the next.
                let spread = u64::from(started.elapsed().subsec_nanos()) % pause.as_micros().max(1) as u64;
                tokio::time::sleep(pause + Duration::from_micros(spread)).await;
                pause = (pause * 2).min(Duration::from_millis(250));
                attempt += 1;
                continue;
            }
            let outcome = match &result {
                Ok(_) => "committed",
                Err(_) if race => "contention",
                Err(_) => "refused",
            };
            telemetry::record_tx(name, started.elapsed().as_secs_f64(), outcome, attempt);
            return result;
        }
    }

    async fn attempt<'env, T, E, F>(&self, body: &F, is_first_try: bool) -> Result<T, E>
    where
        F: for<'c> Fn(&'c Tx<'env>) -> BoxFuture<'c, Result<T, E>> + Send + Sync,
        T: Send,
        E: Fault,
    {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let inner = begin(&self.0.write, options).await?;
        if let Some(stamps) = &self.0.stamps {
            stamps.settle();
        }
        let (changes, altered, clock) = (Mutex::default(), Mutex::default(), self.0.clock.clone());
        let tx = Tx { inner, changes, altered, clock, is_first_try, _env: PhantomData };
        // Dropped on an error or when the caller goes away: rolled back.
        let value = body(&tx).await?;
        let changes = tx.changes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let changes = feed::append(&tx.inner, changes, &self.0.clock).await?;
        let altered = tx.altered.into_inner().unwrap_or_else(PoisonError::into_inner);
        let commit = self.0.stamps.as_ref().map(|stamps| stamps.commit(altered));
        tx.inner.commit().await.map_err(Error::from)?;
        if let Some(commit) = commit {
            commit.succeeded();
        }
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        self.0.feed.committed(changes);
        Ok(value)
    }
}

/// Begins a transaction that leaves nothing behind when its caller goes away, at whatever moment.
async fn begin(connection: &DatabaseConnection, options: TransactionOptions) -> Result<DatabaseTransaction> {
    if connection.get_database_backend() != DatabaseBackend::Postgres {
        return Ok(connection.begin_with_options(options).await?);
    }
    // sqlx 0.9.0 forgets a BEGIN whose caller goes away before the answer comes: the connection would return to the pool
    // inside a transaction that nobody ends. A task of its own always sees the answer, and rolls back if nobody takes it.
    let connection = connection.clone();
    let begun = tokio::spawn(async move { connection.begin_with_options(options).await }.in_current_span());
    Ok(begun.await.map_err(|error| Error::Internal(format!("begin: {error}")))??)
}

/// A database that does not keep itself open, and is not there any more once it is closed.
#[derive(Debug)]
pub(crate) struct WeakDb(std::sync::Weak<Inner>);

impl WeakDb {
    pub(crate) fn upgrade(&self) -> Option<Db> {
        self.0.upgrade().map(Db).filter(|db| !db.is_closed())
    }
}

/// A transaction for writing. Dereferences to sea-orm's, for queries.
///
/// `'env` is what lets a body borrow from around it, as with `std::thread::scope`; everywhere else write `&Tx<'_>`.
#[derive(Debug)]
pub struct Tx<'env> {
    inner: DatabaseTransaction,
    changes: Mutex<Vec<feed::Pending>>,
    altered: Mutex<Vec<Uuid>>,
    clock: Clock,
    is_first_try: bool,
    _env: PhantomData<&'env ()>,
}

impl Deref for Tx<'_> {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Tx<'_> {
    /// Publishes a change with this transaction: it reaches the followers if and only if the transaction commits. `key` is the
    /// thing that changed; the changes of one key keep their order. A message that also says something of a parent (a count of its
    /// open things) goes under the parent's key, and so does its item in a snapshot: else the two could contradict each other.
    /// The followers' traces go on from the span that is current now.
    pub fn publish(&self, topic: &'static str, key: Uuid, message: &impl prost::Message) {
        self.publish_caused(topic, key, message, "");
    }

    /// The same for what a followed change brought about: its cause goes on, a W3C traceparent, where one batch holds the changes of many
    /// calls and the current span is that of the last. Empty is as [`Tx::publish`].
    pub fn publish_caused(&self, topic: &'static str, key: Uuid, message: &impl prost::Message, cause: &str) {
        let change = feed::Pending::new(topic, key, message).caused_by(cause);
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    /// Says that this transaction changes what is [`Kept`] under a key. Whoever writes what is read for a kept value says so, or the value goes on
    /// counting.
    pub fn alters(&self, key: Uuid) {
        self.altered.lock().unwrap_or_else(PoisonError::into_inner).push(key);
    }

    /// The clock of this transaction's service.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the body runs for the first time, and may write in the hope that nothing of it is there yet: where that is vain, a duplicate key
    /// runs it again, and then it looks first.
    pub fn is_first_try(&self) -> bool {
        self.is_first_try
    }

    /// What to append to a raw select of rows that this transaction decides by: a lock on PostgreSQL, nothing on SQLite, whose
    /// writer is alone. (sea-orm's `lock_exclusive` does the same for its own selects.)
    pub fn for_update(&self) -> &'static str {
        if self.inner.get_database_backend() == DatabaseBackend::Postgres { " FOR UPDATE" } else { "" }
    }
}

/// A statement with `$1`-style parameters, which both databases understand.
pub fn sql<C: ConnectionTrait>(
    connection: &C,
    text: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    let (backend, text, values): (_, _, Vec<Value>) =
        (connection.get_database_backend(), text.into(), values.into_iter().collect());
    if backend == DatabaseBackend::Sqlite && values.len() > MANY_PARAMETERS {
        let (text, values) = without_names(text, values);
        return Statement::from_sql_and_values(backend, text, values);
    }
    Statement::from_sql_and_values(backend, text, values)
}

/// From here on the names of parameters cost more than rewriting them.
const MANY_PARAMETERS: usize = 32;
/// SQLite's limit of parameters in one statement.
const MAX_PARAMETERS: usize = 32_766;

/// The same statement with `?` for every `$7`. To SQLite that is a name, and it searches through all names for each of them: a statement of
/// twenty thousand parameters would take seconds.
fn without_names(text: String, values: Vec<Value>) -> (String, Vec<Value>) {
    let mut plain = String::with_capacity(text.len());
    let mut order = Vec::with_capacity(values.len());
    let mut quoted = false;
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['$', '\'']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let after = &from[1..];
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest = match after[..digits].parse::<usize>() {
            Ok(number) if !quoted && from.starts_with('$') && (1..=values.len()).contains(&number) => {
                plain.push('?');
                order.push(number - 1);
                &after[digits..]
            }
            _ => {
                quoted ^= from.starts_with('\'');
                plain.push_str(&from[..1]);
                after
            }
        };
    }
    plain.push_str(rest);
    if order.iter().copied().eq(0..values.len()) {
        return (plain, values);
    }
    if order.len() > MAX_PARAMETERS {
        return (text, values);
    }
    let values = order.into_iter().map(|index| values[index].clone()).collect();
    (plain, values)
}

/// The writer, readers, and readers in transactions.
async fn connect_sqlite(url: &str) -> Result<(DatabaseConnection, DatabaseConnection, DatabaseConnection)> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    if path.is_empty() || path.starts_with(":memory:") {
        // Every connection would see a database of its own.
        return Err(Error::Internal("database URL: sqlite: needs the path of a file".to_owned()));
    }
    if let Some(folder) = PathBuf::from(path).parent().filter(|folder| !folder.as_os_str().is_empty()) {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|error| Error::Internal(format!("cannot create the data folder {}: {error}", folder.display())))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: an acknowledged write survives a power cut, not only a killed process.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("cache_size", SQLITE_WRITER_CACHE)
        .pragma("wal_autocheckpoint", checkpoint::WRITER_FROM)
        .pragma("journal_size_limit", checkpoint::LOG_LIMIT)
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(256)
        .row_buffer_size(ROW_BUFFER)
        // A slow one would be logged whole, thousands of rows of it; how long transactions take is measured by name.
        .disable_statement_logging();
    let writer = || {
        SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // A burst of writers queues for the one connection; how long a call may wait is its own deadline's affair.
            .acquire_timeout(Duration::from_secs(30))
            .after_release(|connection, _| Box::pin(is_clean(connection)))
            .connect_with(options.clone())
    };
    let writer = patiently(writer).await?;
    let options = options.clone().pragma("query_only", "1").pragma("cache_size", SQLITE_READER_CACHE);
    let readers = || {
        SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
    };
    let plain = patiently(|| readers().connect_with(options.clone())).await?;
    let snapshots = || readers().after_release(|connection, _| Box::pin(is_clean(connection)));
    let snapshots = patiently(|| snapshots().connect_with(options.clone())).await?;
    let [writer, plain, snapshots] = [writer, plain, snapshots].map(SqlxSqliteConnector::from_sqlx_sqlite_pool);
    Ok((writer, plain, snapshots))
}

/// Connects to a file that others may be opening just now: the one that turns it to WAL has it to itself for a moment, and SQLite does not let
/// the others wait for that as they do for a lock of a statement.
async fn patiently<P, F: Future<Output = sqlx::Result<P>>>(connect: impl Fn() -> F) -> Result<P> {
    let started = stopwatch();
    loop {
        match connect().await.map_err(connect_error) {
            Err(error) if started.elapsed() < SQLITE_BUSY_TIMEOUT && error.is_race() => {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether a connection that comes back to its pool can be used again. When its disk is full, SQLite ends a transaction by itself, and
/// sqlx goes on counting it as open: what the next ones commit would then be inside it, acknowledged and never durable.
async fn is_clean(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // After a commit nothing is counted as open. Where something is, its roll-back may still be queued, which a ping waits for.
    if connection.is_in_transaction() {
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

async fn connect_postgres(url: &str) -> Result<DatabaseConnection> {
    let options = PgConnectOptions::from_str(url)
        // The URL may hold a password: it is not repeated.
        .map_err(|_| Error::Internal("database URL: not a valid postgres:// URL".to_owned()))?
        .application_name("clientele")
        .options([
            ("statement_timeout", POSTGRES_STATEMENT_TIMEOUT),
            ("lock_timeout", POSTGRES_LOCK_TIMEOUT),
            // Here rather than with each transaction, where it would cost a round trip.
            ("default_transaction_isolation", "read committed"),
            // A replica that hangs in the middle of a transaction must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        .statement_cache_capacity(256)
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TEST_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .idle_timeout(Duration::from_secs(60))
        .connect_with(options)
        .await
        .map_err(connect_error)?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

fn connect_error(error: sqlx::Error) -> Error {
    Error::Database(DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into())))
}

/// Any number; the same for every service, since each has its own database and locks are per database.
const MIGRATION_LOCK: i64 = 0x636c_6965_6e74;

async fn migrate<M: MigratorTrait>(write: &DatabaseConnection) -> Result<()> {
    let options =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let tx = write.begin_with_options(options).await?;
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        // Replicas that start at once queue up here, longer than for an ordinary lock; the lock goes with the transaction. Going through a table of
        // many millions takes minutes: broken off, it would never be through, and no replica of this version would ever start.
        tx.execute_unprepared("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0").await?;
        tx.execute_raw(sql(&tx, "SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK.into()])).await?;
    }
    M::up(&tx, None).await.map_err(|error| match error {
        DbErr::Custom(text) | DbErr::Migration(text) => Error::Internal(format!(
            "the database's schema is not one that this program knows (is the program older than the database?): {text}"
        )),
        other => Error::Database(other),
    })?;
    tx.commit().await?;
    Ok(())
}

/// The sequence of the last change that is known to be committed, as a channel to wait on.
pub(crate) type Latest = watch::Sender<i64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_lose_their_names_and_keep_their_values() {
        let values: Vec<Value> = (1..=3).map(Value::from).collect();
        let plain = |text: &str| without_names(text.to_owned(), values.clone());
        assert_eq!(plain("VALUES ($1,$2),($3)"), ("VALUES (?,?),(?)".to_owned(), values.clone()));
        let twice = [2, 1, 2, 3].map(Value::from).to_vec();
        assert_eq!(plain("SET a = $2, b = $1, c = $2, d = $3"), ("SET a = ?, b = ?, c = ?, d = ?".to_owned(), twice));
        let (text, kept) = plain("SELECT '$1', 'it''s $2', $3, '$'");
        assert_eq!((text.as_str(), kept), ("SELECT '$1', 'it''s $2', ?, '$'", vec![Value::from(3)]));
    }
}
