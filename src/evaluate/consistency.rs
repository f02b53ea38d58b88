//! Whether a clip shows the same thing from its first frame to its last: subject consistency.
//!
//! The measure is VBench's (Huang et al. 2024): with `f_t` the features of frame t of T, as unit vectors,
//! `1 / (T - 1) * sum over t = 2..T of (<f_1, f_t> + <f_(t-1), f_t>) / 2`, where a product below 0 counts as 0. Thus 1 is a clip
//! whose frames all look alike, one with sudden changes loses by the previous frame, one that drifts by the first.
//!
//! VBench's features are those of DINO ViT-B/16, a network of 340 MB that knows photographs. Here they are the judge's own for
//! every frame alone ([`Judge::features_of_stills`]): the vector that its answers about shape, colour, ground and light are read
//! from. It is trained to tell one subject of the world from another, it pools over the picture and so does not mind where the
//! subject is, and no other frame has a part in it. But it knows nothing beyond the world, and its products lie closer to 1: of
//! clips of the world, which move, turn and zoom, about 0.99, and about 0.98 when the object takes another colour or shape
//! halfway. So numbers compare within a table, and with the real clips in it, and not with VBench's.
//!
//! [`Judge::features_of_stills`]: crate::model::judge::Judge::features_of_stills

/// The consistency of a clip from the features of its frames, in order. A clip of one frame cannot change: 1.
pub fn subject_consistency(features: &[Vec<f32>]) -> f64 {
    let Some((first, others)) = features.split_first() else { return 1.0 };
    if others.is_empty() {
        return 1.0;
    }
    let of_frame = |(before, frame): (&Vec<f32>, &Vec<f32>)| (likeness(first, frame) + likeness(before, frame)) / 2.0;
    features.iter().zip(others).map(of_frame).sum::<f64>() / others.len() as f64
}

/// The cosine between two vectors, 0 where they point apart or one has no direction.
fn likeness(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (product(a, a) * product(b, b)).sqrt();
    if lengths > 0.0 { (product(a, b) / lengths).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_that_stays_as_it_is_has_one() {
        let still = vec![vec![0.3, -1.7, 2.5]; 6];
        assert!((subject_consistency(&still) - 1.0).abs() < 1e-12);
        // Length is no direction.
        let brighter: Vec<Vec<f32>> = (1..5).map(|factor| [1.0f32, 2.0].map(|value| value * factor as f32).to_vec()).collect();
        assert!((subject_consistency(&brighter) - 1.0).abs() < 1e-12);
        assert_eq!((subject_consistency(&[]), subject_consistency(&still[..1])), (1.0, 1.0));
    }

    /// Angles whose cosines are known: 0, 60, 90 and 180 degrees.
    #[test]
    fn cosines_are_those_of_the_definition() {
        let at = |degrees: f64| vec![degrees.to_radians().cos() as f32, degrees.to_radians().sin() as f32];
        let got = subject_consistency(&[0.0, 60.0, 90.0, 180.0].map(at));
        let (with_first, with_previous) = ([0.5, 0.0, 0.0], [0.5, 0.75f64.sqrt(), 0.0]);
        let want = (with_first.iter().sum::<f64>() + with_previous.iter().sum::<f64>()) / 6.0;
        assert!((got - want).abs() < 1e-7, "{got} {want}");
    }

    /// Of six frames whose subject becomes another one at the fourth, three are unlike the first and one is unlike the one before.
    #[test]
    fn a_change_halfway_counts_once_before_and_ever_after_with_the_first() {
        let [a, b] = [vec![1.0f32, 0.0], vec![0.0f32, 1.0]];
        let changes = [a.clone(), a.clone(), a.clone(), b.clone(), b.clone(), b];
        assert!((subject_consistency(&changes) - (2.0 + 4.0) / 10.0).abs() < 1e-12);
        let returns = [&changes[..3], &changes[3..4], &changes[..2]].concat();
        assert!(subject_consistency(&returns) > subject_consistency(&changes));
        // No direction is like none.
        assert_eq!(subject_consistency(&[a, vec![0.0; 2]]), 0.0);
    }
}
