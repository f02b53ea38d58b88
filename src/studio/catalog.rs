//! The models that the window offers: found and opened on a thread of their own, since a large one takes minutes to hash.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::StudioError;
use super::models::{ModelInfo, listed};
use crate::model::folder::ListedModel;

/// Looks for models and opens them, in the background. What was asked for is polled.
pub struct Catalog {
    shared: Arc<Mutex<Shelf>>,
    wishes: Sender<Wish>,
}

/// How far a model is opened.
#[derive(Clone, Debug)]
pub enum Opened {
    /// Its folder is being found and its weights are being listed.
    Opening,
    /// All that the settings ask of it is there; its files are still being read for its hash.
    Hashing(Arc<ModelInfo>),
    /// It can be run.
    Ready(Arc<ModelInfo>),
    /// Why it cannot be used.
    Failed(String),
}

/// A model of the list.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// The shortest name that means it.
    pub name: String,
    /// ROOT/NAME, which means it too.
    pub qualified_name: String,
    /// Where it is, for people.
    pub location: String,
    /// Without its hash; or why it cannot be used.
    pub model: Result<Arc<ModelInfo>, String>,
}

#[derive(Default)]
struct Shelf {
    opened: HashMap<String, Opened>,
    /// None until it was looked for models.
    entries: Option<Arc<Vec<CatalogEntry>>>,
}

enum Wish {
    /// Lists the models, and these folders.
    List(Vec<String>),
    Open(String),
}

impl Catalog {
    /// Nothing is looked for before somebody asks. `wake` is called from the catalog's thread whenever something new is to be
    /// seen.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(wake: impl Fn() + Send + 'static) -> Result<Self, StudioError> {
        let shared = Arc::<Mutex<Shelf>>::default();
        let (wishes, wished) = channel();
        let catalog = Self { shared: shared.clone(), wishes };
        let work = move || work(&shared, &wished, &wake);
        // It ends with the catalog's end of the channel, and nobody waits for a hash that nobody wants.
        thread::Builder::new().name("tilereel models".into()).spawn(work).map_err(StudioError::NoThread)?;
        Ok(catalog)
    }

    /// How far this model is opened; one that was not asked for before begins to be.
    pub fn get(&self, name: &str) -> Opened {
        let mut shelf = lock(&self.shared);
        if let Some(opened) = shelf.opened.get(name) {
            return opened.clone();
        }
        shelf.opened.insert(name.to_owned(), Opened::Opening);
        self.wish(Wish::Open(name.to_owned()));
        Opened::Opening
    }

    /// The models of the search path and those folders that the person opened; none until they were listed.
    pub fn entries(&self) -> Option<Arc<Vec<CatalogEntry>>> {
        lock(&self.shared).entries.clone()
    }

    /// Looks for models anew, and tries again what could not be opened. `folders` were opened by the person.
    pub fn list(&self, folders: &[String]) {
        lock(&self.shared).opened.retain(|_, opened| !matches!(opened, Opened::Failed(_)));
        self.wish(Wish::List(folders.to_vec()));
    }

    /// Opens a model anew, since its files may have changed.
    pub fn reopen(&self, name: &str) {
        lock(&self.shared).opened.insert(name.to_owned(), Opened::Opening);
        self.wish(Wish::Open(name.to_owned()));
    }

    fn wish(&self, wish: Wish) {
        // The thread ends only with the catalog.
        let _ = self.wishes.send(wish);
    }
}

impl Opened {
    /// The model, as soon as settings can be made for it.
    pub fn model(&self) -> Option<&Arc<ModelInfo>> {
        match self {
            Self::Hashing(model) | Self::Ready(model) => Some(model),
            Self::Opening | Self::Failed(_) => None,
        }
    }
}

impl CatalogEntry {
    /// Whether a model that was asked for by this name is this one.
    pub fn is_named(&self, name: &str) -> bool {
        [&self.name, &self.qualified_name, &self.location].into_iter().any(|own| own == name)
    }
}

