//! Files that go in: purchases, service costs, payments; bad rows, breaks, files without end.
use std::{fs::File, io::Write, path::Path, process::Stdio, time::Duration};

use chassis::testing::{Backend, eventually};
use clientele::client::{Client, request};
use e2e::{
    cdnow,
    program::{self, Process, Running, free_port},
    world::World,
};
use proto::scoring::v1 as scoring;

use crate::{
    PROGRAM,
    terminal::{At, json, refused, run, told, unreadable},
};

/// A customer of the shop as of now, with everything that there is to say of them.
async fn assessed(client: &Client, at: &At, who: &str) -> scoring::Score {
    let customer = at.json(&format!("customer {who}"), &[]).await;
    let get = scoring::GetScoreRequest {
        customer_id: customer["customer"]["customerId"].as_str().unwrap().to_owned(),
        with_assessment: true,
        ..Default::default()
    };
    client.scoring().get_score(request(get)).await.unwrap().into_inner().score.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs_lower_what_a_customer_is_worth_once_however_often_they_are_imported() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("sales.csv"), "who,when,paid\nanna,1998-03-01,200.00\nanna,1998-05-01,300.00\n").unwrap();
    at.told(&format!("import purchases {} --customer who --time when --amount paid", path("sales.csv")), &[]).await;
    let before = assessed(&world.client, &at, "import:anna").await.realised_value.unwrap().minor_units;

    // Packed, with a comma before the cents; two visits of one day are two, a refund is none.
    let rows = "nr;kunde;tag;kosten\n1;anna;02.03.1998;12,50\n1;anna;02.03.1998;12,50\n2;anna;05.03.1998;-3,00\n3;;05.03.1998;1,00\n";
    let mut packed = flate(&path("costs.csv.gz"));
    packed.write_all(rows.as_bytes()).unwrap();
    packed.finish().unwrap();
    let import = format!(
        "import costs {} --customer kunde --time tag --time-format %d.%m.%Y --amount kosten --decimal , --id nr --rejects {}",
        path("costs.csv.gz"),
        path("bad.csv")
    );
    let said = at.told(&import, &[]).await;
    assert!(said.contains("4 rows of 1 customer (0 new): 2 recorded") && said.contains("2 rejected"), "{said}");
    let bad = std::fs::read_to_string(path("bad.csv")).unwrap();
    let bad: Vec<&str> = bad.lines().skip(1).collect();
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert!(bad.iter().any(|row| row.starts_with("4,") && row.contains("INVALID_FIELD") && row.contains("negative")));
    assert!(bad.iter().any(|row| row.starts_with("5,column kunde: is empty,3,")));
    let again = at.json(&import, &[]).await;
    assert_eq!((&again["unchanged"], &again["recorded"], &again["rejected"]), (&2.into(), &0.into(), &2.into()));
    let after = assessed(&world.client, &at, "import:anna").await;
    assert_eq!(after.realised_value.unwrap().minor_units, before - 2_500);
    assert_eq!(after.assessment.unwrap().service_cost.unwrap().minor_units, 2_500);
    // Who asked for rows without a customer to be left out has them counted.
    let skipped = at.json(&format!("{import} --skip no-customer,returns"), &[]).await;
    assert_eq!(skipped["skipped"], serde_json::json!({ "returns": 1, "zero": 0, "no_customer": 1 }));
    assert_eq!((&skipped["rejected"], &skipped["unchanged"]), (&0.into(), &2.into()));
    let wrong = at.refused(&import.replace("--time tag", "--time day"), &[]).await;
    assert!(wrong.contains("--time day: no such column; the file has: nr, kunde, tag, kosten"), "{wrong}");
    let wrong = unreadable(&["import", "payments", "invoices.csv", "--paid-amount", "sum"]).await;
    assert!(["--id", "--issued", "--due", "--amount", "--paid"].iter().all(|flag| wrong.contains(flag)), "{wrong}");
    let wrong = at.refused(&format!("{import} --time-zone Mars"), &[]).await;
    assert!(wrong.contains("--time-zone Mars") && wrong.contains("Europe/Berlin"), "{wrong}");
}

