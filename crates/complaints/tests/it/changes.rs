use chassis::testing::{Backend, fault};
use proto::complaints::v1::{self as pb, ComplaintState, CustomerWord};
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{ACTS, Act, World, customer, file, get, hours, proto_at, read, ready_for, rid};

chassis::db_tests!(
    a_case_lives_from_filing_to_closing_and_is_reopened,
    the_history_names_who_did_it_where_the_call_says,
    assigning_changes_the_owner_and_nothing_else,
    every_change_sent_again_gives_the_first_reply,
    every_change_refuses_a_request_id_with_another_body,
    every_change_refuses_an_etag_that_is_not_the_current_one,
    every_change_of_an_unknown_complaint_is_not_found,
    every_change_in_a_wrong_state_names_the_state_and_the_rule,
    of_many_callers_with_one_etag_one_wins,
    many_callers_with_one_request_id_all_get_the_one_reply,
    escalating_keeps_the_owner_where_none_is_named,
    escalating_beyond_the_highest_level_is_refused,
    the_clock_is_right_after_a_kill,
    a_long_history_shows_its_last_steps,
);

async fn a_case_lives_from_filing_to_closing_and_is_reopened(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let filed = file(&client, customer(1)).await;

    world.pass(1);
    let open = Act::Acknowledge.on(&client, &filed).await;
    assert_eq!((open.state(), open.owner_id.as_str(), open.elapsed), (ComplaintState::Open, "agent-1", hours(1)));
    assert_eq!(open.due_time, filed.due_time);

    world.pass(2);
    let waiting = Act::Await.on(&client, &open).await;
    assert_eq!((waiting.state(), waiting.elapsed, waiting.due_time), (ComplaintState::Waiting, hours(3), None));

    // Thursday 09:00: eighteen hours of waiting do not count.
    world.set("2026-01-15T09:00:00Z");
    let resumed = Act::Resume.on(&client, &waiting).await;
    assert_eq!((resumed.state(), resumed.elapsed), (ComplaintState::Open, hours(3)));
    assert_eq!(resumed.due_time, proto_at("2026-01-19T14:00:00Z"));

    let escalated = Act::Escalate.on(&client, &resumed).await;
    assert_eq!((escalated.state(), escalated.escalation_level), (ComplaintState::Open, 1));
    assert_eq!((escalated.owner_id.as_str(), escalated.due_time), ("manager-1", resumed.due_time));

    world.pass(2);
    let resolved = Act::Resolve.on(&client, &escalated).await;
    assert_eq!((resolved.state(), resolved.elapsed, resolved.due_time), (ComplaintState::Resolved, hours(5), None));
    assert_eq!(resolved.answer, "A new kettle is on its way.");

    let closed = Act::Close.on(&client, &resolved).await;
    assert_eq!((closed.state(), closed.customer_word()), (ComplaintState::Closed, CustomerWord::NotSolved));

    world.set("2026-01-19T09:00:00Z");
    let reopened = Act::Reopen.on(&client, &closed).await;
    assert_eq!((reopened.state(), reopened.elapsed), (ComplaintState::Reopened, hours(5)));
    assert_eq!(
        (reopened.customer_word(), reopened.due_time),
        (CustomerWord::Unspecified, proto_at("2026-01-21T12:00:00Z"))
    );

    let reply = get(&client, &filed.complaint_id).await;
    assert_eq!(reply.complaint, Some(reopened));
    let steps: Vec<_> = reply
        .steps
        .iter()
        .map(|step| [&step.action, &step.actor_id, &step.owner_id, &step.note].map(String::as_str))
        .collect();
    let me = customer(1).to_string();
    let expected = [
        ["filed", me.as_str(), "", ""],
        ["acknowledged", "agent-1", "agent-1", ""],
        ["awaiting customer", "agent-1", "agent-1", "please send a picture"],
        ["resumed", "agent-1", "agent-1", ""],
        ["escalated", "agent-1", "manager-1", "beyond my authority"],
        ["resolved", "manager-1", "manager-1", "A new kettle is on its way."],
        ["closed", "manager-1", "manager-1", "the customer says: not solved"],
        ["reopened", me.as_str(), "manager-1", "the new one leaks too"],
    ];
    assert_eq!(steps, expected);
}

