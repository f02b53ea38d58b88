//! The look of the window: colours of the light and the dark theme, text styles, the bundled font, spacing and corners.
//!
//! Panels take colours from [`Palette::of`] and distances from the constants here, so that one file decides how the program
//! looks. Scripts that the bundled font lacks come from the system's fonts, which eframe looks up (`NativeOptions::
//! system_font_fallback`, on by default with its feature `system_fonts`).

use std::sync::Arc;

use eframe::egui::{
    self, Button, Color32, Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, RichText, Shadow,
    Stroke, Style, TextStyle, Theme, Ui, Visuals, WidgetText, epaint::FontColorTransferFunction, style, vec2,
};

/// Distances, in points. Everything stands on this scale.
pub const SPACE_TINY: f32 = 4.0;
pub const SPACE_SMALL: f32 = 8.0;
pub const SPACE: f32 = 12.0;
pub const SPACE_LARGE: f32 = 16.0;
pub const SPACE_HUGE: f32 = 24.0;

/// Corners, in points: cells and badges; buttons and fields; cards and popups.
pub const RADIUS_SMALL: u8 = 4;
pub const RADIUS: u8 = 6;
pub const RADIUS_LARGE: u8 = 10;

/// The height of buttons, fields and rows.
pub const CONTROL_HEIGHT: f32 = 28.0;

const REGULAR: &str = "Inter";
const SEMI_BOLD: &str = "Inter SemiBold";

/// The heavier cut of the font, for titles and the words that matter.
pub fn strong_family() -> FontFamily {
    FontFamily::Name(SEMI_BOLD.into())
}

/// Name of a page or a dialog.
pub fn title(text: impl Into<String>) -> RichText {
    RichText::new(text).font(FontId::new(20.0, strong_family()))
}

/// Name of a group of controls.
pub fn caption(text: impl Into<String>) -> RichText {
    RichText::new(text).font(FontId::new(12.0, strong_family()))
}

/// Words with weight, at the size of running text.
pub fn strong(text: impl Into<String>) -> RichText {
    RichText::new(text).family(strong_family())
}

/// The one button of a panel that matters most.
pub fn primary_button<'a>(ui: &Ui, text: &str) -> Button<'a> {
    let palette = Palette::of(ui);
    Button::new(RichText::new(text).family(strong_family()).color(palette.on_accent)).fill(palette.accent_fill)
}

/// How wide that button must be to show all of its text.
pub fn primary_button_width(ui: &Ui, text: &str) -> f32 {
    let font = FontId::new(TextStyle::Button.resolve(ui.style()).size, strong_family());
    let text = ui.painter().layout_no_wrap(text.to_owned(), font, Color32::PLACEHOLDER);
    text.size().x + 2.0 * ui.spacing().button_padding.x
}

/// A button that destroys something.
pub fn danger_button<'a>(ui: &Ui, text: impl Into<String>) -> Button<'a> {
    Button::new(WidgetText::from(text.into()).color(Palette::of(ui).error))
}

/// The colours of a theme.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    /// Around the picture in the player.
    pub canvas: Color32,
    /// Behind the panels, and between them.
    pub ground: Color32,
    pub panel: Color32,
    /// Cards, text fields, menus and dialogs.
    pub raised: Color32,
    /// Buttons at rest, under the pointer, and held down.
    pub control: Color32,
    pub control_hovered: Color32,
    pub control_pressed: Color32,
    /// Hairlines between things, and outlines of things to act on.
    pub line: Color32,
    pub line_strong: Color32,
    /// Text: titles and values, running text, and what is said on the side.
    pub text_strong: Color32,
    pub text: Color32,
    pub text_dim: Color32,
    /// The accent as text, line or mark; the focus ring.
    pub accent: Color32,
    /// The accent as a surface, and text on it.
    pub accent_fill: Color32,
    pub on_accent: Color32,
    /// The accent as a quiet surface: what is selected.
    pub accent_tint: Color32,
    pub good: Color32,
    pub warning: Color32,
    pub error: Color32,
    /// Behind and in badges that lie on a picture, whatever the picture shows.
    pub badge: Color32,
    pub on_badge: Color32,
    shadow: Color32,
}

