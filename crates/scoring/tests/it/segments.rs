//! Segments: who is in them, and who hears of it.
use std::collections::{BTreeMap, BTreeSet};

use chassis::{
    db_tests,
    testing::{Backend, eventually, fault},
};
use futures::StreamExt;
use jiff::SignedDuration;
use proto::scoring::v1::{self as pb, watch_segment_response::Event};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    cdnow,
    heard::{Segments, hear},
    stand::{Client, Stand, id, minor, sale},
};

db_tests!(
    a_segment_is_filled_and_then_kept_by_change,
    silence_moves_members_though_their_standing_stays,
    entries_and_exits_are_published_once_with_two_replicas,
    a_watch_shows_one_segment_or_all_and_resumes,
    a_changed_expression_moves_only_whom_it_moves,
    deleting_a_segment_lets_everybody_leave_and_frees_its_id,
    a_preview_counts_without_saving,
    statistics_add_up,
    what_another_version_wrote_is_left_for_it_to_fill,
    members_come_in_pages,
    mutations_are_replayed_and_races_are_lost_in_the_open,
    what_is_wrong_with_a_segment_is_named,
    clusters_become_segments_and_keep_their_names,
);

pub(crate) fn segment(id: &str, expression: &str) -> pb::Segment {
    pb::Segment {
        segment_id: id.into(),
        display_name: format!("The {id}"),
        expression: expression.into(),
        ..Default::default()
    }
}

pub(crate) async fn try_create(client: &Client, segment: pb::Segment) -> Result<pb::Segment, Status> {
    let request =
        pb::CreateSegmentRequest { request_id: format!("create-{}", segment.segment_id), segment: Some(segment) };
    Ok(client.clone().create_segment(request).await?.into_inner().segment.unwrap())
}

async fn get(client: &Client, id: &str) -> Result<pb::GetSegmentResponse, Status> {
    let request = pb::GetSegmentRequest { segment_id: id.into(), with_values: true };
    Ok(client.clone().get_segment(request).await?.into_inner())
}

/// Creates a segment and waits until it is filled.
pub(crate) async fn create(stand: &Stand, id: &str, expression: &str) -> pb::Segment {
    try_create(&stand.client, segment(id, expression)).await.unwrap();
    ready(stand, id).await
}

pub(crate) async fn ready(stand: &Stand, id: &str) -> pb::Segment {
    eventually("the segment is filled", || async {
        get(&stand.client, id).await.unwrap().segment.unwrap().state() == pb::SegmentState::Ready
    })
    .await;
    get(&stand.client, id).await.unwrap().segment.unwrap()
}

pub(crate) async fn members(client: &Client, id: &str) -> BTreeSet<Uuid> {
    let request = pb::ListSegmentMembersRequest { segment_id: id.into(), page_size: 1_000, ..Default::default() };
    let reply = client.clone().list_segment_members(request).await.unwrap().into_inner();
    reply.members.iter().map(|member| member.customer_id.parse().unwrap()).collect()
}

fn set(ids: impl IntoIterator<Item = u128>) -> BTreeSet<Uuid> {
    ids.into_iter().map(id).collect()
}

async fn update(client: &Client, segment: pb::Segment, paths: &[&str]) -> Result<pb::Segment, Status> {
    let request = pb::UpdateSegmentRequest {
        request_id: format!("update-{}-{}-{}", segment.segment_id, segment.etag, segment.expression.len()),
        segment: Some(segment),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
    };
    Ok(client.clone().update_segment(request).await?.into_inner().segment.unwrap())
}

async fn delete(client: &Client, segment: &pb::Segment) -> Result<pb::DeleteSegmentResponse, Status> {
    let request = pb::DeleteSegmentRequest {
        request_id: format!("delete-{}-{}", segment.segment_id, segment.etag),
        segment_id: segment.segment_id.clone(),
        etag: segment.etag.clone(),
    };
    Ok(client.clone().delete_segment(request).await?.into_inner())
}

/// Reads until the snapshot is complete, or so many changes; with the cursor of each.
async fn watch(client: &Client, id: &str, cursor: &str, changes: Option<usize>) -> Vec<(pb::SegmentChange, String)> {
    let request = pb::WatchSegmentRequest { segment_id: id.into(), cursor: cursor.into(), only_new: false };
    hear::<Segments>(client.clone().watch_segment(request).await.unwrap().into_inner(), changes).await
}