async fn the_history_names_who_did_it_where_the_call_says(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    for act in ACTS {
        let ready = ready_for(&client, customer(1), act).await;
        let send = async |actor: &str| act.send_by(&client, &rid(), &ready.complaint_id, &ready.etag, actor).await;
        for wrong in ["sweep", " scoring\n", &"x".repeat(65)] {
            let (code, _, fields) = fault(&send(wrong).await.unwrap_err());
            assert_eq!((code, fields), (Code::InvalidArgument, vec!["actor_id".to_owned()]), "{act:?} by {wrong}");
        }
        let done = send("lead-3").await.unwrap();
        let last = get(&client, &done.complaint_id).await.steps.pop().unwrap();
        assert_eq!(last.actor_id, "lead-3", "{act:?}");
        assert_ne!(done.owner_id, "lead-3", "{act:?}: whoever does it does not come to own it");
    }
}

async fn assigning_changes_the_owner_and_nothing_else(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    for before in [&[][..], &[Act::Acknowledge], &[Act::Acknowledge, Act::Await], &[Act::Resolve, Act::Reopen]] {
        let mut complaint = file(&client, customer(1)).await;
        for act in before {
            complaint = act.on(&client, &complaint).await;
        }
        world.pass(1);
        let seen = read(&client, &complaint.complaint_id).await;
        let assigned = Act::Assign.on(&client, &complaint).await;
        let last = get(&client, &complaint.complaint_id).await.steps.pop().unwrap();
        let [action, owner, note] = [&last.action, &last.owner_id, &last.note].map(String::as_str);
        assert_eq!([action, owner, note], ["assigned", "agent-2", "on holiday"]);
        let whose = if complaint.owner_id.is_empty() { "agent-2" } else { "agent-1" };
        assert_eq!(last.actor_id, whose, "whose it was hands it over; whose it becomes takes what was nobody's");
        assert_eq!(assigned.owner_id, "agent-2");
        assert_ne!((&assigned.etag, &assigned.update_time), (&seen.etag, &seen.update_time));
        let pb::Complaint { owner_id, etag, update_time, revision, .. } = assigned.clone();
        assert_eq!(assigned, pb::Complaint { owner_id, etag, update_time, revision, ..seen }, "{before:?}");
    }
}

async fn every_change_sent_again_gives_the_first_reply(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    for act in ACTS {
        let ready = ready_for(&client, customer(1), act).await;
        let (id, request_id) = (&ready.complaint_id, rid());
        let first = act.send(&client, &request_id, id, &ready.etag).await.unwrap();
        // Also when the case has moved on since.
        world.pass(1);
        let next = if first.state() == ComplaintState::Resolved { Act::Reopen } else { Act::Escalate };
        let _ = next.send(&client, &rid(), id, &first.etag).await;
        let before = get(&client, id).await;
        assert_eq!(act.send(&client, &request_id, id, &ready.etag).await.unwrap(), first, "{act:?}");
        assert_eq!(get(&client, id).await, before, "{act:?}");
    }
}

async fn every_change_refuses_a_request_id_with_another_body(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    for act in ACTS {
        let ready = ready_for(&client, customer(1), act).await;
        let request_id = rid();
        let changed = act.send(&client, &request_id, &ready.complaint_id, &ready.etag).await.unwrap();
        let status = act.send(&client, &request_id, &ready.complaint_id, &changed.etag).await.unwrap_err();
        let (code, reason, _) = fault(&status);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"), "{act:?}");
    }
}

async fn every_change_refuses_an_etag_that_is_not_the_current_one(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    for act in ACTS {
        let ready = ready_for(&client, customer(1), act).await;
        let status = act.send(&client, &rid(), &ready.complaint_id, "no-such-etag").await.unwrap_err();
        let (code, reason, _) = fault(&status);
        assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"), "{act:?}");
        assert_eq!(read(&client, &ready.complaint_id).await, ready, "{act:?}");
    }
}

async fn every_change_of_an_unknown_complaint_is_not_found(backend: Backend) {
    let world = World::start(backend).await;
    for act in ACTS {
        let status = act.send(&world.client(), &rid(), &customer(9).to_string(), "1").await.unwrap_err();
        let (code, reason, _) = fault(&status);
        assert_eq!((code, reason.as_str()), (Code::NotFound, "NOT_FOUND"), "{act:?}");
    }
}

