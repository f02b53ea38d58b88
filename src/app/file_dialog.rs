//! The system's dialog for a file or a folder. It is open beside the window, and what was chosen is asked for.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use eframe::egui::Context;
use rfd::AsyncFileDialog;

/// A dialog that is open.
pub struct FileDialog {
    chosen: Receiver<Option<PathBuf>>,
}

/// What a dialog is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    ModelFolder,
    MaskPlan,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Open,
    Chosen(PathBuf),
    /// Nothing was chosen, or the system has no dialog.
    Nothing,
}

impl FileDialog {
    /// To be called on the window's thread, as some systems ask for.
    pub fn open(wanted: Wanted, context: &Context) -> Self {
        let dialog = AsyncFileDialog::new();
        let (choose, chosen) = channel();
        let context = context.clone();
        let wait = move |handle: Option<rfd::FileHandle>| {
            let _ = choose.send(handle.map(|handle| handle.path().to_owned()));
            context.request_repaint();
        };
        match wanted {
            Wanted::ModelFolder => wait_beside(dialog.set_title("Open a model's folder").pick_folder(), wait),
            Wanted::MaskPlan => {
                let dialog = dialog.set_title("Open a mask plan").add_filter("Mask plan", &["json"]);
                wait_beside(dialog.pick_file(), wait);
            }
        }
        Self { chosen }
    }

    pub fn answer(&self) -> Answer {
        match self.chosen.try_recv() {
            Ok(Some(path)) => Answer::Chosen(path),
            Ok(None) | Err(TryRecvError::Disconnected) => Answer::Nothing,
            Err(TryRecvError::Empty) => Answer::Open,
        }
    }
}

fn wait_beside<T: 'static>(dialog: impl Future<Output = T> + Send + 'static, then: impl FnOnce(T) + Send + 'static) {
    // Without a thread there is no answer, which is seen as nothing chosen.
    let _ = thread::Builder::new().name("tilereel dialog".into()).spawn(move || then(pollster::block_on(dialog)));
}