async fn a_segment_is_filled_and_then_kept_by_change(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=5).map(id));
    stand.record((1..=4).map(|number| sale(number, id(number), 3, 1_000)).collect()).await;
    stand.record(vec![sale(12, id(2), 2, 1_000)]).await;
    create(&stand, "again", "occasions >= 2").await;
    assert_eq!(members(&stand.client, "again").await, set([2]));
    // At once, with the purchase, whether known before or not.
    stand.record(vec![sale(13, id(3), 1, 1_000), sale(15, id(5), 1, 1_000), sale(16, id(5), 0, 1_000)]).await;
    assert_eq!(members(&stand.client, "again").await, set([2, 3, 5]));
    // A correction takes the second occasion away.
    stand.record(vec![sale(13, id(3), 3, 1_000)]).await;
    assert_eq!(members(&stand.client, "again").await, set([2, 5]));
    // What profiles says moves them, too.
    create(&stand, "interested", "showed_interest && !targeted").await;
    assert_eq!(members(&stand.client, "interested").await, set(1..=5));
    stand.profiles.put(id(1), false, true);
    stand.profiles.feed();
    eventually("the one who is a target has left", || async {
        members(&stand.client, "interested").await == set(2..=5)
    })
    .await;
    // And it survives a restart.
    let stand = stand.restarted().await;
    assert_eq!(members(&stand.client, "again").await, set([2, 5]));
    stand.record(vec![sale(14, id(4), 0, 1_000)]).await;
    assert_eq!(members(&stand.client, "again").await, set([2, 4, 5]));
}

async fn silence_moves_members_though_their_standing_stays(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 3, 1_000)]).await;
    create(&stand, "silent", "days_since_last > 10").await;
    assert_eq!(members(&stand.client, "silent").await, set([]));
    let revision = stand.score(id(1)).await.standing.unwrap().revision;
    stand.clock.advance(SignedDuration::from_hours(24 * 8));
    eventually("the sweep has found them", || async { members(&stand.client, "silent").await == set([1]) }).await;
    assert_eq!(stand.score(id(1)).await.standing.unwrap().revision, revision);
    let changes = watch(&stand.client, "silent", "", None).await;
    assert_eq!(changes.len(), 2);
    let request = pb::WatchSegmentRequest { segment_id: "silent".into(), cursor: String::new(), only_new: true };
    let mut stream = stand.client.clone().watch_segment(request).await.unwrap().into_inner();
    let time = chassis::clock::to_proto(stand.clock.now());
    stand.record(vec![pb::Purchase { purchase_time: Some(time), ..sale(2, id(1), 0, 1_000) }]).await;
    loop {
        if let Event::Change(change) = stream.next().await.unwrap().unwrap().event.unwrap() {
            assert_eq!((change.left, change.cause), (vec!["silent".to_owned()], pb::ChangeCause::Purchase.into()));
            break;
        }
    }
}

