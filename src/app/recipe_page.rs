//! The recipe page: everything that made the shown clip or run, to be read, selected and copied; and whether it can be made
//! again.

use eframe::egui::{
    CollapsingHeader, Color32, Frame, Label, Margin, ProgressBar, RichText, ScrollArea, Sense, Sides, Stroke, TextEdit, Ui, Vec2,
};

use super::action::Action;
use super::icons::{self, Icon, icon_button};
use super::mask_picture::MaskPicture;
use super::theme::{self, Palette};
use crate::generate::recipe::{Branch, Recipe};
use crate::mask::MaskPlan;
use crate::model::sampler::Sampler;
use crate::studio::words::{ago, count, duration};
use crate::studio::{ClipEntry, ClipId, Live, Studio, Verdict};

const NAME_WIDTH: f32 = 76.0;

#[derive(Default)]
pub struct RecipePage {
    sheet: Option<Sheet>,
    verdict: Option<(ClipId, Result<Verdict, String>)>,
    verifying: Option<(ClipId, f64)>,
}

/// What is made once for a recipe.
struct Sheet {
    recipe: Recipe,
    json: String,
    mask: Option<MaskPicture>,
}

impl Sheet {
    fn of(recipe: &Recipe) -> Self {
        let plan = MaskPlan::from_json(&recipe.mask_plan.to_string()).ok();
        Self { recipe: recipe.clone(), json: recipe.to_json(), mask: plan.map(MaskPicture::new) }
    }
}

impl RecipePage {
    /// `recipe` is the run's, if there is one, else the clip's; `step` is the one in the player, from 0, none for the clip itself.
    #[expect(clippy::too_many_arguments, reason = "what a page is about, each of it from another place")]
    pub fn show(
        &mut self,
        ui: &mut Ui,
        studio: &Studio,
        recipe: &Recipe,
        step: Option<usize>,
        clip: Option<&ClipEntry>,
        live: Option<&Live>,
        actions: &mut Vec<Action>,
    ) {
        if self.sheet.as_ref().is_none_or(|sheet| sheet.recipe != *recipe) {
            self.sheet = Some(Sheet::of(recipe));
        }
        badges(ui, clip.map_or(&[], |clip| clip.badges.as_slice()));
        badges(ui, live.map_or(&[], |live| live.warnings.as_slice()));
        buttons(ui, recipe, clip, self.verifying, actions);
        if let Some(clip) = clip {
            self.verification(ui, clip, actions);
        }
        prompts(ui, recipe);
        sampling(ui, recipe);
        model(ui, recipe, clip);
        if let Some(mask) = self.sheet.as_mut().and_then(|sheet| sheet.mask.as_mut()) {
            let calls = Sampler::new(recipe.sampler, recipe.steps).map_or(recipe.steps, |sampler| sampler.calls()).max(1);
            let call = step.unwrap_or(calls - 1).min(calls - 1);
            section(ui, "Attention", |ui| mask.show(ui, call, calls));
        }
        branches(ui, recipe);
        making(ui, studio, recipe, clip);
        if let Some(sheet) = &self.sheet {
            raw(ui, &sheet.json);
        }
    }

    /// What a verification has found.
    pub fn set_verdict(&mut self, clip: ClipId, verdict: Result<Verdict, String>) {
        self.verifying = None;
        self.verdict = Some((clip, verdict));
    }

    /// The verification that goes on, and how much of it is done, 0 to 1.
    pub fn set_verifying(&mut self, verifying: Option<(ClipId, f64)>) {
        if let (Some((clip, _)), Some((other, _))) = (verifying, &self.verdict)
            && clip == *other
        {
            self.verdict = None;
        }
        self.verifying = verifying;
    }

