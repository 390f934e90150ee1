//! What stands before the services: how many may watch and probe, how long a silent client is waited for, what is logged of an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chassis::{
    Error,
    peers::Channel,
    server::{Config, MAX_CONCURRENT_CALLS, MAX_FOREIGN_STREAMS, MAX_WATCHERS},
    telemetry,
    testing::{eventually, fault},
};
use futures::StreamExt;
use proto::scoring::v1::{
    GetScoreRequest, GetScoreResponse, StreamPurchasesRequest, StreamPurchasesResponse, WatchScoresRequest,
    WatchScoresResponse, scoring_client::ScoringClient,
};
use tonic::{Code, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

#[path = "support/raw.rs"]
mod raw;
mod support;
#[path = "support/wire.rs"]
mod wire;
use raw::{Raw, SERVING, get_score, health};
use support::Fake;
use wire::Wire;

async fn serves(channel: &Channel) {
    eventually("it serves", || async { health(channel, "").await == Ok(SERVING) }).await;
}

#[tokio::test]
async fn so_many_may_watch_and_a_place_that_is_left_is_free_again() {
    let fake = Fake {
        watch_scores: Arc::new(|_| {
            Box::pin(async {
                let first = futures::stream::iter([Ok(WatchScoresResponse::default())]);
                Ok(first.chain(futures::stream::pending()).boxed())
            })
        }),
        ..Fake::default()
    };
    let server = Raw::start(Config::default(), |_| vec![fake.service()]).await;
    let channel = &server.channel();
    serves(channel).await;
    let watch = || async { ScoringClient::new(channel.clone()).watch_scores(WatchScoresRequest::default()).await };
    let mut watchers = Vec::new();
    for _ in 0..MAX_WATCHERS {
        let mut stream = watch().await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        watchers.push(stream);
    }
    let refused = watch().await.unwrap_err();
    assert_eq!(fault(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
    assert!(refused.get_details_retry_info().is_some());
    get_score(channel).await.unwrap();
    watchers.pop();
    eventually("the place that was left is given again", || async { watch().await.is_ok() }).await;
}

#[tokio::test]
async fn so_many_may_watch_the_health_and_keep_nobody_from_watching_or_probing() {
    let fake = Fake {
        watch_scores: Arc::new(|_| Box::pin(async { Ok(futures::stream::pending().boxed()) })),
        ..Fake::default()
    };
    let server = Raw::start(Config::default(), |_| vec![fake.service()]).await;
    let channel = &server.channel();
    serves(channel).await;
    let watch = || async { HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await };
    let mut watchers = Vec::new();
    for _ in 0..MAX_FOREIGN_STREAMS {
        watchers.push(watch().await.unwrap());
    }
    let refused = watch().await.unwrap_err();
    assert_eq!(fault(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
    ScoringClient::new(channel.clone()).watch_scores(WatchScoresRequest::default()).await.unwrap();
    assert_eq!(health(channel, "").await, Ok(SERVING));
    watchers.pop();
    eventually("the place that was left is given again", || async { watch().await.is_ok() }).await;
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";

#[tokio::test]
async fn probes_that_send_no_message_crowd_out_neither_calls_nor_other_probes() {
    let server = Raw::start(Config::default(), |_| vec![Fake::default().service()]).await;
    let channel = server.channel();
    serves(&channel).await;
    let mut held = Vec::new();
    while held.len() < MAX_CONCURRENT_CALLS {
        let wire = Wire::connect(server.address).await;
        // One less than a connection may have open: then comes a whole one, and its answer says that all before it were taken in.
        for n in 0..1_023 {
            held.push(wire.open(if n % 2 == 0 { CHECK } else { WATCH_HEALTH }, &[]).await);
        }
        let answer = wire.call(CHECK, &[], &[]).await;
        assert_eq!(answer.status.unwrap().code(), Code::Ok);
    }
    get_score(&channel).await.unwrap();
    assert_eq!(health(&server.channel(), "").await, Ok(SERVING));
    let oldest = held.swap_remove(0).answer().await.status.unwrap();
    assert_eq!(fault(&oldest), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
}

#[tokio::test]
async fn whoever_opens_a_call_without_time_limit_or_without_a_token_and_sends_nothing_is_told_so() {
    let config = Config { client_idle: Duration::from_millis(100), ..Config::default() };
    let server = Raw::start(config, |_| vec![Fake::default().service()]).await;
    serves(&server.channel()).await;
    let wire = Wire::connect(server.address).await;
    let answer = async |path: &str| {
        let answer = wire.open(path, &[]).await.answer();
        tokio::time::timeout(chassis::testing::DEADLINE, answer).await.unwrap()
    };
    // Reflection takes every end of the questions for a good one.
    let ended = answer("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await;
    assert_eq!(ended.status.unwrap().code(), Code::Ok);
    for path in [CHECK, WATCH_HEALTH, "/clientele.scoring.v1.Scoring/WatchScores"] {
        let answer = answer(path).await;
        assert_eq!(
            fault(&answer.status.unwrap()),
            (Code::DeadlineExceeded, "CLIENT_IDLE".to_owned(), vec![]),
            "{path}"
        );
    }
}

/// Counts the batches that come, and acknowledges them at the end.
fn counting(count: &Arc<AtomicUsize>) -> Fake {
    let count = Arc::clone(count);
    Fake {
        stream_purchases: Arc::new(move |request| {
            let count = Arc::clone(&count);
            Box::pin(async move {
                let mut batches = request.into_inner();
                while batches.message().await?.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Ok(Response::new(StreamPurchasesResponse::default()))
            })
        }),
        ..Fake::default()
    }
}

#[tokio::test]
async fn a_client_that_falls_silent_is_told_so_and_what_it_sent_before_stands() {
    let count = Arc::new(AtomicUsize::new(0));
    let config = Config { client_idle: Duration::from_millis(100), ..Config::default() };
    let server = Raw::start(config, |_| vec![counting(&count).service()]).await;
    let channel = server.channel();
    serves(&channel).await;
    let batches = || futures::stream::iter([StreamPurchasesRequest::default(), StreamPurchasesRequest::default()]);
    let silent = batches().chain(futures::stream::pending());
    let status = ScoringClient::new(channel.clone()).stream_purchases(silent).await.unwrap_err();
    assert_eq!(fault(&status), (Code::DeadlineExceeded, "CLIENT_IDLE".to_owned(), vec![]));
    assert!(status.message().contains("nothing for 0.1 s"), "{status:?}");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // Nor does one that ends well have to hurry.
    ScoringClient::new(channel).stream_purchases(batches()).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

/// What was logged of errors, by the message that each had inside.
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn of(&self, inside: &str) -> Vec<serde_json::Value> {
        let lines = self.0.lock().unwrap();
        let lines = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["error"].as_str().is_some_and(|error| error.contains(inside))).collect()
    }
}

#[tokio::test]
async fn what_goes_wrong_inside_is_logged_once_under_its_call_however_it_ends() {
    let log = Log(Arc::default());
    let sink = Arc::clone(&log.0);
    let config = telemetry::Config { log_filter: "info".to_owned(), ..telemetry::Config::default() };
    let (dispatch, _guard) =
        telemetry::scoped(&config, move |line| sink.lock().unwrap().push(line.to_owned())).unwrap();
    let _default = tracing::dispatcher::set_default(&dispatch);
    let fake = Fake {
        watch_scores: Arc::new(|_| {
            Box::pin(async {
                let late = Err(Error::Internal("gone wrong late".to_owned()));
                let stream = futures::stream::iter([Ok(WatchScoresResponse::default()), late]);
                Ok(stream.map(|item| item.map_err(Status::from)).boxed())
            })
        }),
        ..Fake::asking(|request| async move {
            match request.into_inner().customer_id.as_str() {
                "wrong" => Err(Error::Database(sea_orm::DbErr::Custom("gone wrong".to_owned())).into()),
                "got over" => {
                    let _ = Status::from(Error::Internal("got over".to_owned()));
                    Ok(Response::new(GetScoreResponse::default()))
                }
                "instead" => {
                    let _ = Status::from(Error::Internal("instead".to_owned()));
                    Err(Error::not_found("customer", "x").into())
                }
                _ => {
                    let work = async { drop(Status::from(Error::Internal("elsewhere".to_owned()))) };
                    tokio::spawn(work).await.unwrap();
                    Ok(Response::new(GetScoreResponse::default()))
                }
            }
        })
    };
    let server = Raw::start(Config::default(), |_| vec![fake.service()]).await;
    let channel = server.channel();
    serves(&channel).await;
    let mut client = ScoringClient::new(channel);
    let mut ask = async |id: &str| {
        let mut request = tonic::Request::new(GetScoreRequest { customer_id: id.to_owned(), ..Default::default() });
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        client.get_score(request).await
    };
    let status = ask("wrong").await.unwrap_err();
    assert!(!status.message().contains("gone wrong"), "{status:?}");
    let lines = log.of("gone wrong");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["level"], &lines[0]["rpc.method"]), (&"ERROR".into(), &"GetScore".into()), "{lines:?}");
    assert_eq!(lines[0]["error"], "Custom Error: gone wrong");
    assert_eq!(lines[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c", "{lines:?}");
    for id in ["got over", "instead"] {
        let _ = ask(id).await;
        assert!(log.of(id).is_empty(), "it is not how the call ended: {:?}", log.of(id));
    }
    ask("elsewhere").await.unwrap();
    assert_eq!(log.of("elsewhere").len(), 1, "nobody else would log what a task of its own did");

    let mut stream = client.watch_scores(WatchScoresRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let status = stream.message().await.unwrap_err();
    assert_eq!(fault(&status), (Code::Internal, "INTERNAL".to_owned(), vec![]));
    let lines = log.of("gone wrong late");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["rpc.method"], "WatchScores");
}
