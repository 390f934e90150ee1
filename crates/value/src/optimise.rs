//! A small BFGS minimiser for smooth functions of a few unbounded variables (Nocedal & Wright, *Numerical
//! Optimization*, 2006, ch. 6), with the bisecting line search of Lewis & Overton (2013). It says how it ended.

/// The largest gradient component at which a point counts as a minimum. Objectives here are means over customers, of
/// size about 1 to 10, so this is well above rounding and far below what any printed digit needs.
const TOLERANCE: f64 = 1e-8;
/// Where rounding of the objective leaves no descent to be found, this much gradient is still called a minimum.
const ROUNDING_TOLERANCE: f64 = 1e-6;
/// Fits take 20 to 60; more than this is a valley without an end.
const MAX_ITERATIONS: u32 = 500;
/// No variable moves by more in one step. Variables are logarithms: a factor of e² is a bold step already.
const MAX_STEP: f64 = 2.0;
/// Halvings and doublings of one line search, beyond which the step is below rounding.
const MAX_TRIES: u32 = 30;

/// Second derivatives, or the inverse of them.
pub(crate) type Matrix<const N: usize> = [[f64; N]; N];

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The gradient vanishes here.
    Converged,
    /// The variable of this index left its bounds while the objective fell.
    LeftBounds(usize),
    /// Neither of the two: no descent left although the gradient does not vanish, or too many iterations.
    Exhausted,
}

/// Where a run ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome<const N: usize> {
    pub(crate) point: [f64; N],
    pub(crate) value: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) iterations: u32,
    pub(crate) end: End,
}

/// A point with the objective and its gradient there.
#[derive(Clone, Copy)]
struct Probe<const N: usize> {
    point: [f64; N],
    value: f64,
    gradient: [f64; N],
}

impl<const N: usize> Probe<N> {
    fn at(point: [f64; N], objective: &mut impl FnMut(&[f64; N]) -> (f64, [f64; N])) -> Self {
        let (value, gradient) = objective(&point);
        Self { point, value, gradient }
    }

    fn is_finite(&self) -> bool {
        self.value.is_finite() && self.gradient.iter().all(|g| g.is_finite())
    }
}

/// Minimises `objective`, which returns its value and gradient, from `start`; `bounds` are where a variable counts as
/// run away, not constraints. Whoever knows the inverse of the second derivatives near the minimum saves most steps.
pub(crate) fn minimise<const N: usize>(
    start: [f64; N],
    known: Option<Matrix<N>>,
    bounds: &[(f64, f64); N],
    mut objective: impl FnMut(&[f64; N]) -> (f64, [f64; N]),
) -> Outcome<N> {
    let mut here = Probe::at(start, &mut objective);
    let mut fresh = known.is_none();
    let mut inverse = known.unwrap_or_else(|| identity(1.0));
    let mut iterations = 0;
    loop {
        let gradient_norm = here.gradient.iter().fold(0.0, |norm: f64, g| norm.max(g.abs()));
        let Probe { point, value, .. } = here;
        let done = move |end| Outcome { point, value, gradient_norm, iterations, end };
        if !here.is_finite() || iterations == MAX_ITERATIONS {
            return done(End::Exhausted);
        }
        if let Some(index) = (0..N).find(|&i| here.point[i] < bounds[i].0 || here.point[i] > bounds[i].1) {
            return done(End::LeftBounds(index));
        }
        if gradient_norm <= TOLERANCE {
            return done(End::Converged);
        }
        iterations += 1;
        let Some(next) = line_search(&here, &inverse, &mut objective) else {
            if fresh {
                let small = gradient_norm <= ROUNDING_TOLERANCE;
                return done(if small { End::Converged } else { End::Exhausted });
            }
            // The curvature gathered so far misleads: forget it and take the steepest way once.
            inverse = identity(1.0);
            fresh = true;
            continue;
        };
        update(&mut inverse, fresh, &here, &next);
        fresh = false;
        here = next;
    }
}

