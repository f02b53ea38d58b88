//! The system's own file dialogs. They are asked for on the window's thread, as some systems want it, and waited for on
//! another one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use eframe::egui::Context;
use rfd::AsyncFileDialog;

/// A dialog that is open, or was closed just now.
pub struct FileDialog {
    chosen: Receiver<Option<PathBuf>>,
}

/// What is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    ModelFolder,
    MaskPlan,
}

impl FileDialog {
    /// Asks for something to open.
    pub fn open(context: &Context, wanted: Wanted) -> Self {
        let dialog = AsyncFileDialog::new();
        match wanted {
            Wanted::ModelFolder => Self::wait(context, dialog.set_title("Open a model's folder").pick_folder()),
            Wanted::MaskPlan => {
                let dialog = dialog.set_title("Open a mask plan").add_filter("Mask plan", &["json"]);
                Self::wait(context, dialog.pick_file())
            }
        }
    }

    /// Asks for a name to save under. `parent` is the window that it belongs to.
    pub fn save(context: &Context, parent: Option<&eframe::Frame>, dialog: AsyncFileDialog) -> Self {
        let dialog = match parent {
            Some(parent) => dialog.set_parent(parent),
            None => dialog,
        };
        Self::wait(context, dialog.save_file())
    }

    fn wait(context: &Context, choice: impl Future<Output = Option<rfd::FileHandle>> + Send + 'static) -> Self {
        let (send, chosen) = channel();
        let context = context.clone();
        let wait = move || {
            let path = pollster::block_on(choice).map(|file| file.path().to_owned());
            // The person may have closed what asked.
            let _ = send.send(path);
            context.request_repaint();
        };
        // Without a thread the channel is closed, which reads as a dialog that was closed.
        let _ = thread::Builder::new().name("tilereel file dialog".into()).spawn(wait);
        Self { chosen }
    }

    /// What was chosen, once the dialog is closed: None inside if nothing was, or if no dialog could open.
    pub fn closed(&self) -> Option<Option<PathBuf>> {
        match self.chosen.try_recv() {
            Ok(path) => Some(path),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(None),
        }
    }
}
