use std::{collections::HashMap, time::Duration};

use chassis::testing::{Backend, DEADLINE, fault};
use proto::{
    common::v1::FeedMark,
    complaints::v1::{
        self as pb, ComplaintChange, ComplaintState, WatchComplaintsRequest, watch_complaints_response::Event,
    },
};
use tonic::{Code, Streaming};

use crate::world::{Act, Client, World, customer, file, read};

chassis::db_tests!(
    a_watcher_gets_a_snapshot_and_then_every_change,
    the_feed_has_none_of_the_words_of_customer_and_company,
    a_watcher_goes_on_where_it_left_off,
    a_made_up_cursor_is_refused,
    only_new_skips_the_snapshot,
    the_count_of_open_complaints_is_right_however_many_write_at_once,
    a_snapshot_shows_what_has_run_until_now,
    a_large_snapshot_joins_the_changes_without_seam,
);

type Watching = Streaming<pb::WatchComplaintsResponse>;

async fn watch(client: &Client, cursor: &str, only_new: bool) -> Watching {
    let request = WatchComplaintsRequest { cursor: cursor.to_owned(), only_new };
    client.clone().watch_complaints(request).await.unwrap().into_inner()
}

/// The next message that is no sign of life.
async fn next(stream: &mut Watching) -> (String, Event) {
    let next = async {
        loop {
            let message = stream.message().await.unwrap().unwrap();
            let event = message.event.unwrap();
            if event != Event::Mark(FeedMark::Heartbeat.into()) {
                return (message.position.unwrap().cursor, event);
            }
        }
    };
    tokio::time::timeout(DEADLINE, next).await.expect("nothing but signs of life")
}

async fn next_change(stream: &mut Watching) -> ComplaintChange {
    match next(stream).await.1 {
        Event::Change(change) => change,
        Event::Mark(mark) => panic!("a mark instead of a change: {mark}"),
    }
}

fn stripped(complaint: &pb::Complaint, open_complaints: i32) -> ComplaintChange {
    let complaint = pb::Complaint { description: String::new(), answer: String::new(), ..complaint.clone() };
    ComplaintChange { complaint: Some(complaint), open_complaints }
}

async fn a_watcher_gets_a_snapshot_and_then_every_change(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let first = file(&client, customer(1)).await;
    let second = file(&client, customer(1)).await;
    let resolved = Act::Resolve.on(&client, &file(&client, customer(2)).await).await;
    let mut stream = watch(&client, "", false).await;
    assert_eq!(next_change(&mut stream).await, stripped(&first, 2));
    assert_eq!(next_change(&mut stream).await, stripped(&second, 2));
    assert_eq!(next_change(&mut stream).await, stripped(&resolved, 0));
    assert_eq!(next(&mut stream).await.1, Event::Mark(FeedMark::SnapshotComplete.into()));

    let open = Act::Acknowledge.on(&client, &first).await;
    assert_eq!(next_change(&mut stream).await, stripped(&open, 2));
    // A customer who must do something first is still an unhappy one.
    let waiting = Act::Await.on(&client, &open).await;
    assert_eq!(next_change(&mut stream).await, stripped(&waiting, 2));
    let answered = Act::Resolve.on(&client, &second).await;
    assert_eq!(next_change(&mut stream).await, stripped(&answered, 1));
    let reopened = Act::Reopen.on(&client, &answered).await;
    assert_eq!(next_change(&mut stream).await, stripped(&reopened, 2));
}

async fn the_feed_has_none_of_the_words_of_customer_and_company(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut live = watch(&client, "", true).await;
    let resolved = Act::Resolve.on(&client, &file(&client, customer(1)).await).await;
    assert!(!resolved.description.is_empty() && !resolved.answer.is_empty());
    let mut snapshot = watch(&client, "", false).await;
    for change in [next_change(&mut live).await, next_change(&mut live).await, next_change(&mut snapshot).await] {
        let text = format!("{change:?}");
        assert!(!text.contains("kettle"), "{text}");
    }
}

