//! The window, driven as a person does: by clicks, drags and keys, and read through its accessibility tree.

mod player;
mod settings;
mod whole;
