//! The pictures on the graphics card: each uploaded once, when it is first shown, and dropped when room is needed.

use std::collections::HashMap;

use eframe::egui::{ColorImage, Context, TextureHandle, TextureId, TextureOptions};

use super::source::Pictures;
use crate::clip::Frames;

/// What the pictures may take on the graphics card.
pub const BUDGET_BYTES: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: u64,
    pictures: Pictures,
    picture: usize,
}

struct Entry {
    texture: TextureHandle,
    bytes: usize,
    /// When it was shown last, on the cache's own clock.
    shown: u64,
}

/// Textures by picture, at most [`BUDGET_BYTES`] of them. The one that was not shown for the longest goes first; of the set
/// that plays, which comes round in a circle, the one that was shown just now, as it is needed last.
pub struct Textures {
    entries: HashMap<Key, Entry>,
    budget_bytes: usize,
    bytes: usize,
    clock: u64,
    uploads: u64,
}

impl Default for Textures {
    fn default() -> Self {
        Self::with_budget(BUDGET_BYTES)
    }
}

impl Textures {
    pub fn with_budget(budget_bytes: usize) -> Self {
        Self { entries: HashMap::new(), budget_bytes, bytes: 0, clock: 0, uploads: 0 }
    }

    /// What all textures take now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many were uploaded so far.
    pub fn uploads(&self) -> u64 {
        self.uploads
    }

    /// The texture of picture `picture` of `frames`, which are the `pictures` of `source`. None for frames without pixels, and
    /// for a picture that alone is over the budget.
    pub fn get(
        &mut self,
        context: &Context,
        source: u64,
        pictures: Pictures,
        picture: usize,
        frames: &Frames,
    ) -> Option<TextureId> {
        self.get_made(context, source, pictures, picture, || (picture < frames.count()).then_some((frames, picture)))
    }

    /// As [`Self::get`], for a picture that is made only if it is not here: `make` gives frames and which of them it is.
    pub fn get_made<F: std::borrow::Borrow<Frames>>(
        &mut self,
        context: &Context,
        source: u64,
        pictures: Pictures,
        picture: usize,
        make: impl FnOnce() -> Option<(F, usize)>,
    ) -> Option<TextureId> {
        let key = Key { source, pictures, picture };
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.shown = self.clock;
            return Some(entry.texture.id());
        }
        let (frames, index) = make()?;
        let image = image(frames.borrow(), index, context.input(|input| input.max_texture_side));
        let bytes = image.pixels.len() * 4;
        if bytes > self.budget_bytes {
            return None;
        }
        self.make_room(bytes, &key);
        let texture = context.load_texture("clip", image, TextureOptions::LINEAR);
        let id = texture.id();
        self.entries.insert(key, Entry { texture, bytes, shown: self.clock });
        self.bytes += bytes;
        self.uploads += 1;
        Some(id)
    }

    /// Drops textures until there is room for `bytes`.
    fn make_room(&mut self, bytes: usize, wanted: &Key) {
        while self.bytes + bytes > self.budget_bytes {
            let plays = |key: &Key| key.source == wanted.source && key.pictures == wanted.pictures;
            let unused = self.entries.iter().filter(|(key, _)| !plays(key)).min_by_key(|(_, entry)| entry.shown);
            let victim = unused.or_else(|| self.entries.iter().max_by_key(|(_, entry)| entry.shown));
            let Some((&victim, _)) = victim else { return };
            if let Some(entry) = self.entries.remove(&victim) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

/// One picture as egui takes it, with every n-th pixel where it is larger than the graphics card allows.
fn image(frames: &Frames, picture: usize, max_side: usize) -> ColorImage {
    let rgb = frames.frame(picture);
    let skip = frames.width.max(frames.height).div_ceil(max_side.max(1));
    if skip <= 1 {
        return ColorImage::from_rgb([frames.width, frames.height], rgb);
    }
    let (width, height) = ((frames.width / skip).max(1), (frames.height / skip).max(1));
    let mut small = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            let at = (row * skip * frames.width + column * skip) * 3;
            small.extend_from_slice(&rgb[at..at + 3]);
        }
    }
    ColorImage::from_rgb([width, height], &small)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::player::state::Look;

    fn frames(count: usize, side: usize) -> Frames {
        let rgb = (0..count).flat_map(|frame| vec![frame as u8; side * side * 3]).collect();
        Frames { width: side, height: side, frames_per_second: 24.0, rgb }
    }

    #[test]
    fn a_picture_is_uploaded_once() {
        let (context, mut textures, frames) = (Context::default(), Textures::default(), frames(6, 4));
        for _ in 0..3 {
            let ids: Vec<_> =
                (0..6).map(|picture| textures.get(&context, 1, Pictures::Finished, picture, &frames).unwrap()).collect();
            assert!((1..6).all(|i| ids[i] != ids[i - 1]));
        }
        assert_eq!((textures.uploads(), textures.bytes()), (6, 6 * 64));
        // The same frame of another step or clip is another picture.
        textures.get(&context, 1, Pictures::Step(0, Look::Decoder), 0, &frames);
        textures.get(&context, 2, Pictures::Finished, 0, &frames);
        assert_eq!(textures.uploads(), 8);
    }

    #[test]
    fn the_budget_holds_at_every_moment() {
        let context = Context::default();
        let clip = frames(10, 4);
        let mut textures = Textures::with_budget(7 * 64 + 63);
        let mut held = Vec::new();
        for look in 0..400u64 {
            // No pattern that a policy could be made for.
            let (source, picture) = (look * look % 3, (look * 7 + look / 5) as usize % 10);
            let id = textures.get(&context, source, Pictures::Finished, picture, &clip);
            assert!(id.is_some());
            assert!(textures.bytes() <= 7 * 64 + 63);
            held.push(context.tex_manager().read().num_allocated());
        }
        // egui itself holds no more than the cache says: dropped textures are freed.
        assert!(*held.iter().max().unwrap() <= 7 + 1, "{held:?}");
        assert_eq!(textures.get(&context, 9, Pictures::Finished, 0, &frames(1, 64)), None, "larger than the budget");
        assert_eq!(textures.get(&context, 9, Pictures::Finished, 1, &frames(1, 4)), None, "no such frame");
    }

    #[test]
    fn a_loop_over_the_budget_uploads_only_what_does_not_fit() {
        let (context, clip) = (Context::default(), frames(10, 4));
        let mut textures = Textures::with_budget(8 * 64);
        let a_round = |textures: &mut Textures| {
            let before = textures.uploads();
            (0..10).for_each(|picture| assert!(textures.get(&context, 1, Pictures::Finished, picture, &clip).is_some()));
            textures.uploads() - before
        };
        assert_eq!(a_round(&mut textures), 10);
        // Keeping what was shown last would upload all ten again.
        for _ in 0..5 {
            let uploads = a_round(&mut textures);
            assert!(uploads <= 3, "{uploads}");
        }
    }

    #[test]
    fn a_picture_too_large_for_the_card_is_thinned_out() {
        let frames = Frames { width: 5, height: 3, frames_per_second: 24.0, rgb: (0..45).collect() };
        let small = image(&frames, 0, 2);
        assert_eq!(small.size, [1, 1]);
        let half = image(&frames, 0, 3);
        assert_eq!(half.size, [2, 1]);
        assert_eq!(half.pixels[1].to_array(), [6, 7, 8, 255]);
        assert_eq!(image(&frames, 0, 5).size, [5, 3]);
    }
}
