use std::sync::Arc;

use chassis::testing::{Backend, eventually};
use complaints::sweep;
use jiff::SignedDuration;
use proto::complaints::v1::{self as pb, ComplaintState};

use crate::world::{Act, World, at, customer, file, get, read, ready_for};

chassis::db_tests!(
    the_clock_escalates_before_the_breach_and_marks_the_breach,
    sweeps_that_race_escalate_once,
    two_replicas_escalate_once,
    a_case_that_waits_or_is_answered_is_left_alone,
    a_case_is_swept_after_a_kill,
    a_sweep_deals_with_more_than_a_page,
    an_answer_and_a_sweep_at_once_leave_one_story,
);

fn by_sweep(reply: &pb::GetComplaintResponse) -> Vec<&str> {
    reply.steps.iter().filter(|step| step.actor_id == "sweep").map(|step| step.action.as_str()).collect()
}

fn level(reply: &pb::GetComplaintResponse) -> i32 {
    reply.complaint.as_ref().unwrap().escalation_level
}

/// Lets the clock run second by second, so that whichever sleep the sweep is in comes to its end, until the case has had so many steps by it.
async fn until_swept(world: &World, id: &str, steps: usize) -> pb::GetComplaintResponse {
    let client = world.client();
    eventually("the sweep comes by", || {
        world.clock.advance(SignedDuration::from_secs(5));
        let client = client.clone();
        async move { by_sweep(&get(&client, id).await).len() >= steps }
    })
    .await;
    get(&client, id).await
}

async fn the_clock_escalates_before_the_breach_and_marks_the_breach(backend: Backend) {
    let world = World::start(backend).await;
    let filed = file(&world.client(), customer(1)).await;
    world.set("2026-01-16T15:12:00Z");
    let reply = until_swept(&world, &filed.complaint_id, 1).await;
    let complaint = reply.complaint.clone().unwrap();
    assert_eq!((by_sweep(&reply), complaint.escalation_level, complaint.breached), (vec!["escalated"], 1, false));
    assert!(complaint.revision > filed.revision && complaint.etag != filed.etag);
    assert_eq!((complaint.due_time, complaint.state()), (filed.due_time, ComplaintState::Filed));

    world.set("2026-01-19T12:00:00Z");
    let reply = until_swept(&world, &filed.complaint_id, 2).await;
    let complaint = reply.complaint.clone().unwrap();
    assert_eq!((by_sweep(&reply), complaint.escalation_level), (vec!["escalated", "breached"], 2));
    assert!(complaint.breached);
}

async fn sweeps_that_race_escalate_once(backend: Backend) {
    let world = World::start(backend).await;
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(file(&world.client(), customer(number % 3)).await.complaint_id);
    }
    let rules = Arc::new(world.config.rules().unwrap());
    for (moment, actions) in
        [("2026-01-16T15:12:00Z", &["escalated"][..]), ("2026-01-19T12:00:00Z", &["escalated", "breached"])]
    {
        world.clock.set(at(moment));
        let mut sweeps = Vec::new();
        for _ in 0..4 {
            // Each with connections of its own, as replicas have.
            let (db, rules) = (world.db().await, Arc::clone(&rules));
            sweeps.push(tokio::spawn(async move { sweep::run(&db, &rules).await.unwrap() }));
        }
        for sweep in sweeps {
            sweep.await.unwrap();
        }
        for id in &ids {
            let reply = get(&world.client(), id).await;
            assert_eq!(by_sweep(&reply), actions);
            assert_eq!(reply.complaint.unwrap().escalation_level, i32::try_from(actions.len()).unwrap());
        }
    }
}