async fn entries_and_exits_are_published_once_with_two_replicas(backend: Backend) {
    let stand = Stand::new(backend).await.shared().await;
    let count = 2_500;
    stand.profiles.know((1..=count).map(id));
    for chunk in (1..=count).collect::<Vec<_>>().chunks(1_000) {
        stand.record(chunk.iter().map(|number| sale(number, id(*number), 2, 1_000)).collect()).await;
    }
    // The last to be gone through, who falls silent a day after all others: so it shows when everybody was gone through again.
    let marker = id(count + 1);
    stand.profiles.know([marker]);
    stand.record(vec![sale("marker", marker, 0, 1_000)]).await;
    let (other, client) = stand.replica().await;
    let begin = watch(&stand.client, "", "", None).await.pop().unwrap().1;
    // Both fill, both sweep, and both record meanwhile.
    try_create(&client, segment("bought", "occasions > 0")).await.unwrap();
    try_create(&stand.client, segment("silent", "days_since_last > 4")).await.unwrap();
    let again = |client: Client, from: u128| async move {
        for number in (from..=count).step_by(100) {
            let purchases = vec![sale(format!("again-{number}"), id(number), 1, 500)];
            client.clone().record_purchases(pb::RecordPurchasesRequest { purchases }).await.unwrap();
        }
    };
    tokio::join!(again(stand.client.clone(), 1), again(client.clone(), 51));
    for id in ["bought", "silent"] {
        ready(&stand, id).await;
    }
    stand.clock.advance(SignedDuration::from_hours(24 * 4));
    let size =
        |client: Client, id: &'static str| async move { get(&client, id).await.unwrap().statistics.unwrap().customers };
    eventually("all have fallen silent", || async { size(client.clone(), "silent").await == count as i64 }).await;
    // Once more, though nobody else is left to find.
    stand.clock.advance(SignedDuration::from_hours(24));
    let all = count as usize + 1;
    eventually("everybody was gone through again", || async { size(client.clone(), "silent").await == all as i64 })
        .await;
    let changes = watch(&client, "", &begin, Some(2 * all)).await;
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (change, _) in &changes {
        assert_eq!(change.left, Vec::<String>::new());
        for segment in &change.entered {
            *seen.entry((change.customer_id.clone(), segment.clone())).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 2 * all);
    assert!(seen.values().all(|times| *times == 1));
    // Nothing comes after them but what is new.
    let last = changes.last().unwrap().1.clone();
    let time = chassis::clock::to_proto(stand.clock.now());
    stand.record(vec![pb::Purchase { purchase_time: Some(time), ..sale("last", id(7), 0, 500) }]).await;
    let next = watch(&client, "", &last, Some(1)).await.pop().unwrap().0;
    assert_eq!((next.customer_id, next.left), (id(7).to_string(), vec!["silent".to_owned()]));
    other.stop().await.unwrap();
}

async fn a_watch_shows_one_segment_or_all_and_resumes(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=3).map(id));
    create(&stand, "bought", "occasions > 0").await;
    create(&stand, "much", "realised_value >= 100.0").await;
    stand.record(vec![sale(1, id(1), 1, 20_000), sale(2, id(2), 1, 100)]).await;
    let all = watch(&stand.client, "", "", None).await;
    let entered: Vec<_> = all.iter().map(|(change, _)| change.entered.clone()).collect();
    assert_eq!(entered, [vec!["bought".to_owned(), "much".to_owned()], vec!["bought".to_owned()], vec![]]);
    let much = watch(&stand.client, "much", "", None).await;
    assert_eq!(much.len(), 2);
    assert_eq!((&much[0].0.customer_id, &much[0].0.entered), (&id(1).to_string(), &vec!["much".to_owned()]));
    // What comes after the snapshot, from its cursor; the one segment says nothing of the other.
    stand.record(vec![sale(3, id(3), 1, 100)]).await;
    stand.record(vec![sale(4, id(2), 1, 20_000)]).await;
    let next = watch(&stand.client, "much", &much[1].1, Some(1)).await;
    assert_eq!((&next[0].0.customer_id, next[0].0.cause()), (&id(2).to_string(), pb::ChangeCause::Purchase));
    let next = watch(&stand.client, "", &all[2].1, Some(2)).await;
    assert_eq!(next[0].0.entered, ["bought"]);

    let refused = stand.client.clone();
    let request = |segment_id: &str, cursor: &str| pb::WatchSegmentRequest {
        segment_id: segment_id.into(),
        cursor: cursor.into(),
        only_new: false,
    };
    let error = refused.clone().watch_segment(request("nobody", "")).await.unwrap_err();
    assert_eq!(fault(&error), (Code::NotFound, "NOT_FOUND".into(), vec![]));
    let error = refused.clone().watch_segment(request("much", "nonsense")).await.unwrap_err();
    assert_eq!(fault(&error).1, "CURSOR_UNKNOWN");
}

