//! The mask dial: which attention tiles a run computes, from all of them through the model's searched plan to the fewest; the
//! picture of the masks, and what the position costs on this device.

use eframe::egui::{
    self, Align2, Color32, ColorImage, CornerRadius, FontId, Key, Popup, PopupCloseBehavior, Rect, Response, Role, Sense, Stroke,
    TextEdit, TextureHandle, TextureOptions, Ui, Vec2, WidgetInfo, accesskit, lerp, pos2, vec2,
};

use super::controls;
use super::forecast::{MaskOutlook, Outlook};
use super::icons::{self, Icon};
use super::theme::{self, Palette};
use crate::generate::estimate::Estimate;
use crate::generate::recipe::MaskChoice;
use crate::mask::{LayerMask, Layout, MaskPlan};
use crate::studio::{Fit, MaskStop, words};

const DIAL_HEIGHT: f32 = 46.0;
const KNOB_RADIUS: f32 = 8.0;
/// Positions of nearly the same density stand this far apart, so that each can be hit.
const LEAST_GAP: f32 = 15.0;
/// The side of the picture of the masks, in points.
const PICTURE_SIDE: f32 = 104.0;
/// In less, the costs stand below the picture, and the plan's name above its buttons.
const LEAST_BESIDE: f32 = 236.0;
/// Up to so many latent frames each tile has a gap to the next.
const MOST_FRAMES_WITH_GAPS: usize = 24;

/// What is asked for beside the dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// The dialog for a plan's file.
    File,
    Painter,
}

#[derive(Default)]
pub struct MaskDial {
    picture: Option<Picture>,
    /// A plan's file that is being typed.
    path: String,
}

/// The masks as a texture, made once a plan.
struct Picture {
    texture: TextureHandle,
    revision: u64,
    pixels: usize,
    dark: bool,
}

