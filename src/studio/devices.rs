//! The devices that the person chose for the runs. They are kept by what they are, for numbers change when an adapter comes or
//! goes; one that is not there is left out and told, and counts again when it is back.

use serde::{Deserialize, Serialize};

use super::StudioError;
use super::shared::{DeviceWish, Shared};
use super::studio::Studio;
use crate::gpu::device::{self, AdapterReport, ComputeDevice, DeviceChoice, DeviceError};

/// The name of the preference.
pub(super) const PREFERENCE: &str = "devices";

/// One of the devices that take part in runs. The first of them does what is not shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenDevice {
    Cpu,
    Adapter {
        name: String,
        backend: String,
        /// Which of the adapters of that name, counted from 0.
        place: usize,
    },
}

impl ChosenDevice {
    /// The adapter of this number; None if there is none.
    pub fn adapter(adapters: &[AdapterReport], index: usize) -> Option<Self> {
        let at = adapters.iter().position(|adapter| adapter.index == index)?;
        let AdapterReport { name, backend, .. } = &adapters[at];
        let place = adapters[..at].iter().filter(|other| other.name == *name && other.backend == *backend).count();
        Some(Self::Adapter { name: name.clone(), backend: backend.clone(), place })
    }

    /// What stands for it now; None if it is not there.
    pub fn choice(&self, adapters: &[AdapterReport]) -> Option<DeviceChoice> {
        match self {
            Self::Cpu => Some(DeviceChoice::Cpu),
            Self::Adapter { name, backend, place } => {
                let mut alike = adapters.iter().filter(|adapter| adapter.name == *name && adapter.backend == *backend);
                alike.nth(*place).map(|adapter| DeviceChoice::Index(adapter.index))
            }
        }
    }

    /// In words for the person.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "the CPU".to_owned(),
            Self::Adapter { name, backend, place: 0 } => format!("{name} ({backend})"),
            Self::Adapter { name, backend, place } => format!("{name} ({backend}), number {} of that name", place + 1),
        }
    }
}

/// Those that are there, as one choice, and the others. Nothing chosen is the best device there is, and so is nothing found.
fn split(chosen: &[ChosenDevice], adapters: &[AdapterReport]) -> (DeviceChoice, Vec<ChosenDevice>) {
    let missing = chosen.iter().filter(|device| device.choice(adapters).is_none()).cloned().collect();
    let mut there: Vec<DeviceChoice> = chosen.iter().filter_map(|device| device.choice(adapters)).collect();
    let choice = match there.len() {
        0 => DeviceChoice::Auto,
        1 => there.remove(0),
        _ => DeviceChoice::Several(there),
    };
    (choice, missing)
}

/// Opens what was chosen, or of several those that open; each that does not is told.
fn open_those_that_open(
    choice: DeviceChoice,
    wish: &DeviceWish,
    tell: &mut dyn FnMut(String),
) -> Result<ComputeDevice, DeviceError> {
    let error = match (device::open(&choice, wish.precision), &choice) {
        (Err(error), DeviceChoice::Several(_)) => error,
        (opened, _) => return opened,
    };
    let DeviceChoice::Several(mut choices) = choice else { return Err(error) };
    choices.retain(|choice| match device::open(choice, wish.precision) {
        Ok(_) => true,
        Err(error) => {
            tell(format!("A device that was chosen is left out of the runs. {error}"));
            false
        }
    });
    match choices.len() {
        0 => Err(error),
        1 => device::open(&choices[0], wish.precision),
        _ => device::open(&DeviceChoice::Several(choices), wish.precision),
    }
}