pub static DARK: Palette = Palette {
    canvas: rgb(0x0B0C0E),
    ground: rgb(0x101114),
    panel: rgb(0x17191D),
    raised: rgb(0x1E2126),
    control: rgb(0x272B32),
    control_hovered: rgb(0x31363F),
    control_pressed: rgb(0x3A404A),
    line: rgb(0x2A2E35),
    line_strong: rgb(0x4A515D),
    text_strong: rgb(0xF3F5F8),
    text: rgb(0xCDD2DA),
    text_dim: rgb(0xA0A7B3),
    accent: rgb(0x95A4FF),
    accent_fill: rgb(0x5566E8),
    on_accent: rgb(0xFFFFFF),
    accent_tint: rgb(0x2B3157),
    good: rgb(0x5ECB94),
    warning: rgb(0xF2B45A),
    error: rgb(0xFF8A85),
    badge: Color32::from_black_alpha(200),
    on_badge: rgb(0xF3F5F8),
    shadow: Color32::from_black_alpha(120),
};

pub static LIGHT: Palette = Palette {
    canvas: rgb(0xDCDFE5),
    ground: rgb(0xE9EBEF),
    panel: rgb(0xF7F8FA),
    raised: rgb(0xFFFFFF),
    control: rgb(0xE8EAEF),
    control_hovered: rgb(0xDDE0E7),
    control_pressed: rgb(0xD0D5DE),
    line: rgb(0xDBDEE5),
    line_strong: rgb(0x8E96A4),
    text_strong: rgb(0x14171C),
    text: rgb(0x333943),
    text_dim: rgb(0x505865),
    accent: rgb(0x3F4CCB),
    accent_fill: rgb(0x4C5AE0),
    on_accent: rgb(0xFFFFFF),
    accent_tint: rgb(0xDADEFB),
    good: rgb(0x146A40),
    warning: rgb(0x7D4E00),
    error: rgb(0xB01E2A),
    badge: Color32::from_black_alpha(200),
    on_badge: rgb(0xF3F5F8),
    shadow: Color32::from_black_alpha(40),
};

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

impl Palette {
    /// The colours of the theme that is on.
    pub fn of(ui: &Ui) -> &'static Self {
        if ui.visuals().dark_mode { &DARK } else { &LIGHT }
    }
}

/// Gives the window its look. Light, dark or the system's theme is chosen with [`Context::set_theme`], which follows the
/// system unless told otherwise.
pub fn install(context: &Context) {
    context.set_fonts(fonts());
    context.set_style_of(Theme::Dark, style_of(Theme::Dark));
    context.set_style_of(Theme::Light, style_of(Theme::Light));
}

/// Inter for all text; egui's monospace for what a machine wrote.
fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let regular = FontData::from_static(include_bytes!("../../assets/fonts/Inter-Regular.otf"));
    let semi_bold = FontData::from_static(include_bytes!("../../assets/fonts/Inter-SemiBold.otf"));
    fonts.font_data.insert(REGULAR.into(), Arc::new(regular));
    fonts.font_data.insert(SEMI_BOLD.into(), Arc::new(semi_bold));
    fonts.families.insert(FontFamily::Proportional, vec![REGULAR.into()]);
    fonts.families.insert(strong_family(), vec![SEMI_BOLD.into(), REGULAR.into()]);
    if let Some(monospace) = fonts.families.get_mut(&FontFamily::Monospace) {
        monospace.insert(1, REGULAR.into());
    }
    fonts
}

fn style_of(theme: Theme) -> Style {
    let mut style = Style {
        text_styles: [
            (TextStyle::Small, FontId::proportional(11.5)),
            (TextStyle::Body, FontId::proportional(13.0)),
            (TextStyle::Button, FontId::proportional(13.0)),
            (TextStyle::Heading, FontId::new(15.0, strong_family())),
            (TextStyle::Monospace, FontId::monospace(12.0)),
        ]
        .into(),
        visuals: visuals(theme),
        animation_time: 0.12,
        ..Style::default()
    };
    let spacing = &mut style.spacing;
    spacing.item_spacing = vec2(SPACE_SMALL, SPACE_SMALL);
    spacing.button_padding = vec2(10.0, 5.0);
    spacing.interact_size = vec2(CONTROL_HEIGHT, CONTROL_HEIGHT);
    spacing.window_margin = Margin::same(SPACE_LARGE as i8);
    spacing.menu_margin = Margin::same(6);
    spacing.menu_spacing = 6.0;
    spacing.icon_width = 16.0;
    spacing.icon_width_inner = 9.0;
    spacing.icon_spacing = 6.0;
    spacing.slider_rail_height = 4.0;
    spacing.slider_width = 160.0;
    spacing.combo_width = 120.0;
    spacing.tooltip_width = 320.0;
    spacing.indent = SPACE_LARGE;
    style.interaction.tooltip_delay = 0.4;
    style.interaction.selectable_labels = false;
    style
}