fn work(shared: &Mutex<Shelf>, wished: &Receiver<Wish>, wake: &dyn Fn()) {
    let put = |name: &str, opened: Opened| {
        lock(shared).opened.insert(name.to_owned(), opened);
        wake();
    };
    // A list is quick and a hash is not: what is to be hashed waits until nothing else is wished.
    let mut to_hash: Vec<(String, Arc<ModelInfo>)> = Vec::new();
    loop {
        let wish = match to_hash.is_empty() {
            true => wished.recv().ok(),
            false => wished.try_recv().ok(),
        };
        match wish {
            Some(Wish::List(folders)) => {
                let entries = entries(listed(&folders));
                lock(shared).entries = Some(Arc::new(entries));
                wake();
            }
            Some(Wish::Open(name)) => match ModelInfo::find(&name) {
                Ok(model) => {
                    let model = Arc::new(model);
                    put(&name, Opened::Hashing(model.clone()));
                    to_hash.push((name, model));
                }
                Err(error) => put(&name, Opened::Failed(error.to_string())),
            },
            None => match to_hash.pop() {
                Some((name, model)) => match model.folder.hash() {
                    Ok(_) => put(&name, Opened::Ready(model)),
                    Err(error) => put(&name, Opened::Failed(error.to_string())),
                },
                None => return,
            },
        }
    }
}

fn entries(models: Vec<ListedModel>) -> Vec<CatalogEntry> {
    let mut entries: Vec<CatalogEntry> = Vec::new();
    for ListedModel { name: qualified_name, location, folder } in models {
        let name = match &folder {
            // The first of a name is the one that the name alone means.
            Ok(folder) if entries.iter().all(|entry| entry.name != folder.name()) && qualified_name != location => {
                folder.name().to_owned()
            }
            _ => qualified_name.clone(),
        };
        let model = folder.map_err(|error| error.to_string());
        let model = model.and_then(|folder| ModelInfo::of_folder(&name, folder).map_err(|error| error.to_string()));
        entries.push(CatalogEntry { name, qualified_name, location, model: model.map(Arc::new) });
    }
    entries
}

fn lock(shared: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::{Duration, Instant};

    use super::*;

    fn catalog() -> (Catalog, Receiver<()>) {
        let (woken, wakes) = channel();
        let wake = move || {
            let _ = woken.send(());
        };
        (Catalog::start(wake).unwrap(), wakes)
    }

    /// Looks now and after every wake-up: in a window that sleeps, nothing else would be seen.
    fn wait<T>(wakes: &Receiver<()>, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look() {
                return found;
            }
            match wakes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => panic!("nothing woke the window"),
                Err(RecvTimeoutError::Disconnected) => panic!("the catalog's thread ended"),
            }
        }
    }

    #[test]
    fn models_are_opened_beside_and_listed() {
        let (catalog, wakes) = catalog();
        let asked = Instant::now();
        assert!(catalog.get("base").model().is_none());
        assert!(asked.elapsed() < Duration::from_millis(50), "asking waits for nothing");
        let model = wait(&wakes, || match catalog.get("base") {
            Opened::Ready(model) => Some(model),
            _ => None,
        });
        assert_eq!(model.folder.name(), "base");
        assert!(catalog.entries().is_none());
        catalog.list(&[]);

        let (entries, fast) = wait(&wakes, || {
            let entries = catalog.entries()?;
            let fast = matches!(catalog.get("fast"), Opened::Ready(_));
            fast.then_some((entries, fast))
        });
        assert!(fast);
        let entry = entries.iter().find(|entry| entry.name == "fast").expect("fast is listed under its short name");
        assert!(entry.is_named("fast") && entry.is_named("mini/fast") && !entry.is_named("base"));
        assert!(entry.model.as_ref().unwrap().folder.facts().card.is_some());
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_is_tried_again() {
        let (catalog, wakes) = catalog();
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        catalog.get(&name);
        let reason = wait(&wakes, || match catalog.get(&name) {
            Opened::Failed(reason) => Some(reason),
            _ => None,
        });
        assert!(reason.contains(&name), "{reason}");
        catalog.list(std::slice::from_ref(&name));
        assert!(matches!(catalog.get(&name), Opened::Opening), "it is tried again");
        let entries = wait(&wakes, || catalog.entries().filter(|entries| entries.iter().any(|entry| entry.name == name)));
        let entry = entries.iter().find(|entry| entry.is_named(&name)).unwrap();
        assert!(entry.model.is_err());
    }
}
