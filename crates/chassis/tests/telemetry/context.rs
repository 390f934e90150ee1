//! How a trace passes on: through links, batches of changes, and where nothing is exported.

use chassis::telemetry::{self, Config};
use chassis::testing::otlp::Receiver;
use chassis::testing::{Backend, TempDb, noon};
use chassis::{
    Db,
    clock::Clock,
    feed::{self, Entry, Event, Follow},
    peers::Peers,
};
use futures::StreamExt;
use proto::common::v1::FeedPosition;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio::sync::mpsc;
use tracing::Instrument;
use tracing::dispatcher;

use crate::echo::{Echo, LIMIT, a_trace, find, json, say, scoped, serve, within};

#[tokio::test]
async fn with_telemetry_off_a_link_changes_nothing() {
    let (dispatch, _guard, lines) = scoped(Config { log_filter: "info".to_owned(), ..Config::default() });
    let _default = dispatcher::set_default(&dispatch);
    let (cause, own) = (a_trace(23).1, a_trace(24).1);
    telemetry::link(&cause);
    within(&own).in_scope(|| {
        telemetry::link(&cause);
        assert_eq!(telemetry::current_traceparent(), Some(own));
    });
    assert!(lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_of_changes_continues_its_last_cause_and_is_linked_to_the_others() {
    let receiver = Receiver::start().unwrap();
    let config = Config { otlp_endpoint: Some(receiver.endpoint()), ..Config::default() };
    let (dispatch, guard, _) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    let database = TempDb::new(Backend::Sqlite).await;
    let clock = Clock::mock(noon());
    let db = Db::connect::<Feeds>(database.url(), &clock).await.unwrap();
    let context = chassis::Context::new(clock, Peers::default());
    let causes: Vec<_> = (25..28).map(a_trace).collect();
    // They come at once, so they are one batch.
    let changes: Vec<_> = [0, 1, 1, 0, 2]
        .into_iter()
        .zip(1..)
        .map(|(cause, sequence): (usize, i64)| {
            let (cursor, traceparent) = (sequence.to_string(), causes[cause].1.clone());
            Ok(Entry {
                position: FeedPosition { cursor, sequence, traceparent, ..FeedPosition::default() },
                event: Event::Change(()),
            })
        })
        .collect();
    let connect = move |_| {
        let changes = futures::stream::iter(changes.clone()).chain(futures::stream::pending());
        async { Ok(changes.boxed()) }
    };
    let (sender, mut applied) = mpsc::unbounded_channel();
    let follow = Follow { name: "batch", db };
    let task = feed::follow::<_, chassis::Error, _, _, _>(context.clone(), follow, connect, move |_, changes| {
        sender.send(changes.len()).unwrap();
        Box::pin(async { Ok(()) })
    });
    let task = tokio::spawn(task);
    assert_eq!(applied.recv().await, Some(5));
    context.shutdown.cancel();
    task.await.unwrap();
    guard.shutdown();
    let spans = receiver.wait_for(|spans| spans.iter().any(|span| span.kind == "consumer"), LIMIT).await.unwrap();
    let span = find(&spans, "consumer", "b7ad6b7169203331");
    assert_eq!((span.name.as_str(), &span.trace_id), ("batch", &causes[2].0));
    let linked: Vec<_> = span.links.iter().map(|link| link.trace_id.as_str()).collect();
    assert_eq!(linked, [&causes[1].0, &causes[0].0]);
}

#[tokio::test]
async fn a_change_that_can_never_be_applied_is_counted_and_the_lag_grows() {
    let receiver = Receiver::start().unwrap();
    let config = Config { otlp_endpoint: Some(receiver.endpoint()), ..Config::default() };
    let (dispatch, guard, lines) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    let database = TempDb::new(Backend::Sqlite).await;
    let clock = Clock::mock(noon());
    let db = Db::connect::<Feeds>(database.url(), &clock).await.unwrap();
    let context = chassis::Context::new(clock.clone(), Peers::default());
    let connect = move |_| {
        let position = FeedPosition { cursor: "1".to_owned(), sequence: 1, ..FeedPosition::default() };
        let poison = futures::stream::iter([Ok(Entry { position, event: Event::Change(()) })]);
        async move { Ok(poison.chain(futures::stream::pending()).boxed()) }
    };
    let (sender, mut tried) = mpsc::unbounded_channel();
    let follow = Follow { name: "poison", db };
    let task = feed::follow::<_, chassis::Error, _, _, _>(context.clone(), follow, connect, move |_, _| {
        sender.send(()).unwrap();
        Box::pin(async { Err(chassis::Error::Internal("never".to_owned())) })
    });
    let task = tokio::spawn(task);
    tried.recv().await.unwrap();
    clock.advance(jiff::SignedDuration::from_secs(60));
    // What the third finds has been measured after the second, a minute late.
    for _ in 0..3 {
        tried.recv().await.unwrap();
    }
    context.shutdown.cancel();
    task.await.unwrap();
    guard.flush();
    let measured =
        receiver.wait_for_measurements(|all| all.iter().any(|one| one.name == "feed.failures"), LIMIT).await.unwrap();
    let of = |name: &str| {
        measured.iter().find(|one| one.name == name && one.attribute("feed.follower") == "poison").unwrap()
    };
    assert_eq!(of("feed.lag").value, 60.0);
    assert_eq!(of("feed.failures").attribute("reason"), "apply");
    assert!(of("feed.failures").value >= 3.0, "{}", of("feed.failures").value);
    let told = json(&lines).into_iter().filter(|line| line["why"] == "apply").count();
    assert_eq!(told, 1, "people are told once");
}

/// A database with nothing but feeds.
struct Feeds;

impl MigratorTrait for Feeds {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::db::migrations()
    }
}

#[tokio::test]
async fn with_telemetry_off_the_context_still_reaches_peers_and_feed() {
    let (dispatch, _guard, _) = scoped(Config { log_filter: "off".to_owned(), ..Config::default() });
    let _default = dispatcher::set_default(&dispatch);
    async {
        let (sender, mut published) = mpsc::unbounded_channel();
        let last = serve(Echo { published: Some(sender), ..Echo::default() }).await;
        let (_, traceparent) = a_trace(9);
        // Straight from a client that traces.
        say(last.clone(), "publish", &[("traceparent", &traceparent)]).await.unwrap();
        assert_eq!(published.recv().await.unwrap().as_deref(), Some(traceparent.as_str()));
        // From a follower of a change, through the channel.
        say(last.clone(), "publish", &[]).instrument(within(&traceparent)).await.unwrap();
        assert_eq!(published.recv().await.unwrap().as_deref(), Some(traceparent.as_str()));
        // A stranger's nonsense goes no further, and without a trace there is none.
        say(last.clone(), "publish", &[("traceparent", "00-nonsense")]).await.unwrap();
        assert_eq!(published.recv().await.unwrap(), None);
        assert_eq!(telemetry::current_traceparent(), None);
    }
    .await;
}

#[tokio::test]
async fn a_trace_that_is_not_kept_is_passed_on_as_not_kept() {
    let receiver = Receiver::start().unwrap();
    let config = Config {
        otlp_endpoint: Some(receiver.endpoint()),
        log_filter: "off".to_owned(),
        sample_ratio: 0.0,
        ..Config::default()
    };
    let (dispatch, guard, _) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    let (sender, mut published) = mpsc::unbounded_channel();
    let peer = serve(Echo { published: Some(sender), ..Echo::default() }).await;
    say(peer.clone(), "publish", &[]).await.unwrap();
    let begun_here = published.recv().await.unwrap().unwrap();
    assert!(begun_here.starts_with("00-") && begun_here.ends_with("-00"), "{begun_here}");
    // Who began the trace decides: a caller that keeps it gets our spans too.
    let (trace_id, traceparent) = a_trace(13);
    say(peer, "publish", &[]).instrument(within(&traceparent)).await.unwrap();
    let begun_by_caller = published.recv().await.unwrap().unwrap();
    assert!(begun_by_caller.ends_with("-01"), "{begun_by_caller}");
    guard.shutdown();
    let spans = receiver.wait_for(|spans| spans.len() >= 3, LIMIT).await.unwrap();
    assert!(spans.iter().all(|span| span.trace_id == trace_id), "{spans:#?}");
}
