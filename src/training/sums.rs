//! Sums over whole tensors, with the same bits each time.
//!
//! burn adds all values of a tensor with atomics where the adapter has them, in whatever order they come; and its reductions
//! along an axis have one thread, or one group of them, a result. So a tensor is folded into tables first, whose columns are
//! short while they are many.

use burn::tensor::Tensor;

/// Values that are not folded any more than twice.
const MOST_COLUMNS: usize = 4096;
/// Rows of the tables before: as many values for each thread.
const MOST_ROWS: usize = 64;

/// The sum of all values, `[1]`.
pub fn sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let mut count = x.dims().iter().product::<usize>();
    let mut x: Tensor<1> = x.reshape([count]);
    while count > MOST_COLUMNS {
        let rows = largest_divisor(count, MOST_ROWS);
        if rows == 1 {
            break;
        }
        count /= rows;
        x = x.reshape([rows, count]).sum_dim(0).reshape([count]);
    }
    let columns = largest_divisor(count, MOST_COLUMNS);
    let across = largest_divisor(columns, 64);
    let table: Tensor<2> = x.reshape([count / columns, columns]);
    let table: Tensor<2> = table.sum_dim(0).reshape([columns / across, across]);
    table.sum_dim(0).sum_dim(1).reshape([1])
}

/// The mean of all values, `[1]`.
pub fn mean<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.dims().iter().product::<usize>();
    sum(x) / count as f64
}

/// The mean of each sample's values, `[samples]`; samples are the first axis.
pub fn means_of_samples<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let samples = x.dims()[0];
    let count = x.dims()[1..].iter().product::<usize>();
    let columns = largest_divisor(count, 256);
    let table: Tensor<3> = x.reshape([samples, count / columns, columns]);
    table.sum_dim(1).sum_dim(2).reshape([samples]) / count as f64
}

fn largest_divisor(of: usize, most: usize) -> usize {
    (1..=most.min(of.max(1))).rev().find(|divisor| of.is_multiple_of(*divisor)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn sums_are_those_of_f64() {
        for count in [1, 2, 7, 64, 4096, 12_288, 10_007, 20_014, 1 << 19] {
            let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect();
            let want: f64 = values.iter().map(|&value| f64::from(value)).sum();
            let x = Tensor::<1>::from_data(TensorData::new(values, [count]), &Device::flex());
            let got: Vec<f32> = sum(x.clone()).try_into_vec_as().expect("readable");
            assert!((f64::from(got[0]) - want).abs() < 1e-3 + 1e-6 * count as f64, "{count}: {got:?} {want}");
            let got: Vec<f32> = mean(x).try_into_vec_as().expect("readable");
            assert!((f64::from(got[0]) - want / count as f64).abs() < 1e-5, "{count}");
        }
    }

    #[test]
    fn samples_are_kept_apart() {
        let values: Vec<f32> = (0..3 * 4 * 300).map(|i| ((i * 53 % 97) as f32 - 48.0) / 8.0).collect();
        let x = Tensor::<3>::from_data(TensorData::new(values.clone(), [3, 4, 300]), &Device::flex());
        let got: Vec<f32> = means_of_samples(x).try_into_vec_as().expect("readable");
        for (sample, got) in values.chunks(1200).zip(got) {
            let want = sample.iter().map(|&value| f64::from(value)).sum::<f64>() / 1200.0;
            assert!((f64::from(got) - want).abs() < 1e-5, "{got} {want}");
        }
    }
}
