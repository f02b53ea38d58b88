//! What both fronts talk to: the engine's thread and the events that it sends.
//!
//! The fronts hold no model code. They hand a job to the [`Engine`], follow its [`Ticket`], and get typed results.

mod engine;

pub use engine::{Engine, EngineError, Event, Feed, Ticket, Workshop, quiet_engine_panics};
