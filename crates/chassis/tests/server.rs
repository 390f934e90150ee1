//! The server as its callers see it: health, draining, deadlines, overload, faults, nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chassis::{
    Error, Service,
    clock::Clock,
    peers::Channel,
    server::{self, Config, MAX_CONCURRENT_CALLS, MAX_MESSAGE_BYTES, Rpcs},
    testing::{Backend, TempDb, TestServer, eventually, fault, noon},
};
use futures::StreamExt;
use proto::scoring::v1::{
    GetScoreRequest, GetScoreResponse, WatchScoresRequest, WatchScoresResponse, scoring_client::ScoringClient,
};
use tokio::sync::Semaphore;
use tonic::{Code, Response};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

#[path = "support/raw.rs"]
mod raw;
mod support;
#[path = "support/wire.rs"]
mod wire;
use raw::{Raw, SERVING, get_score, health};
use support::{Fake, GRPC_NAME, bump, connect, contents, dawdle, ids};
use wire::Wire;

const GET_SCORE: &str = "/clientele.scoring.v1.Scoring/GetScore";
const WATCH_SCORES: &str = "/clientele.scoring.v1.Scoring/WatchScores";
const NOT_SERVING: i32 = 2;

async fn server_of(fake: Fake) -> TestServer {
    TestServer::start(Clock::mock(noon()), &[], |_| vec![fake.service()]).await
}

/// A service whose calls are counted and wait until they are let go.
fn waiting() -> (Fake, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let fake = Fake::asking({
        let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
        move |_| {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(Response::new(GetScoreResponse::default()))
            }
        }
    });
    (fake, count, gate)
}

#[tokio::test]
async fn health_says_not_serving_until_each_has_started() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Raw::start(Config::default(), |_| {
        let gate = Arc::clone(&gate);
        let ready = Service {
            name: "profiles",
            grpc_name: "clientele.profiles.v1.Profiles",
            start: Box::pin(async { Ok(Rpcs::new(Fake::default())) }),
        };
        let late = Service {
            name: "scoring",
            grpc_name: GRPC_NAME,
            start: Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Ok(Rpcs::new(Fake::default()))
            }),
        };
        vec![ready, late]
    })
    .await;
    let channel = &server.channel();
    eventually(
        "profiles serves",
        || async move { health(channel, "clientele.profiles.v1.Profiles").await == Ok(SERVING) },
    )
    .await;
    assert_eq!(health(channel, GRPC_NAME).await, Ok(NOT_SERVING));
    assert_eq!(health(channel, "").await, Ok(NOT_SERVING), "the whole is what all its parts are");
    assert_eq!(health(channel, "clientele.nothing.v1.Nothing").await, Err(Code::NotFound));
    let refused = get_score(channel).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::Unavailable, "DRAINING".to_owned(), vec![]));
    assert!(refused.get_details_retry_info().is_some());
    gate.add_permits(1);
    eventually("all serve", || async move { health(channel, "").await == Ok(SERVING) }).await;
    assert_eq!(health(channel, GRPC_NAME).await, Ok(SERVING));
    get_score(channel).await.unwrap();
    server.end.cancel();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_service_that_cannot_start_ends_the_process_with_its_error() {
    let server = Raw::start(Config::default(), |_| {
        let start = Box::pin(async { Err(Error::invalid("scoring.database_url", "is empty")) });
        vec![Service { name: "scoring", grpc_name: GRPC_NAME, start }]
    })
    .await;
    let error = server.serving.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("scoring.database_url"), "{error}");
    assert!(server.context.shutdown.is_cancelled(), "the others' tasks end too");
}