impl MaskDial {
    /// The dial with what belongs to it; gives what is to be opened.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        choice: &mut MaskChoice,
        outlook: &Outlook,
        fit: Option<(Fit, Option<u64>)>,
    ) -> Option<Opens> {
        let mut opens = None;
        let mask = &outlook.mask;
        if let Some(position) = dial(ui, mask, outlook.estimate.as_ref().map(|estimate| estimate.density))
            && let Some(stop) = mask.stops.get(position)
        {
            *choice = stop.choice.clone();
        }
        let is_narrow = ui.available_width() < LEAST_BESIDE;
        if is_narrow {
            name(ui, choice, mask);
        }
        // The buttons first: what is left is the name's, which may be cut.
        ui.horizontal(|ui| {
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let tip = "A mask plan names for each layer which latent frames see each other (JSON)";
                let button = ui.button("File…").on_hover_text(tip);
                Popup::from_toggle_button_response(&button)
                    .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
                    .accessible_name("A mask plan from a file")
                    .show(|ui| {
                        if self.file(ui, choice) {
                            opens = Some(Opens::File);
                        }
                    });
                ui.add_enabled_ui(mask.plan.is_some(), |ui| {
                    let tip = "Choose the tiles of each layer yourself";
                    if icons::icon_button(ui, Icon::Edit, "Paint the mask", tip).clicked() {
                        opens = Some(Opens::Painter);
                    }
                });
                let is_own = mask.position.is_some_and(|position| mask.stops[position].choice == MaskChoice::Plan);
                if *choice != MaskChoice::Plan
                    && !is_own
                    && controls::small_reset(ui, "mask", "the searched plan, or dense where there is none")
                {
                    *choice = MaskChoice::Plan;
                }
                if !is_narrow {
                    ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| name(ui, choice, mask));
                }
            });
        });
        if let Some(note) = &mask.note {
            notice(ui, note);
        }
        let side_by_side = egui::Layout::left_to_right(egui::Align::TOP);
        let layout = if is_narrow { egui::Layout::top_down(egui::Align::LEFT) } else { side_by_side };
        ui.allocate_ui_with_layout(vec2(ui.available_width(), PICTURE_SIDE), layout, |ui| {
            self.picture(ui, mask);
            ui.add_space(theme::SPACE_TINY);
            if let Some(estimate) = &outlook.estimate {
                costs(ui, estimate, fit);
            } else {
                ui.label(egui::RichText::new("Costs are shown when the device is ready.").color(Palette::of(ui).text_dim));
            }
        });
        opens
    }

    /// A field for the path of a plan, for systems without a file dialog; true if that is wanted.
    fn file(&mut self, ui: &mut Ui, choice: &mut MaskChoice) -> bool {
        ui.horizontal(|ui| {
            let wants_dialog = ui.button("Choose…").clicked();
            let field = ui.add(TextEdit::singleline(&mut self.path).hint_text("or type its path").desired_width(220.0));
            field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Path of a mask plan"));
            let path = self.path.trim();
            let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) && !path.is_empty();
            if entered {
                *choice = MaskChoice::File(path.into());
                self.path.clear();
            }
            if entered || wants_dialog {
                ui.close();
            }
            wants_dialog
        })
        .inner
    }

    /// Query frames from top to bottom, key frames from left to right; the lighter, the more layers skip the tile.
    fn picture(&mut self, ui: &mut Ui, mask: &MaskOutlook) {
        let (rect, response) = ui.allocate_exact_size(Vec2::splat(PICTURE_SIDE), Sense::hover());
        let palette = Palette::of(ui);
        let Some(plan) = &mask.plan else {
            ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS_SMALL), palette.control);
            response.widget_info(|| WidgetInfo::labeled(Role::Image, true, "No mask"));
            return;
        };
        let frames = plan.frames();
        let pixels = (PICTURE_SIDE * ui.ctx().pixels_per_point()) as usize;
        let dark = ui.visuals().dark_mode;
        let is_current = |p: &Picture| (p.revision, p.pixels, p.dark) == (mask.revision, pixels, dark);
        if !self.picture.as_ref().is_some_and(is_current) {
            let image = paint(plan, pixels, palette.control, palette.accent_fill, palette.panel);
            let texture = ui.ctx().load_texture("mask", image, TextureOptions::NEAREST);
            self.picture = Some(Picture { texture, revision: mask.revision, pixels, dark });
        }
        if let Some(picture) = &self.picture {
            let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(picture.texture.id(), rect, uv, Color32::WHITE);
        }
        let words = format!(
            "Mask of {frames} by {frames} latent frames, mean of {} layers: {} of the tiles are computed",
            plan.layers().len(),
            percent(plan.density())
        );
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &words));
        if let Some(pointer) = response.hover_pos() {
            let cell = |position: f32| ((position / PICTURE_SIDE * frames as f32) as usize).min(frames - 1);
            let (query, key) = (cell(pointer.y - rect.top()), cell(pointer.x - rect.left()));
            let side = PICTURE_SIDE / frames as f32;
            let corner = rect.min + vec2(key as f32, query as f32) * side;
            let stroke = Stroke::new(1.5, palette.text_strong);
            ui.painter().rect_stroke(Rect::from_min_size(corner, Vec2::splat(side)), 1.0, stroke, egui::StrokeKind::Inside);
            response.on_hover_text_at_pointer(tile_in_words(plan, query, key));
        }
    }
}

/// Which plan it is; all of its layers under the pointer.
fn name(ui: &mut Ui, choice: &MaskChoice, mask: &MaskOutlook) {
    let name = name_of(choice, mask);
    let tip = format!("{name}\n{}", layers_in_words(mask.plan.as_ref()));
    let label = ui.add(egui::Label::new(&name).truncate()).on_hover_text(tip);
    label.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("Mask: {name}")));
}