    fn verification(&self, ui: &mut Ui, clip: &ClipEntry, actions: &mut Vec<Action>) {
        let palette = Palette::of(ui);
        if let Some((_, share)) = self.verifying.filter(|(other, _)| *other == clip.id) {
            card(ui, palette.line_strong, |ui| {
                Sides::new().shrink_left().show(
                    ui,
                    |ui| ui.label(theme::strong("Making it again").color(palette.text_strong)),
                    |ui| {
                        if icon_button(ui, Icon::Stop, "Stop verifying", "Gives the verification up").clicked() {
                            actions.push(Action::StopVerifying);
                        }
                    },
                );
                let bar = ProgressBar::new(share as f32).desired_height(4.0).corner_radius(2.0).fill(palette.accent_fill);
                ui.add(bar.desired_width(ui.available_width())).accessible_name("Progress of the verification");
            });
        }
        let Some((_, verdict)) = self.verdict.as_ref().filter(|(other, _)| *other == clip.id) else { return };
        match verdict {
            Ok(Verdict::Identical { .. }) => {
                let text = format!("Made again, and every pixel of {} is the same.", count(clip.recipe.frames, "frame"));
                outcome(ui, palette.good, Icon::Check, "Identical", &[text]);
            }
            Ok(Verdict::Different { reasons, psnr }) => {
                let mut lines: Vec<String> = reasons.iter().map(|reason| sentence(reason)).collect();
                if reasons.is_empty() {
                    lines.push("Nothing that is known of the two makings differs.".into());
                }
                lines.push(match psnr {
                    Ok(psnr) => {
                        let worst = psnr.iter().copied().fold(f64::INFINITY, f64::min);
                        format!("PSNR {worst:.1} dB in the worst frame.")
                    }
                    Err(error) => format!("The frames cannot be compared: {error}"),
                });
                outcome(ui, palette.warning, Icon::Warning, "Not identical", &lines);
            }
            Err(error) => outcome(ui, palette.error, Icon::Warning, "It could not be made again", &[sentence(error)]),
        }
    }
}

fn outcome(ui: &mut Ui, colour: Color32, icon: Icon, title: &str, lines: &[String]) {
    card(ui, colour, |ui| {
        ui.horizontal(|ui| {
            let (rect, _) = ui.allocate_exact_size(Vec2::splat(icons::SIZE), Sense::hover());
            icons::paint(ui.painter(), rect, icon, colour);
            ui.label(theme::strong(title).color(colour));
        });
        for line in lines {
            ui.add(Label::new(line).wrap().selectable(true));
        }
    });
}

fn card(ui: &mut Ui, outline: Color32, content: impl FnOnce(&mut Ui)) {
    let frame = Frame::new().fill(Palette::of(ui).raised).stroke(Stroke::new(1.0, outline)).corner_radius(theme::RADIUS);
    frame.inner_margin(Margin::symmetric(10, 8)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = 4.0;
        content(ui);
    });
}

/// What the person should know of how it was made: never hidden, never folded.
fn badges(ui: &mut Ui, badges: &[String]) {
    let palette = Palette::of(ui);
    for badge in badges {
        let frame = Frame::new().fill(palette.control).corner_radius(theme::RADIUS).inner_margin(Margin::symmetric(8, 4));
        frame.show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.horizontal_top(|ui| {
                let (rect, _) = ui.allocate_exact_size(Vec2::splat(icons::SIZE), Sense::hover());
                icons::paint(ui.painter(), rect, Icon::Info, palette.accent);
                ui.add(Label::new(RichText::new(sentence(badge)).color(palette.text_strong)).wrap().selectable(true));
            });
        });
    }
}

fn buttons(ui: &mut Ui, recipe: &Recipe, clip: Option<&ClipEntry>, verifying: Option<(ClipId, f64)>, actions: &mut Vec<Action>) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = Vec2::splat(6.0);
        let model = clip.map_or(&recipe.model.name, |clip| &clip.model).clone();
        if ui.button("Use settings").on_hover_text("Puts all of them into the panel on the left").clicked() {
            actions.push(Action::UseRecipe { recipe: Box::new(recipe.clone()), model });
        }
        if ui.button("Copy JSON").on_hover_text("The whole recipe, for the clipboard").clicked() {
            actions.push(match clip {
                Some(clip) => Action::CopyRecipe(clip.id),
                None => Action::CopyText(recipe.to_json()),
            });
        }
        if let Some(clip) = clip {
            ui.menu_button("Compare", |ui| {
                if ui.button("With its dense twin").clicked() {
                    actions.push(Action::CompareWithDense(clip.id));
                }
                if ui.button("With the settings' mask and model").clicked() {
                    actions.push(Action::CompareWithSettings(clip.id));
                }
            })
            .response
            .on_hover_text("Both clips in step; one that is not there yet is made first");
            let tip = "Makes the clip again from this recipe, and says whether every pixel is the same";
            let verify = ui.add_enabled(verifying.is_none(), eframe::egui::Button::new("Verify"));
            if verify.on_hover_text(tip).on_disabled_hover_text("One clip is verified at a time").clicked() {
                actions.push(Action::Verify(clip.id));
            }
        }
    });
}