fn visuals(theme: Theme) -> Visuals {
    let (mut visuals, palette) = match theme {
        Theme::Dark => (Visuals::dark(), &DARK),
        Theme::Light => (Visuals::light(), &LIGHT),
    };
    let widget = |fill: Color32, outline: Stroke, text: Color32| style::WidgetVisuals {
        bg_fill: fill,
        weak_bg_fill: fill,
        bg_stroke: outline,
        corner_radius: CornerRadius::same(RADIUS),
        fg_stroke: Stroke::new(1.5, text),
        expansion: 0.0,
    };
    let line = |color| Stroke::new(1.0, color);
    visuals.widgets = style::Widgets {
        noninteractive: widget(palette.panel, line(palette.line), palette.text),
        inactive: widget(palette.control, line(palette.line), palette.text),
        hovered: widget(palette.control_hovered, line(palette.line_strong), palette.text_strong),
        // Also what has the keyboard's focus: the outline is the focus ring.
        active: widget(palette.control_pressed, Stroke::new(2.0, palette.accent), palette.text_strong),
        open: widget(palette.control_pressed, line(palette.line_strong), palette.text_strong),
    };
    visuals.text_options.color_transfer_function = match theme {
        Theme::Dark => FontColorTransferFunction::DARK_MODE_DEFAULT,
        Theme::Light => FontColorTransferFunction::LIGHT_MODE_DEFAULT,
    };
    visuals.selection.bg_fill = palette.accent_tint;
    visuals.selection.stroke = Stroke::new(1.5, palette.accent);
    visuals.ime_composition.active_underline_stroke = Stroke::new(2.0, palette.accent);
    visuals.ime_composition.inactive_underline_stroke = Stroke::new(2.0, palette.line_strong);
    visuals.hyperlink_color = palette.accent;
    visuals.weak_text_color = Some(palette.text_dim);
    visuals.faint_bg_color = palette.raised;
    visuals.extreme_bg_color = palette.raised;
    visuals.text_edit_bg_color = Some(palette.raised);
    visuals.code_bg_color = palette.control;
    visuals.warn_fg_color = palette.warning;
    visuals.error_fg_color = palette.error;
    visuals.window_fill = palette.raised;
    visuals.window_stroke = line(palette.line);
    visuals.window_corner_radius = CornerRadius::same(RADIUS_LARGE);
    visuals.menu_corner_radius = CornerRadius::same(RADIUS_LARGE);
    visuals.panel_fill = palette.panel;
    visuals.window_shadow = Shadow { offset: [0, 8], blur: 32, spread: 0, color: palette.shadow };
    visuals.popup_shadow = Shadow { offset: [0, 4], blur: 16, spread: 0, color: palette.shadow };
    visuals.text_cursor.stroke = Stroke::new(2.0, palette.accent);
    visuals.slider_trailing_fill = true;
    visuals.handle_shape = style::HandleShape::Circle;
    visuals.striped = false;
    visuals.indent_has_left_vline = false;
    visuals
}

