//! From a recipe to a clip.
//!
//! Owns the [`recipe::Recipe`], the pipeline that runs it, the record of every step (from which a run can go on), the cheap
//! previews, the readings of what a finished run attended to, and the estimate of what a run will cost.

pub mod attention_record;
mod data_folder;
mod device_pace;
mod error;
pub mod estimate;
pub mod networks;
pub mod observer;
pub mod pipeline;
pub mod preview;
pub mod prompt_cache;
pub mod reading;
pub mod recipe;
mod record_writer;
pub mod residency;
pub mod step_record;
pub mod tensor_file;
pub mod timings;

pub use data_folder::data_folder;
pub use device_pace::set_pace;
pub use error::GenerateError;
