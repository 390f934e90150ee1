//! The program at a terminal: what it prints, what it writes, how it ends.
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use chassis::testing::Backend;
use e2e::{cdnow, program, world::World};
use serde_json::Value;

use crate::{
    PROGRAM,
    terminal::{json, refused, told},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_explains_itself() {
    let commands = [
        "",
        "demo",
        "serve",
        "bench",
        "config",
        "import",
        "import purchases",
        "import costs",
        "import payments",
        "fit",
        "rank",
        "models",
        "holdout",
        "generate",
        "export",
        "export scores",
        "report",
        "transitions",
        "segment",
        "segment create",
        "segment list",
        "segment show",
        "segment preview",
        "segment members",
        "segment delete",
        "segment cluster",
        "health",
        "pyramid",
        "customer",
        "decide",
        "complaint",
        "complaint file",
        "complaint get",
        "complaint list",
        "complaint causes",
        "complaint acknowledge",
        "complaint assign",
        "complaint escalate",
        "complaint await",
        "complaint resume",
        "complaint resolve",
        "complaint reopen",
        "complaint close",
        "watch",
    ];
    for command in commands {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = told(&arguments).await;
        let lines: Vec<_> = help.lines().collect();
        assert!(help.contains("Usage: ") && !lines[0].is_empty(), "{command}: {help}");
        assert!(lines.iter().all(|line| line.chars().count() <= 120), "{command}: {help}");
    }
    assert!(told(&["--version"]).await.starts_with("clientele "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_goes_from_a_file_to_a_pyramid() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let server = world.server.url();
    let with = |command: &str| -> Vec<String> {
        command.split(' ').map(str::to_owned).chain(["--server".to_owned(), server.clone()]).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let rejects = folder.path().join("rejects.csv");
    let call = async |command: &str| {
        let arguments = with(command);
        told(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let call_json = async |command: &str| {
        let arguments = with(&format!("{command} --json"));
        json(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let fail = async |command: &str| {
        let arguments = with(command);
        refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };

    // Nothing is there yet, and it says what to do.
    assert!(call("models").await.contains("clientele fit"));
    assert!(fail("pyramid").await.contains("NO_RANKING"));
    assert!(fail("fit").await.contains("NOT_FITTABLE"));
    assert!(call("rank").await.contains("realised value alone"));
    // A person is shown what there is; a program is not given another pyramid than it asked for.
    let pyramid = call("pyramid").await;
    assert!(
        pyramid.contains("Pyramid by realised value so far") && pyramid.contains("Run `clientele fit`"),
        "{pyramid}"
    );
    assert!(fail("pyramid --json").await.contains("NO_MODEL"));

    let import = format!(
        "import purchases {} --no-header --customer 2 --time 3 --amount 5 --system cdnow --source cdnow --rejects {}",
        cdnow::FILE,
        rejects.display()
    );
    assert!(call(&import).await.contains("6,919 rows of 2,357 customers (2,357 new): 6,919 recorded"));
    let again = call_json(&import).await;
    assert_eq!(again["unchanged"], 6_919);
    assert_eq!((&again["recorded"], &again["replaced"], &again["created"]), (&0.into(), &0.into(), &0.into()));
    assert!(!rejects.exists());

    let fit = call("fit --as-of 1997-09-30 --trial").await;
    for parameter in
        ["r 0.243 (0.2", "alpha 4.414 (", "s 0.606 (", "gamma 15.444 (", "first of MBG/NBD", "correlate by 0.11"]
    {
        assert!(fit.contains(parameter), "{fit}");
    }
    call("fit --as-of 1998-06-30").await;
    let rank = call_json("rank --as-of 1998-06-30").await;
    assert_eq!(rank["rank"]["customers"], 2_357);
    let models = call_json("models").await;
    assert_eq!(models["models"].as_array().unwrap().len(), 8);
    let pyramid = call("pyramid --realised").await;
    for text in ["important", "major", "ordinary", "small", "244,091.94 USD", "2,357"] {
        assert!(pyramid.contains(text), "{pyramid}");
    }
    let tiers = call_json("pyramid").await["tiers"].as_array().unwrap().len();
    assert_eq!(tiers, 4);

    // One customer, by the number in the shop.
    let customer = call_json("customer cdnow:0001").await;
    let id = customer["customer"]["customerId"].as_str().unwrap().to_owned();
    assert_eq!(customer["score"]["summary"]["sales"]["minorUnits"], 10_050);
    assert_eq!(call_json(&format!("customer {id}")).await["customer"]["customerId"], id);
    let shown = call("customer cdnow:0001").await;
    assert!(shown.contains("known in cdnow as 0001") && shown.contains("100.50 USD"), "{shown}");
    assert!(fail("customer cdnow:9999").await.contains("nobody is known under this identity"));
    assert!(fail("customer nobody").await.contains("must be a customer's id (a UUID), or SYSTEM:ID"));

    // What to do when they call.
    let decision = call_json(&format!("decide {id} --purpose order --channel phone")).await;
    assert_eq!(decision["channelId"], "phone");
    assert!(!decision["prompt"].as_array().unwrap().is_empty());
    assert!(call("decide cdnow:0001 --channel phone").await.contains("answer within"));
    assert!(call("decide +441632960999").await.contains("prospect"));
    assert!(fail("decide cdnow:0001 --purpose gossip").await.contains("must be inquiry, order, routine"));
    assert!(fail("decide cdnow:0001 --channel telex").await.contains("is no channel; there are "));

    // What changed so far, one line each.
    let first = lines(&with("watch scores --json"), 2_358);
    let standings = first.iter().filter(|line| line.get("change").is_some()).count();
    assert_eq!((standings, first.last().unwrap()["mark"].as_str()), (2_357, Some("FEED_MARK_SNAPSHOT_COMPLETE")));
    let cursor = first.last().unwrap()["position"]["cursor"].as_str().unwrap();
    let next = lines(&with(&format!("watch scores --json --cursor {cursor}")), 1);
    assert_eq!(next[0]["mark"], "FEED_MARK_HEARTBEAT");
    assert!(fail("watch scores --cursor nonsense").await.contains("CURSOR_UNKNOWN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complaint_goes_its_way_at_the_terminal() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let server = &world.server.url();
    let customer = e2e::calls::ensure(&world.client, &["1"]).await.swap_remove(0);
    let id = {
        let text = "The parcel came two weeks late.";
        let file = ["complaint", "file", &customer, "--cause", "delivery", "--severity", "major", "--text", text];
        let filed = json(&[&file[..], &["--request-id", "one", "--json", "--server", server]].concat()).await;
        let again = json(&[&file[..], &["--request-id", "one", "--json", "--server", server]].concat()).await;
        assert_eq!(filed["complaintId"], again["complaintId"], "filed once");
        assert_eq!(filed["state"], "COMPLAINT_STATE_FILED");
        filed["complaintId"].as_str().unwrap().to_owned()
    };
    let steps: [(&str, &[&str], &str); 9] = [
        ("acknowledge", &["--owner", "agent-7"], "OPEN"),
        ("await", &["--reason", "Which parcel?"], "WAITING"),
        ("resume", &[], "OPEN"),
        ("assign", &["--owner", "agent-9", "--reason", "On holiday."], "OPEN"),
        ("escalate", &["--owner", "agent-8", "--reason", "They call for the third time."], "OPEN"),
        ("resolve", &["--answer", "A new one is on its way."], "RESOLVED"),
        ("reopen", &["--reason", "It never came."], "REOPENED"),
        ("resolve", &["--answer", "Your money is on its way."], "RESOLVED"),
        ("close", &["--word", "partly", "--by", "lead-3"], "CLOSED"),
    ];
    for (step, flags, state) in steps {
        let reply = json(&[&["complaint", step, &id], flags, &["--json", "--server", server]].concat()).await;
        assert_eq!(reply["state"], format!("COMPLAINT_STATE_{state}"), "{step}");
    }
    let shown = told(&["complaint", "get", &id, "--server", server]).await;
    for text in ["closed", "agent-8", "lead-3", "delivery", "major"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let listed =
        json(&["complaint", "list", "--state", "closed", "--customer", &customer, "--json", "--server", server]).await;
    assert_eq!(listed["complaints"].as_array().unwrap().len(), 1);
    assert!(told(&["complaint", "list", "--server", server]).await.contains(&id));
    assert!(told(&["complaint", "causes", "--server", server]).await.contains("delivery"));

    let wrong = refused(&["complaint", "escalate", &id, "--reason", "Late.", "--server", server]).await;
    assert!(wrong.contains("WRONG_STATE"), "{wrong}");
    let wrong = refused(&["complaint", "close", &id, "--word", "perhaps", "--server", server]).await;
    assert!(wrong.contains("must be solved, partly or not-solved"), "{wrong}");
    let wrong =
        refused(&["complaint", "file", &customer, "--cause", "weather", "--text", "Rain.", "--server", server]).await;
    assert!(wrong.contains("--cause weather: is no cause"), "{wrong}");
    let nobody = "0198c000-0000-7000-8000-000000000000";
    let wrong = refused(&["complaint", "get", nobody, "--server", server]).await;
    assert!(wrong.contains("not found"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_said_to_be_not_there() {
    for command in [
        "models",
        "pyramid",
        "customer shop:1",
        "decide shop:1",
        "complaint causes",
        "watch scores",
        "fit",
        "rank",
        "holdout --until 1997-09-30",
        "export scores -",
        "report -",
    ] {
        let arguments: Vec<_> = command.split(' ').chain(["--server", e2e::world::DEAD]).collect();
        let wrong = refused(&arguments).await;
        assert!(wrong.contains("is it running?"), "{command}: {wrong}");
    }
    let wrong = refused(&["models", "--server", "not a url"]).await;
    assert!(wrong.contains("--server"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_wrong_with_a_configuration_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clientele.toml");
    std::fs::write(&file, "[scoring]\nmargin_rate = 7\n\n[routing.lift]\nimportant = 1000\n").unwrap();
    let mut command = program::command(PROGRAM);
    command.env("CLIENTELE_PROFILES__PEER_TIMEOUT_MS", "1").env("CLIENTELE_SERVER__DRAIN_DELAY_S", "soon");
    command.args(["serve", "--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    command.args([
        "--set",
        "complaints.sweep_period_s=0",
        "--set",
        "scoring.curency=EUR",
        "--set",
        "peers.scoring=scoring:7100",
    ]);
    command.current_dir(&folder);
    let output = program::output(command).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for key in [
        "scoring.margin_rate",
        "routing.lift.important",
        "profiles.peer_timeout_ms",
        "server.drain_delay_s",
        "complaints.sweep_period_s",
        "scoring.curency",
        "did you mean scoring.currency?",
        "peers.scoring",
        "clientele.toml",
    ] {
        assert!(errors.contains(key), "{key} is not named in:\n{errors}");
    }
    assert!(!folder.path().join("clientele-data").exists(), "nothing was begun");

    let open = refused(&["serve", "--listen", "0.0.0.0:0"]).await;
    assert!(open.contains("--insecure"), "{open}");
    // Found out while it starts, so that lines of the log stand before it.
    let mut command = program::command(PROGRAM);
    command.args(["serve", "routing", "--listen", "127.0.0.1:0"]).current_dir(&folder);
    let alone = program::output(command).await;
    let errors = String::from_utf8(alone.stderr).unwrap();
    assert_eq!(alone.status.code(), Some(1), "{errors}");
    for missing in ["peers.scoring: is not set", "peers.profiles: is not set", "peers.complaints: is not set"] {
        assert!(errors.contains(missing), "all at once: {errors}");
    }
    let unknown = refused(&["serve", "billing", "--listen", "127.0.0.1:0"]).await;
    assert!(unknown.contains("billing") && unknown.contains("complaints"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_even_be_read_is_told_what_is_allowed_of_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let wrong = [
        ("scoring.horizon_months=-5", "scoring.horizon_months (flag): allowed: 0 to 1200"),
        ("profiles.peer_timeout_ms=soon", "profiles.peer_timeout_ms (flag): found a text, allowed: 10 to 60000"),
        ("complaints.sweep_period_s=-1", "complaints.sweep_period_s (flag): allowed: 1 to 3600"),
        ("routing.lift.major=1e9", "routing.lift.major (flag): found a number, allowed: 0 to 99"),
        ("complaints.calendar.holidays=[\"25.12.2026\"]", "complaints.calendar.holidays[0] (flag): is not a day"),
        ("complaints.calendar.time_zone=Mars/Base", "complaints.calendar.time_zone (flag): is not a time zone"),
        (
            "telemetry.otlp_endpoint=https://collector:4317",
            "telemetry.otlp_endpoint (flag): allowed: an address that starts with http://. Export is in plain text",
        ),
        (
            "server.tls_server_name=clientele.example",
            "server.tls_server_name (flag): allowed: empty, or with tls_cert_file",
        ),
    ];
    let data = data.display().to_string();
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    arguments.extend(wrong.iter().flat_map(|(set, _)| ["--set", set]));
    let errors = refused(&arguments).await;
    for (_, message) in wrong {
        assert!(errors.contains(message), "{message} is not in:\n{errors}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_in_force_is_shown_without_its_secrets() {
    let mut command = program::command(PROGRAM);
    command.env("CLIENTELE_SCORING__DATABASE_URL", "postgres://clientele:hunter2@db.example/scoring");
    let output = program::output({
        command.args(["config", "--set", "routing.database_url=postgres://clientele:s3same@db.example/routing"]);
        command
    });
    let shown = String::from_utf8(output.await.stdout).unwrap();
    assert!(shown.contains("db.example/scoring") && shown.contains("db.example/routing"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("s3same"), "{shown}");
    let defaults = told(&["config", "--defaults"]).await;
    for section in
        ["[server]", "[auth]", "[telemetry]", "[peers]", "[profiles]", "[scoring]", "[routing]", "[complaints]"]
    {
        assert!(defaults.contains(section), "{section}");
    }
    // Every key is explained.
    let mut above = "";
    for line in defaults.lines() {
        let explained =
            above.starts_with(['#', '[']) || above.contains('=') || line.starts_with(['#', '[']) || line.is_empty();
        assert!(explained, "{line} stands without a word");
        above = line;
    }
}

/// The first lines of a command that would go on for ever.
fn lines(arguments: &[String], count: usize) -> Vec<Value> {
    /// Ends with the test, however that ends.
    struct Ending(Child);
    impl Drop for Ending {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut command: Command = program::command(PROGRAM);
    command.args(arguments).stdout(Stdio::piped());
    let mut watching = Ending(command.spawn().unwrap());
    let output = BufReader::new(watching.0.stdout.take().unwrap());
    output.lines().take(count).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}
