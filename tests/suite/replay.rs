//! Calls of the transformer that are recorded once and played back, through whole runs.

use tilereel::generate::networks::Recorded;
use tilereel::generate::observer::Unobserved;
use tilereel::generate::pipeline::{LoadedModel, RunOptions};
use tilereel::generate::recipe::{MaskChoice, Recipe};
use tilereel::gpu::device::{self, DeviceChoice};
use tilereel::model::folder::{ModelFolder, SearchPath};

/// With other sentences, seeds, guidance, masks and sizes after each other, by one model that is loaded once.
#[test]
fn clips_are_the_same_whether_calls_are_played_back_or_not() {
    let Some(adapter) = device::adapters().into_iter().next() else { return };
    let device = device::open(&DeviceChoice::Index(adapter.index), None).expect("the adapter opens");
    let folder = ModelFolder::resolve("mini/fast", &SearchPath::standard()).expect("mini");
    let recipe = |prompt: &str, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = Recipe::of_model(&folder, prompt, device.precision).expect("a recipe");
        (recipe.frames, recipe.width, recipe.height, recipe.steps) = (9, 32, 32, 3);
        recipe.set_mask(&folder, &MaskChoice::Plan).expect("a mask");
        change(&mut recipe);
        recipe
    };
    let dense = |recipe: &mut Recipe| recipe.set_mask(&folder, &MaskChoice::Dense).expect("a mask");
    let recipes = [
        recipe("a red cube spins on the sand", &|_| {}),
        recipe("a white ball beside a green cone", &|recipe| recipe.seed = 5),
        recipe("a white ball beside a green cone", &|recipe| recipe.guidance_scale = 2.0),
        recipe("a blue ring at night", &dense),
        recipe("a blue ring at night", &|recipe| recipe.height = 48),
        recipe("a red cube spins on the sand", &|_| {}),
    ];
    let clips = |recorded: &dyn Fn() -> Recorded| -> Vec<(Vec<u8>, bool)> {
        let mut model = LoadedModel::load(folder.clone(), &device).expect("mini");
        let run = |recipe: &Recipe| {
            // As after a call that was quick; what is there already stays.
            let is_there = matches!(*model.networks().recorded.borrow(), Recorded::Call(_));
            if !is_there {
                model.networks().recorded.replace(recorded());
            }
            let made = model.run(recipe, &RunOptions::default(), &mut Unobserved).expect("a clip");
            let plays_back = matches!(*model.networks().recorded.borrow(), Recorded::Call(_));
            (made.frames.rgb, plays_back)
        };
        recipes.iter().map(run).collect()
    };
    let called = clips(&|| Recorded::Never);
    let played = clips(&|| Recorded::NotYet { last_call_seconds: 0.0 });
    assert!(called.iter().all(|(_, plays_back)| !plays_back));
    // Where rows or sizes are others than those before, the recording is given up, and a slow adapter makes no other.
    assert!([0, 1, 3, 5].into_iter().all(|index| played[index].1), "nothing was played back");
    for (index, ((called, _), (played, _))) in called.iter().zip(&played).enumerate() {
        assert!(called == played, "clip {index}");
    }
}