fn flate(path: &str) -> flate2::write::GzEncoder<File> {
    flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_tell_what_is_owed_and_how_late_and_are_stated_again_when_they_are_paid() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invoices.csv");
    let import = format!(
        "import payments {} --customer who --id nr --issued on --due due --amount owed --paid paid --paid-amount sum --trouble trouble",
        file.display()
    );
    let header = "nr,who,on,due,owed,paid,sum,trouble";
    let first = [
        header,
        // Open, and nine days late by 30 June.
        "1,anna,1998-06-01,1998-06-21,100.00,,,",
        // Nothing paid is written as 0 by many.
        "2,anna,1998-06-20,1998-07-20,50.00,,0.00,",
        // Due on the day it was issued, in the afternoon; paid in part.
        "3,anna,1998-05-05T15:00:00Z,1998-05-05,80.00,1998-05-05T16:00:00Z,30.00,Written off",
        "4,anna,1998-05-05,1998-04-05,80.00,,,",
        "5,anna,1998-05-05,1998-06-05,80.00,1998-06-05,90.00,",
        "6,anna,1998-05-05,1998-06-05,80.00,,,lost",
        "7,anna,1998-05-05,soon,80.00,,,",
        "8,anna,1998-05-05,1998-06-05,80.00,,1.00,",
    ];
    std::fs::write(&file, first.join("\n")).unwrap();
    let outcome = at.json(&import, &[]).await;
    assert_eq!((&outcome["recorded"], &outcome["rejected"]), (&3.into(), &5.into()), "{outcome}");
    let rejects = std::fs::read_to_string(file.with_extension("rejected.csv")).unwrap();
    for (line, reason) in
        [("5", "due_time"), ("6", "paid_amount"), ("7", "written-off, in-court"), ("8", "due"), ("9", "paid_time")]
    {
        let row = rejects.lines().find(|row| row.starts_with(&format!("{line},"))).unwrap();
        assert!(row.contains(reason), "{line}: {rejects}");
    }
    // A first purchase, or there is nobody to assess.
    let id = assessed(&world.client, &at, "import:anna").await.standing.unwrap().customer_id;
    e2e::calls::buy_on(&world.client, "1998-05-01", &id, "1", 10_000).await;
    let owes = assessed(&world.client, &at, "import:anna").await.assessment.unwrap();
    assert_eq!(owes.receivables.unwrap().minor_units, 10_000 + 5_000 + 5_000);
    assert_eq!(owes.days_overdue, Some(56), "the one of 5 May");

    // The same file later: one was paid, and one stands in it twice, of which the last counts.
    let second = [
        header,
        "1,anna,1998-06-01,1998-06-21,100.00,1998-06-29,100.00,",
        "2,anna,1998-06-20,1998-07-20,55.00,,,",
        "2,anna,1998-06-20,1998-07-20,60.00,,,",
        "3,anna,1998-05-05T15:00:00Z,1998-05-05,80.00,1998-05-06,80.00,",
    ];
    std::fs::write(&file, second.join("\n")).unwrap();
    let outcome = at.json(&import, &[]).await;
    assert_eq!((&outcome["recorded"], &outcome["rejected"]), (&0.into(), &0.into()), "{outcome}");
    assert!(!file.with_extension("rejected.csv").exists());
    let owes = assessed(&world.client, &at, "import:anna").await.assessment.unwrap();
    assert_eq!((owes.receivables.unwrap().minor_units, owes.days_overdue), (6_000, Some(0)));
    // Without a column of amounts, what has a day of payment was paid in full.
    let short = "import payments FILE --customer who --id nr --issued on --due due --amount owed --paid paid";
    std::fs::write(&file, [header, "2,anna,1998-06-20,1998-07-20,60.00,1998-06-30,,"].join("\n")).unwrap();
    let outcome = at.json(&short.replace("FILE", file.to_str().unwrap()), &[]).await;
    assert_eq!(outcome["replaced"], 1, "{outcome}");
    let owes = assessed(&world.client, &at, "import:anna").await.assessment.unwrap();
    assert_eq!(owes.receivables.unwrap().minor_units, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discounts_come_with_the_sales_that_have_them() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "who,when,paid,off\nanna,1998-03-01,90,10\nanna,1998-03-02,100,\nanna,1998-03-03,-90,10\n")
        .unwrap();
    let import =
        format!("import purchases {} --customer who --time when --amount paid --discount off", file.path().display());
    assert!(at.told(&import, &[]).await.contains("3 recorded"));
    let id = assessed(&world.client, &at, "import:anna").await.standing.unwrap().customer_id;
    let list = scoring::ListPurchasesRequest { customer_id: id, ..Default::default() };
    let listed = world.client.scoring().list_purchases(request(list)).await.unwrap().into_inner().purchases;
    let discounts: Vec<_> = listed.iter().map(|row| row.discount.as_ref().map(|money| money.minor_units)).collect();
    assert_eq!(discounts, [None, None, Some(1_000)], "newest first; a return has none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_go_to_a_file_with_line_and_reason_and_the_others_stand() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sales.csv");
    let rows = [
        "receipt;customer;sold_at;total",
        "1;anna;1998-01-05;29.33",
        "2;anna;1998-02-05;-10.00",
        "3;;1998-01-05;1.00",
        "4;bert;1998-13-05;1.00",
        "5;bert;1998-01-05;one dollar",
        "6;bert;2030-01-05;1.00",
        "7;bert;1998-01-05;99999999999999.00",
        "8;bert",
        "9;bert;1998-01-05T10:30:00Z;0",
    ];
    std::fs::write(&file, rows.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let columns = ["--customer", "customer", "--time", "sold_at", "--amount", "total", "--id", "receipt"];
    let server = world.server.url();
    let import = [&["import", "purchases", file][..], &columns, &["--server", &server]].concat();
    let first = told(&import).await;
    assert!(first.contains("3 recorded") && first.contains("6 rejected"), "{first}");
    let rejects = Path::new(file).with_extension("rejected.csv");
    assert!(first.contains(rejects.to_str().unwrap()), "{first}");
    assert!(first.contains(&format!("Mend them in {file} and run the same command again")), "{first}");
    let on_from_a_line = told(&[&import[..], &["--after-line", "3"]].concat()).await;
    assert!(on_from_a_line.contains("run it again without --after-line"), "{on_from_a_line}");
    let written = std::fs::read_to_string(&rejects).unwrap();
    assert_eq!(written.lines().next().unwrap(), "line,reason,receipt,customer,sold_at,total");
    let mut lines: Vec<_> = written.lines().skip(1).collect();
    lines.sort_unstable();
    let expected = [
        ("4,", "customer"),
        ("5,", "sold_at"),
        ("6,", "total"),
        ("7,", "PURCHASE_IN_FUTURE"),
        ("8,", ""),
        ("9,", "sold_at"),
    ];
    assert_eq!(lines.len(), expected.len(), "{written}");
    for (line, (number, reason)) in lines.iter().zip(expected) {
        assert!(line.starts_with(number) && line.contains(reason), "{line}");
    }
    let again = json(&[&import[..], &["--json"]].concat()).await;
    assert_eq!((&again["unchanged"], &again["recorded"], &again["rejected"]), (&3.into(), &0.into(), &6.into()));
    let anna = json(&["customer", "import:anna", "--json", "--server", &server]).await;
    let summary = &anna["score"]["summary"];
    assert_eq!((&summary["sales"]["minorUnits"], &summary["returns"]["minorUnits"]), (&2_933.into(), &1_000.into()));

    // What is wrong with the whole file is said before anything is sent.
    let columns = ["--customer", "buyer", "--time", "sold_at", "--amount", "total"];
    let wrong = refused(&[&["import", "purchases", file][..], &columns, &["--server", &server]].concat()).await;
    assert!(
        wrong.contains("--customer buyer: no such column; the file has: receipt, customer, sold_at, total"),
        "{wrong}"
    );
    let wrong =
        refused(&[&["import", "purchases", "nowhere.csv"][..], &columns, &["--server", &server]].concat()).await;
    assert!(wrong.contains("cannot open nowhere.csv"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_rows_from_other_customers_is_warned_and_told_how_to_keep_systems_apart() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let folder = tempfile::tempdir().unwrap();
    let import = async |name: &str, rows: &str, more: &[&str]| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("nr,who,when,paid\n{rows}")).unwrap();
        let url = world.server.url();
        let columns = ["--customer", "who", "--time", "when", "--amount", "paid", "--id", "nr", "--server", &url];
        let words = [&["import", "purchases", file.to_str().unwrap()], &columns[..], more].concat();
        let output = run(&words).await;
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let till = "1,anna,1998-03-01,5\n2,anna,1998-03-02,5\n3,bert,1998-03-03,5\n";
    let shop = "1,carl,1998-03-01,7\n2,carl,1998-03-02,7\n3,bert,1998-03-03,7\n";
    assert_eq!(import("till.csv", till, &[]).await.1, "");
    let (said, warning) = import("shop.csv", shop, &[]).await;
    assert!(said.contains("3 replaced"), "{said}");
    assert!(warning.starts_with("warning: 2 rows ") && warning.contains("--source"), "{warning}");
    // As it says: the first file again, then the second under a name of its own.
    let (said, warning) = import("till.csv", till, &["--json"]).await;
    assert!(said.contains("\"moved\":2") && warning.contains("--source"), "{said} {warning}");
    let (said, warning) = import("shop.csv", shop, &["--source", "shop"]).await;
    assert!(said.contains("3 recorded, 0 replaced") && warning.is_empty(), "{said} {warning}");
    // Of refused rows every reason is counted, the most frequent first, and what no text is is not printed.
    let bad = "4,anna,soon,5\n5,anna,soon,5\n6,,1998-03-01,5\n7,anna,1998-03-01,5\n8,anna,2050-03-01,5\n9,anna,2050-03-01,5\n10,anna,2050-03-02,5\n";
    let (said, _) = import("bad.csv", bad, &[]).await;
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text} is not in {said}"));
    assert!(
        at("\n  3: ") < at("\n  2: column when: is not a time") && at("\n  2: ") < at("\n  1: column who: is empty")
    );
    assert!(said.contains("1 recorded") && at("The first: line 2: column when") > at("\n  1: "), "{said}");
}

/// Rows of the file that is broken off: batches of 5,000, each of customers of its own.
const ROWS: usize = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_broken_off_names_the_line_from_which_it_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Process::new(PROGRAM, &[], free_port(), folder.path());
    server.start().await;
    let (url, client) = (server.url(), Client::new(&[server.url()]).unwrap());
    let (file, rejects) = (folder.path().join("sales.csv"), folder.path().join("bad.csv"));
    let mut text = "who,when,paid\n,1998-03-01,1\n".to_owned();
    for row in 0..ROWS {
        // Lines alike, far apart: they are told apart by their number, also by who goes on behind the first of them.
        let who = if row % 10_000 == 0 { 0 } else { row / 2 };
        text.push_str(&format!("{who},1998-03-01,1\n"));
    }
    std::fs::write(&file, text).unwrap();
    let words =
        ["import", "purchases", file.to_str().unwrap(), "--customer", "who", "--time", "when", "--amount", "paid"];
    let words = [&words[..], &["--rejects", rejects.to_str().unwrap(), "--server", &url]].concat();
    let mut command = program::command(PROGRAM);
    let log = folder.path().join("import.log");
    command.args(&words).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut importer = Running::start(&mut command);
    // Customers of the third batch are there, which is made ready while the second is on its way: so the first is acknowledged.
    eventually("some batches are in", || async { known(&client).await > 6_000 }).await;
    importer.interrupt();
    let ended = importer.ends_within(Duration::from_secs(10)).await.unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.starts_with("error: broken off") && said.contains("nothing is recorded twice"), "{said}");
    let recorded =
        said.split_once("Until then: ").unwrap().1.split_once(" recorded, 0 replaced, 0 there already, 1 rejected.");
    let recorded: u64 = recorded.unwrap().0.replace(',', "").parse().unwrap();
    assert!((5_000..=ROWS as u64).contains(&recorded), "{said}");
    let line = said.split_once("--after-line ").unwrap().1.split(' ').next().unwrap();
    let after: u64 = line.parse().unwrap();
    assert!((5_000..=ROWS as u64).contains(&after), "{said}");

    let outcome = json(&[&words[..], &["--after-line", line, "--json"]].concat()).await;
    // The header, and the line without a customer, which is among those passed.
    assert_eq!((&outcome["rows"], &outcome["passed"]), (&(ROWS + 1).into(), &(after - 1).into()), "{outcome}");
    assert_eq!(std::fs::read_to_string(&rejects).unwrap().lines().count(), 2, "what was refused before is kept");
    let all = json(&[&words[..], &["--json"]].concat()).await;
    assert_eq!((&all["unchanged"], &all["recorded"], &all["replaced"]), (&ROWS.into(), &0.into(), &0.into()), "{all}");
    let (tenths, ratio) = (all["tenths"].as_array().unwrap(), &all["last_to_first"]);
    assert!(tenths.is_empty() && ratio.is_null(), "too few to tell a pace: {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_import_says_how_steadily_rows_went_in_and_goes_on_quickly() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let at = At(world.server.url());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made-up.csv").display().to_string();
    told(&["generate", &file, "--customers", "20000", "--start", "1997-01-01", "--days", "500"]).await;
    let import = format!("import purchases {file} --customer customer --time time --amount amount --id id");
    let first = at.json(&import, &[]).await;
    let rows = first["rows"].as_u64().unwrap();
    assert!(rows > 50_000 && first["recorded"] == rows, "{first}");
    let tenths = first["tenths"].as_array().unwrap();
    assert_eq!(tenths.len(), 10);
    assert_eq!(tenths.iter().map(|tenth| tenth["rows"].as_u64().unwrap()).sum::<u64>(), rows);
    assert!(tenths.iter().all(|tenth| tenth["rows_per_s"].as_f64().unwrap() > 0.0), "{first}");
    let ratio = |name: &str| first[name].as_f64().unwrap();
    assert!(0.0 < ratio("slowest_to_first") && ratio("slowest_to_first") <= ratio("last_to_first").min(1.0), "{first}");
    // All but the last rows are passed without asking; those are there already.
    let line = (rows - 1_000).to_string();
    let passed = at.json(&import, &["--after-line", &line]).await;
    assert_eq!((&passed["passed"], &passed["unchanged"]), (&(rows - 1_001).into(), &1_001.into()), "{passed}");
}

/// How many customers have a standing.
async fn known(client: &Client) -> i64 {
    let reply = client.scoring().get_standing_counts(request(scoring::GetStandingCountsRequest {})).await.unwrap();
    reply.into_inner().counts.iter().map(|count| count.customers).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let folder = tempfile::tempdir().unwrap();
    let url = world.server.url();
    let import = async |name: &str, delimiter: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let columns = ["--customer", "1", "--time", "2", "--amount", "3", "--delimiter", delimiter, "--server", &url];
        refused(&[&["import", "purchases", file.to_str().unwrap()], &columns[..]].concat()).await
    };
    let open = format!("who,when,paid\n1,1998-03-01,5\n2,\"1998-03-01,5\n{}", "3,1998-03-01,5\n".repeat(200_000));
    let wrong = import("quote.csv", ",", &open).await;
    assert!(wrong.contains("behind line 2") && wrong.contains("quotation mark left open"), "{wrong}");
    let wrong = import("blanks.txt", "blanks", &format!("who when paid\n1 {} 5\n", "9".repeat(2_000_000))).await;
    assert!(wrong.contains("behind line 1") && wrong.contains("more than 1 MiB"), "{wrong}");
}
