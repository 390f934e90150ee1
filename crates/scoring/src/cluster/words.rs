//! What sets a cluster apart, in words.
use proto::scoring::v1 as pb;

/// From so many standard deviations on, a feature is worth a word.
const WORTH: f64 = 0.5;
/// Words of one name: more are not remembered.
const MAX_WORDS: usize = 3;

/// (far above the mean of all, far below it), by feature.
fn words(feature: &str) -> (&'static str, &'static str) {
    match feature {
        "lifetime_value" => ("high value", "low value"),
        "occasions" => ("buy often", "bought rarely"),
        "days_since_last" => ("long silent", "bought lately"),
        "basket" => ("large baskets", "small baskets"),
        _ => ("return much", "return little"),
    }
}

/// The features that set a cluster apart, those most that do so most.
fn telling(features: &[pb::ClusterFeature]) -> Vec<&pb::ClusterFeature> {
    let mut telling: Vec<_> = features.iter().filter(|feature| feature.deviation.abs() >= WORTH).collect();
    telling.sort_by(|a, b| b.deviation.abs().total_cmp(&a.deviation.abs()));
    telling.truncate(MAX_WORDS);
    telling
}

fn word(feature: &pb::ClusterFeature) -> &'static str {
    let (above, below) = words(&feature.name);
    if feature.deviation > 0.0 { above } else { below }
}

/// A name for people, such as `High value, buy often`.
pub(super) fn name(features: &[pb::ClusterFeature]) -> String {
    let words: Vec<_> = telling(features).into_iter().map(word).collect();
    if words.is_empty() {
        return "Like all others".to_owned();
    }
    let text = words.join(", ");
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

/// A sentence with figures.
pub(super) fn sentence(features: &[pb::ClusterFeature], customers: i64, of: usize) -> String {
    let share = 100.0 * customers as f64 / of.max(1) as f64;
    let figures = telling(features).into_iter().map(|feature| {
        let side = if feature.deviation > 0.0 { "above" } else { "below" };
        let (name, mean) = (feature.name.replace('_', " "), feature.mean);
        format!("{} ({name} {mean:.2}, {:.1} deviations {side} the mean)", word(feature), feature.deviation.abs())
    });
    let figures: Vec<_> = figures.collect();
    let figures = if figures.is_empty() { "near the mean in everything".to_owned() } else { figures.join("; ") };
    format!("{customers} customers when clustered, {share:.0} % of those who have bought: {figures}.")
}

/// Numbers names that are the same, from the second on.
pub(super) fn tell_apart(clusters: &mut [pb::Cluster]) {
    for index in 1..clusters.len() {
        let (before, rest) = clusters.split_at_mut(index);
        let Some(cluster) = rest.first_mut() else { return };
        let base = cluster.display_name.clone();
        let mut number = 1;
        while before.iter().any(|other| other.display_name == cluster.display_name) {
            number += 1;
            cluster.display_name = format!("{base} ({number})");
        }
    }
}