/// The rail, its positions and the knob; another position, if one was chosen.
fn dial(ui: &mut Ui, mask: &MaskOutlook, density: Option<f64>) -> Option<usize> {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), DIAL_HEIGHT), Sense::click_and_drag());
    if mask.stops.is_empty() {
        return None;
    }
    let places = places(&mask.stops, rect.left() + KNOB_RADIUS + 2.0, rect.right() - KNOB_RADIUS - 2.0);
    let last = mask.stops.len() - 1;
    let own_density = density.or(mask.plan.as_ref().map(MaskPlan::density)).unwrap_or(1.0);
    // For a plan that is none of the stops, the next sparser one is where the keys go on from.
    let here = mask.position.unwrap_or_else(|| mask.stops.iter().position(|stop| stop.density <= own_density).unwrap_or(last));

    let mut wanted = None;
    if let Some(pointer) = response.interact_pointer_pos().filter(|_| response.clicked() || response.is_pointer_button_down_on())
    {
        response.request_focus();
        wanted =
            places.iter().enumerate().min_by(|a, b| (a.1 - pointer.x).abs().total_cmp(&(b.1 - pointer.x).abs())).map(|(i, _)| i);
    }
    if response.has_focus() {
        ui.memory_mut(|memory| {
            let arrows = egui::EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
            memory.set_focus_lock_filter(response.id, arrows);
        });
        let pressed = |key: Key| ui.input_mut(|input| input.consume_key(egui::Modifiers::NONE, key));
        if pressed(Key::ArrowRight) || pressed(Key::ArrowUp) {
            wanted = Some((here + 1).min(last));
        }
        if pressed(Key::ArrowLeft) || pressed(Key::ArrowDown) {
            wanted = Some(here.saturating_sub(1));
        }
        if pressed(Key::Home) {
            wanted = Some(0);
        }
        if pressed(Key::End) {
            wanted = Some(last);
        }
    }
    wanted = asked_position(ui, &response, here, last).or(wanted);
    let shown = wanted.unwrap_or(here);
    let knob =
        if wanted.is_some() || mask.position.is_some() { places[shown] } else { place_of(&mask.stops, &places, own_density) };

    describe(ui, &response, &mask.stops, shown, mask.position.is_none() && wanted.is_none(), own_density);
    if ui.is_rect_visible(rect) {
        paint_dial(ui, rect, &response, &mask.stops, &places, knob);
    }
    response.on_hover_text(
        "How many attention tiles are computed. Left: all of them. The mark is the plan that was searched for this model. Right of \
         it less is computed than it was distilled for.",
    );
    wanted.filter(|&wanted| mask.position != Some(wanted))
}

/// Where the stops stand: by density, and far enough apart to be hit.
fn places(stops: &[MaskStop], left: f32, right: f32) -> Vec<f32> {
    let (most, least) = (stops[0].density, stops[stops.len() - 1].density);
    let range = (most - least).max(f64::EPSILON);
    let width = right - left;
    let gap = LEAST_GAP.min(width / stops.len() as f32);
    let mut places: Vec<f32> = stops.iter().map(|stop| left + ((most - stop.density) / range) as f32 * width).collect();
    for index in 1..places.len() {
        places[index] = places[index].max(places[index - 1] + gap);
    }
    // What was pushed over the end comes back, and pushes the others.
    let mut limit = right;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - gap;
    }
    places
}

/// Where a density stands between the stops.
fn place_of(stops: &[MaskStop], places: &[f32], density: f64) -> f32 {
    let after = stops.iter().position(|stop| stop.density <= density).unwrap_or(stops.len() - 1);
    let before = after.saturating_sub(1);
    let range = stops[before].density - stops[after].density;
    let share = if range > 0.0 { ((stops[before].density - density) / range).clamp(0.0, 1.0) } else { 0.0 };
    lerp(places[before]..=places[after], share as f32)
}

