//! The system's dialog for a file or a folder. It is open beside the window, and what was chosen is asked for.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use eframe::egui::Context;
use rfd::{AsyncFileDialog, FileHandle};

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
        match wanted {
            Wanted::ModelFolder => Self::wait(dialog.set_title("Open a model's folder").pick_folder(), context),
            Wanted::MaskPlan => {
                let dialog = dialog.set_title("Open a mask plan").add_filter("Mask plan", &["json"]);
                Self::wait(dialog.pick_file(), context)
            }
        }
    }

    /// Asks for a folder of clips.
    pub fn clips(context: &Context) -> Self {
        Self::wait(AsyncFileDialog::new().set_title("Open a folder of clips").pick_folder(), context)
    }

    /// Asks for the name of a file to write. `parent` is the window that the dialog belongs to.
    pub fn save(dialog: AsyncFileDialog, context: &Context, parent: Option<&eframe::Frame>) -> Self {
        let dialog = match parent {
            Some(parent) => dialog.set_parent(parent),
            None => dialog,
        };
        Self::wait(dialog.save_file(), context)
    }

    fn wait(dialog: impl Future<Output = Option<FileHandle>> + Send + 'static, context: &Context) -> Self {
        let (choose, chosen) = channel();
        let context = context.clone();
        let wait = move || {
            // Who asked may be gone.
            let _ = choose.send(pollster::block_on(dialog).map(|handle| handle.path().to_owned()));
            context.request_repaint();
        };
        // Without a thread there is no answer, which is seen as nothing chosen.
        let _ = thread::Builder::new().name("tilereel dialog".into()).spawn(wait);
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
