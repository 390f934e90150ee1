//! Each service in processes of its own, as in production: what one of them loses when it dies, another one finds.
use std::{collections::BTreeMap, time::Duration};

use chassis::testing::{Backend, eventually, postgres_or_say_so};
use clientele::client::{Client, request};
use e2e::{
    calls::{buy, buy_on, call_of, complaint_of, decide, ensure, file, full, score},
    program::Split,
};
use proto::{complaints::v1 as complaints, profiles::v1 as profiles, scoring::v1 as scoring};
use scoring::Relationship;
use tokio::time::Instant;

use crate::PROGRAM;

chassis::db_tests!(services_in_processes_of_their_own_work_as_one_and_outlive_each_other);

/// A follower's lease (3 s) and the period at which others try to get it (half a second); the rest is for what is done meanwhile, on a machine that
/// does other things as well.
const TAKEN_OVER: Duration = Duration::from_secs(18);

async fn services_in_processes_of_their_own_work_as_one_and_outlive_each_other(backend: Backend) {
    let mut suite = Split::start(PROGRAM, backend, &[], &[]).await;
    let client = suite.client.clone();
    let client = &client;
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
    assert!(full(client, &id).await.1.missing_parts.is_empty());

    // Scoring dies: decisions go on, and the full view says what is missing.
    suite.process("scoring", 0).kill();
    assert_eq!(decide(client, &id).await.standing, bought);
    let (_, view) = full(client, &id).await;
    assert_eq!(view.missing_parts, [i32::from(profiles::CustomerPart::Score)]);
    assert_eq!(view.complaints.len(), 1);

    // Meanwhile life goes on; back again, it catches up, and so do those who follow it.
    let new = ensure(client, &["2"]).await.swap_remove(0);
    suite.process("scoring", 0).start().await;
    buy_on(client, "1998-06-29", &id, "2", 10_000).await;
    buy(client, &new, "3", 10_000).await;
    for id in [&id, &new] {
        let now = score(client, id).await.standing;
        assert_ne!(now, bought);
        eventually("routing follows again", || async { decide(client, id).await.standing == now }).await;
        eventually("profiles follows again", || async { full(client, id).await.0.standing == now }).await;
    }

    // All the others die, too.
    for service in ["profiles", "complaints", "routing"] {
        suite.process(service, 0).kill();
    }
    // Whichever is named first: of servers that are named each is asked.
    let mut named: Vec<String> =
        ["scoring", "profiles"].map(|name| format!("{name}={}", suite.process(name, 0).url())).into();
    for _ in 0..2 {
        let output = crate::terminal::run(&["health", "--server", &named[0], "--server", &named[1]]).await;
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), told.as_str()), (Some(1), "profiles: no answer\nscoring: serving\n"));
        named.reverse();
    }
    buy_on(client, "1998-06-29", &new, "4", 10_000).await;
    for service in ["profiles", "complaints", "routing"] {
        suite.process(service, 0).start().await;
    }
    file(client, &new).await;
    eventually("routing caught up", || async { decide(client, &new).await.selling_paused }).await;
    let now = score(client, &new).await.standing;
    eventually("routing caught up", || async { decide(client, &new).await.standing == now }).await;
    for process in suite.processes.values_mut().flatten() {
        let status = process.terminate().await;
        assert_eq!(status.code(), Some(0), "{status}: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_may_die_at_any_time_and_nothing_is_doubled_or_lost() {
    if !postgres_or_say_so() {
        return;
    }
    let two = [("routing", 2), ("complaints", 2)];
    let mut suite = Split::start(PROGRAM, Backend::Postgres, &two, &[]).await;
    let ids: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let client = suite.client.clone();
    let client = &client;
    let customers = ensure(client, &ids).await;
    let mut replicas = [0, 1].map(|replica| alone(&suite, replica));

    // Both see what only one of them follows.
    buy(client, &customers[0], "first", 10_000).await;
    for replica in &replicas {
        fresh(replica, client, &customers[0]).await;
    }

    // Whichever holds the place of the follower: one of the two rounds hits it.
    for round in [0, 1] {
        for service in ["routing", "complaints"] {
            suite.process(service, round).kill();
        }
        let begin = Instant::now();
        let survivor = &replicas[1 - round];
        // The same requests to whoever is there, and the clients of a balancer send again what broke off.
        for (number, id) in customers.iter().enumerate() {
            buy_on(client, &format!("1998-05-0{}", round + 1), id, &format!("{round}-{number}"), 1_000).await;
            let mut complaints = client.complaints();
            again(async || complaints.file_complaint(request(complaint_of(id))).await).await;
        }
        for id in &customers {
            fresh(survivor, client, id).await;
            eventually("the survivor knows the complaint", || async { decide(survivor, id).await.selling_paused })
                .await;
        }
        let taken = begin.elapsed();
        assert!(taken < TAKEN_OVER, "round {round}: the survivor followed after {taken:?}");
        println!("round {round}: followed after {taken:?}");
        for service in ["routing", "complaints"] {
            suite.process(service, round).start().await;
        }
        replicas = [0, 1].map(|replica| alone(&suite, replica));
    }

    // One complaint each, however often it was sent and whoever took it.
    let list = complaints::ListComplaintsRequest { page_size: 1_000, ..Default::default() };
    for replica in &replicas {
        let listed = replica.complaints().list_complaints(request(list.clone())).await.unwrap().into_inner().complaints;
        let each: BTreeMap<_, _> = listed.iter().map(|one| (&one.customer_id, &one.complaint_id)).collect();
        assert_eq!((listed.len(), each.len()), (customers.len(), customers.len()));
    }
    eventually("the records say so", || async {
        let records = e2e::calls::customers(client).await;
        records.len() == customers.len() && records.iter().all(|record| record.open_complaints == 1)
    })
    .await;
    for replica in &replicas {
        for id in &customers {
            fresh(replica, client, id).await;
            let decision = replica.routing().decide(request(call_of(id))).await.unwrap().into_inner();
            assert!(decision.selling_paused);
            assert_eq!(decision.standing.unwrap().relationship(), Relationship::Repeat);
        }
    }
}

/// A client of this replica alone.
fn alone(suite: &Split, replica: usize) -> Client {
    let url = |service: &str| {
        let processes = &suite.processes[service];
        format!("{service}={}", processes.get(replica).unwrap_or(&processes[0]).url())
    };
    Client::new(&clientele::client::SERVICES.map(url)).unwrap()
}

/// Waits until a replica decides by what scoring says now.
async fn fresh(replica: &Client, client: &Client, id: &str) {
    let now = score(client, id).await.standing;
    eventually("the replica follows", || async { decide(replica, id).await.standing == now }).await;
}

/// Sends again until there is an answer: what a caller does whose connection broke.
async fn again<T>(mut call: impl AsyncFnMut() -> Result<tonic::Response<T>, tonic::Status>) -> T {
    let begin = Instant::now();
    loop {
        match call().await {
            Ok(reply) => return reply.into_inner(),
            Err(status) => {
                assert!(begin.elapsed() < chassis::testing::DEADLINE, "{status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
