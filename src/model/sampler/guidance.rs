//! Classifier-free guidance: two predictions of one latent become one.

/// `unconditional + scale * (conditional - unconditional)`, element by element: how the prediction without the prompt is
/// pushed along the direction that the prompt adds. Scale 1 is the conditional prediction (but for rounding).
///
/// # Panics
/// If the two predictions differ in length.
pub fn combine(unconditional: &[f32], conditional: &[f32], scale: f32) -> Vec<f32> {
    assert_eq!(unconditional.len(), conditional.len(), "the two predictions of one latent have one length");
    unconditional.iter().zip(conditional).map(|(&without, &with)| without + scale * (with - without)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_walks_from_one_prediction_through_the_other() {
        let (without, with) = ([1.0, -2.0], [2.0, 0.5]);
        assert_eq!(combine(&without, &with, 0.0), without);
        assert_eq!(combine(&without, &with, 1.0), with);
        assert_eq!(combine(&without, &with, 3.0), [4.0, 5.5]);
    }
}
