//! Who is reached and who may come in: addresses and names, TLS, tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use chassis::{
    auth::{self, Caller, Callers},
    config::Secret,
    peers::{self, Access, Peers},
    server::Config,
    telemetry,
    testing::{eventually, fault},
};
use proto::scoring::v1::GetScoreResponse;
use sha2::{Digest, Sha256};
use tonic::{Code, Response};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};

#[path = "support/raw.rs"]
mod raw;
mod support;
#[path = "support/wire.rs"]
mod wire;
use raw::{Raw, SERVING, get_score, health};
use support::Fake;
use wire::Wire;

const GET_SCORE: &str = "/clientele.scoring.v1.Scoring/GetScore";
const TOKEN: &str = "0123456789abcdef-of-the-suite";
const CRM: &str = "0123456789abcdef-of-the-crm";

#[tokio::test]
async fn peers_are_found_by_address_and_by_name() {
    let server = Raw::start(Config::default(), |_| vec![Fake::default().service()]).await;
    eventually("it serves", || async { health(&server.channel(), "").await == Ok(SERVING) }).await;
    for host in ["127.0.0.1", "localhost"] {
        let channel = peers::channel("peers.x", &format!("http://{host}:{}", server.address.port()), None).unwrap();
        get_score(&channel).await.unwrap();
    }
    let error = Peers::default().channel("scoring").unwrap_err();
    assert!(error.to_string().starts_with("peers.scoring: is not set"), "{error}");
    for url in ["", "scoring", "ftp://scoring", "http://", "unix:/x", "http://a b"] {
        let error =
            Peers::connect(&BTreeMap::from([("scoring".to_owned(), url.to_owned())]), &Access::default()).unwrap_err();
        assert!(error.to_string().starts_with("peers.scoring: "), "{url}: {error}");
    }
}

#[tokio::test]
async fn tls_is_spoken_and_checked_also_with_peers_found_by_name() {
    let config = with_tls();
    let (cert, key) = config.tls.clone().unwrap();
    let server = Raw::start(config, |_| vec![Fake::default().service()]).await;
    let port = server.address.port();
    let ca = Some(include_str!("support/tls/ca.pem"));
    for host in ["127.0.0.1", "localhost"] {
        let channel = &peers::channel("peers.x", &format!("https://{host}:{port}"), ca).unwrap();
        eventually("it serves", || async move { health(channel, "").await == Ok(SERVING) }).await;
        get_score(channel).await.unwrap();
        let stranger = peers::channel("peers.x", &format!("https://{host}:{port}"), None).unwrap();
        assert_eq!(health(&stranger, "").await, Err(Code::Unavailable), "an authority that is not trusted");
    }
    let plain = peers::channel("peers.x", &format!("http://127.0.0.1:{port}"), None).unwrap();
    assert!(health(&plain, "").await.is_err());
    server.end.cancel();
    server.serving.await.unwrap().unwrap();

    let nowhere = Config { tls: Some((cert, key.with_file_name("none.pem"))), ..Config::default() };
    let server = Raw::start(nowhere, |_| vec![]).await;
    let error = server.serving.await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("server.tls_key_file: cannot read"), "{error}");
}

fn with_tls() -> Config {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls");
    Config { tls: Some((folder.join("server.pem"), folder.join("server.key"))), ..Config::default() }
}

#[tokio::test]
async fn a_name_of_the_certificate_stands_for_an_address_that_it_does_not_name() {
    let server = Raw::start(with_tls(), |_| vec![Fake::default().service()]).await;
    let address = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let access = Access { ca: Some(include_str!("support/tls/ca.pem").to_owned()), ..Access::default() };
    let by_name =
        |name: &str| access.channel_at("peers.x", &format!("https://{name}:{}", address.port()), address).unwrap();
    let own = &by_name("localhost");
    eventually("it serves", || async move { health(own, "").await == Ok(SERVING) }).await;
    get_score(own).await.unwrap();
    // The address is right and the name is not.
    assert_eq!(health(&by_name("elsewhere.example"), "").await, Err(Code::Unavailable));
}