async fn a_watcher_goes_on_where_it_left_off(backend: Backend) {
    let world = World::start(backend).await;
    let mut stream = watch(&world.client(), "", true).await;
    let first = file(&world.client(), customer(1)).await;
    let (cursor, _) = next(&mut stream).await;
    drop(stream);
    let open = Act::Acknowledge.on(&world.client(), &first).await;
    let world = world.restart().await;
    let mut stream = watch(&world.client(), &cursor, false).await;
    assert_eq!(next_change(&mut stream).await, stripped(&open, 1));
}

async fn a_made_up_cursor_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    let request = WatchComplaintsRequest { cursor: "made up".into(), only_new: false };
    let (code, reason, _) = fault(&world.client().watch_complaints(request).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "CURSOR_UNKNOWN"));
}

async fn only_new_skips_the_snapshot(backend: Backend) {
    let world = World::start(backend).await;
    file(&world.client(), customer(1)).await;
    let mut stream = watch(&world.client(), "", true).await;
    let second = file(&world.client(), customer(2)).await;
    assert_eq!(next_change(&mut stream).await, stripped(&second, 1));
}

async fn the_count_of_open_complaints_is_right_however_many_write_at_once(backend: Backend) {
    let world = World::start(backend).await;
    let mut stream = watch(&world.client(), "", true).await;
    // Each of many callers leads one complaint of one of two customers to its end and back.
    let calls = (0..16).map(|number| {
        let client = world.client();
        tokio::spawn(async move {
            let filed = file(&client, customer(number % 2)).await;
            let resolved = Act::Resolve.on(&client, &filed).await;
            let reopened = Act::Reopen.on(&client, &resolved).await;
            if number % 3 == 0 { Act::Resolve.on(&client, &reopened).await } else { reopened }
        })
    });
    let last: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let changes = 16 * 3 + last.iter().filter(|complaint| complaint.state() == ComplaintState::Resolved).count();
    // Followed from the start, the states alone give the count at every change.
    let mut states = HashMap::new();
    for number in 0..changes {
        let change = next_change(&mut stream).await;
        let complaint = change.complaint.unwrap();
        let customer = complaint.customer_id.clone();
        states.insert(complaint.complaint_id.clone(), (customer.clone(), complaint.state()));
        let open = states.values().filter(|(of, state)| *of == customer && *state != ComplaintState::Resolved).count();
        assert_eq!(change.open_complaints, i32::try_from(open).unwrap(), "change {number}");
    }
}

async fn a_snapshot_shows_what_has_run_until_now(backend: Backend) {
    let world = World::start(backend).await;
    let filed = file(&world.client(), customer(1)).await;
    world.set("2026-01-20T11:30:00Z");
    let read = read(&world.client(), &filed.complaint_id).await;
    let change = next_change(&mut watch(&world.client(), "", false).await).await;
    let shown = change.complaint.unwrap();
    assert_eq!((shown.elapsed, shown.breached), (read.elapsed, true));
}

async fn a_large_snapshot_joins_the_changes_without_seam(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    // More than the feed reads at a time; the last customers of the pages have several.
    let filings = (0..1_050_u128).map(|number| {
        let client = client.clone();
        async move { file(&client, customer(number / 3)).await }
    });
    let filed: Vec<_> =
        futures::StreamExt::collect(futures::StreamExt::buffer_unordered(futures::stream::iter(filings), 32)).await;
    let mut stream = watch(&client, "", false).await;
    // Answered while the snapshot is on its way.
    let answering = tokio::spawn({
        let client = client.clone();
        async move {
            for complaint in filed.iter().step_by(50) {
                Act::Resolve.on(&client, complaint).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let (mut states, mut counts) = (HashMap::new(), HashMap::new());
    let mut complete = false;
    while !complete || counts.values().sum::<i32>() != 1_029 {
        match next(&mut stream).await.1 {
            Event::Mark(_) => complete = true,
            Event::Change(change) => {
                let complaint = change.complaint.unwrap();
                counts.insert(complaint.customer_id.clone(), change.open_complaints);
                let state = complaint.state();
                states.insert(complaint.complaint_id, (complaint.customer_id, state));
            }
        }
    }
    answering.await.unwrap();
    assert_eq!((states.len(), counts.len()), (1_050, 350));
    for (customer, count) in counts {
        let open = states.values().filter(|(of, state)| *of == customer && *state == ComplaintState::Filed).count();
        assert_eq!(count, i32::try_from(open).unwrap(), "{customer}");
    }
}