fn paint_dial(ui: &Ui, rect: Rect, response: &Response, stops: &[MaskStop], places: &[f32], knob: f32) {
    let palette = Palette::of(ui);
    let painter = ui.painter();
    let y = rect.top() + 14.0;
    let (first, last) = (places[0], places[places.len() - 1]);
    painter.line_segment([pos2(first, y), pos2(last, y)], Stroke::new(4.0, palette.control_pressed));
    painter.line_segment([pos2(first, y), pos2(knob, y)], Stroke::new(4.0, palette.accent_fill));
    for (stop, &x) in stops.iter().zip(places) {
        let done = x <= knob;
        let color = if done { palette.accent } else { palette.line_strong };
        if stop.choice == MaskChoice::Plan {
            let points = [vec2(0.0, -6.0), vec2(6.0, 0.0), vec2(0.0, 6.0), vec2(-6.0, 0.0)].map(|offset| pos2(x, y) + offset);
            painter.add(egui::Shape::convex_polygon(points.to_vec(), color, Stroke::new(1.5, palette.panel)));
        } else {
            painter.circle_filled(pos2(x, y), 3.0, color);
        }
    }
    let fill = if response.hovered() || response.dragged() { palette.accent } else { palette.accent_fill };
    painter.circle(pos2(knob, y), KNOB_RADIUS, fill, Stroke::new(2.5, palette.panel));
    if response.has_focus() {
        painter.circle_stroke(pos2(knob, y), KNOB_RADIUS + 2.0, Stroke::new(2.0, palette.accent));
    }
    let font = FontId::proportional(11.5);
    let text_y = rect.bottom() - 8.0;
    painter.text(pos2(rect.left(), text_y), Align2::LEFT_CENTER, "Dense", font.clone(), palette.text_dim);
    painter.text(pos2(rect.right(), text_y), Align2::RIGHT_CENTER, "Sparsest", font.clone(), palette.text_dim);
    if let Some((_, &x)) = stops.iter().zip(places).find(|(stop, _)| stop.choice == MaskChoice::Plan) {
        let x = x.clamp(rect.left() + 70.0, rect.right() - 96.0);
        painter.text(pos2(x, text_y), Align2::CENTER_CENTER, "Searched plan", font, palette.text);
    }
}

/// The position that a screen reader asks for, if it does.
fn asked_position(ui: &Ui, response: &Response, here: usize, last: usize) -> Option<usize> {
    use accesskit::{Action, ActionData};
    ui.input(|input| {
        let set = input.accesskit_action_requests(response.id, Action::SetValue).filter_map(|request| match request.data {
            Some(ActionData::NumericValue(value)) => Some(value.max(0.0) as usize),
            _ => None,
        });
        let up = input.num_accesskit_action_requests(response.id, Action::Increment);
        let down = input.num_accesskit_action_requests(response.id, Action::Decrement);
        set.last().or_else(|| (up != down).then(|| (here + up).saturating_sub(down))).map(|position| position.min(last))
    })
}

fn describe(ui: &Ui, response: &Response, stops: &[MaskStop], position: usize, is_own: bool, density: f64) {
    response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), position as f64, "Mask dial"));
    let text = match stops.get(position) {
        Some(stop) if !is_own => format!("{}, {} of the tiles", stop_in_words(stop), percent(stop.density)),
        _ => format!("a plan of its own, {} of the tiles", percent(density)),
    };
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_min_numeric_value(0.0);
        node.set_max_numeric_value(stops.len().saturating_sub(1) as f64);
        node.set_numeric_value_step(1.0);
        node.set_numeric_value(position as f64);
        node.set_value(text);
        for action in [accesskit::Action::SetValue, accesskit::Action::Increment, accesskit::Action::Decrement] {
            node.add_action(action);
        }
    });
}

fn stop_in_words(stop: &MaskStop) -> String {
    match &stop.choice {
        MaskChoice::Dense => "Dense".to_owned(),
        MaskChoice::Plan => "The model's searched plan".to_owned(),
        _ => format!("{} in every layer", stop.name),
    }
}

fn name_of(choice: &MaskChoice, mask: &MaskOutlook) -> String {
    match (mask.position.and_then(|position| mask.stops.get(position)), choice) {
        (_, MaskChoice::File(path)) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        (Some(stop), _) => stop_in_words(stop),
        (None, MaskChoice::Given(_)) => "The plan of a recipe".to_owned(),
        (None, MaskChoice::Uniform(name)) => format!("{name} in every layer"),
        (None, MaskChoice::Plan) => "The model's searched plan".to_owned(),
        (None, MaskChoice::Dense) => "Dense".to_owned(),
    }
}

