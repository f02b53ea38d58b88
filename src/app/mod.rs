//! The studio window: one panel, one file. It talks to the studio and shows plain data; it holds no model code.

pub mod action;
mod bench;
mod clip_card;
mod controls;
mod doing;
mod drop_target;
mod empty_state;
mod error_card;
mod export_choices;
pub mod export_dialog;
mod file_dialog;
pub mod forecast;
pub mod icons;
pub mod inspector;
mod keys;
mod launch;
mod layout;
pub mod library_panel;
pub mod mask_dial;
mod mask_picture;
pub mod models_menu;
pub mod player;
pub mod prompt;
pub mod queue_panel;
mod readings;
pub mod settings;
mod smoothness;
pub mod stage;
mod status_bar;
pub mod theme;
mod toasts;
pub mod vocabulary;
mod window;

pub use bench::Report;
pub use launch::{WindowOptions, open};
pub use window::Window;
