//! Killed at any point and run again, an import ends at exactly what the file holds, and so does everybody who follows.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use chassis::testing::{Backend, DEADLINE, eventually};
use clientele::client::{Client, request};
use e2e::{
    calls::{customers, decide},
    cdnow,
    program::{self, Databases, Process, Running, free_port},
    random::Random,
};
use futures::StreamExt;
use proto::{profiles::v1 as profiles, scoring::v1 as scoring};

use crate::PROGRAM;

chassis::db_tests!(an_import_killed_at_any_point_and_run_again_ends_at_the_exact_totals);

/// Imports that are broken off. Each kills the server, the importer, or both.
const KILLS: usize = 8;

async fn an_import_killed_at_any_point_and_run_again_ends_at_the_exact_totals(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let databases = Databases::new(backend).await;
    let mut server = Process::new(PROGRAM, &[], free_port(), folder.path());
    for (name, value) in databases.variables() {
        server = server.with(name, value);
    }
    let client = Client::new(&[server.url()]).unwrap();
    let mut random = Random::new(0xdead);
    server.start().await;
    let mut running = true;
    let mut done = 0;
    for _ in 0..KILLS {
        if !running {
            server.start().await;
        }
        let mut importer = Running::start(&mut import(&server, folder.path()));
        // Somewhere within it: it takes a second or so.
        let moment = Duration::from_millis(20 + random.below(1_200) as u64);
        let ended = importer.ends_within(moment).await;
        done += usize::from(ended.is_some());
        running = random.chance(34);
        if !running {
            server.kill();
        }
        if running || random.chance(50) {
            importer.kill();
        } else if ended.is_none() {
            // The importer is patient, and goes on by itself once the server is back.
            server.start().await;
            running = true;
            let status = importer.ends_within(DEADLINE).await.unwrap();
            let told = std::fs::read_to_string(folder.path().join("import.log")).unwrap();
            // Unless it had only just begun: it cannot know then that a server was there.
            assert!(
                status.success() || told.contains("no answer from the server"),
                "{status}: {told} {}",
                server.log()
            );
            done += usize::from(status.success());
        }
    }
    if !running {
        server.start().await;
    }
    println!("{done} of {KILLS} imports came to their end");
    let mut importer = Running::start(&mut import(&server, folder.path()));
    assert!(importer.ends_within(DEADLINE).await.unwrap().success());

    let customers = customers(&client).await;
    assert_eq!(customers.len(), cdnow::CUSTOMERS);
    let (purchases, revenue) = ledger(&client, &customers).await;
    assert_eq!((purchases, revenue), (cdnow::PURCHASES, cdnow::REVENUE));

    // The same for the ranking and what follows from it: killed on the way, it goes on by itself.
    let rank = tokio::spawn({
        let client = client.clone();
        async move { cdnow_ranked(&client).await }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(random.below(700) as u64)).await;
        server.kill();
        server.start().await;
    }
    rank.await.unwrap();
    assert_eq!(cdnow::pyramid_totals(&client).await, (cdnow::REVENUE, cdnow::CUSTOMERS as i64));
    assert_projections_equal_the_source(&client).await;

    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}: {}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn import(server: &Process, folder: &Path) -> Command {
    let mut command = program::command(PROGRAM);
    command.current_dir(folder).args(["import", "purchases", cdnow::FILE, "--no-header"]);
    command.args(["--customer", "2", "--time", "3", "--amount", "5", "--system", "cdnow", "--source", "cdnow"]);
    command.args(["--rejects", "rejected.csv", "--server", &server.url()]);
    let log = std::fs::File::create(folder.join("import.log")).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    command
}

/// Fits and ranks, asking again with the same request ids whenever the server is away.
async fn cdnow_ranked(client: &Client) {
    let as_of = Some(clientele::commands::date(cdnow::LAST_DAY).unwrap());
    let fit = scoring::FitModelsRequest { request_id: "fit".into(), as_of, trial: false };
    let rank = scoring::RankCustomersRequest { request_id: "rank".into(), as_of };
    eventually("the fit is done", || async {
        let Ok(operation) = client.scoring().fit_models(request(fit.clone())).await else { return false };
        operation.into_inner().state() == scoring::OperationState::Succeeded
    })
    .await;
    eventually("the ranking is done", || async {
        let Ok(operation) = client.scoring().rank_customers(request(rank.clone())).await else { return false };
        operation.into_inner().state() == scoring::OperationState::Succeeded
    })
    .await;
}

/// How many different purchases there are, and what they come to.
async fn ledger(client: &Client, customers: &[profiles::Customer]) -> (i64, i64) {
    let pages = futures::stream::iter(customers).map(|customer| async move {
        let customer_id = customer.customer_id.clone();
        let list = scoring::ListPurchasesRequest { customer_id, page_size: 1_000, ..Default::default() };
        client.scoring().list_purchases(request(list)).await.unwrap().into_inner().purchases
    });
    let purchases: Vec<_> = pages.buffer_unordered(16).concat().await;
    let ids: BTreeSet<_> = purchases.iter().map(|purchase| (&purchase.source, &purchase.purchase_id)).collect();
    assert_eq!(ids.len(), purchases.len(), "a purchase is there twice");
    let revenue = purchases.iter().map(|purchase| purchase.amount.as_ref().unwrap().minor_units).sum();
    (i64::try_from(purchases.len()).unwrap(), revenue)
}

/// What scoring last announced of every customer.
async fn announced(client: &Client) -> BTreeMap<String, scoring::Standing> {
    use scoring::watch_scores_response::Event;
    let watch = scoring::WatchScoresRequest::default();
    let mut stream = client.scoring().watch_scores(watch).await.unwrap().into_inner();
    let mut standings = BTreeMap::new();
    loop {
        match stream.message().await.unwrap().unwrap().event.unwrap() {
            Event::Change(change) => {
                let standing = change.standing.unwrap();
                standings.insert(standing.customer_id.clone(), standing);
            }
            Event::Mark(_) => return standings,
        }
    }
}

async fn assert_projections_equal_the_source(client: &Client) {
    let source = announced(client).await;
    assert_eq!(source.len(), cdnow::CUSTOMERS);
    let in_profiles = || async {
        let customers = customers(client).await;
        customers.into_iter().filter_map(|one| Some((one.customer_id, one.standing?))).collect::<BTreeMap<_, _>>()
    };
    let in_routing = || async {
        let decisions = futures::stream::iter(source.keys())
            .map(|id| async move { (id.clone(), decide(client, id).await.standing) });
        let decisions: Vec<_> = decisions.buffer_unordered(16).collect().await;
        decisions.into_iter().filter_map(|(id, standing)| Some((id, standing?))).collect::<BTreeMap<_, _>>()
    };
    eventually("profiles equals scoring", || async { in_profiles().await == source }).await;
    eventually("routing equals scoring", || async { in_routing().await == source }).await;
}
