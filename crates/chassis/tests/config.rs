//! Configuration as an operator meets it: layers, errors all at once, secrets that stay secret.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use chassis::config::{self, Check, DbUrl, Secret, Sources, Validate, mask_url};
use serde::{Deserialize, Serialize};

const DEFAULTS: &str = r#"
# How many replicas there are.
replicas = 1

[server]
# Address to listen on.
listen = "127.0.0.1:7100"
# Names of the services to serve.
services = ["scoring", "routing"]
# Whether to serve without TLS.
insecure = false

[scoring]
# Share of revenue that is profit, from 0 to 1.
margin_rate = 0.2
# Customers of one page.
page_size = 500
# Where scoring keeps its data.
database = "sqlite://scoring.db"
# Token of the administrator.
token = ""
# How cut-offs are found.
method = "quantiles"
"#;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Config {
    replicas: u8,
    server: Server,
    scoring: Scoring,
    #[serde(default)]
    peers: BTreeMap<String, String>,
    #[serde(default)]
    queues: Vec<Queue>,
    telemetry: Option<Telemetry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Server {
    listen: String,
    services: Vec<String>,
    insecure: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Scoring {
    margin_rate: f64,
    page_size: u32,
    database: DbUrl,
    token: Secret,
    method: Method,
    /// Optional, so there is no default.
    label: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    Quantiles,
    Fixed,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Queue {
    name: String,
    agents: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Telemetry {
    otlp_endpoint: Option<String>,
}

impl Validate for Config {
    fn validate(&self, check: &mut Check<'_>) {
        check.range("replicas", self.replicas, 1..=9);
        check.require("server.services", !self.server.services.is_empty(), "allowed: at least one service");
        check.nested("scoring", &self.scoring);
    }
}

impl Validate for Scoring {
    fn validate(&self, check: &mut Check<'_>) {
        check.range("margin_rate", self.margin_rate, 0.0..=1.0);
        check.range("page_size", self.page_size, 1..=5000);
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn with_env(env: &[(&str, &str)]) -> Sources {
    Sources { defaults: DEFAULTS.to_owned(), env: pairs(env), ..Sources::default() }
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clientele.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn problems(sources: &Sources) -> Vec<String> {
    config::load::<Config>(sources).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn without_anything_given_the_defaults_hold() {
    let config: Config = config::load(&with_env(&[])).unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:7100");
    assert_eq!((config.scoring.margin_rate, config.scoring.label, config.telemetry), (0.2, None, None));
}

#[test]
fn each_layer_overrides_the_one_before() {
    let (_folder, path) = file("replicas = 2\n[scoring]\nmargin_rate = 0.3\npage_size = 7\nmethod = \"fixed\"\n");
    let sources = Sources {
        defaults: DEFAULTS.to_owned(),
        file: Some(path),
        env: pairs(&[("CLIENTELE_SCORING__MARGIN_RATE", "0.4"), ("CLIENTELE_REPLICAS", "3"), ("PATH", "/bin")]),
        overrides: pairs(&[("replicas", "4")]),
    };
    let config: Config = config::load(&sources).unwrap();
    assert_eq!((config.replicas, config.scoring.margin_rate, config.scoring.page_size), (4, 0.4, 7));
    assert_eq!((config.scoring.method, config.server.insecure), (Method::Fixed, false));
}

#[test]
fn a_value_in_the_environment_is_what_it_looks_like_unless_a_text_is_wanted() {
    let config: Config = config::load(&with_env(&[
        ("CLIENTELE_SERVER__INSECURE", "true"),
        ("CLIENTELE_SERVER__SERVICES", r#"["profiles", "scoring"]"#),
        ("CLIENTELE_SERVER__LISTEN", "7100"),
        ("CLIENTELE_SCORING__TOKEN", "0123"),
        ("CLIENTELE_SCORING__LABEL", "2026"),
        ("CLIENTELE_SCORING__MARGIN_RATE", "1"),
        ("CLIENTELE_PEERS__ROUTING", "http://routing:7100"),
        ("CLIENTELE_QUEUES", r#"[{ name = "gold", agents = 3 }]"#),
    ]))
    .unwrap();
    assert!(config.server.insecure);
    assert_eq!(config.server.services, ["profiles", "scoring"]);
    assert_eq!((config.server.listen.as_str(), config.scoring.token.expose()), ("7100", "0123"));
    // Optional, so nothing says beforehand that it is a text.
    assert_eq!((config.scoring.label.as_deref(), config.scoring.margin_rate), (Some("2026"), 1.0));
    assert_eq!(config.peers["routing"], "http://routing:7100");
    assert_eq!(config.queues, [Queue { name: "gold".to_owned(), agents: 3 }]);
}

#[test]
fn an_empty_variable_is_as_if_unset() {
    let config: Config =
        config::load(&with_env(&[("CLIENTELE_REPLICAS", ""), ("CLIENTELE_SCORING__LABEL", "")])).unwrap();
    assert_eq!((config.replicas, config.scoring.label), (1, None));
}

#[test]
fn every_error_is_told_at_once_with_its_key_its_source_and_what_is_allowed() {
    let (_folder, path) =
        file("replicas = 300\n[server]\nlisten = 7100\nlistn = \"x\"\n[scoring]\npage_size = 0\nmethod = \"magic\"\n");
    let sources = Sources {
        defaults: DEFAULTS.to_owned(),
        file: Some(path.clone()),
        env: pairs(&[
            ("CLIENTELE_SCORING__MARGIN_RATE", "1.7"),
            ("CLIENTELE_SERVER__SERVICES", "[]"),
            ("CLIENTELE_SERVER__INSECURE", "perhaps"),
            ("CLIENTELE_MARGIN_RATE", "0.5"),
        ]),
        overrides: pairs(&[("scoring.colour", "red")]),
    };
    let file = format!("file {}", path.display());
    let mut expected = vec![
        format!("replicas ({file}): allowed: 1 to 9"),
        format!("scoring.method ({file}): found `magic`, allowed: quantiles, fixed"),
        "server.insecure (environment variable CLIENTELE_SERVER__INSECURE): found a text, allowed: true or false"
            .to_owned(),
        format!("server.listen ({file}): found a whole number, allowed: a text"),
        "margin_rate (environment variable CLIENTELE_MARGIN_RATE): unknown key; did you mean scoring.margin_rate?"
            .to_owned(),
        "scoring.colour (flag): unknown key".to_owned(),
        format!("server.listn ({file}): unknown key; did you mean server.listen?"),
        "server.services (environment variable CLIENTELE_SERVER__SERVICES): allowed: at least one service".to_owned(),
        "scoring.margin_rate = 1.7 (environment variable CLIENTELE_SCORING__MARGIN_RATE): allowed: 0 to 1".to_owned(),
        format!("scoring.page_size = 0 ({file}): allowed: 1 to 5000"),
    ];
    let mut found = problems(&sources);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let text = config::load::<Config>(&sources).unwrap_err().to_string();
    assert!(text.starts_with("the configuration has 10 errors:\n  "), "{text}");
}

#[test]
fn a_missing_value_without_a_default_is_named() {
    let sources = Sources { defaults: "replicas = 1".to_owned(), ..Sources::default() };
    assert_eq!(problems(&sources), ["server: missing, and there is no default"]);
}

#[test]
fn unknown_keys_are_found_in_lists_and_not_in_maps() {
    let (_folder, path) = file("[peers]\nanything = \"goes\"\n[[queues]]\nname = \"gold\"\nagents = 3\nagnts = 4\n");
    let sources = Sources { defaults: DEFAULTS.to_owned(), file: Some(path), ..Sources::default() };
    let found = problems(&sources);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("queues.0.agnts (file "), "{found:?}");
    assert!(found[0].ends_with("unknown key; did you mean queues.0.agents?"), "{found:?}");
}

#[test]
fn a_type_that_tolerates_no_unknown_keys_is_told_about_all_of_them_too() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        replicas: u8,
        server: StrictServer,
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct StrictServer {
        listen: String,
    }
    impl Validate for Strict {
        fn validate(&self, check: &mut Check<'_>) {
            check.range("replicas", self.replicas, 1..=9);
        }
    }
    let sources = Sources {
        defaults: "replicas = 1\n[server]\nlisten = \"here\"\n".to_owned(),
        overrides: pairs(&[("replica", "2"), ("server.lisen", "there"), ("servr.listen", "there"), ("replicas", "0")]),
        ..Sources::default()
    };
    let mut found: Vec<_> = config::load::<Strict>(&sources).unwrap_err().iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "replica (flag): unknown key; did you mean replicas?",
            "replicas = 0 (flag): allowed: 1 to 9",
            "server.lisen (flag): unknown key; did you mean server.listen?",
            "servr.listen (flag): unknown key; did you mean server.listen?",
        ]
    );
}

/// A type whose lists have strict items.
#[derive(Debug, Serialize, Deserialize)]
struct Doors {
    replicas: u8,
    callers: Vec<Caller>,
    page_size: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    name: String,
    hash: String,
    #[serde(default)]
    ports: Vec<u16>,
}

impl Validate for Doors {
    fn validate(&self, check: &mut Check<'_>) {
        check.range("page_size", self.page_size, 1..=5000);
        check.require("callers", !self.callers.is_empty(), "allowed: at least one caller");
        for (index, caller) in self.callers.iter().enumerate() {
            check.require(&format!("callers.{index}.name"), !caller.name.is_empty(), "allowed: a name");
        }
    }
}

fn wrong_with_doors(given: &str, env: &[(&str, &str)]) -> Vec<String> {
    let (_folder, path) = file(given);
    let sources = Sources {
        defaults: "replicas = 1\ncallers = []\npage_size = 9\n".to_owned(),
        file: Some(path.clone()),
        env: pairs(env),
        ..Sources::default()
    };
    let errors = config::load::<Doors>(&sources).unwrap_err();
    let origin = format!("file {}", path.display());
    let mut found: Vec<_> = errors.iter().map(|problem| problem.to_string().replace(&origin, "file")).collect();
    found.sort();
    found
}

#[test]
fn a_value_missing_in_an_item_of_a_list_hides_no_other_error_and_makes_nothing_unknown() {
    assert_eq!(
        wrong_with_doors("replicas = 300\npage_size = 0\ncallers = [{ name = \"crm\" }]\n", &[]),
        [
            "callers.0.hash (file): missing, and there is no default",
            "page_size = 0 (file): allowed: 1 to 5000",
            "replicas (file): allowed: a whole number from 0 to 255",
        ]
    );
}

#[test]
fn every_wrong_item_of_a_list_is_named_by_its_own_place() {
    let given = r#"
        page_size = 0
        callers = [
            { name = "a", hash = "x" },
            { nme = "b", hash = "x" },
            { name = "c", hash = 3 },
            { name = "d", hash = "x", colour = "red" },
            { name = "e", hash = "x", ports = [1, "two", 70000, 4] },
            { name = "f" },
            { name = "" , hash = "x"},
        ]
    "#;
    assert_eq!(
        wrong_with_doors(given, &[]),
        [
            "callers.1.name (file): missing, and there is no default",
            "callers.1.nme (file): unknown key; did you mean callers.1.name?",
            "callers.2.hash (file): found a whole number, allowed: a text",
            "callers.3.colour (file): unknown key",
            "callers.4.ports.1 (file): found a text, allowed: a whole number from 0 to 65535",
            "callers.4.ports.2 (file): allowed: a whole number from 0 to 65535",
            "callers.5.hash (file): missing, and there is no default",
            "page_size = 0 (file): allowed: 1 to 5000",
        ]
    );
}

#[test]
fn a_wrong_item_in_a_variable_is_named_by_its_place_too() {
    let callers = ("CLIENTELE_CALLERS", r#"[{ name = "a", hash = 1 }]"#);
    assert_eq!(
        wrong_with_doors("page_size = 0\n", &[callers]),
        [
            "callers.0.hash (environment variable CLIENTELE_CALLERS): found a whole number, allowed: a text",
            "page_size = 0 (file): allowed: 1 to 5000",
        ]
    );
}

#[test]
fn where_the_whole_cannot_be_read_what_stands_in_lists_is_not_called_unknown() {
    let (_folder, path) = file("[[queues]]\nname = \"gold\"\nagents = 3\n");
    let sources = Sources { defaults: "replicas = 1\n".to_owned(), file: Some(path), ..Sources::default() };
    assert_eq!(problems(&sources), ["server: missing, and there is no default"]);
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named_without_showing_its_lines() {
    let missing =
        Sources { defaults: DEFAULTS.to_owned(), file: Some("/nowhere/clientele.toml".into()), ..Sources::default() };
    assert!(problems(&missing)[0].starts_with("file /nowhere/clientele.toml: cannot be read: "));
    let (_folder, path) = file("replicas = 2\n[scoring]\ntoken = s3cret\n");
    let found = problems(&Sources { defaults: DEFAULTS.to_owned(), file: Some(path), ..Sources::default() });
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("line 3") && !found[0].contains("s3cret"), "{found:?}");
}

#[test]
fn a_secret_of_the_wrong_type_is_not_shown_either() {
    let (_folder, path) = file("[scoring]\ntoken = 987654\n");
    let found = problems(&Sources { defaults: DEFAULTS.to_owned(), file: Some(path), ..Sources::default() });
    assert!(found[0].starts_with("scoring.token (file ") && !found[0].contains("987654"), "{found:?}");
}

#[test]
fn variables_of_the_cluster_the_command_line_and_tests_are_passed_over() {
    let config = config::load::<Config>(&with_env(&[
        ("CLIENTELE_PORT", "tcp://10.0.0.1:7100"),
        ("CLIENTELE_PORT_7100_TCP", "tcp://10.0.0.1:7100"),
        ("CLIENTELE_PORT_7100_TCP_ADDR", "10.0.0.1"),
        ("CLIENTELE_SERVICE_HOST", "10.0.0.1"),
        ("CLIENTELE_SCORING_SERVICE_PORT", "7100"),
        ("CLIENTELE_SCORING_SERVICE_PORT_GRPC", "7100"),
        ("CLIENTELE_CONFIG", "clientele.toml"),
        ("CLIENTELE_SERVER", "http://127.0.0.1:7100"),
        ("CLIENTELE_TEST_POSTGRES_URL", "postgres://localhost/test"),
    ]));
    assert!(config.is_ok(), "{config:?}");
}

#[test]
fn the_standard_variable_names_the_collector_and_our_own_goes_before() {
    let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    let endpoint = |env: &[(&str, &str)]| {
        config::load::<Config>(&with_env(env)).unwrap().telemetry.unwrap().otlp_endpoint.unwrap()
    };
    assert_eq!(endpoint(&[standard]), "http://collector:4317");
    assert_eq!(endpoint(&[standard, ("CLIENTELE_TELEMETRY__OTLP_ENDPOINT", "http://own:4317")]), "http://own:4317");
}

#[test]
fn the_printed_configuration_masks_secrets_and_is_toml_that_loads_again() {
    let config: Config = config::load(&with_env(&[
        ("CLIENTELE_SCORING__TOKEN", "s3cret"),
        ("CLIENTELE_SCORING__DATABASE", "postgres://app:s3cret@db/scoring?sslmode=require&sslpassword=s3cret"),
    ]))
    .unwrap();
    let text = config::print(&config);
    assert!(!text.contains("s3cret") && !format!("{config:?}").contains("s3cret"), "{text}");
    assert!(text.contains(r#"database = "postgres://app:***@db/scoring?sslmode=require&sslpassword=***""#), "{text}");
    assert!(text.contains(r#"token = "***""#), "{text}");
    let (_folder, path) = file(&text);
    let again: Config =
        config::load(&Sources { defaults: DEFAULTS.to_owned(), file: Some(path), ..Sources::default() }).unwrap();
    assert_eq!(config::print(&again), text);
    assert_eq!(config.scoring.token.expose(), "s3cret");
}

#[test]
fn passwords_in_addresses_are_masked_wherever_they_stand() {
    for (url, masked) in [
        ("sqlite:///var/lib/scoring.db?mode=rwc", "sqlite:///var/lib/scoring.db?mode=rwc"),
        ("postgres://db/scoring", "postgres://db/scoring"),
        ("postgres://app@db/scoring", "postgres://app@db/scoring"),
        ("postgres://app:pw@db:5432/scoring", "postgres://app:***@db:5432/scoring"),
        ("postgres://app:p@w/?x@db/scoring", "postgres://app:***@db/scoring"),
        ("postgres://db/scoring?user=app&PASSWORD=pw", "postgres://db/scoring?user=app&PASSWORD=***"),
        ("", ""),
    ] {
        assert_eq!(mask_url(url), masked);
    }
}

#[test]
fn a_configuration_that_was_made_can_be_checked_too() {
    let mut made: Config = config::load(&with_env(&[])).unwrap();
    assert!(config::validate(&made).is_ok());
    made.scoring.margin_rate = f64::NAN;
    let errors = config::validate(&made).unwrap_err();
    assert_eq!(errors.to_string(), "the configuration has an error:\n  scoring.margin_rate = NaN: allowed: 0 to 1");
}