fn layers_in_words(plan: Option<&MaskPlan>) -> String {
    let Some(plan) = plan else { return "No plan fits these settings.".to_owned() };
    let is_near = |layer: &LayerMask| matches!(layer.layout(), Layout::Neighbours(_));
    let near = plan.ranges().any(|(_, layers)| layers.iter().any(is_near));
    let rules = if near {
        "K reference frames : N others, or near:D for those up to D frames away"
    } else {
        "K reference frames : N others"
    };
    let mut text = format!("{rules}, layer by layer:\n");
    let ranges = plan.ranges().map(|(from, layers)| {
        let names = layers.iter().map(LayerMask::name).collect::<Vec<_>>().join("  ");
        if from > 0.0 { format!("after {:.0} % of the steps: {names}", 100.0 * from) } else { names }
    });
    text += &ranges.collect::<Vec<_>>().join("\n");
    text
}

fn tile_in_words(plan: &MaskPlan, query: usize, key: usize) -> String {
    if !plan.is_for_all_steps() {
        let share = 100.0 * plan.tile_share(query, key);
        return format!("Latent frame {} looks at latent frame {} in {share:.0} % of layers and steps", query + 1, key + 1);
    }
    let keeping: Vec<usize> = plan
        .layers()
        .iter()
        .enumerate()
        .filter(|(_, layer)| layer.mask().keeps(query, key))
        .map(|(index, _)| index + 1)
        .collect();
    let layers = plan.layers().len();
    let which = match keeping.len() {
        0 => "in no layer".to_owned(),
        all if all == layers => format!("in all {layers} layers"),
        some => format!("in {some} of {layers} layers: {}", keeping.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    format!("Latent frame {} looks at latent frame {} {which}", query + 1, key + 1)
}

/// A square of so many pixels, a tile for each pair of latent frames.
fn paint(plan: &MaskPlan, pixels: usize, skipped: Color32, computed: Color32, gap: Color32) -> ColorImage {
    let frames = plan.frames();
    let colors: Vec<Color32> = (0..frames * frames)
        .map(|tile| skipped.lerp_to_gamma(computed, plan.tile_share(tile / frames, tile % frames) as f32))
        .collect();
    let side = pixels.max(frames);
    let cell = |pixel: usize| pixel * frames / side;
    // The last pixel of a cell is its gap.
    let in_gap = |pixel: usize| frames <= MOST_FRAMES_WITH_GAPS && cell(pixel) != cell(pixel + 1) && pixel + 1 < side;
    let mut image = ColorImage::filled([side, side], gap);
    for y in (0..side).filter(|&y| !in_gap(y)) {
        for x in (0..side).filter(|&x| !in_gap(x)) {
            image[(x, y)] = colors[cell(y) * frames + cell(x)];
        }
    }
    image
}

/// The four numbers of a run, each with where it comes from.
fn costs(ui: &mut Ui, estimate: &Estimate, fit: Option<(Fit, Option<u64>)>) {
    let palette = Palette::of(ui);
    let phases = &estimate.phases;
    let time = format!(
        "Reading the prompt {}, {} calls of the transformer {}, decoding {}.\nSeconds: {}.",
        words::duration(phases.text),
        estimate.model_calls,
        words::duration(phases.sampling),
        words::duration(phases.decoding),
        estimate.basis
    );
    let work = format!(
        "Prompt {}, transformer {}, decoder {}.\nCalculated from the model's configuration and the mask.",
        operations(estimate.flops.text),
        operations(estimate.flops.sampling),
        operations(estimate.flops.decoding)
    );
    let free = match fit {
        Some((_, Some(free))) => format!("{} are free now.\n", words::bytes(free)),
        _ => String::new(),
    };
    let others = match estimate.others_memory_bytes.iter().max() {
        Some(most) => format!("That is on the first device; on the others {}.\n", words::bytes(*most)),
        None => String::new(),
    };
    let memory = format!("{free}{others}Weights and the largest activations, calculated.");
    let tiles = "Attention tiles that are computed, of all: counted in the plan.".to_owned();
    let memory_color = if fit.is_some_and(|(fit, _)| fit == Fit::WontFit) { palette.error } else { palette.text_strong };
    egui::Grid::new("costs").num_columns(2).spacing(vec2(theme::SPACE_SMALL, 2.0)).min_row_height(24.0).show(ui, |ui| {
        for (name, value, color, tip) in [
            ("Time", words::duration(estimate.seconds), palette.text_strong, time),
            ("Work", operations(estimate.flops.total()), palette.text_strong, work),
            ("Tiles", percent(estimate.density), palette.text_strong, tiles),
            ("Memory", words::bytes(estimate.memory_bytes), memory_color, memory),
        ] {
            ui.label(egui::RichText::new(name).color(palette.text_dim));
            let value_label = ui.label(theme::strong(&value).color(color));
            value_label.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{name}: {value}")));
            value_label.on_hover_text(tip);
            ui.end_row();
        }
    });
}

/// Something to know, said quietly.
pub fn notice(ui: &mut Ui, text: &str) {
    let palette = Palette::of(ui);
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let (rect, _) = ui.allocate_exact_size(Vec2::splat(14.0), Sense::hover());
        icons::paint(ui.painter(), rect, Icon::Warning, palette.warning);
        ui.add(egui::Label::new(egui::RichText::new(text).small().color(palette.text)).wrap());
    });
}

