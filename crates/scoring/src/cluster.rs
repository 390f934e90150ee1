//! Clusters: customers who are alike in value, rhythm and preference, found by k-means, described in words, kept as segments.
//!
//! The algorithm is Lloyd's (1982), begun as k-means++ does (Arthur & Vassilvitskii 2007), over standardised features; the number of clusters is
//! the one of the best mean silhouette (Rousseeuw 1987). It is written out here: the crates that have it bring a second generator of random
//! numbers, search trees and threads of their own for the hundred lines that it takes, and the same seed would find other clusters after an update.
use std::sync::Arc;

use chassis::{Error, Result};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use serde::{Deserialize, Serialize};

use crate::{
    fit::Pages,
    operation::{Job, Outcome},
    score::{self, Day, Models, Summary, Values},
    segment::{MAX_SEGMENTS, Segment, State},
    store,
};

mod means;
mod words;

#[cfg(test)]
mod tests;

use means::{Fitted, Random};

/// What customers are compared by.
pub const FEATURES: [&str; 5] = ["lifetime_value", "occasions", "days_since_last", "basket", "returned_share"];
const COUNT: usize = FEATURES.len();
/// A customer as they are compared.
pub type Point = [f64; COUNT];

/// Clusters asked for: with more, nobody can tell them apart.
pub const MAX_CLUSTERS: usize = 12;
/// Clusters tried where the number is not given.
const TRIED: std::ops::RangeInclusive<usize> = 2..=8;
/// Customers that clusters are fitted to at most, evenly out of all: more move the centres by less than they wander from month to month.
const MAX_FITTED: usize = 100_000;
/// What the names of clusters begin with, before a number from 1 on.
const NAME: &str = "cluster-";
/// How near, in standard deviations, a new centre must lie to an old one to be the same cluster.
const SAME: f64 = 1.5;

/// What a customer is compared by: amounts, counts and times by their logarithm, since each tenfold matters as much as the last.
fn point(summary: &Summary, values: &Values, today: Day, minor_per_major: f64) -> Point {
    let sales = summary.sales_minor.max(0) as f64;
    let occasions = f64::from(summary.occasions.max(1));
    let silence = f64::from(today.saturating_sub(summary.last_day).max(0));
    let returned = if sales > 0.0 { (summary.returns_minor as f64 / sales).clamp(0.0, 1.0) } else { 0.0 };
    [
        (values.lifetime_minor.max(0) as f64 / minor_per_major).ln_1p(),
        occasions.ln(),
        silence.ln_1p(),
        (sales / minor_per_major / occasions).ln_1p(),
        returned,
    ]
}

/// A feature's value back from how it is compared.
fn plain(feature: usize, value: f64) -> f64 {
    match feature {
        1 => value.exp(),
        4 => value,
        _ => value.exp_m1(),
    }
}

/// Where a cluster lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Centre {
    /// The segment that it is.
    segment: String,
    /// In standard deviations from the mean of all.
    at: Point,
}

/// A clustering as it is kept: what it takes to tell whose cluster is whose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    mean: Point,
    deviation: Point,
    centres: Vec<Centre>,
    /// The highest number that any cluster was named by so far: none names another one later.
    #[serde(default)]
    last_number: u64,
}

impl Clustering {
    /// As it is kept.
    ///
    /// # Errors
    /// `Internal` where it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(format!("clusters cannot be kept: {error}")))
    }

    /// As it was kept.
    ///
    /// # Errors
    /// `Internal` where it cannot be read.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::Internal(format!("kept clusters cannot be read: {error}")))
    }

    /// The segment of the cluster that a buyer is nearest to.
    pub fn nearest(&self, summary: &Summary, values: &Values, today: Day, minor_per_major: f64) -> Option<&str> {
        let point = self.standardised(&point(summary, values, today, minor_per_major));
        let nearest = self
            .centres
            .iter()
            .min_by(|a, b| means::distance(&a.at, &point).total_cmp(&means::distance(&b.at, &point)));
        nearest.map(|centre| centre.segment.as_str())
    }

    fn standardised(&self, point: &Point) -> Point {
        std::array::from_fn(|index| (point[index] - self.mean[index]) / self.deviation[index])
    }
}

/// Mean and standard deviation of each feature; one that is the same for all counts for nothing.
fn spread(points: &[Point]) -> (Point, Point) {
    let count = points.len().max(1) as f64;
    let mean: Point = std::array::from_fn(|index| points.iter().map(|point| point[index]).sum::<f64>() / count);
    let deviation = std::array::from_fn(|index| {
        let squares: f64 = points.iter().map(|point| (point[index] - mean[index]).powi(2)).sum();
        let deviation = (squares / count).sqrt();
        if deviation > 1e-9 { deviation } else { 1.0 }
    });
    (mean, deviation)
}

/// What a clustering found. The clusters stand in the order of the centres.
#[derive(Clone)]
struct Found {
    clustering: Clustering,
    clusters: Vec<pb::Cluster>,
    silhouette: f64,
}

