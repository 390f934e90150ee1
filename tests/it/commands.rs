//! What an analyst types: models, holdout, moves, segments, made-up customers; what is told of nonsense.
use std::path::Path;

use chassis::testing::{Backend, eventually};
use e2e::{
    calls::{buy_on, customers, ensure},
    cdnow,
    world::World,
};
use jiff::SignedDuration;
use serde_json::Value;

use crate::terminal::{At, json, refused, told, unreadable};

/// The sample, fitted and ranked.
async fn world() -> (World, At) {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    cdnow::load(&world.client).await;
    cdnow::fit_and_rank(&world.client).await;
    let at = At(world.server.url());
    (world, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_and_what_they_foretold_are_shown_to_people_and_programs() {
    let (_world, at) = world().await;
    let models = at.json("models", &[]).await;
    let kinds: Vec<&str> = models["models"].as_array().unwrap().iter().map(|of| of["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 4);
    for kind in ["BG_NBD", "MBG_NBD", "PARETO_NBD", "GAMMA_GAMMA"] {
        assert!(kinds.contains(&format!("MODEL_KIND_{kind}").as_str()), "{kinds:?}");
    }
    for model in models["models"].as_array().unwrap() {
        let parameter = &model["parameters"][0];
        let number = |name: &str| parameter[name].as_f64().unwrap();
        assert!(number("intervalLow") < number("value") && number("value") < number("intervalHigh"), "{parameter}");
    }

    let found = at.json("holdout --until 1997-09-30", &[]).await;
    assert_eq!(
        (&found["kind"], &found["state"]),
        (&"OPERATION_KIND_HOLD_OUT".into(), &"OPERATION_STATE_SUCCEEDED".into())
    );
    let result = &found["holdOut"];
    assert_eq!((result["customers"].as_i64(), result["occasions"].as_i64()), (Some(2_357), Some(1_882)));
    assert_eq!(result["assessments"].as_array().unwrap().len(), 3);
    let shown = at.told("holdout --until 1997-09-30 --as-of 1998-03-31", &[]).await;
    assert!(shown.contains("to 1997-09-30, held against those to 1998-03-31: 2,357 customers"), "{shown}");
    let wrong = at.refused("holdout --until 1996-12-31", &[]).await;
    assert!(wrong.contains("NOT_FITTABLE") && wrong.contains("fit up to another day"), "{wrong}");
    let wrong = at.refused("holdout --until 1998-03-31 --as-of 1997-03-31", &[]).await;
    assert!(wrong.contains("until") || wrong.contains("as_of"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_between_states_are_counted_over_whole_days() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    assert!(at.told("transitions", &[]).await.contains("import purchases first"));
    cdnow::load(&world.client).await;
    cdnow::fit_and_rank(&world.client).await;
    // On the first day everybody comes from nowhere, and it says what to do about it.
    let first = at.told("transitions", &[]).await;
    assert!(first.contains("none yet") && first.contains("--from and a day after the first record"), "{first}");
    assert!(first.contains("The records begin Tue 1998-06-30"), "{first}");
    // No grid of nothing: nobody stayed, nobody was kept.
    assert!(!first.contains("tier at the start") && !first.contains(" (") && !first.contains(" 0 \n"), "{first}");

    world.clock.advance(SignedDuration::from_hours(24 * 3));
    let known = customers(&world.client).await.swap_remove(0).customer_id;
    let new = ensure(&world.client, &["new"]).await.swap_remove(0);
    for id in [known, new] {
        buy_on(&world.client, "1998-07-02", &id, &id, 5_000).await;
    }
    let moved = at.json("transitions --from 1998-07-01", &[]).await;
    assert_eq!(moved["customers"], 2_358);
    let all: i64 = moved["relationships"].as_array().unwrap().iter().map(|of| of["customers"].as_i64().unwrap()).sum();
    assert_eq!(all, 2_358);
    assert_eq!(moved["retention"].as_array().unwrap().len(), 4);
    let shown = at.told("transitions --from 1998-07-01 --to 1998-07-04", &[]).await;
    for text in
        ["From Wed 1998-07-01 00:00 UTC to Sat 1998-07-04 00:00 UTC: 2,358 customers", "none yet", "tier at the start"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(!shown.contains("a day after the first record"), "{shown}");
    assert!(
        at.told("transitions --from 1997-01-01 --to 1997-02-01", &[])
            .await
            .contains("the first was recorded Tue 1998-06-30")
    );
    let wrong = at.refused("transitions --from 1998-07-02 --to 1998-07-01", &[]).await;
    assert!(wrong.contains("to: must be `from`"), "{wrong}");
    let wrong = at.refused("transitions --from 2030-01-01", &[]).await;
    assert!(wrong.contains("future"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_are_made_shown_and_deleted_at_the_terminal() {
    let (_world, at) = world().await;
    assert!(at.told("segment list", &[]).await.contains("segment create --help"));
    let keys = "tier in [\"IMPORTANT\", \"MAJOR\"] && p_alive > 0.5";
    let preview = at.json("segment preview", &[keys]).await;
    let count = preview["customers"].as_i64().unwrap();
    assert!(
        count > 10 && preview["complete"] == true && preview["members"].as_array().unwrap().len() == 10,
        "{preview}"
    );
    let shown = at.told("segment preview", &[keys]).await;
    assert!(
        shown.starts_with(&format!("{count} of 2,357 customers would be in it.")) && !shown.contains("since"),
        "{shown}"
    );

    let said =
        at.told("segment create keys", &[keys, "--name", "Key customers", "--description", "Who must stay"]).await;
    assert!(said.contains("clientele segment show keys"), "{said}");
    eventually("it is filled", || async {
        let one = at.json("segment show keys", &[]).await;
        one["segment"]["state"] == "SEGMENT_STATE_READY" && one["statistics"]["customers"] == count
    })
    .await;
    let shown = at.told("segment show keys", &[]).await;
    for text in ["Key customers (keys), ready", "Who must stay", keys, &format!("{count} customers, worth "), "major"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let listed = at.json("segment list", &[]).await;
    assert_eq!(listed["segments"][0]["segmentId"], "keys");
    assert!(at.told("segment list", &[]).await.contains("Key customers"));
    let some = at.told("segment members keys --limit 3", &[]).await;
    assert!(some.contains("since") && some.contains("--limit shows more"), "{some}");
    let all = at.json("segment members keys --limit 5000", &[]).await;
    assert_eq!(all["members"].as_array().unwrap().len() as i64, count);
    assert_eq!(all["nextPageToken"], "");

    let clusters = at.json("segment cluster --clusters 3 --seed 7", &[]).await;
    let found = clusters["cluster"]["clusters"].as_array().unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found.iter().map(|of| of["customers"].as_i64().unwrap()).sum::<i64>(), 2_357);
    let shown = at.told("segment cluster --clusters 3 --seed 7", &[]).await;
    assert!(shown.contains("what sets it apart") && shown.contains(found[0]["segmentId"].as_str().unwrap()), "{shown}");

    at.json("segment delete keys", &[]).await;
    let wrong = at.refused("segment delete keys", &[]).await;
    assert!(wrong.contains("keys: is no segment; `clientele segment list`"), "{wrong}");
    for command in ["show", "members"] {
        let wrong = at.refused(&format!("segment {command} nobody"), &[]).await;
        assert!(wrong.contains("nobody: is no segment; `clientele segment list`"), "{wrong}");
    }
    // What is wrong with an expression, and where.
    for (expression, wrong) in [
        ("tier ==", "column 8"),
        ("tire == \"A\"", "is no field; there are relationship"),
        ("p_alive == \"much\"", "column 1"),
    ] {
        let said = at.refused("segment preview", &[expression]).await;
        assert!(said.contains("line 1, column ") && said.contains(wrong), "{expression}: {said}");
        assert_eq!(
            said.lines().next(),
            at.refused("segment create x", &[expression])
                .await
                .lines()
                .next()
                .map(|line| line.replace("segment.", ""))
                .as_deref(),
            "{said}"
        );
    }
    let wrong = at.refused("segment create Keys", &["true"]).await;
    assert!(wrong.contains("segment_id") && wrong.contains("a-z"), "{wrong}");
    let wrong = at.refused("segment create", &[found[0]["segmentId"].as_str().unwrap(), "true"]).await;
    assert!(wrong.contains("ALREADY_EXISTS"), "{wrong}");
    let wrong = at.refused("segment cluster --clusters 99", &[]).await;
    assert!(wrong.contains("2 to 12"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_yet_says_what_to_type() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    for (command, next) in [
        ("pyramid", "Run `clientele rank`"),
        ("fit", "clientele import purchases"),
        ("segment cluster", "Run `clientele fit`"),
        ("watch scores --cursor nonsense", "without --cursor"),
        ("watch scores --cursor -nonsense", "without --cursor"),
        ("decide +441632960999 --channel telex", "--channel telex: is no channel; there are "),
        ("customer nobody", "SYSTEM:ID"),
    ] {
        let wrong = at.refused(command, &[]).await;
        assert!(wrong.contains(next), "{command}: {wrong}");
    }
    let customer = ensure(&world.client, &["1"]).await.swap_remove(0);
    let wrong = at.refused(&format!("complaint file {customer} --cause weather --text Rain"), &[]).await;
    assert!(wrong.contains("--cause weather: ") && wrong.contains("clientele complaint causes"), "{wrong}");
    // A page all the same, of sections that say why they are empty.
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let said = at.json(&format!("report {}", page.display()), &[]).await;
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!((said["bytes"].as_u64(), said["file"].as_str()), (Some(html.len() as u64), page.to_str()));
    for text in [
        "Run `clientele rank`",
        "Nobody has bought yet",
        "No model of buying is in force: run `clientele fit`",
        "There are none yet",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(at.told("report -", &[]).await.starts_with("<!doctype html>"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_make_no_sense_are_told_what_is_allowed() {
    for (command, wrong) in [
        ("fit --as-of 31.12.2020", "such as 1998-06-30"),
        ("rank --as-of tomorrow", "such as 1998-06-30"),
        ("holdout", "--until <DATE>"),
        ("holdout --until soon", "such as 1998-06-30"),
        ("transitions --from 1998-02-30", "such as 1998-06-30"),
        ("report r.html --since x", "such as 1998-06-30"),
        ("report r.html --until x", "such as 1998-06-30"),
        ("generate g.csv --start 2020-13-01", "such as 1998-06-30"),
        ("generate g.csv --customers 0", "1..="),
        ("generate g.csv --currency dollars", "three capital letters"),
        ("generate g.csv --currency XXQ", "ISO 4217"),
        ("generate g.csv --parameters 1,2,3", "--parameters"),
        ("generate g.csv --model gamma", "mbg-nbd"),
        ("import purchases s.csv", "--customer <COL>"),
        ("import purchases s.csv --customer 1 --time 2 --amount 3 --currency dollars", "three capital letters"),
        ("import costs s.csv --customer 1 --time 2 --amount 3 --source my:shop", "A-Z"),
        ("import costs s.csv --customer 1 --time 2 --amount 3 --decimal ;", "'.' or ','"),
        ("import payments s.csv --customer 1 --id 2 --issued 3 --due 4 --amount 5 --skip bad", "no-customer"),
        ("segment members x --limit 0", "--limit"),
        ("watch gossip", "scores, customers, contacts, complaints, segment"),
        ("export", "scores"),
        ("segment", "preview"),
        ("gossip", "unrecognized subcommand"),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let said = if matches!(command, "export" | "segment") {
            let output = crate::terminal::run(&arguments).await;
            assert_eq!(output.status.code(), Some(2), "{command}");
            String::from_utf8(output.stderr).unwrap()
        } else {
            unreadable(&arguments).await
        };
        assert!(said.contains(wrong), "{command}: {said}");
    }
    // What can be read and cannot be done.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let columns = ["--customer", "1", "--time", "2", "--amount", "3"];
    let wrong = refused(&[&["import", "purchases", here][..], &columns].concat()).await;
    assert!(wrong.contains("it is a folder"), "{wrong}");
    let wrong = refused(&["generate", here]).await;
    assert!(wrong.contains("it is a folder"), "{wrong}");
    let wrong = refused(&["generate", &format!("{here}/nowhere/g.csv")]).await;
    assert!(wrong.contains("there is no folder"), "{wrong}");
    let wrong = refused(&["generate", &format!("{here}/g.csv"), "--days", "5"]).await;
    assert!(wrong.contains("arrival_days"), "{wrong}");
    let binary = folder.path().join("binary.csv");
    std::fs::write(&binary, [0_u8, 255, 1, b',', 7, b'\n', 3]).unwrap();
    let columns = ["--customer", "who", "--time", "2", "--amount", "3"];
    let wrong = refused(&[&["import", "purchases", binary.to_str().unwrap()][..], &columns].concat()).await;
    assert!(wrong.contains("--customer who: no such column") && wrong.contains("no text"), "{wrong}");
    assert!(!wrong.contains(|c: char| c.is_control() && c != '\n'), "a terminal obeys control characters");
    let wrong = refused(&["generate", &format!("{here}/g.csv"), "--start", "2999-01-01"]).await;
    assert!(wrong.contains("--start 2999-01-01") && wrong.contains("at the latest"), "{wrong}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half done lies about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_made_up_twice_are_the_same_and_go_in_as_the_last_line_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (one, two, other) = (path("one.csv"), path("two.csv"), path("other.csv"));
    let flags = ["--customers", "300", "--start", "1997-01-01", "--currency", "KWD"];
    let said = told(&[&["generate", &one][..], &flags].concat()).await;
    told(&[&["generate", &two][..], &flags].concat()).await;
    told(&[&["generate", &other, "--seed", "2"][..], &flags].concat()).await;
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    assert!(read(&one) == read(&two) && read(&one) != read(&other));
    assert_eq!(told(&[&["generate", "-"][..], &flags].concat()).await, read(&one));
    let line = said.trim().split_once("Import them: clientele ").unwrap().1;
    assert!(line.contains("--currency KWD") && Path::new(line.split(' ').nth(2).unwrap()).exists(), "{line}");

    // The line itself, against books in another currency: said after one batch or at the end, and nothing is recorded.
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let words: Vec<&str> = line.split(' ').chain(["--server", world.server.url().leak(), "--json"]).collect();
    let output = crate::terminal::run(&words).await;
    assert_eq!(output.status.code(), Some(1));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["recorded"], &outcome["rejected"]), (&0.into(), &outcome["rows"]), "{outcome}");
    assert!(outcome["first_rejection"].as_str().unwrap().contains("CURRENCY_MISMATCH"), "{outcome}");
    // In the currency of the books it goes in.
    let words: Vec<&str> = words.iter().map(|word| if *word == "KWD" { "USD" } else { word }).collect();
    let outcome = json(&words[..words.len() - 1].iter().copied().chain(["--json"]).collect::<Vec<_>>()).await;
    assert_eq!((&outcome["recorded"], &outcome["customers"]), (&outcome["rows"], &300.into()), "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_which_every_row_is_refused_is_not_sent_to_its_end() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sales.csv");
    let text: String = (0..12_000).map(|row| format!("1,2030-01-01,{row}\n")).collect();
    std::fs::write(&file, format!("who,when,paid\n{text}")).unwrap();
    let import = format!("import purchases {} --customer who --time when --amount paid", file.display());
    let wrong = At(world.server.url()).refused(&import, &[]).await;
    assert!(
        wrong.contains("each of the first 5000 rows was refused") && wrong.contains("PURCHASE_IN_FUTURE"),
        "{wrong}"
    );
    let rejects = file.with_extension("rejected.csv");
    assert!(wrong.contains(rejects.to_str().unwrap()), "{wrong}");
    assert_eq!(std::fs::read_to_string(rejects).unwrap().lines().count(), 5_001);
}
