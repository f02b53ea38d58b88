//! The studio without a window: a real queue, a real library and the real model on the CPU, at small sizes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tilereel::clip::read_frames;
use tilereel::generate::attention_record::{AttentionRecord, Recording};
use tilereel::generate::recipe::{MaskChoice, Recipe};
use tilereel::gpu::device::{DeviceChoice, Precision};
use tilereel::mask::MaskPlan;
use tilereel::model::latent::TokenPlace;
use tilereel::studio::{
    ChosenDevice, ClipEntry, ClipId, DEFAULT_RECORDING, DeviceState, DeviceWish, Draft, Fault, Home, ItemId, ItemState, Loaded,
    ModelInfo, NewItem, Picture, State, Studio, StudioError, Task, Verdict, variations,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A home that goes when the test ends.
pub struct Place {
    _folder: TempDir,
    pub home: Home,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { home: Home::in_folder(folder.path()), _folder: folder }
    }

    pub fn open(&self) -> Studio {
        Studio::open(self.home.clone(), DeviceWish { choice: DeviceChoice::Cpu, precision: None, residency: Default::default() })
            .expect("a studio")
    }
}

/// Waits until `done` says so.
pub fn wait<T>(studio: &Studio, what: &str, mut done: impl FnMut(&State) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done(&studio.state()) {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}; the queue is {:?}", studio.state().queue);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn finish<T: Send + 'static>(task: &Task<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = task.take_result() {
            return result.expect("the task succeeds");
        }
        assert!(start.elapsed() < PATIENCE, "the task does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn recipe(prompt: &str, seed: u64) -> Recipe {
    let model = ModelInfo::open("fast").expect("mini");
    let mut draft = Draft::of_model("fast", model.folder.facts());
    (draft.prompt, draft.seed, draft.steps) = (prompt.into(), seed, 6);
    (draft.frames, draft.width, draft.height) = (5, 64, 32);
    draft.recipe(&model, Precision::F32).expect("a recipe")
}

fn item(recipe: Recipe) -> NewItem {
    NewItem { recipe, model: "fast".into(), leaves: None, force: false }
}

/// Large enough to be stopped on the way.
fn slow(prompt: &str) -> NewItem {
    let mut recipe = recipe(prompt, 3);
    (recipe.width, recipe.height, recipe.steps) = (256, 144, 30);
    item(recipe)
}

fn make(studio: &Studio, item: NewItem) -> ClipEntry {
    let before = studio.state().newest;
    let ids = studio.enqueue(&[item]).expect("queued");
    let newest = wait(studio, "a clip", |state| {
        let failed = state.queue.iter().find(|item| item.id == ids[0]).and_then(|item| item.report.clone());
        assert_eq!(failed, None);
        state.newest.filter(|newest| Some(*newest) != before)
    });
    studio.clip(newest).expect("the clip")
}

fn frames_sha256(clip: &ClipEntry) -> &str {
    &clip.recipe.made.as_ref().expect("a made clip").frames_sha256
}

