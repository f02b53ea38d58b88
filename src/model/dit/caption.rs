//! A text as the blocks of one transformer see it. It is the same in every call of a clip, so what depends on it alone is
//! computed in the first: on a fast GPU a small network takes as long as its launches.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

/// Keys and values of all layers are kept up to so many bytes. Those of `mini` are a few hundredths of it; those of the published
/// network are several times as much, and would save a thousandth of its arithmetic.
const MOST_KEPT_BYTES: usize = 64 << 20;

/// Made by [`super::Transformer::caption`].
#[derive(Clone, Debug)]
pub struct Caption {
    /// `[batch, text tokens, width]`.
    pub(super) projected: Tensor<3>,
    /// Added to the scores of each token's key, `[batch, text tokens]`: what hides the padding.
    pub(super) bias: Option<Tensor<2>>,
    /// Of each layer, once it was asked for.
    layers: Option<Arc<Vec<OnceLock<[Tensor<4>; 2]>>>>,
}

impl Caption {
    /// `value_bytes` is the size of a value of keys and values.
    pub(super) fn new(projected: Tensor<3>, bias: Option<Tensor<2>>, layers: usize, value_bytes: usize) -> Self {
        let bytes = 2 * layers * projected.dims().iter().product::<usize>() * value_bytes;
        let keeps = bytes <= MOST_KEPT_BYTES;
        let layers = keeps.then(|| Arc::new(std::iter::repeat_with(OnceLock::new).take(layers).collect()));
        Self { projected, bias, layers }
    }

    /// Key and value `[batch, heads, text tokens, head]` of a layer, which `make` computes from the projected text.
    pub(super) fn key_and_value(&self, layer: usize, make: impl FnOnce(&Tensor<3>) -> [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        match self.layers.as_ref().and_then(|layers| layers.get(layer)) {
            Some(kept) => kept.get_or_init(|| make(&self.projected)).clone(),
            None => make(&self.projected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn keys_and_values_are_made_once_where_they_are_small() {
        let text = |tokens: usize| Tensor::<3>::zeros([1, tokens, 64], &Device::flex());
        let asked = |caption: &Caption, layer: usize| {
            let mut made = 0;
            for _ in 0..3 {
                let [key, _] = caption.key_and_value(layer, |text| {
                    made += 1;
                    let [batch, tokens, width] = text.dims();
                    let of = |value: f64| Tensor::<4>::full([batch, 1, tokens, width], value, &text.device());
                    [of(layer as f64), of(9.0)]
                });
                let values: Vec<f32> = key.try_into_vec_as().expect("values");
                assert!(values.iter().all(|&value| value == layer as f32));
            }
            made
        };
        let small = Caption::new(text(8), None, 2, 2);
        assert_eq!([0, 1, 0, 1].map(|layer| asked(&small, layer)), [1, 1, 0, 0]);
        // Clones are of the same text.
        assert_eq!(asked(&small.clone(), 0), 0);
        let large = Caption::new(text(8), None, 2, MOST_KEPT_BYTES);
        assert_eq!([0, 1].map(|layer| asked(&large, layer)), [3, 3]);
    }
}
