use super::*;

/// A plan as the search of the few-step model writes it.
const SEARCHED: &str = r#"{
 "latent_frames": 8,
 "tokens_per_frame": 144,
 "candidates": ["1:7", "2:6", "3:5", "4:4", "full"],
 "layers": [
  {"mask": "2:6", "refs": [0, 4], "mode": "symmetric"},
  {"mask": "3:5", "refs": [0, 3, 6], "mode": "symmetric", "why": "motion"},
  {"mask": "full", "refs": [0, 1, 2, 3, 4, 5, 6, 7], "mode": "symmetric"}
 ],
 "threshold": 0.004,
 "losses": [[0.004256, 0.001903, 0.000902, 0.0004306], [1, 2, 3, 4], [0.25, 0.125, 0.5, 1e-3]],
 "mean_sparsity": 0.2604
}"#;

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_searched_plan_is_read_and_written_again_whole() {
    let plan = MaskPlan::from_json(SEARCHED).unwrap();
    plan.check(3, 8).unwrap();
    assert_eq!(plan.layers()[0].layout(), &Layout::Family(MaskFamily::paper(2)));
    assert_eq!(plan.layers()[1].reference_frames(), [0, 3, 6]);
    assert!(plan.layers()[2].mask().is_full());
    assert_eq!(plan.kept_tiles(), 34 + 44 + 64);

    let written = plan.to_json().unwrap();
    assert_eq!(value(&written), value(SEARCHED));
    assert_eq!(MaskPlan::from_json(&written).unwrap(), plan);
}