async fn a_changed_expression_moves_only_whom_it_moves(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=3).map(id));
    stand.record((1..=3).map(|number| sale(number, id(number), 1, 1_000 * number as i64)).collect()).await;
    let made = create(&stand, "much", "realised_value >= 20.0").await;
    assert_eq!(members(&stand.client, "much").await, set([2, 3]));
    let cursor = watch(&stand.client, "", "", None).await.pop().unwrap().1;
    // A new name moves nobody.
    let named = pb::Segment { display_name: "Plenty".into(), ..made };
    let named = update(&stand.client, named, &["display_name"]).await.unwrap();
    assert_eq!((named.state(), named.display_name.as_str()), (pb::SegmentState::Ready, "Plenty"));
    let changed = pb::Segment { expression: "realised_value <= 20.0".into(), ..named };
    let changed = update(&stand.client, changed, &["expression"]).await.unwrap();
    assert_eq!(changed.state(), pb::SegmentState::Filling);
    ready(&stand, "much").await;
    assert_eq!(members(&stand.client, "much").await, set([1, 2]));
    let moved = watch(&stand.client, "much", &cursor, Some(2)).await;
    let moved: BTreeMap<_, _> = moved
        .into_iter()
        .map(|(change, _)| (change.customer_id, (change.entered.len(), change.left.len(), change.cause)))
        .collect();
    let cause = i32::from(pb::ChangeCause::Segment);
    assert_eq!(moved, BTreeMap::from([(id(1).to_string(), (1, 0, cause)), (id(3).to_string(), (0, 1, cause))]));
}

async fn deleting_a_segment_lets_everybody_leave_and_frees_its_id(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=3).map(id));
    stand.record((1..=3).map(|number| sale(number, id(number), 1, 1_000)).collect()).await;
    let made = create(&stand, "bought", "occasions > 0").await;
    let cursor = watch(&stand.client, "", "", None).await.pop().unwrap().1;
    delete(&stand.client, &made).await.unwrap();
    // Again, as the same request: done.
    delete(&stand.client, &made).await.unwrap();
    assert_eq!(fault(&get(&stand.client, "bought").await.unwrap_err()).1, "NOT_FOUND");
    let left = watch(&stand.client, "", &cursor, Some(3)).await;
    assert!(left.iter().all(|(change, _)| change.left == ["bought"] && change.entered.is_empty()), "{left:?}");
    let request =
        pb::CreateSegmentRequest { request_id: "anew".into(), segment: Some(segment("bought", "occasions > 5")) };
    eventually("the id is free", || async { stand.client.clone().create_segment(request.clone()).await.is_ok() }).await;
    ready(&stand, "bought").await;
    assert_eq!(members(&stand.client, "bought").await, set([]));
    let listed = stand.client.clone().list_segments(pb::ListSegmentsRequest {}).await.unwrap().into_inner().segments;
    assert_eq!(listed.len(), 1);
}

async fn a_preview_counts_without_saving(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=30).map(id));
    stand.record((1..=30).map(|number| sale(number, id(number), 1, 100 * number as i64)).collect()).await;
    let request = pb::PreviewSegmentRequest { expression: "realised_value > 10".into() };
    let reply = stand.client.clone().preview_segment(request).await.unwrap().into_inner();
    assert_eq!((reply.customers, reply.examined, reply.complete, reply.members.len()), (20, 30, true, 10));
    assert_eq!(reply.members[0].customer_id, id(11).to_string());
    let listed = stand.client.clone().list_segments(pb::ListSegmentsRequest {}).await.unwrap().into_inner().segments;
    assert_eq!(listed, []);
    let request = pb::PreviewSegmentRequest { expression: "realised_value > ".into() };
    let (code, reason, fields) = fault(&stand.client.clone().preview_segment(request).await.unwrap_err());
    assert_eq!(
        (code, reason.as_str(), fields),
        (Code::InvalidArgument, "INVALID_FIELD", vec!["expression".to_owned()])
    );
}