#[test]
fn chosen_devices_outlive_the_program_and_those_that_are_gone_are_left_out() {
    let place = Place::new();
    let wish = |choice| DeviceWish { choice, precision: None, residency: Default::default() };
    let open = |choice| Studio::open(place.home.clone(), wish(choice)).expect("a studio");
    let gone = ChosenDevice::Adapter { name: "Gone 9000".into(), backend: "Vulkan".into(), place: 0 };
    let chosen = [ChosenDevice::Cpu, gone.clone(), ChosenDevice::Cpu];
    let are_two = |studio: &Studio| {
        wait(studio, "two devices", |state| match &state.device {
            DeviceState::Ready(device) => (device.others.len() == 1).then_some(()),
            _ => None,
        });
    };
    let told = |state: &State| state.notes.iter().filter(|note| note.contains("Gone 9000 (Vulkan) is not there")).count();

    let studio = open(DeviceChoice::Cpu);
    studio.use_devices(&chosen, true).expect("they are kept");
    are_two(&studio);
    assert_eq!(told(&studio.state()), 1, "{:?}", studio.state().notes);
    assert_eq!(studio.state().chosen, chosen);
    // What was read is not told again, however often the device is opened.
    let note = studio.state().notes[0].clone();
    studio.dismiss_note(&note);
    studio.use_devices(&chosen, false).expect("nothing is kept");
    let clip = make(&studio, item(recipe("a red ball", 1)));
    let made = clip.recipe.made.expect("a made clip");
    assert!(made.device.contains(" and CPU"), "{}", made.device);
    assert_eq!(told(&studio.state()), 0);
    drop(studio);

    let studio = open(DeviceChoice::Auto);
    are_two(&studio);
    assert_eq!((studio.state().chosen.as_slice(), told(&studio.state())), (&chosen[..], 1), "told once at every start");
    drop(studio);

    // What the command line says goes before, for as long as the program runs.
    let studio = open(DeviceChoice::Cpu);
    wait(&studio, "one device", |state| match &state.device {
        DeviceState::Ready(device) => device.others.is_empty().then_some(()),
        _ => None,
    });
    assert!(studio.state().chosen.is_empty() && studio.state().notes.is_empty());
    // None of them left is no error either.
    studio.use_devices(&[gone], true).expect("it is kept");
    wait(&studio, "another device", |state| (told(state) == 1 && matches!(state.device, DeviceState::Ready(_))).then_some(()));
    studio.use_devices(&[], true).expect("nothing is kept");
    wait(&studio, "the best device", |state| {
        (state.chosen.is_empty() && matches!(state.device, DeviceState::Ready(_))).then_some(())
    });
}

#[test]
fn a_clip_is_made_and_kept_with_all_its_steps() {
    let place = Place::new();
    let studio = place.open();
    let clip = make(&studio, item(recipe("a red ball", 1)));
    let kept = read_frames(&place.home.clip_file(clip.id)).expect("the frames");
    assert_eq!(kept.sha256(), frames_sha256(&clip));
    assert_eq!((kept.count(), kept.width, kept.height), (5, 64, 32));
    assert_eq!(studio.steps_of(clip.id), 6);
    wait(&studio, "an empty queue", |state| state.queue.is_empty().then_some(()));
    assert!(!place.home.run_folder(ItemId(1)).exists(), "the steps have moved into the library");
    for step in 1..=6 {
        let small = wait(&studio, "a projection", |_| studio.picture(Picture::Projection(clip.id, step)).frames());
        assert_eq!((small.count(), small.width, small.height), (2, 8, 4));
    }
    let thumbnail = wait(&studio, "a thumbnail", |_| studio.picture(Picture::Thumbnail(clip.id)).frames());
    assert_eq!((thumbnail.count(), thumbnail.width), (5, 64));
    assert_eq!(studio.database().prompts(5).expect("prompts"), ["a red ball"]);

    let verdict = finish(&studio.verify_clip(clip.id).expect("a task"));
    assert_eq!(verdict, Verdict::Identical { frames_sha256: frames_sha256(&clip).to_owned(), edited: None });

    // The last step's estimate is nearly the clip (DDIM ends a little above no noise at all); the first one's is not.
    let worst_psnr = |step: usize| {
        finish(&studio.decode_step(clip.id, step).expect("a task"));
        let decoded = studio.picture(Picture::Decoded(clip.id, step)).frames().expect("on the shelf");
        decoded.psnr(&kept).into_iter().fold(f64::INFINITY, f64::min)
    };
    let (last, first) = (worst_psnr(6), worst_psnr(1));
    assert!(last > 40.0 && first < 30.0, "{last} dB after the last step, {first} dB after the first");
}

/// The record, or why there is none; None as long as it is not read.
fn attention(studio: &Studio, clip: ClipId, step: usize) -> Option<Result<Arc<AttentionRecord>, String>> {
    match studio.attention(clip, step) {
        Loaded::NotYet => None,
        Loaded::Ready(record) => Some(Ok(record)),
        Loaded::Failed(reason) => Some(Err(reason.to_string())),
    }
}

