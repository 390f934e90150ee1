use proptest::prelude::*;

use super::*;

/// Points around some centres, in a circle that a seed turns.
fn around(centres: &[Point], each: usize, seed: u64) -> Vec<Point> {
    let mut points = Vec::new();
    for number in 0..each {
        for centre in centres {
            let angle = (number as f64 + seed as f64) * 2.399_963;
            let radius = 0.3 * (number as f64 / each as f64).sqrt();
            let mut point = *centre;
            point[0] += radius * angle.cos();
            point[1] += radius * angle.sin();
            points.push(point);
        }
    }
    points
}

/// What is found and named, where no segments are in the way.
fn find(points: &[Point], wanted: usize, seed: u64, kept: Option<&Clustering>) -> Result<Found> {
    let mut found = super::find(points, wanted, seed)?;
    found.name(kept, &[]);
    Ok(found)
}

fn ids(found: &Found) -> Vec<&str> {
    found.clusters.iter().map(|cluster| cluster.segment_id.as_str()).collect()
}

const THREE: [Point; 3] = [[8.0, 3.0, 1.0, 4.0, 0.0], [2.0, 0.2, 6.0, 2.0, 0.0], [5.0, 1.0, 3.0, 6.0, 0.5]];

#[test]
fn clusters_that_are_there_are_found_and_their_number_with_them() {
    let found = find(&around(&THREE, 200, 0), 0, 7, None).unwrap();
    assert_eq!(found.clusters.len(), 3, "{:?}", found.clusters);
    assert!(found.silhouette > 0.8, "{}", found.silhouette);
    assert!(found.clusters.iter().all(|cluster| cluster.customers == 200));
    assert_eq!(ids(&found), ["cluster-1", "cluster-2", "cluster-3"]);
    // From the most valuable to the least, each by what sets it apart.
    let names: Vec<_> = found.clusters.iter().map(|cluster| cluster.display_name.as_str()).collect();
    assert!(names[0].contains("uy often") && names[2].contains("ong silent"), "{names:?}");
    assert!(names[1].contains("eturn much"), "{names:?}");
    assert!(found.clusters[0].description.starts_with("200 customers when clustered, 33 %"), "{:?}", found.clusters[0]);
}

#[test]
fn the_same_seed_finds_the_same() {
    let points = around(&THREE, 50, 3);
    let (a, b) = (find(&points, 5, 42, None).unwrap(), find(&points, 5, 42, None).unwrap());
    assert_eq!(a.clusters, b.clusters);
    assert_eq!(a.clustering, b.clustering);
    let kept = Clustering::from_json(&a.clustering.to_json().unwrap()).unwrap();
    for (kept, found) in kept.centres.iter().zip(&a.clustering.centres) {
        assert!(kept.segment == found.segment && means::distance(&kept.at, &found.at) < 1e-20);
    }
}

#[test]
fn clusters_found_again_keep_their_segments_and_new_ones_get_new_ones() {
    let before = find(&around(&THREE, 100, 0), 3, 1, None).unwrap();
    // A month later all are a little further on, there are more of the last, and chance begins elsewhere.
    let mut moved = THREE.map(|centre| centre.map(|value| value * 1.03 + 0.05));
    let mut points = around(&moved, 100, 11);
    points.extend(around(&moved[2..], 150, 12));
    let after = find(&points, 3, 99, Some(&before.clustering)).unwrap();
    let of = |found: &Found, most: usize| {
        let by = |cluster: &&pb::Cluster| (cluster.features[most].deviation * 1e6) as i64;
        found.clusters.iter().max_by_key(by).unwrap().segment_id.clone()
    };
    for feature in [1, 2, 4] {
        assert_eq!(of(&before, feature), of(&after, feature), "{feature}");
    }
    // One goes and another comes: its name is new.
    moved[1] = [9.0, 5.0, 0.0, 1.0, 1.0];
    let after = find(&around(&moved, 100, 5), 3, 1, Some(&before.clustering)).unwrap();
    assert!(ids(&after).contains(&"cluster-4") && !ids(&after).contains(&of(&before, 2).as_str()), "{:?}", ids(&after));
}