async fn statistics_add_up(backend: Backend) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    let customers = cdnow::customers(&rows);
    stand.profiles.know(customers.iter().copied());
    cdnow::load(&stand, &rows).await;
    create(&stand, "all", "occasions > 0").await;
    let unforetold = get(&stand.client, "all").await.unwrap().statistics.unwrap().values.unwrap();
    assert!(minor(unforetold.realised_value.as_ref()) > 0);
    assert_eq!((unforetold.expected_value, unforetold.lifetime_value), (None, None));
    stand.fit("fit").await;
    stand.rank("rank").await;
    create(&stand, "key", "tier in ['IMPORTANT', 'MAJOR']").await;
    let statistics = get(&stand.client, "key").await.unwrap().statistics.unwrap();
    // The top fifth of 2,357.
    assert_eq!(statistics.customers, 472);
    assert_eq!(statistics.standings.iter().map(|count| count.customers).sum::<i64>(), 472);
    let request = pb::GetPyramidRequest::default();
    let pyramid = stand.client.clone().get_pyramid(request).await.unwrap().into_inner();
    let values = statistics.values.unwrap();
    let of_pyramid: i64 = pyramid.tiers[..2].iter().map(|tier| minor(tier.value.as_ref())).sum();
    assert_eq!(minor(values.lifetime_value.as_ref()), of_pyramid);
    let halves = minor(values.realised_value.as_ref()) + minor(values.expected_value.as_ref());
    assert_eq!(halves, of_pyramid);
    // Evaluated for everybody as GetScore has them.
    create(&stand, "fading", "p_alive < 0.5 && lifetime_value > 100.0").await;
    let mut expected = BTreeSet::new();
    for chunk in customers.into_iter().collect::<Vec<_>>().chunks(1_000) {
        let customer_ids = chunk.iter().map(Uuid::to_string).collect();
        let request = pb::BatchGetScoresRequest { customer_ids, ..Default::default() };
        for score in stand.client.clone().batch_get_scores(request).await.unwrap().into_inner().scores {
            let repeats = score.summary.as_ref().unwrap().repeat_occasions > 0;
            if repeats && score.p_alive < 0.5 && minor(score.lifetime_value.as_ref()) > 10_000 {
                expected.insert(score.standing.unwrap().customer_id.parse().unwrap());
            }
        }
    }
    let found = members(&stand.client, "fading").await;
    assert!(expected.len() > 10 && expected.is_subset(&found), "{} of {}", expected.len(), found.len());
}

async fn what_another_version_wrote_is_left_for_it_to_fill(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 1, 100)]).await;
    // First in line, in words that only a later version knows.
    let columns = "segment_id, revision, display_name, description, expression, state, create_time, update_time";
    let insert = format!("INSERT INTO segment ({columns}) VALUES ('a', 1, 'A', '', 'fashion(occasions) > 1', 1, 1, 1)");
    stand.alter(&insert).await;
    create(&stand, "bought", "occasions > 0").await;
    assert_eq!(members(&stand.client, "bought").await, set([1]));
    // Those behind it are filled, and those that come later; it waits, and can be mended or deleted.
    let waits = get(&stand.client, "a").await.unwrap().segment.unwrap();
    assert_eq!(waits.state(), pb::SegmentState::Filling);
    update(&stand.client, pb::Segment { expression: "occasions == 1".into(), ..waits }, &["expression"]).await.unwrap();
    ready(&stand, "a").await;
    assert_eq!(members(&stand.client, "a").await, set([1]));
}

async fn members_come_in_pages(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=25).map(id));
    stand.record((1..=25).map(|number| sale(number, id(number), 1, 100)).collect()).await;
    create(&stand, "bought", "occasions > 0").await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::ListSegmentMembersRequest { segment_id: "bought".into(), page_size: 10, page_token: token.clone() };
        let reply = stand.client.clone().list_segment_members(request).await.unwrap().into_inner();
        assert!(reply.members.iter().all(|member| member.since.is_some() && member.standing.is_some()));
        seen.extend(reply.members.into_iter().map(|member| member.customer_id));
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (1..=25).map(|number| id(number).to_string()).collect::<Vec<_>>());
    let request = pb::ListSegmentMembersRequest { segment_id: "nobody".into(), ..Default::default() };
    assert_eq!(fault(&stand.client.clone().list_segment_members(request).await.unwrap_err()).1, "NOT_FOUND");
}