/// Where the steps looked: live, in the library, in what a branch keeps, and never if the person does not want it.
#[test]
fn attention_is_recorded_as_the_person_wishes() {
    let place = Place::new();
    let studio = place.open();
    assert_eq!(studio.recording(), DEFAULT_RECORDING);
    studio.record_attention(Some(Recording::Exact)).expect("remembered");
    let before = studio.state().newest;
    studio.enqueue(&[slow("a red ball")]).expect("queued");
    let live = wait(&studio, "some records", |state| {
        state.live.as_ref().map(|live| live.attention.clone()).filter(|records| records.iter().flatten().count() >= 3)
    });
    studio.record_attention(None).expect("remembered");
    let clip = wait(&studio, "the clip", |state| state.newest.filter(|newest| Some(*newest) != before));
    let first = live[0].as_ref().expect("the first step was recorded");
    assert_eq!((live.len(), first.call, first.recording), (30, 0, Recording::Exact));
    let kept = wait(&studio, "the record", |_| attention(&studio, clip, 1)).expect("a record");
    assert_eq!(kept, *first);
    let reason = wait(&studio, "no record", |_| attention(&studio, clip, 30)).expect_err("the last step was not recorded");
    assert!(reason.contains("step 30") && reason.contains("--attention"), "{reason}");

    // A branch has the records of the steps before it.
    let entry = studio.clip(clip).expect("the clip");
    let leaving = studio.leaving(clip, 2).expect("a step");
    let model = ModelInfo::open("fast").expect("mini");
    let branch = Draft::of_recipe(&entry.recipe, "fast").branch(&model, Precision::F32, &leaving).expect("a branch");
    let branch = make(&studio, branch);
    assert_eq!(wait(&studio, "the record", |_| attention(&studio, branch.id, 2)).expect("a record").call, 1);
    assert!(wait(&studio, "no record", |_| attention(&studio, branch.id, 3)).is_err());

    // What is damaged says so, and the wish outlives the program.
    let path = AttentionRecord::path_in(&place.home.steps_folder(branch.id), 1);
    let mut bytes = std::fs::read(&path).expect("a record");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let reason = wait(&studio, "the fault", |_| attention(&studio, branch.id, 1)).expect_err("it is damaged");
    assert!(reason.contains("attention-0001.png cannot be used"), "{reason}");
    drop(studio);
    assert_eq!(place.open().recording(), None);
}

/// A plan with other masks for later steps gives the very frames of a run that is left at that step for a run with those masks.
#[test]
fn every_step_obeys_the_masks_of_its_range() {
    let place = Place::new();
    let studio = place.open();
    let model = ModelInfo::open("fast").expect("mini");
    let with = |plan: &MaskPlan| {
        let mut recipe = recipe("a red ball", 1);
        recipe.frames = 9;
        let plan = serde_json::from_str(&plan.to_json().expect("JSON")).expect("JSON");
        recipe.set_mask(&model.folder, &MaskChoice::Given(plan)).expect("a mask");
        recipe
    };
    let [dense, sparse] = ["full", "1:2"].map(|name| MaskPlan::uniform(model.layers, 3, name).expect("a plan"));
    let whole = make(&studio, item(with(&dense)));
    let mut branch = with(&sparse);
    branch.branch_from(with(&dense), 3);
    let branch = make(&studio, NewItem { leaves: Some(whole.id), ..item(branch) });

    let ranged = MaskPlan::of_ranges(vec![(0.0, dense.clone()), (0.5, sparse.clone())]).expect("a plan");
    let ranged = make(&studio, item(with(&ranged)));
    assert_eq!(ranged.recipe.format, 3);
    assert_eq!(frames_sha256(&ranged), frames_sha256(&branch));
    assert_ne!(frames_sha256(&ranged), frames_sha256(&whole), "the masks make a difference");
    // What is shown of a step is what it obeyed.
    let plan_of =
        |step: usize| wait(&studio, "the record", |_| attention(&studio, ranged.id, step)).expect("a record").plan().clone();
    assert_eq!([1, 3, 4, 6].map(plan_of), [dense.clone(), dense, sparse.clone(), sparse]);
    let verdict = finish(&studio.verify_clip(ranged.id).expect("a task"));
    assert!(matches!(verdict, Verdict::Identical { .. }), "{verdict:?}");
}

