//! Where the program keeps what it learns and makes.

use std::path::PathBuf;

/// Replaces the user's data folder.
const VARIABLE: &str = "TILEREEL_DATA";

/// The folder that TILEREEL_DATA names, else `tilereel` among the user's application data. None where the system knows no home.
pub fn data_folder() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(directories::ProjectDirs::from("", "", "tilereel")?.data_dir().to_owned()))
}
