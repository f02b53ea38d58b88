//! The window, driven as a person does: by clicks, drags and keys, and read through its accessibility tree.

mod attention;
mod compare;
mod devices;
mod export;
mod feel;
mod inspect;
mod inspector;
mod lab;
mod library;
mod narrow;
mod painter;
mod panels;
mod player;
mod queue;
mod settings;
mod smooth;
mod states;
mod whole;
