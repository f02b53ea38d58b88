//! The window's stored settings from the command line.

use std::fs;

use tilereel::studio::{Database, Home};

use super::Workplace;

#[test]
fn settings_go_and_the_rest_stays() {
    let place = Workplace::new();
    place.run(&["reset-settings"]).succeeds().says(&["nothing was removed"]);
    place.run(&["queue", "add", "a red ball", "--device", "cpu"]).succeeds();
    let home = Home::in_folder(place.root.path().join("data"));
    {
        let database = Database::open(&home.database()).expect("a database");
        for name in ["draft", "layout", "window"] {
            database.set_preference(name, &1).expect("it is kept");
        }
    }
    fs::write(home.window_file(), "()").expect("a file");

    // Who works on the home would write its own again.
    let lock = home.lock().expect("nobody else has it");
    place.run(&["reset-settings"]).complains(1, &["Another Tilereel works on", "Close it first"]);
    drop(lock);

    place.run(&["reset-settings"]).succeeds().says(&[
        "removed: the settings of the next clip",
        "removed: the places of the panels",
        "keys and recent commands",
        "size of the window",
        "1 item in the queue",
    ]);
    assert!(!home.window_file().exists());
    let database = Database::open(&home.database()).expect("a database");
    assert_eq!(database.preference::<u32>("draft").expect("it is read"), None);
    assert_eq!(database.items().expect("the queue").len(), 1);
    place.run(&["reset-settings"]).succeeds().says(&["nothing was removed"]);
}