fn prompts(ui: &mut Ui, recipe: &Recipe) {
    section(ui, "Prompt", |ui| {
        let strong = Palette::of(ui).text_strong;
        ui.add(Label::new(RichText::new(&recipe.prompt).color(strong)).wrap().selectable(true));
        if !recipe.negative_prompt.is_empty() {
            facts(ui, &[Fact::text("Not", &recipe.negative_prompt)]);
        }
    });
}

fn sampling(ui: &mut Ui, recipe: &Recipe) {
    section(ui, "Sampling", |ui| {
        let seconds = recipe.frames as f64 / f64::from(recipe.frames_per_second.max(1));
        let guidance = if recipe.guidance_scale <= 1.0 { "none".to_owned() } else { recipe.guidance_scale.to_string() };
        let frames = match recipe.frames {
            1 => "1, a still picture".to_owned(),
            frames => format!("{frames} at {} a second, {}", recipe.frames_per_second, duration(seconds)),
        };
        let mut rows = vec![
            Fact::text("Seed", recipe.seed),
            Fact::text("Sampler", recipe.sampler),
            Fact::text("Steps", recipe.steps),
            Fact::text("Guidance", guidance),
            Fact::text("Frames", frames),
            Fact::text("Size", format!("{} × {}", recipe.width, recipe.height)),
        ];
        if let Some(noise) = &recipe.noise_sha256 {
            rows.push(Fact::code("Noise file", noise));
        }
        facts(ui, &rows);
    });
}

fn model(ui: &mut Ui, recipe: &Recipe, clip: Option<&ClipEntry>) {
    section(ui, "Model", |ui| {
        let mut rows = vec![Fact::text("Name", &recipe.model.name)];
        if let Some(clip) = clip.filter(|clip| clip.model != recipe.model.name) {
            rows.push(Fact::text("Found as", &clip.model));
        }
        rows.push(Fact::code("SHA-256", &recipe.model.sha256));
        facts(ui, &rows);
    });
}

fn branches(ui: &mut Ui, recipe: &Recipe) {
    if recipe.branch.is_none() {
        return;
    }
    section(ui, "Branch", |ui| {
        let mut this = recipe;
        while let Some(Branch { from, call }) = this.branch.as_deref() {
            let text = format!("After step {call} it leaves the run of seed {} with {}.", from.seed, differences(this, from));
            ui.add(Label::new(text).wrap().selectable(true));
            this = from;
        }
    });
}

/// What a branch changes, in words.
fn differences(branch: &Recipe, from: &Recipe) -> String {
    let mut parts = Vec::new();
    if branch.seed != from.seed {
        parts.push(format!("seed {}", branch.seed));
    }
    if branch.prompt != from.prompt {
        parts.push(format!("another prompt (it was “{}”)", from.prompt));
    }
    if branch.negative_prompt != from.negative_prompt {
        parts.push("another negative prompt".into());
    }
    if branch.guidance_scale != from.guidance_scale {
        parts.push(format!("guidance {} instead of {}", branch.guidance_scale, from.guidance_scale));
    }
    if branch.mask_plan != from.mask_plan {
        parts.push("another mask".into());
    }
    if parts.is_empty() { "nothing changed".into() } else { parts.join(", ") }
}