impl Shared {
    /// Opens the device of a wish. Where the wish names none, those count that the person chose.
    pub(super) fn open_device(&self, wish: &DeviceWish) -> Result<ComputeDevice, DeviceError> {
        if wish.choice != DeviceChoice::Auto {
            self.change(|state| state.chosen.clear());
            return device::open(&wish.choice, wish.precision);
        }
        let chosen = self.wishes(|wishes| wishes.chosen.clone());
        if chosen.is_empty() {
            self.change(|state| state.chosen.clear());
            return device::open(&DeviceChoice::Auto, wish.precision);
        }
        let (choice, missing) = split(&chosen, &device::adapters());
        self.change(|state| state.chosen = chosen);
        for device in missing {
            let rest = if choice == DeviceChoice::Auto { "on the best device that there is" } else { "without it" };
            self.tell_once(format!(
                "{} is not there any more, so the next runs are made {rest}. When it is back it takes part again; the devices can be \
                 chosen in the settings.",
                device.name()
            ));
        }
        open_those_that_open(choice, wish, &mut |told| self.tell_once(told))
    }

    /// Tells something that stays as it is, and that would otherwise be told whenever the device is opened.
    fn tell_once(&self, what: String) {
        let is_new = self.wishes(|wishes| {
            let is_new = !wishes.told.contains(&what);
            if is_new {
                wishes.told.push(what.clone());
            }
            is_new
        });
        if is_new {
            self.note(&what);
        }
    }
}

impl Studio {
    /// Has the next runs made on these devices, the first of which does what is not shared; until the program ends, or remembered for
    /// later starts. No device at all stands for the best that there is.
    ///
    /// # Errors
    /// It cannot be remembered; it holds all the same.
    pub fn use_devices(&self, chosen: &[ChosenDevice], remember: bool) -> Result<(), StudioError> {
        self.shared().wish(|wishes| {
            if wishes.chosen != chosen {
                wishes.told.clear();
            }
            wishes.chosen = chosen.to_vec();
            wishes.device.choice = DeviceChoice::Auto;
            wishes.reopen_device = true;
        });
        if !remember {
            return Ok(());
        }
        self.database().set_preference(PREFERENCE, &chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_found_again_under_other_numbers() {
        let before = [AdapterReport::stand_in(0, "A"), AdapterReport::stand_in(1, "B"), AdapterReport::stand_in(2, "A")];
        let chosen: Vec<_> = [2, 1].map(|index| ChosenDevice::adapter(&before, index).unwrap()).into();
        let indices = |numbers: &[usize]| DeviceChoice::Several(numbers.iter().map(|&n| DeviceChoice::Index(n)).collect());
        assert_eq!(split(&chosen, &before), (indices(&[2, 1]), Vec::new()));
        // Another adapter came, and the order changed.
        let after = [
            AdapterReport::stand_in(0, "C"),
            AdapterReport::stand_in(1, "A"),
            AdapterReport::stand_in(2, "A"),
            AdapterReport::stand_in(3, "B"),
        ];
        assert_eq!(split(&chosen, &after), (indices(&[2, 3]), Vec::new()));
        // One of the two A went.
        let fewer = [AdapterReport::stand_in(0, "B"), AdapterReport::stand_in(1, "A")];
        assert_eq!(split(&chosen, &fewer), (DeviceChoice::Index(0), vec![chosen[0].clone()]));
        assert_eq!(split(&chosen, &[]), (DeviceChoice::Auto, chosen.clone()));
        assert_eq!(split(&[], &before), (DeviceChoice::Auto, Vec::new()));
        assert_eq!(ChosenDevice::adapter(&before, 3), None);
        assert_eq!(chosen[0].name(), "A (Vulkan), number 2 of that name");
    }

    #[test]
    fn of_several_those_are_opened_that_open() {
        let wish = DeviceWish { choice: DeviceChoice::Auto, precision: None, residency: Default::default() };
        let mut told = Vec::new();
        let several = |choices: &[DeviceChoice]| DeviceChoice::Several(choices.to_vec());
        let gone = DeviceChoice::Index(usize::MAX);
        let mut open = |choice| open_those_that_open(choice, &wish, &mut |what| told.push(what));
        let two = open(several(&[DeviceChoice::Cpu, gone.clone(), DeviceChoice::Cpu])).unwrap();
        assert_eq!(two.others.len(), 1);
        assert!(open(several(&[gone.clone(), DeviceChoice::Cpu])).unwrap().others.is_empty());
        assert!(open(several(std::slice::from_ref(&gone))).is_err());
        assert!(open(gone).is_err());
        assert_eq!(told.len(), 3, "{told:?}");
    }
}