async fn mutations_are_replayed_and_races_are_lost_in_the_open(backend: Backend) {
    let stand = Stand::new(backend).await;
    // Many create the same: one does, and under the same request all hear the same.
    let request = pb::CreateSegmentRequest { request_id: "one".into(), segment: Some(segment("one", "occasions > 0")) };
    let calls = (0..8).map(|_| {
        let (mut client, request) = (stand.client.clone(), request.clone());
        async move { client.create_segment(request).await.unwrap().into_inner().segment.unwrap() }
    });
    let replies = futures::future::join_all(calls).await;
    assert!(replies.iter().all(|reply| reply == &replies[0]));
    let other = pb::CreateSegmentRequest { segment: Some(segment("two", "occasions > 0")), ..request.clone() };
    assert_eq!(fault(&stand.client.clone().create_segment(other).await.unwrap_err()).1, "REQUEST_ID_REUSED");
    let again = pb::CreateSegmentRequest { request_id: "again".into(), ..request };
    assert_eq!(fault(&stand.client.clone().create_segment(again).await.unwrap_err()).1, "ALREADY_EXISTS");
    // Many change it from the same etag: one does.
    let made = ready(&stand, "one").await;
    let calls = (1..=6).map(|number| {
        let changed = pb::Segment { expression: format!("occasions > {}", 10_i64.pow(number)), ..made.clone() };
        let client = stand.client.clone();
        async move { update(&client, changed, &["expression"]).await }
    });
    let replies = futures::future::join_all(calls).await;
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 1);
    for status in replies.iter().filter_map(|reply| reply.as_ref().err()) {
        assert_eq!(fault(status).1, "ETAG_MISMATCH");
    }
    assert_eq!(fault(&delete(&stand.client, &made).await.unwrap_err()).1, "ETAG_MISMATCH");
    let nobody = pb::Segment { etag: "1".into(), ..segment("nobody", "true") };
    assert_eq!(fault(&update(&stand.client, nobody.clone(), &["expression"]).await.unwrap_err()).1, "NOT_FOUND");
    assert_eq!(fault(&delete(&stand.client, &nobody).await.unwrap_err()).1, "NOT_FOUND");
    // A hundred are enough.
    for number in 1..100 {
        try_create(&stand.client, segment(&format!("number-{number}"), "false")).await.unwrap();
    }
    let error = try_create(&stand.client, segment("too-many", "true")).await.unwrap_err();
    assert_eq!(fault(&error), (Code::FailedPrecondition, "WRONG_STATE".into(), vec![]));
}

async fn what_is_wrong_with_a_segment_is_named(backend: Backend) {
    let stand = Stand::new(backend).await;
    let cases = [
        (segment("", "true"), "segment.segment_id"),
        (segment("Capital", "true"), "segment.segment_id"),
        (segment("a", "tire == 'MAJOR'"), "segment.expression"),
        (segment("a", "tier > 5"), "segment.expression"),
        (segment("a", &"(".repeat(2_001)), "segment.expression"),
        (segment("a", ""), "segment.expression"),
        (pb::Segment { display_name: String::new(), ..segment("a", "true") }, "segment.display_name"),
        (pb::Segment { description: "x".repeat(1_001), ..segment("a", "true") }, "segment.description"),
    ];
    for (segment, field) in cases {
        let (code, reason, fields) = fault(&try_create(&stand.client, segment).await.unwrap_err());
        assert_eq!((code, reason.as_str(), fields), (Code::InvalidArgument, "INVALID_FIELD", vec![field.to_owned()]));
    }
    let error = try_create(&stand.client, segment("a", "occasions > 3 && 'Ada Example' in tier")).await.unwrap_err();
    assert!(error.message().contains("line 1, column 35") && !error.message().contains("Ada"), "{error:?}");
    for paths in [&[][..], &["segment_id"], &["expression", "etag"]] {
        let given = pb::Segment { etag: "1".into(), ..segment("a", "true") };
        assert_eq!(fault(&update(&stand.client, given, paths).await.unwrap_err()).2, ["update_mask"]);
    }
    let request = pb::ClusterCustomersRequest { request_id: "k".into(), clusters: 13, seed: 0 };
    assert_eq!(fault(&stand.client.clone().cluster_customers(request).await.unwrap_err()).2, ["clusters"]);
}

