//! What is measured besides calls, log lines, and a collector that is not there.
use std::time::{Duration, Instant};

use chassis::telemetry::{self, Config, LogFormat};
use chassis::testing::otlp::Receiver;
use tracing::dispatcher;

use crate::echo::{Echo, LIMIT, a_trace, json, say, scoped, serve, shared, within};

#[tokio::test]
async fn transactions_feeds_and_counts_are_measured() {
    let (receiver, guard) = shared();
    telemetry::record_tx("escalate_complaint", 0.25, "committed", 3);
    telemetry::record_feed_lag("routing/scores", 1.5, 7);
    telemetry::record_feed_failure("routing/scores", "apply");
    telemetry::count("rpc.server.shed", "queue full");
    telemetry::count("rpc.server.shed", "queue full");
    guard.flush();
    let measured =
        receiver.wait_for_measurements(|all| all.iter().any(|one| one.name == "rpc.server.shed"), LIMIT).await.unwrap();
    let value = |name: &str, key: &str, label: &str| {
        measured.iter().find(|one| one.name == name && one.attribute(key) == label).unwrap().value
    };
    assert_eq!(value("db.tx.duration", "tx.outcome", "committed"), 0.25);
    assert_eq!(value("db.tx.retries", "tx.name", "escalate_complaint"), 2.0);
    assert_eq!(value("feed.lag", "feed.follower", "routing/scores"), 1.5);
    assert_eq!(value("feed.changes", "feed.follower", "routing/scores"), 7.0);
    assert_eq!(value("feed.failures", "reason", "apply"), 1.0);
    assert_eq!(value("rpc.server.shed", "reason", "queue full"), 2.0);
}

#[test]
fn a_second_set_up_is_refused() {
    shared();
    assert!(matches!(telemetry::init(&Config::default()), Err(telemetry::Error::AlreadyInstalled)));
}

#[test]
fn an_unusable_configuration_is_refused_with_its_reason() {
    let filter = Config { log_filter: "not=a=filter".to_owned(), ..Config::default() };
    assert!(telemetry::scoped(&filter, |_| {}).unwrap_err().to_string().contains("not=a=filter"));
    let endpoint = Config { otlp_endpoint: Some("localhost:4317".to_owned()), ..Config::default() };
    assert!(telemetry::scoped(&endpoint, |_| {}).unwrap_err().to_string().contains("http://"));
}

#[tokio::test]
async fn a_json_line_has_message_fields_rpc_and_trace() {
    let (dispatch, _guard, lines) = scoped(Config { log_filter: "warn".to_owned(), ..Config::default() });
    let (trace_id, traceparent) = a_trace(10);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        say(channel, "log", &[("traceparent", &traceparent)]).await.unwrap();
    }
    .await;
    let lines = json(&lines);
    let line = lines.iter().find(|line| line["answer"] == 42).unwrap();
    assert_eq!(line["message"], "something \"odd\" happened");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "telemetry::echo");
    assert_eq!(line["span"], "clientele.test.v1.EchoService/Say");
    assert_eq!(line["rpc.method"], "Say");
    assert_eq!(line["clientele.service"], "test");
    assert_eq!(line["trace_id"], trace_id.as_str());
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn with_export_a_line_names_trace_and_span() {
    let receiver = Receiver::start().unwrap();
    let config = Config { otlp_endpoint: Some(receiver.endpoint()), ..Config::default() };
    let (dispatch, guard, lines) = scoped(config);
    let (trace_id, traceparent) = a_trace(11);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        say(channel, "log", &[("traceparent", &traceparent)]).await.unwrap();
        // The channel opens a span of its own, a new trace, since nothing is current here.
    }
    .await;
    guard.shutdown();
    let server = receiver
        .wait_for(|spans| spans.iter().any(|span| span.kind == "server"), LIMIT)
        .await
        .unwrap()
        .into_iter()
        .find(|span| span.kind == "server")
        .unwrap();
    let lines = json(&lines);
    let line = lines.iter().find(|line| line["answer"] == 42).unwrap();
    assert_eq!(line["trace_id"], server.trace_id.as_str());
    assert_eq!(line["span_id"], server.span_id.as_str());
    // What is said within a span that is not exported belongs to the call as well.
    let [usual, event] = &server.events[..] else { panic!("{:?}", server.events) };
    assert_eq!(usual.name, "as usual");
    assert_eq!(event.name, "something \"odd\" happened");
    let said = ["answer", "level", "target"].map(|key| event.attributes[key].as_str());
    assert_eq!(said, ["42", "WARN", "telemetry::echo"]);
    assert!(!server.is_error);
    assert_ne!(server.trace_id, trace_id, "the channel's span came between");
}

#[test]
fn fields_of_the_inner_span_win_and_reserved_names_are_kept_apart() {
    let (dispatch, _guard, lines) = scoped(Config::default());
    tracing::dispatcher::with_default(&dispatch, || {
        let outer = tracing::info_span!("outer", customer = "c-1", step = 1_u64, later = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("later", true);
        let inner = tracing::info_span!("inner", step = 2_i64);
        let _inner = inner.enter();
        tracing::info!(level = "mine", ratio = 0.5, broken = f64::NAN, text = "two\nlines\u{1}", "done");
        tracing::debug!("not wanted");
    });
    let lines = json(&lines);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((&line["span"], &line["step"], &line["customer"]), (&"inner".into(), &2.into(), &"c-1".into()));
    assert_eq!((&line["level"], &line["field.level"]), (&"INFO".into(), &"mine".into()));
    assert_eq!((&line["ratio"], &line["later"], &line["text"]), (&0.5.into(), &true.into(), &"two\nlines\u{1}".into()));
}

#[test]
fn a_text_line_reads_from_time_to_trace() {
    let (dispatch, _guard, lines) = scoped(Config { log_format: LogFormat::Text, ..Config::default() });
    let (trace_id, traceparent) = a_trace(12);
    tracing::dispatcher::with_default(&dispatch, || {
        let _following = within(&traceparent).entered();
        let _inner = tracing::info_span!("rank", customers = 3_u64).entered();
        tracing::error!(reason = "two words", file = "a\nb", "no such tier");
    });
    let line = lines.lock().unwrap().concat();
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len());
    let expected = format!(
        "ERROR telemetry::lines: no such tier reason=\"two words\" file=a\\nb in rank customers=3 in test trace={trace_id}\n"
    );
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_dead_collector_costs_one_line_a_minute_and_no_call() {
    // A port that was free a moment ago and that nobody listens on.
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let config = Config { otlp_endpoint: Some(format!("http://{closed}")), ..Config::default() };
    let (dispatch, guard, lines) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        for _ in 0..3 {
            for _ in 0..100 {
                say(channel.clone(), "hello", &[]).await.unwrap();
            }
            guard.flush();
        }
    }
    .await;
    let begun = Instant::now();
    guard.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let lines = json(&lines);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["target"], "chassis::telemetry::collector");
    assert_eq!(lines[0]["level"], "WARN");
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_shutdown() {
    // It takes the connection and then says nothing.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = Config {
        otlp_endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
        log_filter: "off".to_owned(),
        ..Config::default()
    };
    let (dispatch, guard, _) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        // More than a queue holds: the surplus is dropped, and nobody waits for it.
        for _ in 0..50 {
            let calls = (0..100).map(|_| say(channel.clone(), "hello", &[]));
            futures::future::try_join_all(calls).await.unwrap();
        }
    }
    .await;
    let begun = Instant::now();
    guard.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