fn making(ui: &mut Ui, studio: &Studio, recipe: &Recipe, clip: Option<&ClipEntry>) {
    section(ui, "Made", |ui| {
        let mut rows = Vec::new();
        match &recipe.made {
            Some(made) => {
                rows.push(Fact::text("Device", &made.device));
                if !made.driver.is_empty() {
                    rows.push(Fact::text("Driver", &made.driver));
                }
                rows.push(Fact::text("Precision", recipe.precision));
                rows.push(Fact::text("Kernels", &made.kernel_tier));
            }
            None => {
                if let Some(device) = studio.device() {
                    rows.push(Fact::text("Device", &device.name));
                    if let Some(adapter) = device.adapter.as_ref().filter(|adapter| !adapter.driver.is_empty()) {
                        rows.push(Fact::text("Driver", &adapter.driver));
                    }
                    rows.push(Fact::text("Precision", recipe.precision));
                    rows.push(Fact::text("Kernels", device.kernel_tier()));
                }
            }
        }
        rows.push(Fact::text("Program", &recipe.program));
        if let Some(clip) = clip {
            rows.push(Fact::text("Took", duration(clip.seconds)));
            rows.push(Fact::text("When", ago(clip.made_unix_millis)));
        }
        if let Some(made) = &recipe.made {
            rows.push(Fact::code("Frames", &made.frames_sha256));
        }
        facts(ui, &rows);
    });
}

fn raw(ui: &mut Ui, json: &str) {
    CollapsingHeader::new("Recipe as JSON").id_salt("raw recipe").show(ui, |ui| {
        let mut text = json;
        let field = TextEdit::multiline(&mut text).code_editor().desired_width(f32::INFINITY).desired_rows(8);
        ScrollArea::vertical().id_salt("raw recipe text").max_height(320.0).show(ui, |ui| {
            ui.add(field).accessible_name("Recipe as JSON");
        });
    });
}

pub(super) fn section(ui: &mut Ui, name: &str, content: impl FnOnce(&mut Ui)) {
    ui.add_space(theme::SPACE_SMALL);
    ui.label(theme::caption(name).color(Palette::of(ui).text_dim));
    ui.spacing_mut().item_spacing.y = 4.0;
    content(ui);
    ui.spacing_mut().item_spacing.y = 6.0;
}

struct Fact {
    name: &'static str,
    value: String,
    /// Written by a machine, to be compared letter by letter.
    is_code: bool,
}

impl Fact {
    fn text(name: &'static str, value: impl ToString) -> Self {
        Self { name, value: value.to_string(), is_code: false }
    }

    fn code(name: &'static str, value: &str) -> Self {
        Self { name, value: value.to_owned(), is_code: true }
    }
}

fn facts(ui: &mut Ui, facts: &[Fact]) {
    let palette = Palette::of(ui);
    for Fact { name, value, is_code } in facts {
        ui.horizontal_top(|ui| {
            let start = ui.cursor().left();
            let name = ui.label(RichText::new(*name).color(palette.text_dim));
            ui.add_space((start + NAME_WIDTH - ui.cursor().left()).max(0.0));
            let text = RichText::new(value).color(palette.text);
            let text = if *is_code { text.monospace().size(11.0) } else { text };
            ui.vertical(|ui| ui.add(Label::new(text).wrap().selectable(true)).labelled_by(name.id));
        });
    }
}

/// A part of a sentence, as one of its own.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let begin = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{begin}{}{end}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::tests::recipe;

    #[test]
    fn a_branch_names_all_that_it_changes() {
        let from = recipe("a red ball");
        assert_eq!(differences(&from, &from), "nothing changed");
        let mut branch = recipe("a blue ball");
        (branch.seed, branch.guidance_scale, branch.mask_plan) = (7, 3.5, serde_json::json!({}));
        let words = differences(&branch, &from);
        for part in ["seed 7", "“a red ball”", "guidance 3.5 instead of", "another mask"] {
            assert!(words.contains(part), "{part} is not in {words}");
        }
    }

    #[test]
    fn parts_become_sentences() {
        assert_eq!([sentence("the driver was 1"), sentence("Done."), sentence("")], ["The driver was 1.", "Done.", "."]);
    }
}
