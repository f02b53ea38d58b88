//! Frame rates as exact fractions, and the delays of files that count time in coarse ticks.

use std::ops::RangeInclusive;

use super::ClipError;

/// The rates that every format can be written at.
pub const FRAMES_PER_SECOND: RangeInclusive<f64> = 0.001..=1000.0;

/// Frames per second as a fraction, so that 23.976 stays 24000/1001 through every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameRate {
    /// Ticks a second: the time scale of the file.
    pub(super) ticks_per_second: u32,
    /// Ticks a frame.
    pub(super) ticks_per_frame: u32,
}

impl FrameRate {
    /// The fraction that `frames_per_second` means: the NTSC rates (23.976, 29.97, 59.94, ..) over 1001, any other
    /// rate to a thousandth of a frame over 1000.
    ///
    /// # Errors
    /// [`ClipError::InvalidFrames`] outside 0.001 to 1000 frames per second.
    pub(super) fn new(frames_per_second: f64) -> Result<Self, ClipError> {
        if !FRAMES_PER_SECOND.contains(&frames_per_second) {
            return Err(ClipError::InvalidFrames {
                why: format!("{frames_per_second} frames per second is not between 0.001 and 1000"),
            });
        }
        let nominal = (frames_per_second * 1.001).round();
        let ntsc = nominal * 1000.0 / 1001.0;
        // 23.976 is written with three digits, 29.97 with two, so half a unit of the third digit separates them.
        if nominal >= 1.0 && (ntsc - frames_per_second).abs() < 0.0005 {
            return Ok(FrameRate { ticks_per_second: nominal as u32 * 1000, ticks_per_frame: 1001 });
        }
        Ok(FrameRate { ticks_per_second: (frames_per_second * 1000.0).round() as u32, ticks_per_frame: 1000 })
    }

    pub(super) fn frames_per_second(self) -> f64 {
        f64::from(self.ticks_per_second) / f64::from(self.ticks_per_frame)
    }

    /// The moment a frame is shown, in units of 1/`units_per_second`, rounded to the nearest.
    pub(super) fn start(self, frame: usize, units_per_second: u32) -> u64 {
        let scaled = frame as u128 * u128::from(self.ticks_per_frame) * u128::from(units_per_second);
        let rate = u128::from(self.ticks_per_second);
        ((scaled + rate / 2) / rate) as u64
    }

    /// How long each of `count` frames is shown, in units of 1/`units_per_second`, never under `least`: the rounding
    /// error of one frame is made up by the next, so the mean is right.
    pub(super) fn delays(self, count: usize, units_per_second: u32, least: u32) -> Vec<u32> {
        (0..count)
            .map(|frame| {
                let length = self.start(frame + 1, units_per_second) - self.start(frame, units_per_second);
                u32::try_from(length).unwrap_or(u32::MAX).max(least)
            })
            .collect()
    }

    /// The frame delay in seconds as a fraction of two 16-bit numbers (as APNG wants it): the smallest that is exact,
    /// or else the closest there is.
    pub(super) fn delay_fraction(self) -> (u16, u16) {
        let (frame_ticks, second_ticks) = (u64::from(self.ticks_per_frame), u64::from(self.ticks_per_second));
        (1..=u16::MAX)
            .map_while(|second| {
                let scaled = u64::from(second) * frame_ticks;
                let frame = u16::try_from((scaled + second_ticks / 2) / second_ticks).ok()?;
                Some((frame, second))
            })
            .filter(|&(frame, _)| frame > 0)
            .min_by(|&a, &b| {
                let error = |(frame, second): (u16, u16)| {
                    let exact = f64::from(second) / self.frames_per_second();
                    (f64::from(frame) - exact).abs() / exact
                };
                error(a).total_cmp(&error(b))
            })
            .unwrap_or((u16::MAX, 1))
    }
}

/// The mean rate of a file whose frames are shown for `delays` ticks each.
pub(super) fn mean_frames_per_second(delays: &[u32], ticks_per_second: u32) -> f64 {
    let total: u64 = delays.iter().map(|&delay| u64::from(delay)).sum();
    if total == 0 {
        return f64::from(ticks_per_second);
    }
    delays.len() as f64 * f64::from(ticks_per_second) / total as f64
}

/// The rate that a file with these delays was made for: a whole number of frames a second if that gives exactly these
/// delays, for coarse ticks hide it from the mean; else the mean.
pub(super) fn likely_frames_per_second(delays: &[u32], ticks_per_second: u32) -> f64 {
    let mean = mean_frames_per_second(delays, ticks_per_second);
    let whole = mean.round();
    match FrameRate::new(whole) {
        Ok(rate) if rate.delays(delays.len(), ticks_per_second, 1) == delays => whole,
        _ => mean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_rates_are_exact_fractions() {
        for (rate, ticks_per_second, ticks_per_frame) in [
            (24.0, 24000, 1000),
            (25.0, 25000, 1000),
            (23.976, 24000, 1001),
            (24000.0 / 1001.0, 24000, 1001),
            (29.97, 30000, 1001),
            (59.94, 60000, 1001),
            (8.0, 8000, 1000),
            (12.5, 12500, 1000),
            (0.5, 500, 1000),
        ] {
            let got = FrameRate::new(rate).unwrap();
            assert_eq!((got.ticks_per_second, got.ticks_per_frame), (ticks_per_second, ticks_per_frame), "{rate}");
        }
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(FrameRate::new(rate).is_err(), "{rate}");
        }
    }

    #[test]
    fn hundredths_alternate_and_keep_the_mean() {
        let delays = FrameRate::new(24.0).unwrap().delays(24, 100, 2);
        assert!(delays.iter().all(|delay| [4, 5].contains(delay)));
        assert_eq!(delays.iter().sum::<u32>(), 100);
        assert!((mean_frames_per_second(&delays, 100) - 24.0).abs() < 1e-9);
    }

    #[test]
    fn coarse_delays_still_tell_a_whole_rate() {
        for rate in [8.0, 12.0, 24.0, 25.0, 30.0] {
            for count in [1, 5, 29, 93] {
                let delays = FrameRate::new(rate).unwrap().delays(count, 1000, 1);
                assert!(count == 1 || likely_frames_per_second(&delays, 1000) == rate, "{count} frames at {rate}");
                let delays = FrameRate::new(rate).unwrap().delays(count, 100, 2);
                assert!(count < 29 || likely_frames_per_second(&delays, 100) == rate, "{count} frames at {rate}");
            }
        }
        // Nobody who wanted 24 frames a second writes this.
        assert_eq!(likely_frames_per_second(&[42; 5], 1000), 1000.0 / 42.0);
        assert_eq!(likely_frames_per_second(&[0; 5], 100), 100.0);
    }

    #[test]
    fn the_delay_fraction_fits_sixteen_bits() {
        assert_eq!(FrameRate::new(24.0).unwrap().delay_fraction(), (1, 24));
        assert_eq!(FrameRate::new(23.976).unwrap().delay_fraction(), (1001, 24000));
        // 120000/1001 does not fit; 2997/25, for one, is close.
        let (frame, second) = FrameRate::new(119.88).unwrap().delay_fraction();
        let error = f64::from(second) / f64::from(frame) - 120_000.0 / 1001.0;
        assert!(error.abs() < 1e-4, "{second}/{frame}");
        assert_eq!(FrameRate::new(0.001).unwrap().delay_fraction(), (1000, 1));
        assert_eq!(FrameRate::new(1000.0).unwrap().delay_fraction(), (1, 1000));
    }
}
