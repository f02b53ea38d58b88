//! Where the panels are: docked, movable, remembered.

use eframe::egui::{self, Ui, WidgetText};
use egui_tiles::{Behavior, Container, Linear, LinearDir, SimplificationOptions, TileId, Tiles, Tree, UiResponse};
use serde::{Deserialize, Serialize};

use super::theme;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pane {
    Settings,
    Player,
    Inspector,
    Library,
    Queue,
}

impl Pane {
    pub const ALL: [Self; 5] = [Self::Settings, Self::Player, Self::Inspector, Self::Library, Self::Queue];

    pub fn title(self) -> &'static str {
        match self {
            Self::Settings => "Create",
            Self::Player => "Player",
            Self::Inspector => "Recipe",
            Self::Library => "Library",
            Self::Queue => "Queue",
        }
    }
}

pub type Layout = Tree<Pane>;

/// Settings on the left, the player in the middle, the inspector on the right; library and queue below.
pub fn standard() -> Layout {
    let mut tiles = Tiles::default();
    let mut tab = |pane: Pane| {
        let pane = tiles.insert_pane(pane);
        tiles.insert_tab_tile(vec![pane])
    };
    let [settings, player, inspector] = [Pane::Settings, Pane::Player, Pane::Inspector].map(&mut tab);
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
    pub edited: bool,
}

impl Behavior<Pane> for Docking<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _: TileId, pane: &mut Pane) -> UiResponse {
        let margin = if *pane == Pane::Player { 0.0 } else { theme::SPACE };
        egui::Frame::new().inner_margin(margin).show(ui, |ui| (self.show)(ui, *pane));
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &Pane) -> WidgetText {
        pane.title().into()
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..SimplificationOptions::default() }
    }

    fn gap_width(&self, _: &egui::Style) -> f32 {
        4.0
    }

    fn on_edit(&mut self, _: egui_tiles::EditAction) {
        self.edited = true;
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
