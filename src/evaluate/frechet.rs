//! The Frechet distance of two sets of features, as if both were normally distributed.
//!
//! `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` (Heusel et al. 2017), in f64.

/// Features of one set, one row a clip; all rows have equally many.
pub type Features = [Vec<f32>];

/// A symmetric matrix, row-major.
struct Matrix {
    size: usize,
    values: Vec<f64>,
}

/// The distance; not a number for sets of fewer than two rows.
pub fn distance(a: &Features, b: &Features) -> f64 {
    if a.len() < 2 || b.len() < 2 {
        return f64::NAN;
    }
    let ((mean_a, covariance_a), (mean_b, covariance_b)) = (moments(a), moments(b));
    let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    // The root of a product of two is similar to that of a symmetric matrix, which has the same trace.
    let root = covariance_a.root();
    let inner = root.times(&covariance_b).times(&root).symmetric();
    let trace_of_root: f64 = inner.eigen().0.iter().map(|value| value.max(0.0).sqrt()).sum();
    between + covariance_a.trace() + covariance_b.trace() - 2.0 * trace_of_root
}

/// Mean and covariance (of a sample) of the columns.
fn moments(rows: &Features) -> (Vec<f64>, Matrix) {
    let (size, count) = (rows[0].len(), rows.len() as f64);
    let mean: Vec<f64> = (0..size).map(|column| rows.iter().map(|row| f64::from(row[column])).sum::<f64>() / count).collect();
    let mut values = vec![0.0; size * size];
    for row in rows {
        let centred: Vec<f64> = row.iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean).collect();
        for (i, a) in centred.iter().enumerate() {
            for (value, b) in values[i * size..].iter_mut().zip(&centred) {
                *value += a * b / (count - 1.0);
            }
        }
    }
    (mean, Matrix { size, values })
}

impl Matrix {
    fn trace(&self) -> f64 {
        (0..self.size).map(|i| self.values[i * self.size + i]).sum()
    }

    fn times(&self, other: &Self) -> Self {
        let size = self.size;
        let mut values = vec![0.0; size * size];
        for (row, out) in self.values.chunks_exact(size).zip(values.chunks_exact_mut(size)) {
            for (factor, line) in row.iter().zip(other.values.chunks_exact(size)) {
                out.iter_mut().zip(line).for_each(|(value, other)| *value += factor * other);
            }
        }
        Self { size, values }
    }

    /// Without the rounding that makes the halves differ.
    fn symmetric(&self) -> Self {
        let size = self.size;
        let values = (0..size * size).map(|at| (self.values[at] + self.values[at % size * size + at / size]) / 2.0);
        Self { size, values: values.collect() }
    }

    /// The symmetric root; eigenvalues below 0 are rounding and count as 0.
    fn root(&self) -> Self {
        let size = self.size;
        let (eigenvalues, vectors) = self.eigen();
        let mut values = vec![0.0; size * size];
        for (column, eigenvalue) in eigenvalues.iter().enumerate() {
            let root = eigenvalue.max(0.0).sqrt();
            for i in 0..size {
                for j in 0..size {
                    values[i * size + j] += root * vectors[i * size + column] * vectors[j * size + column];
                }
            }
        }
        Self { size, values }
    }

    /// Eigenvalues, and eigenvectors as columns, by Jacobi's rotations.
    fn eigen(&self) -> (Vec<f64>, Vec<f64>) {
        const SWEEPS: usize = 40;
        let size = self.size;
        let mut a = self.values.clone();
        let mut vectors: Vec<f64> = (0..size * size).map(|at| if at % (size + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let all: f64 = a.iter().map(|value| value * value).sum();
        for _ in 0..SWEEPS {
            let off: f64 = (0..size * size).filter(|at| at / size != at % size).map(|at| a[at] * a[at]).sum();
            if off <= 1e-24 * all {
                break;
            }
            for p in 0..size {
                for q in p + 1..size {
                    rotate(&mut a, &mut vectors, size, p, q);
                }
            }
        }
        ((0..size).map(|i| a[i * size + i]).collect(), vectors)
    }
}

/// Turns the plane of p and q so that the entry between them becomes 0.
fn rotate(a: &mut [f64], vectors: &mut [f64], size: usize, p: usize, q: usize) {
    let entry = a[p * size + q];
    if entry == 0.0 {
        return;
    }
    let theta = (a[q * size + q] - a[p * size + p]) / (2.0 * entry);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let tangent = if theta == 0.0 { 1.0 } else { tangent };
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for k in 0..size {
        let (kp, kq) = (a[k * size + p], a[k * size + q]);
        a[k * size + p] = cosine * kp - sine * kq;
        a[k * size + q] = sine * kp + cosine * kq;
    }
    for k in 0..size {
        let (pk, qk) = (a[p * size + k], a[q * size + k]);
        a[p * size + k] = cosine * pk - sine * qk;
        a[q * size + k] = sine * pk + cosine * qk;
        let (kp, kq) = (vectors[k * size + p], vectors[k * size + q]);
        vectors[k * size + p] = cosine * kp - sine * kq;
        vectors[k * size + q] = sine * kp + cosine * kq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::noise::normal;

    fn rows(draw: u64, count: usize, scales: &[f32], shift: f32) -> Vec<Vec<f32>> {
        let size = scales.len();
        let value = |row: usize, column: usize| normal(8, draw, (row * size + column) as u64) * scales[column] + shift;
        (0..count).map(|row| (0..size).map(|column| value(row, column)).collect()).collect()
    }

    #[test]
    fn a_set_is_at_no_distance_from_itself_and_a_shift_counts_squared() {
        let a = rows(0, 60, &[1.0, 3.0, 0.2, 2.0], 0.0);
        assert!(distance(&a, &a).abs() < 1e-9);
        let shifted: Vec<Vec<f32>> = a.iter().map(|row| row.iter().map(|value| value + 2.0).collect()).collect();
        assert!((distance(&a, &shifted) - 16.0).abs() < 1e-4);
        assert!(distance(&a[..1], &a).is_nan());
    }

    /// In one dimension, and where nothing is correlated, the distance is that of the deviations.
    #[test]
    fn independent_features_add_up() {
        for scales in [vec![1.0f32], vec![1.0, 2.0, 4.0]] {
            let (a, b) = (rows(1, 4000, &scales, 0.0), rows(2, 4000, &[3.0, 1.0, 1.0][..scales.len()], 0.5));
            let want: f64 = scales.iter().zip([3.0f64, 1.0, 1.0]).map(|(&a, b)| (f64::from(a) - b).powi(2) + 0.25).sum();
            let got = distance(&a, &b);
            assert!((got - want).abs() < 0.12 * want, "{got} {want}");
        }
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        let a = rows(3, 30, &[1.0; 12], 0.0);
        let (_, matrix) = moments(&a);
        let root = matrix.root();
        let squared = root.times(&root);
        assert!(squared.values.iter().zip(&matrix.values).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}