#[test]
fn what_a_clip_attended_to_is_read_again() {
    let place = Place::new();
    let studio = place.open();
    let clip = make(&studio, item(recipe("a red ball", 1))).id;
    let at = TokenPlace { frame: 1, y: 1, x: 3 };
    let reads = finish(&studio.point_reads(clip, 3, 2, at).expect("a task"));
    assert_eq!((reads.place, reads.layer, reads.grid), (at, 2, [2, 2, 4]));
    let maps = finish(&studio.word_maps(clip, 1, None).expect("a task"));
    assert_eq!(maps.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["a", "red", "ball"]);
    for step in [0, 7] {
        assert!(matches!(studio.point_reads(clip, step, 0, at), Err(StudioError::NoSuchStep { .. })));
        assert!(matches!(studio.word_maps(clip, step, None), Err(StudioError::NoSuchStep { .. })));
    }
    // A run that goes on comes first.
    let ids = studio.enqueue(&[slow("a blue cube")]).expect("queued");
    wait(&studio, "its first step", |state| state.live.as_ref().filter(|live| live.calls_done > 0).map(|_| ()));
    let task = studio.point_reads(clip, 1, 0, at).expect("a task");
    std::thread::sleep(Duration::from_millis(300));
    assert!(studio.state().live.is_some() && task.take_result().is_none(), "it waits");
    studio.stop(ids[0]).expect("stopped");
    assert_eq!(finish(&task).layer, 0);
}

#[test]
fn a_step_that_goes_on_unchanged_ends_the_same() {
    let place = Place::new();
    let studio = place.open();
    let original = make(&studio, item(recipe("a red ball", 1)));
    let model = ModelInfo::open("fast").expect("mini");
    for step in [1, 4] {
        let leaving = studio.leaving(original.id, step).expect("a step");
        let draft = Draft::of_recipe(&original.recipe, "fast");
        let branch = draft.branch(&model, Precision::F32, &leaving).expect("a branch");
        let again = make(&studio, branch.clone());
        assert_eq!(frames_sha256(&again), frames_sha256(&original), "from step {step}");
        assert_eq!(studio.steps_of(again.id), 6, "the steps before the branch belong to it too");
        // Without the record, the run before the branch is made again.
        let unaided = make(&studio, NewItem { leaves: None, ..branch });
        assert_eq!(frames_sha256(&unaided), frames_sha256(&original), "from step {step} without its record");
    }
}

#[test]
fn branches_change_the_rest_and_prove_themselves() {
    let place = Place::new();
    let studio = place.open();
    let original = make(&studio, item(recipe("a red ball", 1)));
    let model = ModelInfo::open("fast").expect("mini");
    let leaving = studio.leaving(original.id, 3).expect("a step");
    let mut draft = Draft::of_recipe(&original.recipe, "fast");
    draft.prompt = "a blue cube on the snow".into();
    let branch = make(&studio, draft.branch(&model, Precision::F32, &leaving).expect("a branch"));
    assert_ne!(frames_sha256(&branch), frames_sha256(&original));
    assert!(matches!(finish(&studio.verify_clip(branch.id).expect("a task")), Verdict::Identical { .. }));

    // A branch of the branch, from a step of its own, and from one that it has from the original.
    for (step, prompt) in [(5, "a blue cube on the snow"), (2, "a red ball")] {
        let leaving = studio.leaving(branch.id, step).expect("a step");
        assert_eq!(leaving.recipe.prompt, prompt, "step {step} was made with this prompt");
        draft.prompt = "a green cone at night".into();
        let nested = make(&studio, draft.branch(&model, Precision::F32, &leaving).expect("a branch"));
        assert!(matches!(finish(&studio.verify_clip(nested.id).expect("a task")), Verdict::Identical { .. }), "step {step}");
    }

    // Variations: the later they leave, the closer they are.
    let distance = |step: usize| {
        let leaving = studio.leaving(original.id, step).expect("a step");
        let items = variations(&leaving, "fast", 2).expect("variations");
        assert_ne!(items[0].recipe.seed, items[1].recipe.seed);
        let clip = make(&studio, items[0].clone());
        let frames = |id: ClipId| read_frames(&place.home.clip_file(id)).expect("frames");
        let psnr = frames(clip.id).psnr(&frames(original.id));
        psnr.iter().sum::<f64>() / psnr.len() as f64
    };
    let (early, late) = (distance(1), distance(5));
    assert!(late > early && late.is_finite(), "{late} dB from step 5, {early} dB from step 1");
}