async fn every_change_in_a_wrong_state_names_the_state_and_the_rule(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    // Closed, everything but reopening is wrong; filed, reopening is.
    let filed = file(&client, customer(1)).await;
    let resolved = Act::Resolve.on(&client, &file(&client, customer(1)).await).await;
    let closed = Act::Close.on(&client, &resolved).await;
    for act in ACTS {
        let (complaint, state) = if act == Act::Reopen { (&filed, "filed") } else { (&closed, "closed") };
        let status = act.send(&client, &rid(), &complaint.complaint_id, &complaint.etag).await.unwrap_err();
        let (code, reason, _) = fault(&status);
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "WRONG_STATE"), "{act:?}");
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert_eq!((violations.len(), violations[0].subject.clone()), (1, format!("complaint: {state}")), "{act:?}");
        assert!(violations[0].description.starts_with("only a"), "{act:?}: {}", violations[0].description);
        assert_eq!(&read(&client, &complaint.complaint_id).await, complaint, "{act:?}");
    }
}

async fn of_many_callers_with_one_etag_one_wins(backend: Backend) {
    let world = World::start(backend).await;
    for act in ACTS {
        let ready = ready_for(&world.client(), customer(1), act).await;
        let calls = (0..8).map(|_| {
            let (client, ready) = (world.client(), ready.clone());
            tokio::spawn(async move { act.send(&client, &rid(), &ready.complaint_id, &ready.etag).await })
        });
        let results: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{act:?}: {results:?}");
        for status in results.into_iter().filter_map(Result::err) {
            assert_eq!(fault(&status).1, "ETAG_MISMATCH", "{act:?}");
        }
        let steps = get(&world.client(), &ready.complaint_id).await.steps.len();
        assert_eq!(steps, act.before().len() + 2, "{act:?}");
    }
}

async fn many_callers_with_one_request_id_all_get_the_one_reply(backend: Backend) {
    let world = World::start(backend).await;
    for act in ACTS {
        let ready = ready_for(&world.client(), customer(1), act).await;
        let request_id = rid();
        let calls = (0..8).map(|_| {
            let (client, ready, request_id) = (world.client(), ready.clone(), request_id.clone());
            tokio::spawn(async move { act.send(&client, &request_id, &ready.complaint_id, &ready.etag).await.unwrap() })
        });
        let replies: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{act:?}");
        let steps = get(&world.client(), &ready.complaint_id).await.steps.len();
        assert_eq!(steps, act.before().len() + 2, "{act:?}");
    }
}

async fn escalating_keeps_the_owner_where_none_is_named(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let open = Act::Acknowledge.on(&client, &file(&client, customer(1)).await).await;
    let request = pb::EscalateComplaintRequest {
        request_id: rid(),
        complaint_id: open.complaint_id,
        etag: open.etag,
        owner_id: String::new(),
        reason: "it takes too long".into(),
        ..Default::default()
    };
    let escalated = client.escalate_complaint(request).await.unwrap().into_inner().complaint.unwrap();
    assert_eq!((escalated.owner_id.as_str(), escalated.escalation_level), ("agent-1", 1));
}

async fn escalating_beyond_the_highest_level_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut complaint = file(&client, customer(1)).await;
    for _ in 0..world.config.max_escalation_level {
        complaint = Act::Escalate.on(&client, &complaint).await;
    }
    let status = Act::Escalate.send(&client, &rid(), &complaint.complaint_id, &complaint.etag).await.unwrap_err();
    assert_eq!(fault(&status).1, "WRONG_STATE");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "complaint: at escalation level 5");
}

async fn the_clock_is_right_after_a_kill(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let running = Act::Acknowledge.on(&client, &file(&client, customer(1)).await).await;
    world.pass(2);
    let waiting = ready_for(&client, customer(1), Act::Resume).await;
    let world = world.restart().await;
    world.pass(2);
    let client = world.client();
    let running = read(&client, &running.complaint_id).await;
    assert_eq!((running.elapsed, running.due_time), (hours(4), proto_at("2026-01-19T12:00:00Z")));
    let waiting = Act::Resume.on(&client, &read(&client, &waiting.complaint_id).await).await;
    assert_eq!((waiting.elapsed, waiting.due_time), (hours(0), proto_at("2026-01-19T16:00:00Z")));
}

async fn a_long_history_shows_its_last_steps(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut complaint = ready_for(&client, customer(1), Act::Resume).await;
    for _ in 0..100 {
        complaint = Act::Resume.on(&client, &complaint).await;
        complaint = Act::Await.on(&client, &complaint).await;
    }
    let steps = get(&client, &complaint.complaint_id).await.steps;
    assert_eq!(steps.len(), 200);
    assert_eq!((steps[0].action.as_str(), steps[199].action.as_str()), ("resumed", "awaiting customer"));
}
