//! Who may call the program, and how its own services find each other when not everybody may.
use std::path::Path;

use chassis::{
    config::{Secret, Sources},
    peers::Access,
    testing::{Backend, eventually, fault},
};
use clientele::{
    client::{Client, SERVICES, request},
    config::{self, Config},
    serve,
};
use e2e::{
    calls::{buy, decide, ensure, file, full, score},
    cdnow,
    program::{self, Process, Split, free_port},
};
use proto::scoring::v1 as scoring;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::PROGRAM;

const TOKEN: &str = "0123456789abcdef-of-the-suite";
const CRM: &str = "0123456789abcdef-of-the-crm";
const CALLERS: &str = r#"[
    { name = "suite", token_sha256 = "87bdf1f84daeea86eacaff1be59b914031afb3ac0d30694bc45f869f631e414b" },
    { name = "crm", token_sha256 = "c02c529ae899dbd7c906599d1ea0ce6c92ecfea3782fefc7ef6de86b6bd5900d" },
]"#;

fn environment() -> [(&'static str, String); 3] {
    // One line: a list in a variable is written as in TOML.
    let callers = CALLERS.replace('\n', " ");
    [
        ("CLIENTELE_AUTH__CALLERS", callers),
        ("CLIENTELE_AUTH__TOKEN", TOKEN.to_owned()),
        ("CLIENTELE_TELEMETRY__LOG_FILTER", "debug".to_owned()),
    ]
}

fn presenting(servers: &[String], token: &str) -> Client {
    Client::with(servers, &Access { token: Secret::new(token), ..Access::default() }).unwrap()
}

/// Whatever a service asks or follows of another shows in what it answers.
async fn works_as_one(client: &Client) {
    let id = ensure(client, &["1"]).await.swap_remove(0);
    buy(client, &id, "1", 10_000).await;
    let bought = score(client, &id).await.standing;
    eventually("routing follows scoring", || async { decide(client, &id).await.standing == bought }).await;
    file(client, &id).await;
    eventually("routing follows complaints", || async { decide(client, &id).await.selling_paused }).await;
    eventually("profiles follows both", || async {
        let (customer, _) = full(client, &id).await;
        customer.open_complaints == 1 && customer.standing == bought
    })
    .await;
    assert!(full(client, &id).await.1.missing_parts.is_empty(), "profiles asks both");
}

async fn is_refused(client: &Client) {
    let status = client.scoring().list_models(request(scoring::ListModelsRequest::default())).await.unwrap_err();
    assert_eq!(fault(&status), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned(), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_names_its_callers_serves_them_and_itself_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Process::new(PROGRAM, &[], free_port(), folder.path());
    for (name, value) in environment() {
        server = server.with(name, value);
    }
    // Probes need no token.
    server.start().await;
    let servers = [server.url()];
    works_as_one(&presenting(&servers, CRM)).await;
    is_refused(&Client::new(&servers).unwrap()).await;
    is_refused(&presenting(&servers, "0123456789abcdef-of-the-others")).await;

    let command = |token: Option<&str>| {
        let mut command = program::command(PROGRAM);
        command.args(["models", "--server", &servers[0]]).env_remove("CLIENTELE_TOKEN");
        if let Some(token) = token {
            command.env("CLIENTELE_TOKEN", token);
        }
        program::output(command)
    };
    let output = command(None).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("CLIENTELE_TOKEN") && told.contains("UNAUTHENTICATED"), "{told}");
    assert!(command(Some(CRM)).await.status.success());

    assert_eq!(server.terminate().await.code(), Some(0));
    let log = server.log();
    for token in [TOKEN, CRM] {
        assert!(!log.contains(token), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_name_their_callers_know_each_other_by_their_token() {
    let suite = Split::start(PROGRAM, Backend::Sqlite, &[], &environment()).await;
    let servers: Vec<_> =
        SERVICES.into_iter().map(|name| format!("{name}={}", suite.processes[name][0].url())).collect();
    works_as_one(&presenting(&servers, CRM)).await;
    is_refused(&suite.client).await;
    assert!(!suite.logs().contains(TOKEN));
}

fn loaded(overrides: &[(&str, &str)]) -> Result<Config, String> {
    let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let sources = Sources { defaults: config::defaults(), overrides, ..Sources::default() };
    chassis::config::load(&sources).map_err(|errors| errors.to_string())
}

#[test]
fn what_is_missing_of_callers_and_tokens_is_said_before_anything_starts() {
    let callers = ("auth.callers", CALLERS);
    let no_token = loaded(&[callers]).unwrap_err();
    assert!(no_token.contains("auth.token") && no_token.contains("missing"), "{no_token}");
    let foreign = ("auth.token", "0123456789abcdef-of-somebody");
    let not_ours = loaded(&[callers, foreign]).unwrap_err();
    assert!(not_ours.contains("auth.token") && not_ours.contains("is not the token of any"), "{not_ours}");
    assert!(!not_ours.contains(foreign.1));
    // Elsewhere it may be known.
    loaded(&[callers, foreign, ("peers.scoring", "http://scoring:7100")]).unwrap();
    let sound = loaded(&[callers, ("auth.token", TOKEN)]).unwrap();
    assert!(!chassis::config::print(&sound).contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_one_process_call_each_other_over_tls_by_the_name_in_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/chassis/tests/support/tls");
    let file = |name: &str| tls.join(name).display().to_string();
    let config = loaded(&[
        ("data_dir", &folder.path().display().to_string()),
        ("server.listen", "127.0.0.1:0"),
        ("server.tls_cert_file", &file("server.pem")),
        ("server.tls_key_file", &file("server.key")),
        ("server.tls_ca_file", &file("ca.pem")),
        ("server.tls_server_name", "localhost"),
        ("auth.callers", CALLERS),
        ("auth.token", TOKEN),
    ]);
    let config = config.unwrap();
    let access = serve::access(&config).await.unwrap();
    let end = CancellationToken::new();
    let running = serve::start(config, cdnow::clock(), &[], end.clone().cancelled_owned()).await.unwrap();
    let client = Client::with(&[format!("https://{}", running.address)], &access).unwrap();
    eventually("it serves", || async {
        let health = tonic_health::pb::HealthCheckRequest::default();
        client.health(None).check(health).await.is_ok_and(|reply| reply.into_inner().status == 1)
    })
    .await;
    works_as_one(&client).await;
    end.cancel();
    running.ended().await.unwrap();
}