/// Clusters points; `wanted` 0 chooses how many. The clusters have no segments yet: see [`Found::name`].
fn find(points: &[Point], wanted: usize, seed: u64) -> Result<Found> {
    let (mean, deviation) = spread(points);
    let mut clustering = Clustering { mean, deviation, centres: Vec::new(), last_number: 0 };
    let all: Vec<Point> = points.iter().map(|point| clustering.standardised(point)).collect();
    let stride = all.len().div_ceil(MAX_FITTED).max(1);
    let fitted_to: Vec<Point> = all.iter().copied().step_by(stride).collect();
    let different = means::different(&fitted_to, MAX_CLUSTERS);
    let least = if wanted == 0 { *TRIED.start() } else { wanted };
    if different < least {
        let message = format!(
            "only {different} customers differ in what they are clustered by; {least} are needed for as many clusters"
        );
        return Err(Error::Precondition { reason: ErrorReason::NotFittable, message });
    }
    let fit = |count: usize| {
        let fitted = Fitted::new(&fitted_to, count, &mut Random::new(seed));
        let silhouette = fitted.silhouette(&fitted_to);
        (fitted, silhouette)
    };
    let (fitted, silhouette) = if wanted == 0 {
        let tried = TRIED.filter(|count| *count <= different).map(fit);
        // Of two that are as good the one with fewer clusters.
        tried.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap_or_else(|| fit(least))
    } else {
        fit(wanted)
    };

    // From the most valuable to the least: ids that are new, and the answer, come in an order that means something.
    let mut centres = fitted.centres;
    centres.sort_by(|a, b| b[0].total_cmp(&a[0]));
    clustering.centres = centres.iter().map(|at| Centre { segment: String::new(), at: *at }).collect();

    let mut counts = vec![0_i64; centres.len()];
    let mut sums = vec![[0.0; COUNT]; centres.len()];
    for (point, standardised) in points.iter().zip(&all) {
        let nearest = means::nearest(&centres, standardised).0;
        counts[nearest] += 1;
        for (index, sum) in sums[nearest].iter_mut().enumerate() {
            *sum += point[index];
        }
    }
    let clusters = (0..centres.len()).map(|index| {
        let customers = counts[index];
        let features = (0..COUNT).map(|feature| pb::ClusterFeature {
            name: FEATURES[feature].to_owned(),
            mean: plain(feature, sums[index][feature] / customers.max(1) as f64),
            deviation: centres[index][feature],
        });
        let features: Vec<_> = features.collect();
        pb::Cluster {
            segment_id: String::new(),
            display_name: words::name(&features),
            description: words::sentence(&features, customers, points.len()),
            customers,
            features,
        }
    });
    let mut clusters: Vec<_> = clusters.collect();
    words::tell_apart(&mut clusters);
    Ok(Found { clustering, clusters, silhouette })
}