#[test]
fn a_name_that_went_is_never_given_to_another_cluster() {
    let first = find(&around(&THREE, 100, 0), 3, 1, None).unwrap();
    let two = find(&around(&THREE[..2], 100, 0), 2, 1, Some(&first.clustering)).unwrap();
    // Kept and read again in between, as it is.
    let kept = Clustering::from_json(&two.clustering.to_json().unwrap()).unwrap();
    let third = [THREE[0], THREE[1], [9.0, 5.0, 0.0, 1.0, 1.0]];
    let three = find(&around(&third, 100, 0), 3, 1, Some(&kept)).unwrap();
    assert!(ids(&two).iter().all(|id| ids(&first).contains(id)) && ids(&two).len() == 2, "{:?}", ids(&two));
    let new: Vec<_> = ids(&three).into_iter().filter(|id| !ids(&two).contains(id)).collect();
    assert_eq!(new, ["cluster-4"]);
    // One kept before numbers were.
    let text = first.clustering.to_json().unwrap().replace(",\"last_number\":3", "");
    let kept = Clustering::from_json(&text).unwrap();
    assert_eq!(kept.last_number, 0);
    let after = find(&around(&third, 100, 0), 3, 1, Some(&kept)).unwrap();
    assert!(ids(&after).contains(&"cluster-4"), "{:?}", ids(&after));
}

#[test]
fn customers_who_do_not_differ_are_no_clusters() {
    let same = vec![THREE[0]; 500];
    for (points, wanted) in [(&same[..], 0), (&same[..], 2), (&[][..], 0)] {
        let error = find(points, wanted, 0, None).err().unwrap();
        assert_eq!(error.reason(), ErrorReason::NotFittable, "{error}");
    }
    let two = [THREE[0], THREE[1]];
    assert_eq!(find(&two, 2, 0, None).unwrap().clusters.len(), 2);
    assert_eq!(find(&two, 3, 0, None).err().unwrap().reason(), ErrorReason::NotFittable);
}

#[test]
fn a_customer_is_nearest_to_the_cluster_that_they_are_counted_in() {
    let customers: Vec<(Summary, Values)> = (0..300_u32)
        .map(|number| {
            let big = number % 3 == 0;
            let summary = Summary {
                occasions: if big { 20 + number % 5 } else { 1 + number % 2 },
                first_day: 0,
                last_day: if big { 990 } else { 100 + number as i32 },
                sales_minor: if big { 900_000 } else { 2_000 + i64::from(number) },
                ..Summary::default()
            };
            let values = Values { lifetime_minor: summary.sales_minor * 2, ..Values::default() };
            (summary, values)
        })
        .collect();
    let points: Vec<Point> = customers.iter().map(|(summary, values)| point(summary, values, 1_000, 100.0)).collect();
    let found = find(&points, 2, 0, None).unwrap();
    for cluster in &found.clusters {
        let members = customers.iter().filter(|(summary, values)| {
            found.clustering.nearest(summary, values, 1_000, 100.0) == Some(&cluster.segment_id)
        });
        assert_eq!(members.count() as i64, cluster.customers, "{}", cluster.display_name);
    }
    assert_eq!(found.clusters[0].customers, 100);
}

proptest! {
    #[test]
    fn whatever_the_customers_clusters_are_finite_and_hold_everybody(
        rows in proptest::collection::vec((0..u32::MAX, 0..i32::MAX, 0..i64::MAX / 4, 0..i64::MAX / 4), 2..60),
        wanted in 0..4_usize,
        seed: u64,
    ) {
        let points: Vec<Point> = rows.iter().map(|&(occasions, last_day, sales_minor, returns_minor)| {
            let summary = Summary { occasions, last_day, sales_minor, returns_minor, ..Summary::default() };
            point(&summary, &Values { lifetime_minor: sales_minor, ..Values::default() }, i32::MAX, 100.0)
        }).collect();
        if let Ok(found) = find(&points, if wanted == 1 { 2 } else { wanted }, seed, None) {
            prop_assert_eq!(found.clusters.iter().map(|cluster| cluster.customers).sum::<i64>(), points.len() as i64);
            prop_assert!(found.silhouette.is_finite());
            for feature in found.clusters.iter().flat_map(|cluster| &cluster.features) {
                prop_assert!(feature.mean.is_finite() && feature.deviation.is_finite());
            }
        }
    }
}