/// A point down the quasi-Newton direction which falls enough (Armijo) and flattens enough (curvature).
fn line_search<const N: usize>(
    here: &Probe<N>,
    inverse: &Matrix<N>,
    objective: &mut impl FnMut(&[f64; N]) -> (f64, [f64; N]),
) -> Option<Probe<N>> {
    const FALL: f64 = 1e-4;
    const FLATTEN: f64 = 0.9;
    let mut direction: [f64; N] = std::array::from_fn(|i| -dot(&inverse[i], &here.gradient));
    let longest = direction.iter().fold(0.0, |longest: f64, d| longest.max(d.abs()));
    if longest > MAX_STEP {
        direction = direction.map(|d| d * MAX_STEP / longest);
    }
    let slope = dot(&direction, &here.gradient);
    // Rounding in the objective must not veto the last, tiny steps.
    let slack = 4.0 * f64::EPSILON * here.value.abs();
    let (mut short, mut long, mut step) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..MAX_TRIES {
        let next = Probe::at(std::array::from_fn(|i| here.point[i] + step * direction[i]), objective);
        if !next.is_finite() || next.value > here.value + FALL * step * slope + slack {
            long = step;
        } else if dot(&direction, &next.gradient) < FLATTEN * slope {
            if step * longest.min(MAX_STEP) >= MAX_STEP {
                return Some(next);
            }
            short = step;
        } else {
            return Some(next);
        }
        step = if long.is_finite() { 0.5 * (short + long) } else { 2.0 * short };
    }
    None
}

/// The BFGS update of the inverse Hessian from one step; the first step also sets its scale.
fn update<const N: usize>(inverse: &mut Matrix<N>, fresh: bool, here: &Probe<N>, next: &Probe<N>) {
    let moved: [f64; N] = std::array::from_fn(|i| next.point[i] - here.point[i]);
    let turned: [f64; N] = std::array::from_fn(|i| next.gradient[i] - here.gradient[i]);
    let curvature = dot(&moved, &turned);
    // Only a step along which the function curves upward says something about a minimum.
    if curvature <= 1e-12 * dot(&moved, &moved).sqrt() * dot(&turned, &turned).sqrt() {
        return;
    }
    if fresh {
        *inverse = identity(curvature / dot(&turned, &turned));
    }
    let pulled: [f64; N] = std::array::from_fn(|i| dot(&inverse[i], &turned));
    let weight = (1.0 + dot(&turned, &pulled) / curvature) / curvature;
    for i in 0..N {
        for j in 0..N {
            inverse[i][j] += weight * moved[i] * moved[j] - (pulled[i] * moved[j] + moved[i] * pulled[j]) / curvature;
        }
    }
}

/// Second derivatives of `objective` at a point, by central differences of its gradient.
pub(crate) fn curvature<const N: usize>(
    point: [f64; N],
    objective: impl Fn(&[f64; N]) -> (f64, [f64; N]),
) -> Matrix<N> {
    // In logarithms: the error of the formula is of the size of the step's square, rounding of that of 1e-14 / step.
    const STEP: f64 = 1e-4;
    let rows: Matrix<N> = std::array::from_fn(|i| {
        let moved = |by: f64| {
            let mut moved = point;
            moved[i] += by;
            objective(&moved).1
        };
        let (up, down) = (moved(STEP), moved(-STEP));
        std::array::from_fn(|j| (up[j] - down[j]) / (2.0 * STEP))
    });
    std::array::from_fn(|i| std::array::from_fn(|j| 0.5 * (rows[i][j] + rows[j][i])))
}

/// The inverse of a symmetric matrix that is positive definite beyond rounding (Cholesky); `None` of any other.
pub(crate) fn inverse<const N: usize>(matrix: &Matrix<N>) -> Option<Matrix<N>> {
    // What is left of a variable once the others explain it must exceed what differences can tell.
    const LEAST: f64 = 1e-9;
    let mut lower = [[0.0; N]; N];
    for i in 0..N {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
            let rest = matrix[i][j] - known;
            if i != j {
                lower[i][j] = rest / lower[j][j];
            } else if rest > LEAST * matrix[i][i] && rest.is_finite() {
                lower[i][i] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    // Column by column, which are also the rows: L·half = e, then Lᵀ·column = half.
    Some(std::array::from_fn(|place| {
        let (mut half, mut column) = ([0.0; N], [0.0; N]);
        for i in place..N {
            let known: f64 = (place..i).map(|k| lower[i][k] * half[k]).sum();
            half[i] = (if i == place { 1.0 } else { 0.0 } - known) / lower[i][i];
        }
        for i in (0..N).rev() {
            let known: f64 = (i + 1..N).map(|k| lower[k][i] * column[k]).sum();
            column[i] = (half[i] - known) / lower[i][i];
        }
        column
    }))
}

fn identity<const N: usize>(scale: f64) -> Matrix<N> {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { scale } else { 0.0 }))
}

