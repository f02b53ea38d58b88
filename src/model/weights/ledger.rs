//! The ledger that a network takes its weights from: it remembers everything that does not fit and tells it all at once.
//!
//! A loader that stops at the first wrong key makes a person repair a checkpoint one key at a time. Here a network takes
//! all its parameters first, and [`WeightLedger::finish`] decides.

use std::collections::BTreeSet;
use std::fmt;

use super::error::{WeightError, shown};
use super::source::WeightSource;

/// How many names of a kind a message lists before it only counts.
const LISTED: usize = 12;

/// Hands out the tensors of one [`WeightSource`] and keeps the account of what was asked for and what was wrong.
#[derive(Debug)]
pub struct WeightLedger<'a> {
    origin: Origin<'a>,
    asked: BTreeSet<String>,
    mismatch: Mismatch,
}

/// Values for parameters that no file holds yet: where a training begins.
pub trait InitialValues: fmt::Debug {
    /// The values of the tensor with this published name and shape, row-major.
    fn values(&self, name: &str, shape: &[usize]) -> Vec<f32>;
}

#[derive(Debug)]
enum Origin<'a> {
    File(&'a WeightSource),
    Initial(&'a dyn InitialValues),
}

impl<'a> WeightLedger<'a> {
    pub fn new(source: &'a WeightSource) -> Self {
        let mismatch =
            Mismatch { location: source.location().to_owned(), in_file: source.tensors().len(), ..Mismatch::default() };
        Self { origin: Origin::File(source), asked: BTreeSet::new(), mismatch }
    }

    /// Every tensor that is asked for is there, in the shape that is asked for.
    pub fn initial(values: &'a dyn InitialValues) -> Self {
        let mismatch = Mismatch { location: "the initial values".to_owned(), ..Mismatch::default() };
        Self { origin: Origin::Initial(values), asked: BTreeSet::new(), mismatch }
    }

    /// True if the file has a tensor of this name, for parameters that are optional in the published layout.
    pub fn contains(&self, name: &str) -> bool {
        match self.origin {
            Origin::File(source) => source.info(name).is_some(),
            Origin::Initial(_) => true,
        }
    }

    /// The values of the tensor `name`, row-major, if it has exactly this shape and is finite.
    ///
    /// Otherwise the fault is remembered and an **empty** vector returned, whatever the shape: with the file of another
    /// network nearly every tensor is wrong, and placeholders of full size could ask for many gigabytes. A caller
    /// that must go on builds something small instead; nothing of it is used, as `finish` is an error then.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.take_any(&[name], shape)
    }

    /// As [`Self::take`] for a tensor that is published under several names: the first that the file has is used, and the
    /// others are accounted for. If it has none, the first name is reported as missing.
    pub fn take_any(&mut self, names: &[&str], shape: &[usize]) -> Vec<f32> {
        self.asked.extend(names.iter().map(|name| (*name).to_owned()));
        self.mismatch.asked += 1;
        let source = match self.origin {
            Origin::File(source) => source,
            Origin::Initial(initial) => return initial.values(names[0], shape),
        };
        let present = names.iter().find_map(|name| Some((*name, source.info(name)?)));
        let Some((name, info)) = present else {
            self.mismatch.missing.extend(names.first().map(|name| (*name).to_owned()));
            return Vec::new();
        };
        if info.shape != shape {
            self.mismatch.misshaped.push(Misshaped {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
            });
            return Vec::new();
        }
        let values = match source.read_f32(name) {
            Ok(values) => values,
            Err(error) => {
                self.mismatch.unreadable.push((name.to_owned(), error.to_string()));
                return Vec::new();
            }
        };
        let not_finite = values.iter().filter(|value| !value.is_finite()).count();
        if not_finite > 0 {
            self.mismatch.non_finite.push(NonFinite { name: name.to_owned(), count: not_finite, of: values.len() });
            return Vec::new();
        }
        values
    }

    /// Closes the account. `ignorable` says of a tensor's name that nobody needs to miss it.
    ///
    /// # Errors
    /// [`WeightError::Mismatch`] with every missing, unexpected, wrongly shaped, non-finite and unreadable tensor.
    pub fn finish(mut self, ignorable: impl Fn(&str) -> bool) -> Result<(), WeightError> {
        if let Origin::File(source) = self.origin {
            let names = source.tensors().map(|(name, _)| name);
            let unexpected = names.filter(|name| !self.asked.contains(*name) && !ignorable(name));
            self.mismatch.unexpected = unexpected.map(str::to_owned).collect();
        }
        if self.mismatch.is_empty() { Ok(()) } else { Err(WeightError::Mismatch(Box::new(self.mismatch))) }
    }
}

