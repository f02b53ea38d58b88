//! What both fronts talk to: the engine's thread and the events that it sends, and the thread of an export.
//!
//! The fronts hold no model code. They hand a job to the [`Engine`], follow its [`Ticket`], and get typed results.

mod engine;
pub mod export;

pub use engine::{Engine, EngineError, Event, Feed, Ticket, Workshop, quiet_engine_panics};
pub use export::{Export, ExportError, ExportRequest};