fn callers() -> Config {
    let entry = |name: &str, token: &str| auth::Entry {
        name: name.to_owned(),
        token_sha256: Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let auth = auth::Config { callers: vec![entry("suite", TOKEN), entry("crm", CRM)], token: Secret::default() };
    Config { callers: Callers::new(&auth).unwrap(), ..Config::default() }
}

fn presenting(token: &str) -> Access {
    Access { token: Secret::new(token), ..Access::default() }
}

#[tokio::test]
async fn where_callers_are_named_all_but_health_needs_the_token_of_one() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let fake = Fake::asking({
        let seen = Arc::clone(&seen);
        move |request| {
            seen.lock().unwrap().push(request.extensions().get::<Caller>().map(|caller| caller.name().to_owned()));
            async { Ok(Response::new(GetScoreResponse::default())) }
        }
    });
    let server = Raw::start(callers(), |_| vec![fake.service()]).await;
    let url = format!("http://{}", server.address);
    let stranger = &server.channel();
    eventually("it serves, and says so to everybody", || async { health(stranger, "").await == Ok(SERVING) }).await;
    let refused = (Code::Unauthenticated, "UNAUTHENTICATED".to_owned(), vec![]);
    let guessing = presenting("0123456789abcdef-of-the-others").channel("peers.x", &url).unwrap();
    for channel in [stranger, &guessing] {
        let status = get_score(channel).await.unwrap_err();
        assert_eq!(fault(&status), refused);
        assert!(status.message().contains("authorization: Bearer TOKEN"), "{status:?}");
        let question = tokio_stream::iter([ServerReflectionRequest::default()]);
        let status = ServerReflectionClient::new(channel.clone()).server_reflection_info(question).await.unwrap_err();
        assert_eq!(fault(&status), refused, "what there is, is not told to everybody either");
    }
    for token in [TOKEN, CRM] {
        get_score(&presenting(token).channel("peers.x", &url).unwrap()).await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [Some("suite".to_owned()), Some("crm".to_owned())]);
    // As others write it.
    let wire = Wire::connect(server.address).await;
    for (value, code) in [
        (format!("bearer {CRM}"), Code::Ok),
        (format!("Basic {CRM}"), Code::Unauthenticated),
        (CRM.to_owned(), Code::Unauthenticated),
        (format!("Bearer {}", "x".repeat(5_000)), Code::Unauthenticated),
    ] {
        let status = wire.call(GET_SCORE, &[("authorization", &value)], &[]).await.status.unwrap();
        assert_eq!(status.code(), code, "{status:?}");
    }
}

#[tokio::test]
async fn where_none_are_named_nobody_is_asked() {
    let server = Raw::start(Config::default(), |_| vec![Fake::default().service()]).await;
    let channel = presenting(TOKEN).channel("peers.x", &format!("http://{}", server.address)).unwrap();
    eventually("it serves", || async { health(&channel, "").await == Ok(SERVING) }).await;
    get_score(&channel).await.unwrap();
    get_score(&server.channel()).await.unwrap();
}

#[tokio::test]
async fn log_lines_name_the_caller_and_never_a_token() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let config = telemetry::Config { log_filter: "trace".to_owned(), ..telemetry::Config::default() };
    let (dispatch, _guard) =
        telemetry::scoped(&config, move |line| sink.lock().unwrap().push(line.to_owned())).unwrap();
    let _default = tracing::dispatcher::set_default(&dispatch);
    let fake = Fake::asking(|_| async {
        tracing::info!("at work");
        Ok(Response::new(GetScoreResponse::default()))
    });
    let server = Raw::start(callers(), |_| vec![fake.service()]).await;
    let access = presenting(CRM);
    let channel = access.channel("peers.x", &format!("http://{}", server.address)).unwrap();
    eventually("it serves", || async { health(&channel, "").await == Ok(SERVING) }).await;
    get_score(&channel).await.unwrap();
    assert!(!format!("{access:?} {channel:?}").contains(CRM));
    let lines = lines.lock().unwrap();
    let line = lines.iter().find(|line| line.contains("at work")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["clientele.caller"], "crm", "{line}");
    let telling: Vec<_> = lines.iter().filter(|line| line.contains(CRM)).collect();
    assert!(telling.is_empty(), "{telling:?}");
}

#[test]
fn all_peers_that_are_missing_are_named_at_once() {
    let error = Peers::default().require(&["scoring", "profiles"]).unwrap_err().to_string();
    assert!(error.contains("peers.scoring: is not set") && error.contains("peers.profiles: is not set"), "{error}");
}