/// Floating-point operations as a person says them.
pub fn operations(flops: f64) -> String {
    match flops {
        f if f < 1e12 => format!("{:.0} GFLOP", f / 1e9),
        f if f < 1e13 => format!("{:.2} TFLOP", f / 1e12),
        f if f < 1e15 => format!("{:.0} TFLOP", f / 1e12),
        f => format!("{:.1} PFLOP", f / 1e15),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(density: f64) -> MaskStop {
        MaskStop { choice: MaskChoice::Dense, name: String::new(), density }
    }

    #[test]
    fn every_position_can_be_hit() {
        for densities in [&[1.0, 0.5, 0.495, 0.49, 0.34][..], &[1.0], &[1.0, 0.35, 0.345, 0.34], &[1.0, 1.0, 1.0]] {
            let stops: Vec<MaskStop> = densities.iter().map(|&density| stop(density)).collect();
            let places = places(&stops, 10.0, 250.0);
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LEAST_GAP - 0.01), "{places:?}");
            assert!(places.iter().all(|place| (9.99..=250.01).contains(place)), "{places:?}");
        }
        let many: Vec<MaskStop> = (0..100).map(|index| stop(1.0 - f64::from(index) / 200.0)).collect();
        let places = places(&many, 0.0, 200.0);
        assert!(places.windows(2).all(|pair| pair[1] > pair[0]) && places[99] <= 200.0);
    }

    #[test]
    fn the_picture_shows_the_mean_of_the_layers() {
        let layers = ["full", "1:3"].map(|name| LayerMask::named(name, 4).unwrap());
        let plan = MaskPlan::of_layers(layers.to_vec()).unwrap();
        let image = paint(&plan, 40, Color32::BLACK, Color32::WHITE, Color32::RED);
        assert_eq!(image.size, [40, 40]);
        // Frame 0 is the reference of 1:3: its row, its column and the diagonal are in both layers.
        let center = |query: usize, key: usize| image[(key * 10 + 5, query * 10 + 5)];
        assert_eq!([center(0, 3), center(3, 0), center(2, 2)], [Color32::WHITE; 3]);
        assert_ne!(center(1, 2), Color32::WHITE);
        assert_ne!(center(1, 2), Color32::BLACK);
        assert_eq!(image[(9, 5)], Color32::RED);
        assert_eq!(tile_in_words(&plan, 1, 2), "Latent frame 2 looks at latent frame 3 in 1 of 2 layers: 1");
        assert_eq!(tile_in_words(&plan, 0, 3), "Latent frame 1 looks at latent frame 4 in all 2 layers");
    }
}
