//! Following over real gRPC: the projection equals the source, whatever goes away or breaks in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chassis::{
    Context, Db, Error, Result, Tx,
    clock::{Clock, stopwatch},
    db::{BoxFuture, sql},
    feed::{self, Change, Entry, Event, Follow, Turn},
    peers::Peers,
    telemetry,
    testing::{Backend, TempDb, TestServer, eventually, noon},
};
use futures::{StreamExt, stream::BoxStream};
use jiff::SignedDuration;
use proto::{
    common::v1::{FeedMark, FeedPosition},
    scoring::v1::Standing,
};
use sea_orm::ConnectionTrait;
use tokio::{sync::Semaphore, task::JoinHandle};
use tonic::Status;
use tracing::instrument::WithSubscriber;
use uuid::Uuid;

mod support;
use support::{Dice, bump, connect, contents, ids, number, project};

chassis::db_tests!(
    a_projection_equals_its_source_after_both_sides_went_away_again_and_again,
    a_follower_waits_for_a_peer_that_is_not_there_yet,
    a_follower_away_for_too_long_starts_again_with_a_snapshot,
    a_follower_of_a_replaced_database_starts_again_with_a_snapshot,
    of_two_replicas_one_follows_and_the_other_takes_over_when_it_dies,
    a_replica_that_drains_hands_over_at_once,
    changes_that_cannot_be_applied_are_tried_again_and_none_is_skipped,
    a_clock_that_jumps_neither_stops_nor_doubles_anything,
    an_error_that_says_nothing_of_the_cursor_keeps_it,
    a_stream_that_begins_with_an_error_is_tried_again_ever_later_and_people_are_told,
    a_follower_that_drains_leaves_no_half_batch,
    a_follower_is_told_of_each_beginning_of_a_snapshot_and_once_of_its_end,
);

/// Longer than a lease.
const LEASE_OVER: SignedDuration = SignedDuration::from_secs(11);

/// Where the publisher is found; empty while it is away.
type Address = Arc<Mutex<Option<String>>>;