/// Everything in which a weight file differs from the network that was built from its `config.json`.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// The file's path, or its name inside the program.
    pub location: String,
    /// How many tensors the network asked for.
    pub asked: usize,
    /// How many tensors the file has.
    pub in_file: usize,
    pub missing: Vec<String>,
    pub unexpected: Vec<String>,
    pub misshaped: Vec<Misshaped>,
    pub non_finite: Vec<NonFinite>,
    /// Tensors that are there but could not be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// A tensor whose shape is not the one that the network has by its configuration.
#[derive(Debug)]
pub struct Misshaped {
    pub name: String,
    pub expected: Vec<usize>,
    pub found: Vec<usize>,
}

/// A tensor with values that are not numbers, or infinite.
#[derive(Debug)]
pub struct NonFinite {
    pub name: String,
    pub count: usize,
    pub of: usize,
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshaped.is_empty()
            && self.non_finite.is_empty()
            && self.unreadable.is_empty()
    }

    /// What the names of the file have in front, or lack, if that alone makes them unknown to the network.
    fn prefix_hint(&self) -> Option<String> {
        let missing = self.missing.first()?;
        let ends_with = |long: &str, short: &str| long.strip_suffix(short).filter(|p| p.ends_with('.')).map(str::to_owned);
        self.unexpected.iter().find_map(|unexpected| {
            if let Some(prefix) = ends_with(unexpected, missing) {
                return Some(format!(
                    "The names in the file begin with \"{}\", which the published names do not: it was probably saved \
                     from a wrapper around the network.",
                    shown(&prefix)
                ));
            }
            let prefix = ends_with(missing, unexpected)?;
            Some(format!("The names in the file lack the \"{prefix}\" that the published names begin with."))
        })
    }

    /// The likeliest cause, from the pattern of the faults.
    fn cause(&self) -> String {
        if let Some(hint) = self.prefix_hint() {
            return hint;
        }
        if !self.unreadable.is_empty() {
            "The file could not be read to its end: it is damaged, was replaced meanwhile, or is a quantised one."
        } else if self.asked > 0 && self.missing.len() == self.asked {
            "The file has not one of the names that this network uses: it belongs to another kind of network."
        } else if !self.misshaped.is_empty() {
            "The config.json beside the file describes a network of another size than these weights are from."
        } else if !self.missing.is_empty() && self.unexpected.is_empty() {
            "The file is incomplete, or config.json asks for more layers than these weights have."
        } else if !self.unexpected.is_empty() && self.missing.is_empty() {
            "The weights are of a larger network than config.json describes, or of another version of it."
        } else if !self.missing.is_empty() {
            "The weights are of another version of this network than config.json describes."
        } else {
            "Values were lost: the training diverged, or a conversion to 16 bits overflowed."
        }
        .to_owned()
    }

    fn remedy(&self) -> &'static str {
        let only_values = self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty();
        if only_values && self.unreadable.is_empty() {
            "use an earlier checkpoint, or one in full precision."
        } else {
            "take config.json and the weights from the same published folder, and fetch them again if in doubt."
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the weights {} do not fit the network ({} tensors are needed, the file has {}).",
            self.location, self.asked, self.in_file
        )?;
        list(f, "missing", &self.missing, |f, name| f.write_str(&shown(name)))?;
        list(f, "unexpected", &self.unexpected, |f, name| f.write_str(&shown(name)))?;
        list(f, "wrong shape", &self.misshaped, |f, wrong| {
            write!(f, "{}: expected {:?}, found {:?}", shown(&wrong.name), wrong.expected, wrong.found)
        })?;
        list(f, "not finite", &self.non_finite, |f, wrong| {
            write!(f, "{}: {} of {} values are NaN or infinite", shown(&wrong.name), wrong.count, wrong.of)
        })?;
        list(f, "unreadable", &self.unreadable, |f, (name, reason)| write!(f, "{}: {reason}", shown(name)))?;
        writeln!(f, "Why: {}", self.cause())?;
        write!(f, "What to do: {}", self.remedy())
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    faults: &[T],
    write_one: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if faults.is_empty() {
        return Ok(());
    }
    writeln!(f, "{what} ({}):", faults.len())?;
    for fault in faults.iter().take(LISTED) {
        f.write_str("  ")?;
        write_one(f, fault)?;
        writeln!(f)?;
    }
    if faults.len() > LISTED {
        writeln!(f, "  and {} more", faults.len() - LISTED)?;
    }
    Ok(())
}
