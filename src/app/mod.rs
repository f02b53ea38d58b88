//! The studio window: one panel, one file. It talks to the studio and shows plain data; it holds no model code.

pub mod icons;
pub mod player;
pub mod theme;
