//! What the checks say: one line a compared case, and the sum at the end.

use std::fmt::Display;

/// Largest errors that a case may have; both must hold.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub relative_l2: f64,
    pub max_abs: f64,
}

impl Tolerance {
    pub const fn relative(relative_l2: f64) -> Self {
        Self { relative_l2, max_abs: f64::INFINITY }
    }
}

#[derive(Default)]
pub struct Report {
    pub passed: usize,
    pub failed: usize,
}

impl Report {
    /// Compares values; a length that differs, a value that is not finite and a result of zeros alone fail too.
    pub fn close(&mut self, set: &str, case: &str, what: &str, got: &[f32], want: &[f32], tolerance: Tolerance) {
        if got.len() != want.len() {
            return self.line(set, case, what, false, format!("{} values where {} were expected", got.len(), want.len()));
        }
        let square = |x: f64| x * x;
        let norm = want.iter().map(|&w| square(f64::from(w))).sum::<f64>().sqrt();
        let difference = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - f64::from(w))).sum::<f64>().sqrt();
        let max_abs = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - f64::from(w)).abs()).fold(0.0, f64::max);
        let relative = if norm > 0.0 { difference / norm } else { difference };
        let sound = got.iter().all(|g| g.is_finite()) && (norm == 0.0 || got.iter().any(|&g| g != 0.0));
        let ok = sound && relative <= tolerance.relative_l2 && max_abs <= tolerance.max_abs;
        let limit = if tolerance.max_abs.is_finite() { format!(" and {:.0e}", tolerance.max_abs) } else { String::new() };
        let detail = format!("relative L2 {relative:.2e}, max abs {max_abs:.2e} (at most {:.1e}{limit})", tolerance.relative_l2);
        self.line(set, case, what, ok, detail);
    }

    pub fn exact(&mut self, set: &str, case: &str, what: &str, ok: bool, detail: impl Display) {
        self.line(set, case, what, ok, detail.to_string());
    }

    fn line(&mut self, set: &str, case: &str, what: &str, ok: bool, detail: String) {
        if ok {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        println!("{}  {set} / {case} / {what}: {detail}", if ok { "ok  " } else { "FAIL" });
    }
}