#[test]
fn every_kind_of_layer_comes_back_equal() {
    let family = |placement, mode| LayerMask::of_family(&MaskFamily { placement, mode }, 8).unwrap();
    let painted: Vec<bool> = (0..64).map(|tile| tile % 3 == 0 || tile % 9 == 0 || tile % 8 == 1).collect();
    let plan = MaskPlan::of_layers(vec![
        LayerMask::full(8).unwrap(),
        family(Placement::StrideCeil(0), Mode::Symmetric),
        family(Placement::StrideCeil(5), Mode::Symmetric),
        family(Placement::StrideCeil(8), Mode::KvOnly),
        family(Placement::SpacedFloor(3), Mode::Symmetric),
        family(Placement::SpacedFloor(4), Mode::KvOnly),
        family(Placement::First(1), Mode::Symmetric),
        family(Placement::First(3), Mode::Symmetric),
        family(Placement::Linspace(3), Mode::Symmetric),
        family(Placement::Listed(vec![4, 0]), Mode::Symmetric),
        family(Placement::Listed(vec![7, 2, 5]), Mode::KvOnly),
        LayerMask::painted(FrameMask::new(8, painted).unwrap()),
        LayerMask::of_neighbours(Neighbours { distance: 0 }, 8).unwrap(),
        LayerMask::of_neighbours(Neighbours { distance: 1 }, 8).unwrap(),
        LayerMask::of_neighbours(Neighbours { distance: 6 }, 8).unwrap(),
        LayerMask::of_neighbours(Neighbours { distance: 300 }, 8).unwrap(),
    ])
    .unwrap();
    assert_eq!(MaskPlan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
}

/// A layer of neighbours is its name alone, and keeps what its file notes; the layers beside it are written as they always were.
#[test]
fn neighbours_are_written_by_their_name() {
    let text = r#"{"latent_frames": 8, "layers": [{"mask": "near:1", "why": "motion"}, {"mask": "2:6"}, {"mask": "full"}]}"#;
    let plan = MaskPlan::from_json(text).unwrap();
    assert_eq!(plan.layers()[0].layout(), &Layout::Neighbours(Neighbours { distance: 1 }));
    assert_eq!(plan.kept_tiles(), 22 + 34 + 64);
    let written = plan.to_json().unwrap();
    assert_eq!(value(&written)["layers"][0], value(r#"{"mask": "near:1", "why": "motion"}"#));
    assert_eq!(value(&written)["layers"][1], value(r#"{"mask": "2:6", "refs": [0, 4], "mode": "symmetric"}"#));
    assert_eq!(MaskPlan::from_json(&written).unwrap(), plan);

    let ranges = vec![(0.0, MaskPlan::uniform(3, 8, "full").unwrap()), (0.5, MaskPlan::uniform(3, 8, "near:2").unwrap())];
    let plan = MaskPlan::of_ranges(ranges).unwrap();
    assert_eq!(MaskPlan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
}

#[test]
fn masks_of_later_steps_come_back_equal() {
    let uniform = |name: &str| MaskPlan::uniform(2, 8, name).unwrap();
    let ranges = vec![(0.0, uniform("full")), (0.125, uniform("2:6")), (0.5, uniform("0:8"))];
    let plan = MaskPlan::of_ranges(ranges).unwrap();
    let written = plan.to_json().unwrap();
    assert_eq!(MaskPlan::from_json(&written).unwrap(), plan);
    assert_eq!(value(&written)["later_steps"][1]["from"], 0.5);
    // A plan for all steps is written as it always was.
    assert!(value(&uniform("2:6").to_json().unwrap()).get("later_steps").is_none());

    let refused = |later: &str| {
        let text = format!(r#"{{"latent_frames": 8, "layers": [{{"mask": "full"}}], "later_steps": [{later}]}}"#);
        MaskPlan::from_json(&text).unwrap_err().to_string()
    };
    let layer = r#"{"mask": "2:6"}"#;
    for (later, says) in [
        (r#"{"from": 0.5, "layers": []}"#.to_owned(), "range 2 of its steps"),
        (format!(r#"{{"from": 0.5, "layers": [{layer}, {layer}]}}"#), "2 layers"),
        (format!(r#"{{"from": 1.0, "layers": [{layer}]}}"#), "cannot begin at 1"),
        (format!(r#"{{"from": 0.5, "layers": [{layer}]}}, {{"from": 0.5, "layers": [{layer}]}}"#), "cannot begin at 0.5"),
        (format!(r#"{{"from": 0.5, "until": 1, "layers": [{layer}]}}"#), "until"),
        (r#"{"from": 0.5, "layers": [{"mask": "9:9"}]}"#.to_owned(), "K + N = 8"),
    ] {
        let error = refused(&later);
        assert!(error.contains(says), "{error} for {later}");
    }
    let many = vec![format!(r#"{{"from": 0.5, "layers": [{layer}]}}"#); 64].join(",");
    assert!(refused(&many).contains("not 65"));
}

#[test]
fn refs_and_mode_may_be_left_out() {
    let plan = MaskPlan::from_json(r#"{"latent_frames": 8, "layers": [{"mask": "3:5"}, {"mask": "full"}]}"#).unwrap();
    assert_eq!(plan.layers()[0], LayerMask::named("3:5", 8).unwrap());
    assert_eq!(plan.layers()[1], LayerMask::full(8).unwrap());
}

/// Each text is refused, and the message says what is wrong and where.
#[test]
fn hostile_and_mistaken_plans_are_refused() {
    let layers = |layers: &str| format!(r#"{{"latent_frames": 4, "layers": [{{"mask": "full"}}, {layers}]}}"#);
    let deep = format!(r#"{{"latent_frames": 4, "notes": {}"#, "[".repeat(100_000));
    let many = format!(r#"{{"latent_frames": 4, "layers": [{}]}}"#, [r#"{"mask":"full"}"#; 257].join(","));
    for (text, wanted) in [
        (String::new(), "no mask plan"),
        ("null".into(), "no mask plan"),
        ("[]".into(), "no mask plan"),
        ("{}".into(), "latent_frames"),
        (r#"{"latent_frames": 4}"#.into(), "layers"),
        (r#"{"latent_frames": 4, "layers": []}"#.into(), "1 to 256 layers, not 0"),
        (r#"{"latent_frames": 4, "latent_frames": 5, "layers": []}"#.into(), "duplicate field"),
        (r#"{"latent_frames": 0, "layers": [{"mask": "full"}]}"#.into(), "not 0"),
        (r#"{"latent_frames": 18446744073709551615, "layers": [{"mask": "full"}]}"#.into(), "1 to 512 latent frames"),
        (r#"{"latent_frames": 1e9, "layers": [{"mask": "full"}]}"#.into(), "no mask plan"),
        (r#"{"latent_frames": -8, "layers": [{"mask": "full"}]}"#.into(), "no mask plan"),
        (deep, "no mask plan"),
        (many, "not 257"),
        (layers(r#"{"mask": 3}"#), "no mask plan"),
        (layers(r#"{"refs": [0]}"#), "mask"),
        (layers(r#"{"mask": "2:6", "refs": [0, 4]}"#), "layer 1: 2:6 is a mask for 8 latent frames"),
        (layers(r#"{"mask": "dense"}"#), "layer 1: \"dense\""),
        (layers(r#"{"mask": "2:2", "refs": [0, 4]}"#), "layer 1: reference frame 4 does not exist"),
        (layers(r#"{"mask": "2:2", "refs": [1, 1]}"#), "layer 1: reference frame 1 is listed twice"),
        (layers(r#"{"mask": "2:2", "refs": [1]}"#), "layer 1: 2:2 has 2 reference frames, but refs lists 1"),
        (layers(r#"{"mask": "2:2", "refs": [-1, 0]}"#), "no mask plan"),
        (layers(r#"{"mask": "2:2", "refs": [0, 2], "mode": "both"}"#), "kv_only"),
        (layers(r#"{"mask": "2:2", "refs": [0, 3], "placement": "first"}"#), "layer 1: refs [0, 3]"),
        (layers(r#"{"mask": "3:1"}"#), "layer 1: 3:1 does not exist"),
        (layers(r#"{"mask": "2:2", "matrix": ["1111"]}"#), "layer 1: only a \"painted\""),
        (layers(r#"{"mask": "full", "refs": [0, 1]}"#), "layer 1: a full mask"),
        (layers(r#"{"mask": "near:x"}"#), "layer 1: \"near:x\" is no mask name"),
        (layers(r#"{"mask": "near:512"}"#), "layer 1: \"near:512\" is no mask name"),
        (layers(r#"{"mask": "near:1", "refs": []}"#), "layer 1: near:1 has neighbours and no refs"),
        (layers(r#"{"mask": "near:1", "mode": "symmetric"}"#), "layer 1: near:1 has neighbours and no refs, mode"),
        (layers(r#"{"mask": "near:1", "placement": "first"}"#), "layer 1: near:1 has neighbours and no refs, mode or placement"),
        (layers(r#"{"mask": "near:1", "matrix": ["1111"]}"#), "layer 1: only a \"painted\""),
        (layers(r#"{"mask": "painted"}"#), "layer 1: a \"painted\" mask needs"),
        (layers(r#"{"mask": "painted", "refs": [0], "matrix": []}"#), "layer 1: a \"painted\" mask has"),
        (layers(r#"{"mask": "painted", "matrix": []}"#), "layer 1: a mask over 4"),
        (layers(r#"{"mask": "painted", "matrix": ["1111", "1111"]}"#), "layer 1: the matrix has 2 rows"),
        (layers(r#"{"mask": "painted", "matrix": ["1111", "111", "1111", "1111"]}"#), "row 1 being \"111\""),
        (layers(r#"{"mask": "painted", "matrix": ["1111", "11é", "1111", "1111"]}"#), "row 1"),
        (layers(r#"{"mask": "painted", "matrix": ["1111", "1111", "0000", "1111"]}"#), "query frame 2 sees no frame"),
    ] {
        let message = MaskPlan::from_json(&text).err().map(|error| error.to_string());
        let text = &text[..text.len().min(120)];
        let message = message.unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(message.contains(wanted), "{text}: {message}");
    }
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask_plan.json");
    let plan = MaskPlan::uniform(12, 8, "2:6").unwrap();
    plan.save(&path).unwrap();
    assert_eq!(MaskPlan::load(&path).unwrap(), plan);
    MaskPlan::dense(12, 8).unwrap().save(&path).unwrap();
    assert!(MaskPlan::load(&path).unwrap().layers()[11].mask().is_full());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the plan");

    let missing = folder.path().join("no such folder").join("plan.json");
    assert!(plan.save(&missing).unwrap_err().to_string().contains("cannot write"));
    assert!(MaskPlan::load(&missing).unwrap_err().to_string().contains("cannot read"));
    // A folder stands where the file should go: the rename fails, and the partial file goes away again.
    let folder_in_the_way = folder.path().join("taken");
    fs::create_dir_all(folder_in_the_way.join("inside")).unwrap();
    assert!(plan.save(&folder_in_the_way).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

    fs::write(&path, "{").unwrap();
    let message = MaskPlan::load(&path).unwrap_err().to_string();
    assert!(message.contains("mask_plan.json"), "{message}");
}
