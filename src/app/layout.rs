//! Where the panels are: docked, movable, remembered.

use eframe::egui::{self, Color32, Response, Stroke, Style, Ui, Visuals, WidgetText};
use egui_tiles::{
    Behavior, Container, Linear, LinearDir, ResizeState, SimplificationOptions, TabState, TileId, Tiles, Tree, UiResponse,
};
use serde::{Deserialize, Serialize};

use super::theme::{self, Palette};

const TAB_HEIGHT: f32 = 32.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pane {
    Settings,
    Player,
    Lab,
    Inspector,
    Library,
    Queue,
}

impl Pane {
    pub const ALL: [Self; 6] = [Self::Settings, Self::Player, Self::Lab, Self::Inspector, Self::Library, Self::Queue];

    pub fn title(self) -> &'static str {
        match self {
            Self::Settings => "Create",
            Self::Player => "Player",
            Self::Lab => "Lab",
            Self::Inspector => "Inspector",
            Self::Library => "Library",
            Self::Queue => "Queue",
        }
    }
}

pub type Layout = Tree<Pane>;

/// Settings on the left, the player and the lab in the middle, the inspector on the right; library and queue below.
pub fn standard() -> Layout {
    let mut tiles = Tiles::default();
    let mut tab = |pane: Pane| {
        let pane = tiles.insert_pane(pane);
        tiles.insert_tab_tile(vec![pane])
    };
    let [settings, inspector] = [Pane::Settings, Pane::Inspector].map(&mut tab);
    let player = [Pane::Player, Pane::Lab].map(|pane| tiles.insert_pane(pane));
    let player = tiles.insert_tab_tile(player.to_vec());
    let strip = [Pane::Library, Pane::Queue].map(|pane| tiles.insert_pane(pane));
    let strip = tiles.insert_tab_tile(strip.to_vec());
    let middle = shared(&mut tiles, LinearDir::Vertical, &[(player, 0.72), (strip, 0.28)]);
    let root = shared(&mut tiles, LinearDir::Horizontal, &[(settings, 0.24), (middle, 0.54), (inspector, 0.22)]);
    Tree::new(egui::Id::unique("panels"), root, tiles)
}

fn shared(tiles: &mut Tiles<Pane>, direction: LinearDir, children: &[(TileId, f32)]) -> TileId {
    let mut linear = Linear::new(direction, children.iter().map(|(tile, _)| *tile).collect());
    for &(tile, share) in children {
        linear.shares.set_share(tile, share);
    }
    tiles.insert_container(Container::Linear(linear))
}

/// A remembered layout, if it still holds every panel once; a panel that came with a newer program would be out of reach.
pub fn checked(layout: Layout) -> Option<Layout> {
    let panes = |pane: Pane| {
        layout.tiles.iter().filter(|(_, tile)| matches!(tile, egui_tiles::Tile::Pane(other) if *other == pane)).count()
    };
    Pane::ALL.into_iter().all(|pane| panes(pane) == 1).then_some(layout)
}

/// Draws the panes through one function of the window.
pub struct Docking<'a> {
    pub show: &'a mut dyn FnMut(&mut Ui, Pane),
    /// Whether the panels' colour is not there already. Filling the window is most of the work of a software adapter.
    pub fills: bool,
}

impl Docking<'_> {
    fn palette(visuals: &Visuals) -> &'static Palette {
        if visuals.dark_mode { &theme::DARK } else { &theme::LIGHT }
    }
}

impl Behavior<Pane> for Docking<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _: TileId, pane: &mut Pane) -> UiResponse {
        if self.fills {
            ui.painter().rect_filled(ui.max_rect(), 0.0, Palette::of(ui).panel);
        }
        let margin = if *pane == Pane::Player { theme::SPACE_SMALL } else { theme::SPACE };
        egui::Frame::new().inner_margin(margin).show(ui, |ui| (self.show)(ui, *pane));
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &Pane) -> WidgetText {
        pane.title().into()
    }

    fn on_tab_button(&mut self, _: &mut Tiles<Pane>, _: TileId, tab: Response) -> Response {
        super::focus::ring(&tab);
        tab
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..SimplificationOptions::default() }
    }

    fn gap_width(&self, _: &Style) -> f32 {
        theme::SPACE_TINY
    }

    fn resize_stroke(&self, style: &Style, state: ResizeState) -> Stroke {
        let palette = Self::palette(&style.visuals);
        match state {
            ResizeState::Idle => Stroke::new(self.gap_width(style), palette.ground),
            ResizeState::Hovering => Stroke::new(2.0, palette.line_strong),
            ResizeState::Dragging => Stroke::new(2.0, palette.accent),
        }
    }

    fn tab_bar_height(&self, _: &Style) -> f32 {
        TAB_HEIGHT
    }

    fn tab_title_spacing(&self, _: &Visuals) -> f32 {
        theme::SPACE
    }

    fn tab_bar_color(&self, visuals: &Visuals) -> Color32 {
        Self::palette(visuals).ground
    }

    fn tab_bg_color(&self, visuals: &Visuals, _: &Tiles<Pane>, _: TileId, state: &TabState) -> Color32 {
        let palette = Self::palette(visuals);
        if state.active { palette.panel } else { palette.ground }
    }

    fn tab_outline_stroke(&self, _: &Visuals, _: &Tiles<Pane>, _: TileId, _: &TabState) -> Stroke {
        Stroke::NONE
    }

    fn tab_bar_hline_stroke(&self, _: &Visuals) -> Stroke {
        Stroke::NONE
    }

    fn tab_text_color(&self, visuals: &Visuals, _: &Tiles<Pane>, _: TileId, state: &TabState) -> Color32 {
        let palette = Self::palette(visuals);
        if state.active { palette.text_strong } else { palette.text_dim }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_remembered_whole_or_not_at_all() {
        let layout = standard();
        let text = serde_json::to_string(&layout).unwrap();
        let again: Layout = serde_json::from_str(&text).unwrap();
        assert!(checked(again).is_some());
        let mut lost = layout;
        let queue = lost.tiles.find_pane(&Pane::Queue).unwrap();
        lost.remove_recursively(queue);
        assert!(checked(lost).is_none());
    }
}
