//! k-means over standardised points.
use super::{COUNT, Point};

/// Rounds of one fit: they settle in some dozens.
const MAX_ROUNDS: usize = 100;
/// Fits from different beginnings, of which the best counts: one alone may settle in a poor place.
const STARTS: usize = 4;
/// Points that a silhouette is computed of: it takes time with the square of their number.
const MAX_SILHOUETTE: usize = 2_000;

/// SplitMix64 (Steele, Lea & Flood 2014): the same numbers for the same seed, everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The square of the distance.
pub(super) fn distance(a: &Point, b: &Point) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The nearest centre, and the square of its distance.
pub(super) fn nearest(centres: &[Point], point: &Point) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (index, centre) in centres.iter().enumerate() {
        let distance = distance(centre, point);
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best
}

/// How many points differ, counted up to `enough`.
pub(super) fn different(points: &[Point], enough: usize) -> usize {
    let mut seen: Vec<&Point> = Vec::new();
    for point in points {
        if !seen.contains(&point) {
            seen.push(point);
            if seen.len() == enough {
                break;
            }
        }
    }
    seen.len()
}

/// What a fit found.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    pub(super) centres: Vec<Point>,
    /// Sum of the squares of all distances.
    inertia: f64,
}

impl Fitted {
    /// The best of some fits of `count` centres. There are at least as many different points.
    pub(super) fn new(points: &[Point], count: usize, random: &mut Random) -> Self {
        let mut best = Self::once(points, count, random);
        for _ in 1..STARTS {
            let next = Self::once(points, count, random);
            if next.inertia < best.inertia {
                best = next;
            }
        }
        best
    }

    fn once(points: &[Point], count: usize, random: &mut Random) -> Self {
        let mut centres = begin(points, count, random);
        let mut inertia = f64::INFINITY;
        for _ in 0..MAX_ROUNDS {
            let mut sums = vec![([0.0; COUNT], 0.0_f64); centres.len()];
            let mut total = 0.0;
            for point in points {
                let (index, distance) = nearest(&centres, point);
                total += distance;
                let (sum, number) = &mut sums[index];
                *number += 1.0;
                for (sum, value) in sum.iter_mut().zip(point) {
                    *sum += value;
                }
            }
            for (centre, (sum, number)) in centres.iter_mut().zip(&sums) {
                // One that nobody is nearest to stays where it is.
                if *number > 0.0 {
                    *centre = sum.map(|sum| sum / number);
                }
            }
            if total >= inertia * (1.0 - 1e-9) {
                break;
            }
            inertia = total;
        }
        Self { centres, inertia }
    }

    /// The mean silhouette of a sample, evenly taken.
    pub(super) fn silhouette(&self, points: &[Point]) -> f64 {
        let stride = points.len().div_ceil(MAX_SILHOUETTE).max(1);
        let sample: Vec<(usize, &Point)> =
            points.iter().step_by(stride).map(|point| (nearest(&self.centres, point).0, point)).collect();
        let mut sum = 0.0;
        for (own, point) in &sample {
            let mut distances = vec![(0.0, 0.0_f64); self.centres.len()];
            for (of, other) in &sample {
                let (total, number) = &mut distances[*of];
                *total += distance(point, other).sqrt();
                *number += 1.0;
            }
            let (within, mates) = distances[*own];
            // Who is alone in their cluster is neither near nor far.
            if mates <= 1.0 {
                continue;
            }
            let within = within / (mates - 1.0);
            let others = distances.iter().enumerate().filter(|(index, (_, number))| index != own && *number > 0.0);
            let next = others.map(|(_, (total, number))| total / number).fold(f64::INFINITY, f64::min);
            let larger = within.max(next);
            if next.is_finite() && larger > 0.0 {
                sum += (next - within) / larger;
            }
        }
        sum / (sample.len().max(1) as f64)
    }
}

/// Centres to begin with: the first by chance, each further one likelier the farther it lies from those there are.
fn begin(points: &[Point], count: usize, random: &mut Random) -> Vec<Point> {
    let mut centres: Vec<Point> = Vec::with_capacity(count);
    let first = (random.unit() * points.len() as f64) as usize;
    centres.extend(points.get(first).or(points.first()));
    let mut distances: Vec<f64> = points.iter().map(|point| nearest(&centres, point).1).collect();
    while centres.len() < count {
        let mut left = random.unit() * distances.iter().sum::<f64>();
        // The last one that lies apart, where rounding leaves something over.
        let mut chosen = distances.iter().rposition(|distance| *distance > 0.0).unwrap_or(0);
        for (index, distance) in distances.iter().enumerate() {
            left -= distance;
            if left < 0.0 {
                chosen = index;
                break;
            }
        }
        let Some(centre) = points.get(chosen).copied() else { break };
        centres.push(centre);
        for (kept, point) in distances.iter_mut().zip(points) {
            *kept = kept.min(distance(&centre, point));
        }
    }
    centres
}