#[tokio::test]
async fn the_end_also_comes_while_a_service_still_starts() {
    let server = Raw::start(Config::default(), |_| {
        vec![Service { name: "scoring", grpc_name: GRPC_NAME, start: Box::pin(std::future::pending()) }]
    })
    .await;
    let channel = &server.channel();
    eventually("it answers", || async move { health(channel, "").await == Ok(NOT_SERVING) }).await;
    server.end.cancel();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn while_load_balancers_take_notice_it_says_not_serving_and_goes_on_answering() {
    let config = Config { drain_delay: Duration::from_secs(3600), ..Config::default() };
    let server = Raw::start(config, |_| vec![Fake::default().service()]).await;
    let channel = &server.channel();
    eventually("it serves", || async move { health(channel, "").await == Ok(SERVING) }).await;
    server.end.cancel();
    eventually("it says that it drains", || async move { health(channel, "").await == Ok(NOT_SERVING) }).await;
    assert_eq!(health(channel, GRPC_NAME).await, Ok(NOT_SERVING));
    get_score(channel).await.unwrap();
    // A new connection too.
    get_score(&server.channel()).await.unwrap();
    server.serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_has_drained_leaves_its_database_in_one_file() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let log = PathBuf::from(format!("{}-wal", temp.url().trim_start_matches("sqlite:")));
    let server =
        TestServer::start(Clock::mock(noon()), &[], |context| vec![support::feed_service(temp.url(), context)]).await;
    let db = connect(temp.url()).await;
    let ids = ids(3);
    bump(&db, &ids, 5).await.unwrap();
    db.close().await;
    assert!(matches!(bump(&db, &ids, 6).await, Err(Error::Database(_))), "closed is closed");
    assert!(log.exists(), "the service still has it open");
    // Whoever watches has a transaction open now and then.
    let mut watcher = ScoringClient::new(server.channel());
    let mut feed = watcher.watch_scores(WatchScoresRequest::default()).await.unwrap().into_inner();
    feed.next().await.unwrap().unwrap();

    server.stop().await.unwrap();
    assert!(!log.exists());
    let db = connect(temp.url()).await;
    let states = contents(db.read(), "customer").await;
    assert_eq!(ids.iter().map(|id| states[id]).collect::<Vec<_>>(), [(1, 5); 3]);
}

#[tokio::test]
async fn a_drain_waits_for_calls_in_work_and_ends_streams() {
    let (fake, count, gate) = waiting();
    let temp = TempDb::new(Backend::Sqlite).await;
    let db = connect(temp.url()).await;
    let server = Raw::start(Config::default(), |context| {
        let feed = Fake::watching(db.clone(), context.shutdown.clone());
        vec![Fake { get_score: fake.get_score, ..feed }.service()]
    })
    .await;
    let channel = server.channel();
    let serves = &channel;
    eventually("it serves", || async move { health(serves, "").await == Ok(SERVING) }).await;
    let task_ended = Arc::new(AtomicBool::new(false));
    server.context.spawn("background", {
        let (shutdown, ended) = (server.context.shutdown.clone(), Arc::clone(&task_ended));
        async move {
            shutdown.cancelled().await;
            dawdle(100).await;
            ended.store(true, Ordering::SeqCst);
        }
    });

    let in_work = tokio::spawn({
        let channel = channel.clone();
        async move { get_score(&channel).await }
    });
    let counted = &count;
    eventually("the call is in work", || async move { counted.load(Ordering::SeqCst) == 1 }).await;
    let mut feed = ScoringClient::new(channel.clone()).watch_scores(WatchScoresRequest::default()).await.unwrap();
    bump(&db, &ids(1), 1).await.unwrap();
    let feed = feed.get_mut();
    feed.message().await.unwrap().unwrap();
    let mut probes =
        HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(probes.message().await.unwrap().unwrap().status, SERVING);

    server.end.cancel();
    let ended = loop {
        match feed.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a feed never ends without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(fault(&ended), (Code::Unavailable, "DRAINING".to_owned(), vec![]));
    let ended = loop {
        match probes.message().await {
            Ok(Some(reply)) => assert_eq!(reply.status, NOT_SERVING),
            Ok(None) => panic!("a watcher of health is told why it ends"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
    let address = server.address;
    eventually("nobody new is let in", || async move { tokio::net::TcpStream::connect(address).await.is_err() }).await;
    assert!(!server.serving.is_finished() && !in_work.is_finished());
    gate.add_permits(1);
    in_work.await.unwrap().unwrap();
    server.serving.await.unwrap().unwrap();
    assert!(task_ended.load(Ordering::SeqCst), "background tasks end before the process");
}

#[tokio::test]
async fn a_killed_server_leaves_nothing_running() {
    let temp = TempDb::new(Backend::Sqlite).await;
    let url = temp.url().to_owned();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let server = TestServer::start(Clock::mock(noon()), &[], |context| {
        context.spawn("background", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        vec![support::feed_service(&url, context)]
    })
    .await;
    let mut feed = ScoringClient::new(server.channel()).watch_scores(WatchScoresRequest::default()).await.unwrap();
    feed.get_mut().message().await.unwrap().unwrap();
    server.kill().await;
    assert_eq!(Arc::strong_count(&alive), 1, "its tasks are gone");
    assert!(feed.get_mut().message().await.is_err(), "and so are its connections");
}

#[tokio::test]
async fn the_callers_deadline_is_kept_and_says_why() {
    let gone = Arc::new(AtomicBool::new(false));
    let fake = Fake::asking({
        let gone = Arc::clone(&gone);
        move |_| {
            let guard = Flag(Arc::clone(&gone));
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        }
    });
    let server = server_of(fake).await;
    let wire = Wire::connect(server.address).await;
    for timeout in ["200m", "150000u", "1n", "0S"] {
        let answer = wire.call(GET_SCORE, &[("grpc-timeout", timeout)], &[]).await;
        let status = answer.status.unwrap();
        assert_eq!(fault(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned(), vec![]), "{timeout}");
    }
    assert!(gone.load(Ordering::SeqCst), "the handler does not go on for nobody");
    // A long one is no reason to fail, and neither is one that makes no sense.
    let server = server_of(Fake::default()).await;
    let wire = Wire::connect(server.address).await;
    for timeout in ["99999999H", "soon", "-1S", "123456789S", ""] {
        let answer = wire.call(GET_SCORE, &[("grpc-timeout", timeout)], &[]).await;
        let status = answer.status.unwrap();
        assert!(matches!(status.code(), Code::Ok | Code::InvalidArgument), "{timeout}: {status:?}");
        let answer = wire.call(WATCH_SCORES, &[("grpc-timeout", timeout)], &[]).await;
        assert!(matches!(answer.status.unwrap().code(), Code::Ok | Code::InvalidArgument));
    }
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_callers_deadline() {
    let fake = Fake {
        watch_scores: Arc::new(|_| {
            Box::pin(async {
                let first = futures::stream::iter([Ok(WatchScoresResponse::default())]);
                Ok(first.chain(futures::stream::pending()).boxed())
            })
        }),
        ..Fake::default()
    };
    let server = server_of(fake).await;
    let wire = Wire::connect(server.address).await;
    let answer = wire.call(WATCH_SCORES, &[("grpc-timeout", "300m")], &[]).await;
    assert_eq!(answer.body, [0, 0, 0, 0, 0], "what came before still counts");
    let status = answer.status.unwrap();
    assert_eq!(fault(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned(), vec![]));
}

#[tokio::test]
async fn what_is_left_of_the_deadline_goes_to_the_peer() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let peer = server_of(Fake::asking({
        let seen = Arc::clone(&seen);
        move |request| {
            let timeout = request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
            seen.lock().unwrap().push(timeout);
            async { Ok(Response::new(GetScoreResponse::default())) }
        }
    }))
    .await;
    let first = TestServer::start(Clock::mock(noon()), &[("scoring", peer.url())], |context| {
        let channel = context.peers.channel("scoring").unwrap();
        let ask = Fake::asking({
            let channel = channel.clone();
            move |_| {
                let channel = channel.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(Response::new(get_score(&channel).await?))
                }
            }
        });
        // The same from within a stream's body.
        let watch = Fake {
            watch_scores: Arc::new(move |_| {
                let channel = channel.clone();
                Box::pin(async move {
                    let asked = async move { get_score(&channel).await.map(|_| WatchScoresResponse::default()) };
                    Ok(futures::stream::once(asked).boxed())
                })
            }),
            ..ask
        };
        vec![watch.service()]
    })
    .await;
    let wire = Wire::connect(first.address).await;
    let millis = |timeout: &Option<String>| -> u64 {
        let text = timeout.as_deref().expect("a deadline");
        text.strip_suffix('m').unwrap().parse().unwrap()
    };
    wire.call(GET_SCORE, &[("grpc-timeout", "20S")], &[]).await;
    wire.call(WATCH_SCORES, &[("grpc-timeout", "20S")], &[]).await;
    wire.call(GET_SCORE, &[], &[]).await;
    wire.call(WATCH_SCORES, &[], &[]).await;
    // A deadline that passes on the way is not passed on.
    let answer = wire.call(GET_SCORE, &[("grpc-timeout", "20m")], &[]).await;
    assert_eq!(answer.status.unwrap().code(), Code::DeadlineExceeded);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!((1..=19_950).contains(&millis(&seen[0])), "{seen:?}");
    assert!((1..=20_000).contains(&millis(&seen[1])), "{seen:?}");
    assert!((20_001..=64_950).contains(&millis(&seen[2])), "the server's own limit: {seen:?}");
    assert_eq!(seen[3], None, "a stream without a deadline has none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_the_process_can_take_are_shed_and_probes_are_not() {
    let (fake, count, gate) = waiting();
    let fake = Fake { watch_scores: Arc::new(|_| Box::pin(async { Ok(futures::stream::pending().boxed()) })), ..fake };
    let server = server_of(fake).await;
    // Spread over connections: the limit is the process's.
    let channels: Vec<Channel> = (0..8).map(|_| server.channel()).collect();
    // Whoever watches is not in work, and takes nobody's place.
    let mut watchers = Vec::new();
    for channel in &channels {
        let watch = WatchScoresRequest::default();
        watchers.push(ScoringClient::new(channel.clone()).watch_scores(watch).await.unwrap());
    }
    let calls: Vec<_> = (0..MAX_CONCURRENT_CALLS)
        .map(|call| {
            let channel = channels[call % 8].clone();
            tokio::spawn(async move { get_score(&channel).await })
        })
        .collect();
    let counted = &count;
    eventually("all are in work", || async move { counted.load(Ordering::SeqCst) == MAX_CONCURRENT_CALLS }).await;
    let probe = server.channel();
    for _ in 0..3 {
        let shed = get_score(&probe).await.unwrap_err();
        assert_eq!(fault(&shed), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
        assert!(shed.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    }
    assert_eq!(health(&probe, "").await, Ok(SERVING), "busy is not broken");
    gate.add_permits(MAX_CONCURRENT_CALLS + 1);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    get_score(&probe).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_handler_that_panics_is_one_internal_error_and_no_more() {
    let fake = Fake {
        watch_scores: Arc::new(|request| {
            Box::pin(async move {
                let midway = request.into_inner().only_new;
                assert!(midway, "secret");
                let first = futures::stream::iter([Ok(WatchScoresResponse::default())]);
                let then = futures::stream::once(async {
                    // So that the first message is on its way.
                    dawdle(1).await;
                    panic!("secret")
                });
                Ok(first.chain(then).boxed())
            })
        }),
        ..Fake::asking(|request| async move {
            assert_ne!(request.into_inner().customer_id, "bad", "secret");
            Ok(Response::new(GetScoreResponse::default()))
        })
    };
    let server = server_of(fake).await;
    let channel = server.channel();
    let mut client = ScoringClient::new(channel.clone());
    let bad = GetScoreRequest { customer_id: "bad".to_owned(), ..Default::default() };
    let mut streams = Vec::new();
    for only_new in [false, true] {
        let request = WatchScoresRequest { only_new, ..Default::default() };
        let failed = match client.watch_scores(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                stream.message().await.unwrap().unwrap();
                stream.message().await.unwrap_err()
            }
            Err(status) => status,
        };
        streams.push(failed);
    }
    streams.push(client.get_score(bad).await.unwrap_err());
    for status in streams {
        assert_eq!(fault(&status), (Code::Internal, "INTERNAL".to_owned(), vec![]));
        assert!(status.message().starts_with("internal error") && !format!("{status:?}").contains("secret"));
    }
    get_score(&channel).await.unwrap();
}

/// What the contract says of a message that no handler gets to see.
fn malformed() -> (Code, String, Vec<String>) {
    (Code::InvalidArgument, "INVALID_FIELD".to_owned(), vec!["message".to_owned()])
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused_and_the_server_lives_on() {
    let server = server_of(Fake::default()).await;
    let wire = Wire::connect(server.address).await;
    let message = |len: usize| {
        prost::Message::encode_to_vec(&GetScoreRequest { customer_id: "x".repeat(len), ..Default::default() })
    };
    let status = wire.call(GET_SCORE, &[], &message(MAX_MESSAGE_BYTES)).await.status.unwrap();
    assert_eq!(fault(&status), malformed());
    let answer = wire.call(GET_SCORE, &[], &message(MAX_MESSAGE_BYTES - 16)).await;
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
    // Announced to be huge, and never sent.
    let status = wire.send(GET_SCORE, &[], vec![0, 0xff, 0xff, 0xff, 0xff, 1]).await.status.unwrap();
    assert_eq!(fault(&status), malformed());
    get_score(&server.channel()).await.unwrap();
}

#[tokio::test]
async fn nonsense_gets_a_status_and_the_server_lives_on() {
    let server = server_of(Fake::default()).await;
    let wire = Wire::connect(server.address).await;
    let unknown = [
        "/clientele.nothing.v1.Nothing/Get",
        "/clientele.scoring.v1.Scoring/Nothing",
        "/clientele.scoring.v1.Scoring",
        "/",
        "//",
        "/grpc.health.v1.Health/Nothing",
    ];
    for path in unknown {
        let answer = wire.call(path, &[], &[]).await;
        assert_eq!(answer.status.unwrap().code(), Code::Unimplemented, "{path}");
    }
    for body in [vec![], vec![0], vec![0, 0, 0, 0, 9, 1], vec![0, 0, 0, 0, 1, 0xff], vec![1, 0, 0, 0, 0], vec![7; 64]] {
        for path in [GET_SCORE, WATCH_SCORES] {
            let status = wire.send(path, &[], body.clone()).await.status.unwrap();
            assert_eq!(fault(&status), malformed(), "{path}: {body:?}");
        }
    }
    // Another protocol altogether.
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut ended = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut ended);
    let _ = tokio::time::timeout(chassis::testing::DEADLINE, read).await.expect("the connection is closed");
    get_score(&server.channel()).await.unwrap();
}

macro_rules! listed {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new($channel);
        let mut replies = client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
        match replies.message().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    }};
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let server = server_of(Fake::default()).await;
    for names in [listed!(v1, server.channel()), listed!(v1alpha, server.channel())] {
        for wanted in [GRPC_NAME, "grpc.health.v1.Health"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} in {names:?}");
        }
        assert!(!names.iter().any(|name| name == "clientele.profiles.v1.Profiles"), "it is not served here");
    }
    // An open conversation does not hold up the drain.
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let mut client = ServerReflectionClient::new(server.channel());
    let _open = client.server_reflection_info(futures::stream::pending()).await.unwrap();
    let stopped = tokio::time::timeout(server::DRAIN_TIMEOUT, server.stop()).await;
    stopped.expect("sooner than calls are cut off").unwrap();
}