#[test]
fn a_stopped_run_keeps_its_steps_and_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let studio = place.open();
    let undisturbed = make(&studio, slow("a red ball"));
    let started = |steps: usize| {
        let id = studio.enqueue(&[slow("a red ball")]).expect("queued")[0];
        wait(&studio, "some steps", |state| state.live.as_ref().filter(|live| live.calls_done >= steps).map(|_| ()));
        id
    };
    let id = started(2);
    let asked = Instant::now();
    studio.stop(id).expect("it stops");
    let item = wait(&studio, "the stop", |state| {
        state.queue.iter().find(|item| item.id == id && item.state == ItemState::Stopped).cloned()
    });
    assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    assert!(item.steps_done >= 2 && item.steps_done < 30);
    assert!(studio.state().live.is_none());
    // What is on disk is shown while it goes on.
    studio.resume(id, false).expect("it goes on");
    let earlier = wait(&studio, "the earlier steps' pictures", |state| {
        let live = state.live.as_ref()?;
        live.projections[..live.first_call].iter().cloned().collect::<Option<Vec<_>>>()
    });
    assert!(earlier.len() >= 2);
    let resumed = wait(&studio, "the clip", |state| state.newest.filter(|newest| *newest != undisturbed.id));
    assert_eq!(frames_sha256(&studio.clip(resumed).expect("the clip")), frames_sha256(&undisturbed));
    assert_eq!(studio.steps_of(resumed), 30);
    for (call, picture) in earlier.iter().enumerate() {
        let of_clip = wait(&studio, "a projection", |_| studio.picture(Picture::Projection(resumed, call + 1)).frames());
        assert!(**picture == *of_clip, "step {} is another picture", call + 1);
    }

    // Pause: the item waits, nothing runs, and it goes on by itself afterwards.
    let id = started(2);
    studio.pause().expect("it is remembered");
    wait(&studio, "the pause", |state| state.live.is_none().then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    let state = studio.state();
    assert!(state.is_paused && state.live.is_none());
    assert_eq!(state.queue.iter().find(|item| item.id == id).map(|item| item.state), Some(ItemState::Waiting));
    studio.unpause().expect("it is remembered");
    let first = wait(&studio, "the run", |state| state.live.as_ref().map(|live| live.first_call));
    assert!(first >= 2, "it goes on behind step {first}");
    let resumed_again = wait(&studio, "the clip", |state| state.newest.filter(|newest| *newest != resumed));
    assert_eq!(frames_sha256(&studio.clip(resumed_again).expect("the clip")), frames_sha256(&undisturbed));
}