async fn clusters_become_segments_and_keep_their_names(backend: Backend) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    stand.profiles.know(cdnow::customers(&rows));
    cdnow::load(&stand, &rows).await;
    let cluster = |request_id: &'static str, clusters, seed| {
        let request = pb::ClusterCustomersRequest { request_id: request_id.into(), clusters, seed };
        let (mut client, stand) = (stand.client.clone(), &stand);
        async move {
            let operation = client.cluster_customers(request).await.unwrap().into_inner();
            stand.wait(&operation).await
        }
    };
    let operation = cluster("early", 0, 1).await;
    let Some(pb::operation::Outcome::Error(error)) = operation.outcome else { panic!("{operation:?}") };
    assert_eq!(error.reason(), proto::common::v1::ErrorReason::NoModel);
    stand.fit("fit").await;
    stand.rank("rank").await;
    // Somebody has a segment that is called like a cluster: it stays theirs, and no cluster takes its name.
    let theirs = create(&stand, "cluster-2", "occasions > 1000").await;
    let clustered = |operation: pb::Operation| match operation.outcome {
        Some(pb::operation::Outcome::Cluster(result)) => result,
        outcome => panic!("{outcome:?}"),
    };
    let first = clustered(cluster("first", 4, 1).await);
    assert_eq!((first.customers, first.clusters.len()), (2_357, 4));
    let named: Vec<_> = first.clusters.iter().map(|cluster| cluster.segment_id.as_str()).collect();
    assert_eq!(named, ["cluster-1", "cluster-3", "cluster-4", "cluster-5"]);
    assert_eq!(ready(&stand, "cluster-2").await, theirs);
    assert_eq!(first.clusters.iter().map(|cluster| cluster.customers).sum::<i64>(), 2_357);
    for cluster in &first.clusters {
        ready(&stand, &cluster.segment_id).await;
        let statistics = get(&stand.client, &cluster.segment_id).await.unwrap().statistics.unwrap();
        assert_eq!(statistics.customers, cluster.customers, "{}", cluster.display_name);
    }
    // Everybody is in one, and only one.
    let begin = watch(&stand.client, "", "", None).await;
    assert_eq!(begin.len(), 2_357 + 1);
    assert!(begin[..2_357].iter().all(|(change, _)| change.entered.len() == 1));
    // People may call it what they like; a month later it is found again under that name, whatever chance says.
    let id = first.clusters[0].segment_id.clone();
    let named = pb::Segment { display_name: "The best".into(), ..ready(&stand, &id).await };
    update(&stand.client, named, &["display_name"]).await.unwrap();
    // What they make of a cluster's segment is theirs, and the cluster keeps its name all the same.
    let refined = format!("cluster == \"{}\" && occasions > 5", first.clusters[1].segment_id);
    let refined = pb::Segment { expression: refined, ..ready(&stand, &first.clusters[1].segment_id).await };
    update(&stand.client, refined, &["expression"]).await.unwrap();
    let refined = ready(&stand, &first.clusters[1].segment_id).await;
    stand.clock.advance(SignedDuration::from_hours(24 * 30));
    let second = clustered(cluster("second", 4, 99).await);
    let ids = |result: &pb::ClusterResult| -> Vec<_> {
        result.clusters.iter().map(|cluster| cluster.segment_id.clone()).collect()
    };
    assert_eq!(ids(&first), ids(&second));
    assert_eq!(second.clusters[0].display_name, "The best");
    assert_eq!(ready(&stand, &refined.segment_id).await, refined);
    let refined = members(&stand.client, &refined.segment_id).await.len() as i64;
    assert!((1..second.clusters[1].customers).contains(&refined), "{refined}");
    // A free choice of their number, then two: those not found again are gone.
    let free = clustered(cluster("free", 0, 1).await);
    assert!((2..=8).contains(&free.clusters.len()) && free.silhouette > 0.2, "{free:?}");
    let two = clustered(cluster("two", 2, 1).await);
    let theirs = [theirs.segment_id, first.clusters[1].segment_id.clone()];
    let left: BTreeSet<_> = ids(&two).into_iter().chain(theirs).collect();
    eventually("only those found and those that are somebody's are left", || async {
        let listed = stand.client.clone().list_segments(pb::ListSegmentsRequest {}).await.unwrap().into_inner();
        let listed: BTreeSet<_> = listed.segments.into_iter().map(|segment| segment.segment_id).collect();
        listed == left
    })
    .await;
}