/// A menu entry for each theme; true when another one was chosen.
pub fn theme_menu(ui: &mut Ui, preference: &mut egui::ThemePreference) -> bool {
    use egui::ThemePreference::{Dark, Light, System};
    let choices = [(System, "Follow the system"), (Light, "Light"), (Dark, "Dark")];
    let before = *preference;
    for (choice, name) in choices {
        ui.radio_value(preference, choice, name);
    }
    if *preference != before {
        ui.ctx().set_theme(*preference);
    }
    *preference != before
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.1, definitions of relative luminance and contrast ratio.
    fn contrast(a: Color32, b: Color32) -> f64 {
        let luminance = |color: Color32| {
            let linear = |channel: u8| {
                let value = f64::from(channel) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(color.r()) + 0.7152 * linear(color.g()) + 0.0722 * linear(color.b())
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn the_contrast_is_that_of_the_standard() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        // The lightest grey that passes on white, as every checker says: #767676.
        assert!((contrast(rgb(0x767676), Color32::WHITE) - 4.54).abs() < 0.005);
    }

    #[test]
    fn text_is_readable_on_every_surface() {
        for (name, palette) in [("dark", &DARK), ("light", &LIGHT)] {
            let surfaces = [
                ("canvas", palette.canvas),
                ("ground", palette.ground),
                ("panel", palette.panel),
                ("raised", palette.raised),
                ("control", palette.control),
                ("control hovered", palette.control_hovered),
            ];
            let texts = [
                ("strong", palette.text_strong),
                ("text", palette.text),
                ("dim", palette.text_dim),
                ("accent", palette.accent),
                ("good", palette.good),
                ("warning", palette.warning),
                ("error", palette.error),
            ];
            for (surface, ground) in surfaces {
                for (text, color) in texts {
                    let ratio = contrast(color, ground);
                    assert!(ratio >= 4.5, "{name}: {text} on {surface} has {ratio:.2}, AA asks for 4.5");
                }
            }
            assert!(contrast(palette.on_accent, palette.accent_fill) >= 4.5, "{name}: text on the accent");
            assert!(contrast(palette.text_strong, palette.accent_tint) >= 4.5, "{name}: text on a selection");
            // A badge lies on any picture, at worst a white one.
            let over_white = Color32::from_gray(255 - palette.badge.a());
            assert!(contrast(palette.on_badge, over_white) >= 4.5, "{name}: text on a badge over white");
        }
    }

    #[test]
    fn widgets_of_egui_are_readable_and_their_focus_is_seen() {
        for theme in [Theme::Dark, Theme::Light] {
            let visuals = visuals(theme);
            let widgets = &visuals.widgets;
            for (name, widget) in [
                ("noninteractive", &widgets.noninteractive),
                ("inactive", &widgets.inactive),
                ("hovered", &widgets.hovered),
                ("active", &widgets.active),
                ("open", &widgets.open),
            ] {
                let ratio = contrast(widget.fg_stroke.color, widget.weak_bg_fill);
                assert!(ratio >= 4.5, "{theme:?}: text of {name} widgets has {ratio:.2}");
            }
            let selected = contrast(visuals.selection.stroke.color, visuals.selection.bg_fill);
            assert!(selected >= 4.5, "{theme:?}: a selected entry has {selected:.2}");
            // WCAG 2.1, 1.4.11: what shows the focus needs 3:1 against what is next to it.
            for surface in [visuals.panel_fill, visuals.window_fill, widgets.active.weak_bg_fill] {
                let ring = contrast(widgets.active.bg_stroke.color, surface);
                assert!(ring >= 3.0, "{theme:?}: the focus ring has {ring:.2}");
            }
        }
    }

    #[test]
    fn the_font_has_the_scripts_it_promises_and_digits_of_one_width() {
        let context = Context::default();
        install(&context);
        // Fonts come up with the first pass.
        context.run_ui(egui::RawInput::default(), |_| {}).drop_without_applying_deltas();
        for font in [FontId::proportional(13.0), FontId::new(13.0, strong_family())] {
            context.fonts_mut(|fonts| {
                for text in ["Ünïcödé ŁódźĐ", "Ελληνικά ώ", "Кириллица їґ", "→ × · – — … “ ” ≈ ≤ °"]
                {
                    assert!(fonts.has_glyphs(&font, text), "{font:?} cannot show {text}");
                }
                let widths: Vec<f32> = ('0'..='9').map(|digit| fonts.glyph_width(&font, digit)).collect();
                assert!(widths.iter().all(|width| (width - widths[0]).abs() < 1e-4), "{font:?}: {widths:?}");
                assert!(fonts.glyph_width(&font, 'W') > 1.5 * fonts.glyph_width(&font, 'i'));
            });
        }
    }
}
