//! Where the numbers of points stand, so that they cover neither each other nor the points.

/// Left, top, right, bottom in pixels.
pub type Area = [f64; 4];

/// Distances from the point's middle to the label's edge, in ring after ring.
const RINGS: [f64; 4] = [9.0, 18.0, 30.0, 48.0];
/// Places on a ring.
const DIRECTIONS: usize = 16;
/// Further out is worse, but better than to cover so many square pixels.
const COST_OF_RING: f64 = 4.0;
/// Towards the right is a little better, so that equal choices do not depend on the order.
const COST_OF_TURN: f64 = 0.1;

/// The places of labels of the size `sizes` beside `points`, one after the other, each where it covers the least of `obstacles`
/// and of the labels before it, within `bounds`. Gives the labels' areas.
pub fn place(points: &[[f64; 2]], sizes: &[[f64; 2]], obstacles: &[Area], bounds: Area) -> Vec<Area> {
    let mut taken = obstacles.to_vec();
    for (&[x, y], &[width, height]) in points.iter().zip(sizes) {
        let mut best = (f64::INFINITY, [x, y, x, y]);
        for (ring, distance) in RINGS.iter().enumerate() {
            for direction in 0..DIRECTIONS {
                let angle = direction as f64 / DIRECTIONS as f64 * std::f64::consts::TAU;
                let middle_x = x + angle.cos() * (distance + width / 2.0);
                let middle_y = y - angle.sin() * (distance + height / 2.0);
                let area = [middle_x - width / 2.0, middle_y - height / 2.0, middle_x + width / 2.0, middle_y + height / 2.0];
                let covered: f64 = taken.iter().map(|&other| common(area, other)).sum();
                let outside = width * height - common(area, bounds);
                let cost = covered + 4.0 * outside + COST_OF_RING * ring as f64 + COST_OF_TURN * direction as f64;
                if cost < best.0 {
                    best = (cost, area);
                }
            }
        }
        taken.push(best.1);
    }
    taken.split_off(obstacles.len())
}

/// Square pixels that two areas share.
pub fn common(a: Area, b: Area) -> f64 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    side(0) * side(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_points_that_lie_together_stand_apart() {
        let points: Vec<[f64; 2]> = (0..12).map(|point| [200.0 + f64::from(point % 3), 150.0 + f64::from(point % 2)]).collect();
        let sizes = vec![[20.0, 14.0]; 12];
        let obstacles: Vec<Area> = points.iter().map(|&[x, y]| [x - 7.0, y - 7.0, x + 7.0, y + 7.0]).collect();
        let bounds = [100.0, 50.0, 300.0, 250.0];
        let labels = place(&points, &sizes, &obstacles, bounds);
        for (number, &label) in labels.iter().enumerate() {
            assert!((common(label, bounds) - 20.0 * 14.0).abs() < 1e-9, "{label:?} is outside");
            assert!(obstacles.iter().chain(&labels[..number]).all(|&other| common(label, other) == 0.0), "{label:?} covers");
        }
        // In a corner there is room on one side alone.
        let [corner] = place(&[[101.0, 51.0]], &sizes[..1], &[], bounds)[..] else { panic!("one label") };
        assert!(corner[0] >= 100.0 && corner[1] >= 50.0);
    }
}