type Apply = Box<dyn for<'c, 't> Fn(&'c Tx<'t>, &'c [Change<Standing>]) -> BoxFuture<'c, Result<()>> + Send + Sync>;

/// One replica of the following service.
struct Replica {
    context: Context,
    task: JoinHandle<()>,
    /// Changes that it tried to apply.
    applied: Arc<AtomicUsize>,
}

impl Replica {
    async fn start(target: &str, clock: &Clock, address: &Address) -> Self {
        let applied = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&applied);
        let apply: Apply = Box::new(move |tx, changes| {
            count.fetch_add(changes.len(), Ordering::Relaxed);
            project(tx, changes)
        });
        Self { applied, ..Self::start_with(target, clock, address, apply).await }
    }

    async fn start_with(target: &str, clock: &Clock, address: &Address, apply: Apply) -> Self {
        let context = Context::new(clock.clone(), Peers::default());
        let db = support::connect_at(target, clock).await;
        let address = Arc::clone(address);
        let url = move || address.lock().unwrap().clone();
        let task = tokio::spawn(support::follow_scores(context.clone(), db, url, apply));
        Self { context, task, applied: Arc::default() }
    }

    fn applied(&self) -> usize {
        self.applied.load(Ordering::Relaxed)
    }

    /// Ends it as SIGKILL would: the lease is not given back.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Ends it as SIGTERM would.
    async fn drain(self) {
        self.context.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// A publisher, the source's and the follower's databases as the test sees them, and where the publisher is found.
struct Scene {
    clock: Clock,
    source: Db,
    target: Db,
    address: Address,
    temps: (TempDb, TempDb),
    ids: Vec<Uuid>,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let temps = (TempDb::new(backend).await, TempDb::new(backend).await);
        let clock = Clock::mock(noon());
        let (source, target) = (support::connect_at(temps.0.url(), &clock).await, connect(temps.1.url()).await);
        Self { clock, source, target, address: Address::default(), temps, ids: ids(1_200) }
    }

    /// Starts the publisher at a new address.
    async fn publisher(&self) -> TestServer {
        let url = self.temps.0.url();
        let server =
            TestServer::start(self.clock.clone(), &[], |context| vec![support::feed_service(url, context)]).await;
        *self.address.lock().unwrap() = Some(server.url());
        server
    }

    async fn replica(&self) -> Replica {
        Replica::start(self.temps.1.url(), &self.clock, &self.address).await
    }

    /// Changes some customers, several times.
    async fn change(&self, dice: &mut Dice, times: i64) {
        for state in 0..times {
            let mut some: Vec<Uuid> = (0..=dice.roll(4)).map(|_| *dice.pick(&self.ids)).collect();
            some.sort_unstable();
            some.dedup();
            bump(&self.source, &some, state).await.unwrap();
        }
    }

    /// Waits until the projection equals the source, and looks whether anything was out of order on the way.
    async fn settles(&self) {
        let (source, target) = (&self.source, &self.target);
        eventually("the projection equals the source", || async move {
            contents(source.read(), "customer").await == contents(target.read(), "projection").await
        })
        .await;
        assert_eq!(number(self.target.read(), "SELECT COUNT(*) FROM anomaly").await, 0, "gaps, doubles or regressions");
    }

    async fn cursor(&self) -> String {
        let db = self.target.read();
        let text = chassis::db::sql(db, "SELECT cursor FROM follower", []);
        let row = sea_orm::ConnectionTrait::query_one_raw(db, text).await.unwrap();
        row.map(|row| row.try_get_by_index(0).unwrap()).unwrap_or_default()
    }
}

async fn a_projection_equals_its_source_after_both_sides_went_away_again_and_again(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut dice = Dice::new(5);
    // More than a page, so that something breaks off within a snapshot too.
    bump(&scene.source, &scene.ids, 0).await.unwrap();
    let mut publisher = scene.publisher().await;
    let mut replica = scene.replica().await;
    for round in 0..12 {
        scene.change(&mut dice, 15).await;
        match round % 4 {
            0 => {
                publisher.kill().await;
                scene.change(&mut dice, 5).await;
                publisher = scene.publisher().await;
            }
            1 => {
                replica.kill().await;
                scene.change(&mut dice, 5).await;
                scene.clock.advance(LEASE_OVER);
                replica = scene.replica().await;
            }
            2 => {
                publisher.stop().await.unwrap();
                *scene.address.lock().unwrap() = None;
                scene.change(&mut dice, 5).await;
                publisher = scene.publisher().await;
            }
            _ => {
                replica.drain().await;
                scene.change(&mut dice, 5).await;
                replica = scene.replica().await;
            }
        }
        if round % 3 == 2 {
            scene.settles().await;
        }
    }
    scene.settles().await;
    replica.drain().await;
    publisher.stop().await.unwrap();
}

async fn a_follower_waits_for_a_peer_that_is_not_there_yet(backend: Backend) {
    let scene = Scene::new(backend).await;
    // First no address at all, then one at which nobody listens.
    let replica = scene.replica().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    *scene.address.lock().unwrap() = Some(format!("http://{nobody}"));
    let mut dice = Dice::new(1);
    scene.change(&mut dice, 10).await;
    let publisher = scene.publisher().await;
    scene.settles().await;
    // Away for a while, then back: from where it was, not from the start.
    publisher.kill().await;
    scene.change(&mut dice, 10).await;
    let before = replica.applied();
    let publisher = scene.publisher().await;
    scene.settles().await;
    let changes = number(scene.source.read(), "SELECT CAST(SUM(last - first + 1) AS BIGINT) FROM outbox").await;
    assert!(replica.applied() as i64 <= changes, "{before} {} {changes}", replica.applied());
    publisher.stop().await.unwrap();
}

async fn a_follower_away_for_too_long_starts_again_with_a_snapshot(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut dice = Dice::new(2);
    let publisher = scene.publisher().await;
    let replica = scene.replica().await;
    scene.change(&mut dice, 10).await;
    scene.settles().await;
    replica.drain().await;
    scene.change(&mut dice, 10).await;
    scene.clock.advance(SignedDuration::from_hours(24));
    feed::trim(&scene.source, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(number(scene.source.read(), "SELECT COUNT(*) FROM outbox").await, 0);
    scene.change(&mut dice, 3).await;
    let replica = scene.replica().await;
    scene.settles().await;
    scene.change(&mut dice, 10).await;
    scene.settles().await;
    replica.drain().await;
    publisher.stop().await.unwrap();
}

async fn a_follower_of_a_replaced_database_starts_again_with_a_snapshot(backend: Backend) {
    let scene = Scene::new(backend).await;
    let publisher = scene.publisher().await;
    let replica = scene.replica().await;
    bump(&scene.source, &scene.ids[..5], 1).await.unwrap();
    scene.settles().await;
    publisher.kill().await;
    // Another database under the same name, with other customers.
    let replacement = Scene::new(backend).await;
    let other = Scene { ids: ids(20).split_off(10), address: Arc::clone(&scene.address), ..replacement };
    bump(&other.source, &other.ids, 1).await.unwrap();
    let publisher = other.publisher().await;
    let wanted = contents(other.source.read(), "customer").await;
    let (wanted, target) = (&wanted, &scene.target);
    eventually("the other database's customers have come", || async move {
        let projected = contents(target.read(), "projection").await;
        wanted.iter().all(|(id, state)| projected.get(id) == Some(state))
    })
    .await;
    replica.drain().await;
    publisher.stop().await.unwrap();
}

async fn of_two_replicas_one_follows_and_the_other_takes_over_when_it_dies(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut dice = Dice::new(3);
    let publisher = scene.publisher().await;
    let mut replicas = [scene.replica().await, scene.replica().await];
    scene.change(&mut dice, 30).await;
    scene.settles().await;
    scene.change(&mut dice, 30).await;
    scene.settles().await;
    replicas.sort_by_key(Replica::applied);
    let [idle, active] = replicas;
    assert_eq!(idle.applied(), 0, "one at a time");
    active.kill().await;
    scene.change(&mut dice, 30).await;
    scene.clock.advance(LEASE_OVER);
    scene.settles().await;
    assert!(idle.applied() > 0);
    idle.drain().await;
    publisher.stop().await.unwrap();
}

async fn a_replica_that_drains_hands_over_at_once(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut dice = Dice::new(4);
    let publisher = scene.publisher().await;
    let first = scene.replica().await;
    scene.change(&mut dice, 5).await;
    scene.settles().await;
    let second = scene.replica().await;
    first.drain().await;
    scene.change(&mut dice, 5).await;
    // The clock stands still: nothing runs out.
    scene.settles().await;
    assert!(second.applied() > 0);
    second.drain().await;
    publisher.stop().await.unwrap();
}

async fn changes_that_cannot_be_applied_are_tried_again_and_none_is_skipped(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut dice = Dice::new(6);
    let publisher = scene.publisher().await;
    let tries = Arc::new(AtomicU32::new(0));
    let apply: Apply = Box::new({
        let tries = Arc::clone(&tries);
        move |tx, changes| {
            let tries = Arc::clone(&tries);
            Box::pin(async move {
                project(tx, changes).await?;
                // Two of three fail after they have written.
                match tries.fetch_add(1, Ordering::Relaxed) % 3 {
                    2 => Ok(()),
                    _ => Err(Error::Internal("on purpose".to_owned())),
                }
            })
        }
    });
    let replica = Replica::start_with(scene.temps.1.url(), &scene.clock, &scene.address, apply).await;
    for _ in 0..3 {
        scene.change(&mut dice, 20).await;
        scene.settles().await;
    }
    assert!(tries.load(Ordering::Relaxed) >= 3);
    replica.drain().await;
    publisher.stop().await.unwrap();
}

async fn a_clock_that_jumps_neither_stops_nor_doubles_anything(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut dice = Dice::new(8);
    let publisher = scene.publisher().await;
    let replicas = [scene.replica().await, scene.replica().await, scene.replica().await];
    for _ in 0..6 {
        for _ in 0..5 {
            let jump = i64::try_from(dice.roll(2 * 7200)).unwrap() - 7200;
            scene.clock.advance(SignedDuration::from_secs(jump));
            scene.change(&mut dice, 5).await;
        }
        scene.settles().await;
    }
    for replica in replicas {
        replica.drain().await;
    }
    publisher.stop().await.unwrap();
}

fn entry(sequence: i64) -> Entry<Standing> {
    let position = FeedPosition { cursor: format!("c{sequence}"), sequence, ..Default::default() };
    Entry { position, event: Event::Change(support::standing(Uuid::max(), sequence, sequence)) }
}

async fn an_error_that_says_nothing_of_the_cursor_keeps_it(backend: Backend) {
    let scene = Scene::new(backend).await;
    let context = Context::new(scene.clock.clone(), Peers::default());
    let asked = Arc::new(Mutex::new(Vec::new()));
    // Each connection gives one change and breaks off; OUT_OF_RANGE is what a message that is too large gives.
    let connect = {
        let asked = Arc::clone(&asked);
        move |cursor: String| {
            let mut asked = asked.lock().unwrap();
            asked.push(cursor);
            let next = asked.len() as i64;
            let broken = [
                Status::out_of_range("decoded message length too large"),
                Status::invalid_argument("anything"),
                Status::internal("anything"),
                chassis::Error::NotServing("this replica").into(),
            ];
            let entries = [Ok(entry(next)), Err(broken[asked.len() % 4].clone())];
            async move { Ok(futures::stream::iter(entries).boxed()) as Result<BoxStream<'static, _>, Status> }
        }
    };
    let follow = Follow { name: "scores", db: scene.target.clone() };
    let task = tokio::spawn(feed::follow(context.clone(), follow, connect, |tx, changes| project(tx, changes)));
    let opened = &asked;
    eventually("nine connections", || async move { opened.lock().unwrap().len() >= 9 }).await;
    context.shutdown.cancel();
    task.await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], "");
    assert!((1..asked.len()).all(|n| asked[n] == format!("c{n}")), "{asked:?}");
}

async fn a_stream_that_begins_with_an_error_is_tried_again_ever_later_and_people_are_told(backend: Backend) {
    let scene = Scene::new(backend).await;
    let lines = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&lines);
    let config = telemetry::Config { log_filter: "info".to_owned(), ..telemetry::Config::default() };
    let (dispatch, _guard) = telemetry::scoped(&config, move |line| sink.lock().unwrap().push_str(line)).unwrap();
    let context = Context::new(scene.clock.clone(), Peers::default());
    let opened = Arc::new(Mutex::new(Vec::new()));
    let connect = {
        let opened = Arc::clone(&opened);
        move |_| {
            opened.lock().unwrap().push(stopwatch());
            let entries = [Err(Status::unauthenticated("anything"))];
            async move { Ok(futures::stream::iter(entries).boxed()) as Result<BoxStream<'static, _>, Status> }
        }
    };
    let follow = Follow { name: "scores", db: scene.target.clone() };
    let follow = feed::follow(context.clone(), follow, connect, |tx, changes| project(tx, changes));
    let task = tokio::spawn(follow.with_subscriber(dispatch));
    let counted = &opened;
    eventually("five connections", || async move { counted.lock().unwrap().len() >= 5 }).await;
    context.shutdown.cancel();
    task.await.unwrap();
    let opened = opened.lock().unwrap();
    // 50, 100, 200 and 400 ms between them; always 50 would make it 200.
    assert!(opened[4] - opened[0] >= Duration::from_millis(750), "{opened:?}");
    let lines = lines.lock().unwrap();
    assert_eq!(lines.matches("cannot follow").count(), 1, "{lines}");
    assert!(lines.contains("refused") && lines.contains("Unauthenticated"), "{lines}");
}

async fn a_follower_that_drains_leaves_no_half_batch(backend: Backend) {
    let scene = Scene::new(backend).await;
    let publisher = scene.publisher().await;
    let reached = Arc::new(Semaphore::new(0));
    let apply: Apply = Box::new({
        let reached = Arc::clone(&reached);
        move |tx, changes| {
            let reached = Arc::clone(&reached);
            Box::pin(async move {
                project(tx, changes).await?;
                reached.add_permits(1);
                std::future::pending().await
            })
        }
    });
    bump(&scene.source, &scene.ids[..3], 1).await.unwrap();
    let stuck = Replica::start_with(scene.temps.1.url(), &scene.clock, &scene.address, apply).await;
    reached.acquire().await.unwrap().forget();
    stuck.drain().await;
    assert!(contents(scene.target.read(), "projection").await.is_empty());
    assert_eq!(scene.cursor().await, "");
    let replica = scene.replica().await;
    scene.settles().await;
    // The end of the snapshot may come after its last item.
    eventually("there is a place to go on from", || async { !scene.cursor().await.is_empty() }).await;
    replica.drain().await;
    publisher.stop().await.unwrap();
}

/// Writes down how many rows the projection has at the turn.
fn note_turn<'c>(tx: &'c Tx<'_>, turn: Turn) -> BoxFuture<'c, Result<()>> {
    Box::pin(async move {
        let rows = number(&**tx, "SELECT COUNT(*) FROM projection").await;
        let text = "INSERT INTO anomaly (id, stored, came) VALUES ($1, $2, $3)";
        let values = [Uuid::nil().into(), i64::from(turn == Turn::Complete).into(), rows.into()];
        tx.execute_raw(sql(&**tx, text, values)).await?;
        Ok(())
    })
}

async fn a_follower_is_told_of_each_beginning_of_a_snapshot_and_once_of_its_end(backend: Backend) {
    let scene = Scene::new(backend).await;
    let context = Context::new(scene.clock.clone(), Peers::default());
    let opened = Arc::new(AtomicUsize::new(0));
    let connect = {
        let opened = Arc::clone(&opened);
        move |_| {
            let item = Entry { position: FeedPosition::default(), ..entry(1) };
            let mark = Entry { event: Event::Mark(FeedMark::SnapshotComplete), ..entry(2) };
            let broken = || Err(Status::unavailable("breaks off"));
            let entries = match opened.fetch_add(1, Ordering::SeqCst) {
                0 => vec![broken()],
                1 => vec![Ok(item), broken()],
                2 => vec![Ok(item), Ok(mark), Ok(entry(2)), broken()],
                _ => vec![Ok(entry(3)), broken()],
            };
            async move { Ok(futures::stream::iter(entries).boxed()) as Result<BoxStream<'static, _>, Status> }
        }
    };
    let follow = Follow { name: "scores", db: scene.target.clone() };
    let apply: Apply = Box::new(|tx, changes| project(tx, changes));
    let task = tokio::spawn(feed::follow_whole(context.clone(), follow, connect, apply, note_turn));
    let counted = &opened;
    eventually("five connections", || async move { counted.load(Ordering::SeqCst) >= 5 }).await;
    context.shutdown.cancel();
    task.await.unwrap();
    let count = async |what: &str| {
        // The doubles of the last connections are noted there, too, with the revision 3.
        number(scene.target.read(), &format!("SELECT COUNT(*) FROM anomaly WHERE {what}")).await
    };
    // Before the items of the first that came at all, and before those of the next.
    assert_eq!((count("stored = 0 AND came = 0").await, count("stored = 0 AND came = 1").await), (2, 1));
    assert_eq!((count("stored = 1").await, count("stored = 1 AND came = 1").await), (1, 1));
}