fn dot<const N: usize>(left: &[f64; N], right: &[f64; N]) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WIDE: (f64, f64) = (-100.0, 100.0);

    #[test]
    fn the_bottom_of_a_bowl_is_found() {
        let bowl = |p: &[f64; 3]| {
            let d = [p[0] - 1.0, p[1] + 2.0, p[2] - 30.0];
            (d[0] * d[0] + 10.0 * d[1] * d[1] + 0.1 * d[2] * d[2], [2.0 * d[0], 20.0 * d[1], 0.2 * d[2]])
        };
        let outcome = minimise([0.0; 3], None, &[WIDE; 3], bowl);
        assert_eq!(outcome.end, End::Converged);
        for (found, wanted) in outcome.point.iter().zip([1.0, -2.0, 30.0]) {
            assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
        }
    }

    #[test]
    fn the_bent_valley_of_rosenbrock_is_followed_to_its_end() {
        let valley = |p: &[f64; 2]| {
            let (u, v) = (1.0 - p[0], p[1] - p[0] * p[0]);
            (u * u + 100.0 * v * v, [-2.0 * u - 400.0 * p[0] * v, 200.0 * v])
        };
        for start in [[-1.2, 1.0], [0.0, 0.0], [5.0, -5.0]] {
            let outcome = minimise(start, None, &[WIDE; 2], valley);
            assert_eq!(outcome.end, End::Converged);
            assert!((outcome.point[0] - 1.0).abs() < 1e-6 && (outcome.point[1] - 1.0).abs() < 1e-6);
            assert!(outcome.gradient_norm <= TOLERANCE);
        }
    }

    #[test]
    fn a_slope_without_an_end_is_reported_with_the_variable_that_ran_away() {
        let slope = |p: &[f64; 2]| (p[0] * p[0] + (-p[1]).exp(), [2.0 * p[0], -(-p[1]).exp()]);
        let outcome = minimise([1.0, 0.0], None, &[(-9.0, 9.0), (-9.0, 9.0)], slope);
        assert_eq!(outcome.end, End::LeftBounds(1));
    }

    #[test]
    fn a_function_that_is_no_number_is_not_called_converged() {
        let outcome = minimise([1.0], None, &[WIDE], |_| (f64::NAN, [0.0]));
        assert_eq!(outcome.end, End::Exhausted);
    }

    #[test]
    fn a_wrong_gradient_is_not_called_converged() {
        let outcome = minimise([1.0], None, &[WIDE], |p: &[f64; 1]| (p[0] * p[0], [-1.0]));
        assert_eq!(outcome.end, End::Exhausted);
    }

    #[test]
    fn a_region_where_the_function_fails_is_stepped_around() {
        let fenced =
            |p: &[f64; 1]| if p[0] < 0.0 { (f64::NAN, [f64::NAN]) } else { (p[0] - p[0].ln(), [1.0 - 1.0 / p[0]]) };
        let outcome = minimise([3.0], None, &[WIDE], fenced);
        assert_eq!(outcome.end, End::Converged);
        assert!((outcome.point[0] - 1.0).abs() < 1e-7);
    }

    #[test]
    fn a_known_curvature_ends_on_a_bowl_in_one_step() {
        let bowl = |p: &[f64; 2]| {
            let (u, v) = (p[0] - 1.0, p[1] + 2.0);
            (u * u + u * v + 3.0 * v * v, [2.0 * u + v, u + 6.0 * v])
        };
        let second = curvature([0.0, 0.0], bowl);
        for (found, wanted) in second.iter().flatten().zip([2.0, 1.0, 1.0, 6.0]) {
            assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
        }
        let outcome = minimise([1.7, -1.5], inverse(&second), &[WIDE; 2], bowl);
        assert_eq!((outcome.end, outcome.iterations), (End::Converged, 1));
    }

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        let matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, -0.7], [0.5, -0.7, 2.0]];
        let inverse = inverse(&matrix).unwrap();
        for (i, row) in matrix.iter().enumerate() {
            for j in 0..3 {
                let product: f64 = row.iter().zip(&inverse).map(|(left, right)| left * right[j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn what_is_flat_or_a_saddle_has_no_inverse() {
        assert_eq!(inverse(&[[1.0, 1.0], [1.0, 1.0]]), None);
        assert_eq!(inverse(&[[1.0, 2.0], [2.0, 1.0]]), None);
        assert_eq!(inverse(&[[0.0]]), None);
        assert_eq!(inverse(&[[f64::NAN]]), None);
    }
}