#[test]
fn a_paused_queue_rests_until_it_is_let_go_on_however_often_the_program_starts() {
    let place = Place::new();
    let studio = place.open();
    studio.pause().expect("it is remembered");
    let id = studio.enqueue(&[item(recipe("a red ball", 1))]).expect("queued")[0];
    // What a kill leaves behind is what was written before.
    drop(studio);
    let studio = place.open();
    assert!(studio.state().is_paused, "from the first look on");
    wait(&studio, "the device", |state| matches!(state.device, DeviceState::Ready(_)).then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    let state = studio.state();
    assert_eq!((state.is_paused, state.live.is_some()), (true, false));
    assert_eq!(studio.database().item(id).expect("it is still there").state, ItemState::Waiting);
    // Settings that are put back are not the queue's.
    studio.database().reset_preferences().expect("they are forgotten");
    drop(studio);
    let studio = place.open();
    assert!(studio.state().is_paused);
    studio.unpause().expect("it is remembered");
    wait(&studio, "an empty queue", |state| state.queue.is_empty().then_some(()));
    drop(studio);
    assert!(!place.open().state().is_paused, "it went on");
}

#[test]
fn a_run_that_the_program_left_is_offered_again() {
    let place = Place::new();
    let studio = place.open();
    let undisturbed = make(&studio, slow("a red ball"));
    let ids = studio.enqueue(&[slow("a red ball"), item(recipe("a blue cube", 1))]).expect("queued");
    wait(&studio, "some steps", |state| {
        state.live.as_ref().filter(|live| live.item == ids[0] && live.calls_done >= 2).map(|_| ())
    });
    drop(studio);

    let studio = place.open();
    let left = studio.database().item(ids[0]).expect("it is still there");
    assert_eq!(left.state, ItemState::Interrupted);
    assert!(left.steps_done >= 2);
    // What only waited is made without being asked for.
    wait(&studio, "the other clip", |state| state.newest.filter(|newest| *newest != undisturbed.id));
    studio.resume(ids[0], false).expect("it goes on");
    let first =
        wait(&studio, "the run", |state| state.live.as_ref().filter(|live| live.item == ids[0]).map(|live| live.first_call));
    assert!(first >= 2);
    wait(&studio, "an empty queue", |state| state.queue.is_empty().then_some(()));
    let clips = studio.clips(&Default::default()).expect("the clips");
    assert_eq!(frames_sha256(&clips[0]), frames_sha256(&undisturbed));
}

#[test]
fn a_run_that_cannot_fit_is_not_begun() {
    let place = Place::new();
    let studio = place.open();
    let mut huge = recipe("a red ball", 1);
    (huge.frames, huge.width, huge.height) = (1021, 4096, 4096);
    let model = ModelInfo::open("fast").expect("mini");
    huge.set_mask(&model.folder, &"1:255".into()).expect("a mask");
    let id = studio.enqueue(&[item(huge)]).expect("queued")[0];
    let report =
        wait(&studio, "the refusal", |state| state.queue.iter().find(|item| item.id == id).and_then(|item| item.report.clone()));
    assert_eq!(report.fault, Fault::OutOfMemory);
    assert!(report.what.contains("GB"), "{}", report.what);
    // The queue goes on with the next.
    make(&studio, item(recipe("a blue cube", 1)));
}

#[test]
fn one_home_has_one_studio_and_knows_its_example() {
    let place = Place::new();
    let studio = place.open();
    let second = Studio::open(
        place.home.clone(),
        DeviceWish { choice: DeviceChoice::Cpu, precision: None, residency: Default::default() },
    );
    assert!(second.is_err_and(|error| error.to_string().contains("Another Tilereel")));
    let clips = studio.clips(&Default::default()).expect("the clips");
    assert_eq!(clips.len(), 1);
    let example = &clips[0];
    assert_eq!(read_frames(&place.home.clip_file(example.id)).expect("frames").sha256(), frames_sha256(example));
    assert_eq!(studio.steps_of(example.id), example.recipe.steps);
    let first = wait(&studio, "a projection", |_| studio.picture(Picture::Projection(example.id, 1)).frames());
    assert_eq!(first.count(), 8);
    for step in 1..=example.recipe.steps {
        let record = wait(&studio, "the attention", |_| attention(&studio, example.id, step)).expect("a record");
        assert_eq!((record.call, record.recording), (step - 1, Recording::Exact));
        assert_eq!(*record.plan(), example.recipe.plan(record.layers()).expect("a plan"), "it is of the clip's own plan");
    }

    studio.delete(example.id).expect("it goes");
    assert!(studio.clips(&Default::default()).expect("the clips").is_empty());
    drop(studio);
    let studio = place.open();
    assert!(studio.clips(&Default::default()).expect("the clips").is_empty(), "a deleted example does not come back");
    studio.undelete(example.id).expect("it comes back");
    assert_eq!(studio.clips(&Default::default()).expect("the clips").len(), 1);
    let _: Arc<State> = studio.state();
}