impl Found {
    /// Names each cluster by the segment that it is: that of the nearest cluster before (`kept`), pair by pair from the nearest on, or a new one,
    /// which no cluster ever had and no segment of `taken` has.
    fn name(&mut self, kept: Option<&Clustering>, taken: &[Segment]) {
        let now = &self.clustering;
        let before: Vec<(String, Point)> = kept
            .map(|kept| {
                let absolute =
                    |at: &Point| std::array::from_fn(|index| at[index] * kept.deviation[index] + kept.mean[index]);
                kept.centres
                    .iter()
                    .map(|centre| (centre.segment.clone(), now.standardised(&absolute(&centre.at))))
                    .collect()
            })
            .unwrap_or_default();
        let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
        for (new, centre) in now.centres.iter().enumerate() {
            pairs.extend(before.iter().enumerate().map(|(old, (_, at))| (means::distance(&centre.at, at), new, old)));
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut names: Vec<Option<String>> = vec![None; now.centres.len()];
        for (distance, new, old) in pairs {
            let name = &before[old].0;
            if distance <= SAME * SAME && names[new].is_none() && !names.iter().flatten().any(|taken| taken == name) {
                names[new] = Some(name.clone());
            }
        }
        let numbers = before.iter().filter_map(|(name, _)| name.strip_prefix(NAME)?.parse().ok());
        let mut last_number = numbers.chain(kept.map(|kept| kept.last_number)).max().unwrap_or(0);
        let mut next = || {
            loop {
                last_number += 1;
                let name = format!("{NAME}{last_number}");
                if !taken.iter().any(|segment| segment.id == name) {
                    return name;
                }
            }
        };
        let names: Vec<String> = names.into_iter().map(|name| name.unwrap_or_else(&mut next)).collect();
        self.clustering.last_number = last_number;
        for ((name, centre), cluster) in names.into_iter().zip(&mut self.clustering.centres).zip(&mut self.clusters) {
            cluster.segment_id.clone_from(&name);
            centre.segment = name;
        }
    }
}

/// Clusters all who bought, and makes each cluster a segment. Run again after a crash, it finds the same.
///
/// # Errors
/// `Precondition` with NO_MODEL before the first fit, with NOT_FITTABLE where too few differ; `Database`.
pub async fn run(job: &Job) -> Result<()> {
    let request: pb::ClusterCustomersRequest = prost::Message::decode(job.operation.request.as_slice())
        .map_err(|error| Error::Internal(format!("kept request of an operation: {error}")))?;
    let points = read(job).await?;
    let customers = i64::try_from(points.len()).unwrap_or(i64::MAX);
    job.progress("finds clusters", customers, customers);
    let wanted = usize::try_from(request.clusters).unwrap_or(0);
    let found = tokio::task::spawn_blocking(move || find(&points, wanted, request.seed.cast_unsigned()))
        .await
        .map_err(|error| Error::Internal(format!("clustering broke off: {error}")))??;
    let (found, silhouette) = (&found, found.silhouette);
    job.db
        .run_tx("end_clustering", |tx| {
            Box::pin(async move {
                if !store::operation::is_held(tx, job.operation.id, job.context.replica).await? {
                    return Ok(());
                }
                store::segment::lock_set(tx).await?;
                let clusters = put(tx, found.clone()).await?;
                let outcome = Outcome::Clustered(pb::ClusterResult { clusters, customers, silhouette });
                store::operation::end(tx, job.operation.id, job.context.replica, &outcome).await?;
                Ok(())
            })
        })
        .await
}

/// Puts clusters into force, with the segments locked: new segments come, those found again keep their name for people, and those not found
/// again go. What somebody has made of a cluster's segment is theirs, and stays.
async fn put(tx: &chassis::Tx<'_>, mut found: Found) -> Result<Vec<pb::Cluster>> {
    let now = tx.clock().now();
    let expression = |id: &str| format!("cluster == \"{id}\"");
    let (_, kept) = store::segment::clustering(&**tx).await?;
    let segments = store::segment::all(&**tx).await?;
    found.name(kept.as_ref(), &segments);
    store::segment::set_clustering(tx, &found.clustering).await?;
    let mut clusters = found.clusters;
    for cluster in &mut clusters {
        let there = segments.iter().find(|segment| segment.id == cluster.segment_id);
        let Some(there) = there.filter(|there| there.state != State::Leaving) else {
            if there.is_some() {
                // Its members have not all left yet: it takes them back, and those who remain are told nothing.
                store::segment::delete(tx, &cluster.segment_id).await?;
            }
            if store::segment::count(tx).await? >= MAX_SEGMENTS as i64 {
                let message = format!("there are {MAX_SEGMENTS} segments already; delete one first");
                return Err(Error::Precondition { reason: ErrorReason::NotFittable, message });
            }
            let segment = Segment {
                id: cluster.segment_id.clone(),
                revision: 1,
                display_name: cluster.display_name.clone(),
                description: cluster.description.clone(),
                expression: expression(&cluster.segment_id),
                state: State::Filling,
                create_time: now,
                update_time: now,
            };
            store::segment::insert(tx, &segment).await?;
            continue;
        };
        cluster.display_name.clone_from(&there.display_name);
        if there.expression != expression(&there.id) {
            continue;
        }
        let segment = Segment {
            revision: there.revision + 1,
            description: cluster.description.clone(),
            state: State::Filling,
            update_time: now,
            ..there.clone()
        };
        store::segment::update(tx, &segment, true).await?;
    }
    for gone in kept.iter().flat_map(|kept| &kept.centres).map(|centre| &centre.segment) {
        if clusters.iter().any(|cluster| cluster.segment_id == *gone) {
            continue;
        }
        let there = segments.iter().find(|segment| segment.id == *gone);
        if let Some(there) = there.filter(|there| there.expression == expression(gone)) {
            let (revision, state, update_time) = (there.revision + 1, State::Leaving, now);
            let segment = Segment { revision, state, update_time, ..there.clone() };
            store::segment::update(tx, &segment, true).await?;
        }
    }
    Ok(clusters)
}

/// All who had bought, as they are compared: 40 bytes a customer.
async fn read(job: &Job) -> Result<Vec<Point>> {
    let in_force = job.scorer.in_force(job.db.read()).await?;
    if !in_force.models.as_ref().is_some_and(Models::value_the_future) {
        let message = "no models are fitted that value the future: call FitModels first".to_owned();
        return Err(Error::Precondition { reason: ErrorReason::NoModel, message });
    }
    let as_of = job.operation.as_of;
    let mut all = Vec::new();
    let mut pages = Pages::new(job, as_of).await?;
    while let Some(page) = pages.next(job).await? {
        let (scorer, in_force) = (Arc::clone(&job.scorer), Arc::clone(&in_force));
        let points = move || -> Vec<Point> {
            let compared = |(_, summary): &(_, Summary)| {
                let values = score::values(summary, &scorer.books, in_force.models.as_ref(), as_of);
                point(summary, &values, as_of, scorer.books.minor_per_major)
            };
            page.iter().map(compared).collect()
        };
        let points = tokio::task::spawn_blocking(points).await;
        all.extend(points.map_err(|error| Error::Internal(format!("clustering broke off: {error}")))?);
        job.progress("reads customers", pages.seen, pages.total);
    }
    Ok(all)
}
