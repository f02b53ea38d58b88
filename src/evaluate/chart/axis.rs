//! Axes of the chart: where a value lies, and which values are named.

/// From values to pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    is_logarithmic: bool,
    /// Pixels of the lowest and the highest value.
    ends: [f64; 2],
}

impl Axis {
    /// Shares from below the least of `values` up to 1, which lies a little below the end.
    pub fn of_shares(values: impl Iterator<Item = f64>, ends: [f64; 2]) -> Self {
        let least = values.filter(|value| value.is_finite()).fold(1.0, f64::min);
        // At least a fifth, so that small differences do not look large, and in whole tenths.
        let low = ((least * 10.0 - 0.2).floor() / 10.0).clamp(0.0, 0.8);
        Self { low, high: 1.0 + 0.04 * (1.0 - low), is_logarithmic: false, ends }
    }

    /// Positive values by their logarithm, with room at both ends; none if there are no values.
    pub fn of_times(values: impl Iterator<Item = f64>, ends: [f64; 2]) -> Option<Self> {
        /// The axis spans at least such a factor around its middle.
        const LEAST_SPAN: f64 = 4.0;
        let positive: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).collect();
        let least = positive.iter().copied().reduce(f64::min)?;
        let most = positive.iter().copied().fold(least, f64::max);
        let widen = (LEAST_SPAN / (most / least)).sqrt().max((most / least).powf(0.08));
        Some(Self { low: least / widen, high: most * widen, is_logarithmic: true, ends })
    }

    /// The pixel of a value.
    pub fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.ends[0] + share * (self.ends[1] - self.ends[0])
    }

    /// The values that are named, and how.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        if self.is_logarithmic { self.ticks_of_times() } else { self.ticks_of_shares() }
    }

    fn ticks_of_shares(&self) -> Vec<(f64, String)> {
        // In percent: whole numbers.
        let low = (self.low * 100.0).round() as usize;
        let step = match 100 - low {
            0..=30 => 5,
            31..=60 => 10,
            _ => 20,
        };
        let ticks = (low.next_multiple_of(step)..=100).step_by(step);
        ticks.map(|percent| (percent as f64 / 100.0, percent.to_string())).collect()
    }

    /// 1, 2 and 5 of every power of ten; powers alone where there are many, and more factors where there are few.
    fn ticks_of_times(&self) -> Vec<(f64, String)> {
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = match decades {
            _ if decades > 2.5 => &[1.0],
            _ if decades > 1.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        };
        let powers = self.low.log10().floor() as i32..=self.high.log10().floor() as i32;
        let all = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|value| (self.low..=self.high).contains(value)).map(|value| (value, seconds(value))).collect()
    }
}

/// A round number of seconds in a unit that needs no zeros.
fn seconds(value: f64) -> String {
    // Away from 0.30000000000000004.
    let text = |value: f64| ((value * 1000.0).round() / 1000.0).to_string();
    if value < 0.0999 { format!("{} ms", text(value * 1000.0)) } else { format!("{} s", text(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: Axis) -> String {
        axis.ticks().into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn shares_reach_to_all_and_round_numbers_are_named() {
        let axis = Axis::of_shares([0.93, 0.61, f64::NAN].into_iter(), [300.0, 100.0]);
        assert_eq!(names(axis), "50, 60, 70, 80, 90, 100");
        assert!(axis.place(0.5) == 300.0 && (100.0..110.0).contains(&axis.place(1.0)) && axis.place(0.61) > axis.place(0.93));
        assert_eq!(names(Axis::of_shares([1.0, 1.0].into_iter(), [9.0, 0.0])), "80, 85, 90, 95, 100");
        assert_eq!(names(Axis::of_shares([0.03].into_iter(), [9.0, 0.0])), "0, 20, 40, 60, 80, 100");
    }

    #[test]
    fn times_have_room_and_units() {
        let axis = Axis::of_times([0.02, 0.3].into_iter(), [0.0, 100.0]).expect("times");
        assert_eq!(names(axis), "20 ms, 50 ms, 0.1 s, 0.2 s");
        assert!(axis.place(0.02) > 5.0 && axis.place(0.3) < 95.0);
        // Equal steps for equal factors.
        assert!((axis.place(0.2) - axis.place(0.1) - (axis.place(0.1) - axis.place(0.05))).abs() < 1e-9);
        let alone = Axis::of_times([3.3].into_iter(), [0.0, 100.0]).expect("a time");
        assert!((alone.place(3.3) - 50.0).abs() < 1e-9);
        assert_eq!(names(alone), "2 s, 3 s, 5 s");
        assert_eq!(names(Axis::of_times([0.001, 40.0].into_iter(), [0.0, 9.0]).expect("times")), "1 ms, 10 ms, 0.1 s, 1 s, 10 s");
        assert_eq!(Axis::of_times([0.0, f64::NAN].into_iter(), [0.0, 9.0]), None);
    }
}
