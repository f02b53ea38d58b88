//! Telling the end of a long run to a person who is elsewhere: by the system's own messages where a program for them is there, and
//! by the window's title and its mark in the task bar everywhere.

use std::time::{Duration, Instant};

use eframe::egui::{Context, UserAttentionType, ViewportCommand};

use crate::studio::{ItemId, ItemState, State};

/// Shorter runs are waited for.
const LONG: Duration = Duration::from_secs(30);
const TITLE: &str = "Tilereel";

/// The run that goes on, and whether the title tells of one that has ended.
#[derive(Default)]
pub struct RunEnd {
    running: Option<Running>,
    title_tells: bool,
}

struct Running {
    item: ItemId,
    prompt: String,
    since: Instant,
}

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub title: &'static str,
    pub text: String,
}

impl RunEnd {
    /// Looks at the runs, and tells an end that nobody sees.
    pub fn follow(&mut self, context: &Context, state: &State, wanted: bool) {
        let focused = context.input(|input| input.focused);
        if focused && std::mem::take(&mut self.title_tells) {
            context.send_viewport_cmd(ViewportCommand::Title(TITLE.into()));
        }
        let ended = self.ended(state, Instant::now());
        if let Some(ended) = ended.filter(|_| wanted && !focused) {
            self.title_tells = true;
            context.send_viewport_cmd(ViewportCommand::Title(format!("{} – {TITLE}", ended.title)));
            context.send_viewport_cmd(ViewportCommand::RequestUserAttention(UserAttentionType::Informational));
            tell(&ended);
        }
    }

    /// What is to say of a run that has ended by itself since the last look, if it was a long one.
    fn ended(&mut self, state: &State, now: Instant) -> Option<Ended> {
        let live = state.live.as_ref();
        let before = match (&self.running, live) {
            (Some(running), Some(live)) if running.item == live.item => None,
            _ => self.running.take(),
        };
        if let (None, Some(live)) = (&self.running, live) {
            self.running = Some(Running { item: live.item, prompt: live.recipe.prompt.clone(), since: live.started });
        }
        let Running { item, prompt, since } = before?;
        if now.duration_since(since) < LONG {
            return None;
        }
        let left = state.queue.iter().find(|other| other.id == item);
        match left.map(|item| (item.state, &item.report)) {
            // It has left the queue for the library.
            None => Some(Ended { title: "The clip is finished", text: prompt }),
            Some((ItemState::Failed, Some(report))) => {
                Some(Ended { title: "A run could not go on", text: format!("{}: {prompt}", report.what) })
            }
            // Stopped by the person.
            Some(_) => None,
        }
    }
}

/// By the desktop's own program, if it is installed; nothing waits for it.
#[cfg(target_os = "linux")]
fn tell(ended: &Ended) {
    let Ended { title, text } = ended.clone();
    let told = std::thread::Builder::new().name("tilereel message".into()).spawn(move || {
        let mut program = std::process::Command::new("notify-send");
        let told = program.args(["--app-name=Tilereel", "--", title, &text]).output();
        if let Err(error) = told {
            log::info!("the end of the run is only in the window's title: notify-send: {error}");
        }
    });
    if let Err(error) = told {
        log::info!("{error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell(_: &Ended) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::estimate::{Basis, Estimate, PhaseValues};
    use crate::studio::tests::recipe;
    use crate::studio::{Fault, Live, QueueItem};

    fn state(live: Option<ItemId>, queue: Vec<QueueItem>) -> State {
        let nothing = PhaseValues { text: 0.0, sampling: 0.0, decoding: 0.0 };
        let estimate = Estimate {
            seconds: 1.0,
            basis: Basis::Typical,
            phases: nothing,
            flops: nothing,
            memory_bytes: 0,
            others_memory_bytes: Vec::new(),
            density: 1.0,
            model_calls: 8,
            longest_call_seconds: 0.0,
        };
        let live = live.map(|item| Live::new(item, recipe("a red ball"), estimate, 0));
        State { live, queue, ..State::default() }
    }

    fn item(id: ItemId, state: ItemState) -> QueueItem {
        let report = (state == ItemState::Failed).then(|| crate::studio::ErrorReport {
            fault: Fault::DeviceLost,
            what: "The graphics device went away".into(),
            why: String::new(),
            remedies: Vec::new(),
            details: String::new(),
        });
        let (recipe, model) = (recipe("a red ball"), "fast".into());
        QueueItem { id, state, recipe, model, leaves: None, steps_done: 3, seconds: 1.0, force: false, report }
    }

    #[test]
    fn long_runs_that_end_by_themselves_are_told_once() {
        let (run, soon) = (ItemId(1), Duration::from_secs(5));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        let end = |left: Vec<QueueItem>, seconds: u64| {
            let mut watch = RunEnd::default();
            assert_eq!(watch.ended(&state(Some(run), Vec::new()), Instant::now() + soon), None);
            let told = watch.ended(&state(None, left.clone()), later(seconds));
            assert_eq!(watch.ended(&state(None, left), later(seconds)), None, "it is told once");
            told
        };
        let finished = end(Vec::new(), 31).expect("it was long");
        assert_eq!((finished.title, finished.text.as_str()), ("The clip is finished", "a red ball"));
        assert_eq!(end(Vec::new(), 20), None);
        assert_eq!(end(vec![item(run, ItemState::Stopped)], 100), None);
        let failed = end(vec![item(run, ItemState::Failed)], 100).expect("it failed");
        assert!(failed.text.contains("went away"), "{failed:?}");
    }

    #[test]
    fn the_next_run_of_the_queue_does_not_hide_the_end_of_the_last() {
        let mut watch = RunEnd::default();
        watch.ended(&state(Some(ItemId(1)), Vec::new()), Instant::now());
        let now = Instant::now() + Duration::from_secs(60);
        let told = watch.ended(&state(Some(ItemId(2)), Vec::new()), now).expect("the first has ended");
        assert_eq!(told.title, "The clip is finished");
        assert_eq!(watch.running.map(|running| running.item), Some(ItemId(2)));
    }
}
