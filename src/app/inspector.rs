//! The pane on the right: pages about the shown clip or run, one at a time.

use eframe::egui::{ScrollArea, Ui};

use super::action::Action;
use super::attention::{AttentionPage, Pointed, Subject};
use super::compare_page::ComparePage;
use super::empty_state;
use super::icons::Icon;
use super::recipe_page::RecipePage;
use super::segments;
use super::stage::Comparing;
use super::theme;
use super::time_page::TimePage;
use crate::studio::{ClipEntry, ClipId, Live, Studio, Verdict};

/// What the pane can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Page {
    #[default]
    Recipe,
    Attention,
    Time,
    /// There while two clips are compared.
    Compare,
}

impl Page {
    /// The page, its name, and what is to be found there.
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Recipe, "Recipe", "Everything that made the clip: prompt, seed, model, mask and device"),
        (Self::Attention, "Attention", "Where each layer looked at each step, and what the plan computed of it"),
        (Self::Time, "Time", "Where the time went: by phase, by layer and by kind of work"),
        (Self::Compare, "Compare", "How alike the two clips are, and what they cost"),
    ];
}

#[derive(Default)]
pub struct Inspector {
    pub page: Page,
    /// The frame in the player, from 0.
    pub frame: usize,
    /// The step in the player, from 0; none for the clip itself.
    pub step: Option<usize>,
    /// What the page of attention is about.
    pub subject: Subject,
    pub attention: AttentionPage,
    recipe: RecipePage,
    time: TimePage,
    compare: ComparePage,
}

impl Inspector {
    /// Shows the run, if there is one, else the clip; `pair` are the two that are compared. Gives what the person points at in
    /// the maps of attention.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        studio: &Studio,
        clip: Option<&ClipEntry>,
        live: Option<&Live>,
        pair: Option<&Comparing>,
        actions: &mut Vec<Action>,
    ) -> Pointed {
        let mut pointed = Pointed::default();
        let Some(recipe) = live.map(|live| &live.recipe).or(clip.map(|clip| &clip.recipe)) else {
            let text = "Choose a clip below to see what it was made from: prompt, seed, model, mask and device.";
            empty_state::show(ui, Icon::Recipe, "No clip is shown", text, None);
            return pointed;
        };
        let clip = clip.filter(|_| live.is_none());
        let pages = if pair.is_some() { &Page::ALL[..] } else { &Page::ALL[..Page::ALL.len() - 1] };
        if pages.iter().all(|(page, ..)| *page != self.page) {
            self.page = Page::default();
        }
        segments::show(ui, &mut self.page, pages);
        ui.add_space(theme::SPACE_TINY);
        ScrollArea::vertical().id_salt(("inspector", self.page)).auto_shrink(false).show(ui, |ui| {
            // Room for the scroll bar.
            ui.set_max_width(ui.available_width() - 6.0);
            ui.spacing_mut().item_spacing.y = 6.0;
            match self.page {
                Page::Recipe => self.recipe.show(ui, studio, recipe, self.step, clip, live, actions),
                Page::Attention => pointed = self.attention.show(ui, &self.subject, actions),
                Page::Time => self.time.show(ui, studio, clip, live, actions),
                Page::Compare => {
                    if let Some(pair) = pair {
                        self.compare.show(ui, studio, pair, self.frame, actions);
                    }
                }
            }
            super::focus::follow(ui);
        });
        pointed
    }

    /// What a verification has found.
    pub fn set_verdict(&mut self, clip: ClipId, verdict: Result<Verdict, String>) {
        self.recipe.set_verdict(clip, verdict);
    }

    /// The verification that goes on, and how much of it is done, 0 to 1.
    pub fn set_verifying(&mut self, verifying: Option<(ClipId, f64)>) {
        self.recipe.set_verifying(verifying);
    }
}