async fn two_replicas_escalate_once(backend: Backend) {
    let world = World::start(backend).await;
    let replica = world.replica().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(file(&world.client(), customer(number)).await.complaint_id);
    }
    world.set("2026-01-16T15:12:00Z");
    for id in &ids {
        until_swept(&world, id, 1).await;
    }
    // Two more rounds of both.
    for _ in 0..2 {
        world.clock.advance(SignedDuration::from_secs(31));
        sweep::run(&world.db().await, &world.config.rules().unwrap()).await.unwrap();
    }
    for id in &ids {
        let reply = get(&world.client(), id).await;
        assert_eq!((by_sweep(&reply), level(&reply)), (vec!["escalated"], 1));
    }
    replica.stop().await.unwrap();
}

async fn a_case_that_waits_or_is_answered_is_left_alone(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let waiting = ready_for(&client, customer(1), Act::Resume).await;
    let resolved = ready_for(&client, customer(1), Act::Close).await;
    let running = file(&client, customer(1)).await;
    world.set("2026-03-01T12:00:00Z");
    until_swept(&world, &running.complaint_id, 1).await;
    assert_eq!(read(&client, &waiting.complaint_id).await, waiting);
    assert_eq!(read(&client, &resolved.complaint_id).await, resolved);
}

async fn a_case_is_swept_after_a_kill(backend: Backend) {
    let world = World::start(backend).await;
    let filed = file(&world.client(), customer(1)).await;
    let world = world.restart().await;
    world.set("2026-03-01T12:00:00Z");
    let reply = until_swept(&world, &filed.complaint_id, 1).await;
    // Both times have passed: the breach alone, one level up.
    assert_eq!((by_sweep(&reply), level(&reply)), (vec!["breached"], 1));
}

async fn a_sweep_deals_with_more_than_a_page(backend: Backend) {
    let world = World::start(backend).await;
    let filings = (0..520_u128).map(|number| {
        let client = world.client();
        async move { file(&client, customer(number % 50)).await }
    });
    let filings = futures::StreamExt::buffer_unordered(futures::stream::iter(filings), 32);
    futures::StreamExt::collect::<Vec<_>>(filings).await;
    let (db, rules) = (world.db().await, world.config.rules().unwrap());
    assert_eq!(sweep::run(&db, &rules).await.unwrap(), 0);
    // A clock that has jumped is seen by the service's own sweep, too: both together deal with every case once.
    world.set("2026-01-16T16:00:00Z");
    sweep::run(&db, &rules).await.unwrap();
    let client = world.client();
    eventually("every case is escalated", || {
        let mut client = client.clone();
        async move {
            let request = pb::ListComplaintsRequest { page_size: 1_000, ..pb::ListComplaintsRequest::default() };
            let all = client.list_complaints(request).await.unwrap().into_inner().complaints;
            assert!(all.iter().all(|complaint| complaint.escalation_level <= 1));
            all.len() == 520 && all.iter().all(|complaint| complaint.escalation_level == 1)
        }
    })
    .await;
}

async fn an_answer_and_a_sweep_at_once_leave_one_story(backend: Backend) {
    let world = World::start(backend).await;
    let rules = Arc::new(world.config.rules().unwrap());
    let db = world.db().await;
    for number in 0..10 {
        let filed = file(&world.client(), customer(number)).await;
        world.clock.set(at("2026-01-19T12:00:00Z"));
        let sweep = tokio::spawn({
            let (db, rules) = (db.clone(), Arc::clone(&rules));
            async move { sweep::run(&db, &rules).await.unwrap() }
        });
        let client = world.client();
        let answered = Act::Resolve.send(&client, &filed.complaint_id, &filed.complaint_id, &filed.etag).await;
        sweep.await.unwrap();
        let reply = get(&client, &filed.complaint_id).await;
        let complaint = reply.complaint.clone().unwrap();
        match answered {
            // Answered first, though late: nothing is left to sweep.
            Ok(_) => assert_eq!((by_sweep(&reply).len(), complaint.state()), (0, ComplaintState::Resolved)),
            // Swept first: the caller decides again.
            Err(_) => assert_eq!((by_sweep(&reply), complaint.state()), (vec!["breached"], ComplaintState::Filed)),
        }
        assert!(complaint.breached);
        world.clock.set(chassis::testing::noon());
    }
}
