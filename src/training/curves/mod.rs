//! The curves of a run: a table that spreadsheets read, and a picture of it.

mod plot;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::error::TrainError;
use crate::clip::{self, WriteOptions};
use crate::model::weights::write_whole;
use plot::plot;

/// Columns in front of the run's own numbers.
const FIXED: [&str; 3] = ["step", "seconds", "samples"];

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub step: u64,
    /// Of training, over all sessions.
    pub seconds: f64,
    /// Seen in all.
    pub samples: u64,
    /// As many as the curves have names.
    pub numbers: Vec<f64>,
}

/// All rows of a run, over its sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    names: Vec<String>,
    rows: Vec<Row>,
}

impl Curves {
    pub fn new(names: &[&str]) -> Self {
        Self { names: names.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Goes on with the table of an earlier session, up to the step from which the run goes on. A table with other columns is
    /// left aside: it is of another version of the program.
    #[must_use]
    pub fn continued(mut self, path: &Path, up_to_step: u64) -> Self {
        let Ok(text) = fs::read_to_string(path) else { return self };
        let mut lines = text.lines();
        if lines.next() == Some(self.header().as_str()) {
            let rows = lines.filter_map(|line| self.parse(line)).filter(|row| row.step <= up_to_step);
            self.rows = rows.collect();
        }
        self
    }

    /// Those of a table that some run has written; none if it is none.
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let names: Vec<&str> = text.lines().next()?.split(',').collect();
        let curves = Self::new(names.strip_prefix(&FIXED)?);
        Some(curves.continued(path, u64::MAX))
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn push(&mut self, row: Row) {
        debug_assert_eq!(row.numbers.len(), self.names.len(), "a row has the curves' numbers");
        self.rows.push(row);
    }

    fn header(&self) -> String {
        FIXED.into_iter().chain(self.names.iter().map(String::as_str)).collect::<Vec<_>>().join(",")
    }

    fn parse(&self, line: &str) -> Option<Row> {
        let fields: Vec<&str> = line.split(',').collect();
        let [step, seconds, samples, numbers @ ..] = &fields[..] else { return None };
        let numbers: Vec<f64> = numbers.iter().map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let fits = numbers.len() == self.names.len();
        let row = Row { step: step.parse().ok()?, seconds: seconds.parse().ok()?, samples: samples.parse().ok()?, numbers };
        fits.then_some(row)
    }

    fn to_csv(&self) -> String {
        let mut text = self.header() + "\n";
        for row in &self.rows {
            // Writing into a String cannot fail.
            let _ = write!(text, "{},{:.2},{}", row.step, row.seconds, row.samples);
            for number in &row.numbers {
                let _ = write!(text, ",{number:.6e}");
            }
            text.push('\n');
        }
        text
    }

    /// Writes the table and, if there is something to see, the picture.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, table: &Path, picture: &Path) -> Result<(), TrainError> {
        write_whole(table, self.to_csv().as_bytes())?;
        if self.rows.len() > 1 {
            let steps: Vec<f64> = self.rows.iter().map(|row| row.step as f64).collect();
            let series = self
                .names
                .iter()
                .enumerate()
                .map(|(column, name)| (name.as_str(), self.rows.iter().map(|row| row.numbers[column]).collect::<Vec<f64>>()));
            clip::write_clip(picture, &plot(&steps, &series.collect::<Vec<_>>()), None, &WriteOptions::default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_on_where_the_run_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let (table, picture) = (folder.path().join("curves.csv"), folder.path().join("curves.png"));
        let mut curves = Curves::new(&["loss", "norm"]);
        for step in 1..=5u64 {
            curves.push(Row { step: step * 10, seconds: step as f64, samples: step, numbers: vec![1.0 / step as f64, 2.5] });
        }
        curves.write(&table, &picture).expect("written");
        assert!(fs::read_to_string(&table).expect("a table").starts_with("step,seconds,samples,loss,norm\n10,1.00,1,"));
        let size = clip::read_frames(&picture).map(|frames| (frames.width, frames.height));
        assert!(size.is_ok_and(|(width, height)| width > 300 && height > 200));
        let continued = Curves::new(&["loss", "norm"]).continued(&table, 35);
        assert_eq!(continued.rows().iter().map(|row| row.step).collect::<Vec<_>>(), [10, 20, 30]);
        assert!((continued.rows()[2].numbers[0] - 1.0 / 3.0).abs() < 1e-6);
        let read = Curves::read(&table).expect("a table");
        assert_eq!((read.names(), read.rows().len()), (&["loss".to_owned(), "norm".to_owned()][..], 5));
        assert!(Curves::new(&["other"]).continued(&table, 35).rows().is_empty());
    }
}
