//! Sentences about clips of the world, and what a sentence says.
//!
//! `[light] subject [beside second] [motion] [ground] [light] [camera]`, with several phrases for every value; the order varies
//! and parts may be left out. All is lower case.

use super::attributes::{Attributes, Camera, Colour, Ground, Light, Material, Motion, Second, Shape};
use super::draws::Draws;

/// The phrases of a value; a usual one may stand more than once.
type Phrases = &'static [&'static str];

pub const SHAPES: &[Phrases] = &[
    &["ball", "ball", "sphere"],
    &["cube", "cube", "box", "block"],
    &["cylinder", "cylinder", "drum"],
    &["cone"],
    &["ring", "ring", "donut", "torus"],
    &["diamond", "diamond", "gem", "octahedron"],
];
pub const COLOURS: &[Phrases] = &[
    &["red"],
    &["orange"],
    &["yellow"],
    &["green"],
    &["cyan", "turquoise"],
    &["blue"],
    &["purple", "violet"],
    &["pink"],
    &["white"],
];
pub const MATERIALS: &[Phrases] = &[&["matte", "dull", "rough"], &["shiny", "glossy", "polished"]];
pub const MOTIONS: &[Phrases] = &[
    &["bounces", "is bouncing", "bounces up and down", "jumps up and down", "hops"],
    &["spins", "is spinning", "spins around", "turns in place", "rotates"],
    &["rolls to the left", "rolls left", "is rolling to the left"],
    &["rolls to the right", "rolls right", "is rolling to the right"],
    &["slides to the left", "slides left", "is sliding to the left", "moves to the left"],
    &["slides to the right", "slides right", "is sliding to the right", "moves to the right"],
    &["circles around", "moves in a circle", "is going around in circles", "goes around"],
    &["grows", "is growing", "gets bigger", "becomes larger"],
    &["shrinks", "is shrinking", "gets smaller"],
    &["floats up", "rises into the air", "floats up into the sky", "is floating upwards"],
    &["swings", "is swinging", "swings from side to side", "sways back and forth"],
    &["stays still", "stands still", "rests", "does not move", "sits"],
];
pub const CAMERAS: &[Phrases] = &[
    &["the camera stays still", "the camera does not move", "static camera", "fixed camera"],
    &["the camera zooms in", "the camera moves closer", "the camera comes closer", "slow zoom in"],
    &["the camera orbits to the left", "the camera orbits left", "the camera turns to the left"],
    &["the camera orbits to the right", "the camera orbits right", "the camera turns to the right"],
    &["the camera rises", "the camera moves up", "the camera is lifted up"],
];
pub const GROUNDS: &[Phrases] = &[
    &["on the grass", "on green grass", "on a lawn", "in a meadow"],
    &["on the sand", "on a sandy beach", "in the desert"],
    &["on the snow", "in the snow", "on snowy ground"],
    &["on a checkerboard", "on a checkered floor", "on a chess board"],
    &["on the water", "on a lake", "on the sea"],
    &["on a wooden floor", "on wooden planks", "on wood"],
];
pub const LIGHTS: &[Phrases] = &[
    &["at noon", "in bright daylight", "on a sunny day", "by day"],
    &["at sunset", "at dusk", "in the evening light"],
    &["at night", "in the moonlight", "under the moon"],
];
const BESIDE: Phrases = &["next to", "beside", "in front of", "near"];

/// The sentences of a clip differ by a number; each takes at most so many draws.
const DRAWS_OF_A_SENTENCE: u64 = 1000;

/// How much a sentence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Any part may be left out, as people do.
    Some,
    /// Every attribute is named, so that a judge can ask for each.
    All,
}

/// Sentence number `variant` about a clip.
pub fn caption(attributes: &Attributes, seed: u64, clip: u64, variant: u64, detail: Detail) -> String {
    Sentence { draws: Draws::from(seed, clip, DRAWS_OF_A_SENTENCE * (variant + 1)), detail }.about(attributes)
}

/// Draws are taken whether or not their part is said in the end, so the order of the lines below is part of the world.
struct Sentence {
    draws: Draws,
    detail: Detail,
}

const SHORT: f64 = 0.08;
const KEY_WORDS: f64 = 0.92;

impl Sentence {
    fn about(mut self, attributes: &Attributes) -> String {
        let full = self.detail == Detail::All;
        let style = if full { 0.5 } else { self.draws.uniform() };
        let keep = match style {
            _ if full => 1.0,
            style if style < SHORT => 0.35,
            _ => 0.85,
        };
        let subject = self.noun(attributes.shape, attributes.colour, attributes.material, if full { 1.0 } else { 0.75 });
        let mut beside = String::new();
        if let Some(Second { shape, colour, material }) = attributes.second
            && self.draws.is_below(keep + 0.1)
        {
            let how = self.draws.pick(BESIDE);
            beside = format!(" {how} {}", self.noun(shape, colour, material, 0.3));
        }
        let motion = self.part(keep + 0.1, MOTIONS[attributes.motion.class()]);
        let ground = self.part(keep, GROUNDS[attributes.ground.class()]);
        let light = self.part(keep, LIGHTS[attributes.light.class()]);
        // A camera that does nothing is seldom worth a word.
        let keep_camera = if attributes.camera == Camera::Static && !full { keep * 0.6 } else { keep };
        let camera = self.part(keep_camera, CAMERAS[attributes.camera.class()]);

        if style > KEY_WORDS {
            let (_, noun) = subject.split_once(' ').unwrap_or(("", &subject));
            let parts = [&format!("{noun}{beside}"), motion, ground, light, camera];
            return parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        }
        let mut tail: Vec<&str> = [ground, light].into_iter().filter(|part| !part.is_empty()).collect();
        if tail.len() == 2 && self.draws.is_below(0.3) {
            tail.reverse();
        }
        let mut lead = String::new();
        if !light.is_empty() && self.draws.is_below(0.2) {
            lead = format!("{light} ");
            tail.retain(|part| *part != light);
        }
        let said = |parts: &[&str]| parts.iter().copied().chain(tail.iter().copied()).collect::<Vec<_>>().join(" ");
        let body = if motion.is_empty() {
            said(&[&subject]) + &beside
        } else if !beside.is_empty() && self.draws.is_below(0.5) {
            said(&[&format!("{subject}{beside}"), motion])
        } else {
            said(&[&subject, motion]) + &beside
        };
        let text = lead + &body;
        match camera {
            "" => text,
            camera if camera.starts_with("the camera") => {
                if self.draws.is_below(0.2) {
                    return format!("{camera} as {text}");
                }
                text + self.draws.pick(&[" while ", " and ", ", ", " as "]) + camera
            }
            camera => format!("{text}, {camera}"),
        }
    }

    fn part(&mut self, keep: f64, phrases: Phrases) -> &'static str {
        if self.draws.is_below(keep) { self.draws.pick(phrases) } else { "" }
    }

    fn noun(&mut self, shape: Shape, colour: Colour, material: Material, keep_material: f64) -> String {
        let material = self.part(keep_material, MATERIALS[material.class()]);
        let (colour, shape) = (self.draws.pick(COLOURS[colour.class()]), self.draws.pick(SHAPES[shape.class()]));
        let words = [material, colour, shape].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let article = if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {words}")
    }
}

/// What a sentence says; what it leaves open is None.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub shape: Option<Shape>,
    pub colour: Option<Colour>,
    pub material: Option<Material>,
    pub motion: Option<Motion>,
    pub camera: Option<Camera>,
    pub ground: Option<Ground>,
    pub light: Option<Light>,
    pub names_second: bool,
    pub second_shape: Option<Shape>,
    pub second_colour: Option<Colour>,
    pub second_material: Option<Material>,
}

impl Said {
    /// The attributes, if all of the first object and its surroundings are named. Without a word the second is matte.
    pub fn attributes(&self) -> Option<Attributes> {
        let second = match (self.second_shape, self.second_colour) {
            (Some(shape), Some(colour)) => {
                Some(Second { shape, colour, material: self.second_material.unwrap_or(Material::Matte) })
            }
            _ => None,
        };
        Some(Attributes {
            shape: self.shape?,
            colour: self.colour?,
            material: self.material?,
            motion: self.motion?,
            camera: self.camera?,
            ground: self.ground?,
            light: self.light?,
            second,
        })
    }
}

impl Said {
    /// These attributes where the sentence says something, and those of `own` elsewhere. A second object that is only half
    /// named takes the rest from the first, in white or, beside white, in red.
    pub fn over(&self, own: Attributes) -> Attributes {
        let (shape, colour) = (self.shape.unwrap_or(own.shape), self.colour.unwrap_or(own.colour));
        let other_colour = if colour == Colour::White { Colour::Red } else { Colour::White };
        let named = Second {
            shape: self.second_shape.unwrap_or(shape),
            colour: self.second_colour.unwrap_or(other_colour),
            material: self.second_material.unwrap_or(Material::Matte),
        };
        Attributes {
            shape,
            colour,
            material: self.material.unwrap_or(own.material),
            motion: self.motion.unwrap_or(own.motion).possible_for(shape),
            camera: self.camera.unwrap_or(own.camera),
            ground: self.ground.unwrap_or(own.ground),
            light: self.light.unwrap_or(own.light),
            second: self.names_second.then_some(named),
        }
    }
}

/// Reads a sentence: everywhere the longest phrase that the grammar knows; words that it does not know are passed over.
pub fn read(sentence: &str) -> Said {
    let lower = sentence.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut said = Said::default();
    let mut at = 0;
    while at < words.len() {
        at += said.take(&words[at..]).max(1);
    }
    said
}

impl Said {
    /// Takes the phrase in that the words begin with; gives its number of words.
    fn take(&mut self, words: &[&str]) -> usize {
        let tables = [SHAPES, COLOURS, MATERIALS, MOTIONS, CAMERAS, GROUNDS, LIGHTS, &[BESIDE]];
        let found = tables.iter().enumerate().flat_map(|(table, values)| {
            let phrases =
                values.iter().enumerate().flat_map(|(class, phrases)| phrases.iter().map(move |phrase| (class, *phrase)));
            phrases.filter_map(move |(class, phrase)| Some((begins(words, phrase)?, table, class)))
        });
        let Some((length, table, class)) = found.max_by_key(|(length, ..)| *length) else { return 0 };
        let second = self.names_second;
        // The first word for a thing counts.
        match table {
            0 => set(if second { &mut self.second_shape } else { &mut self.shape }, Shape::ALL[class]),
            1 => set(if second { &mut self.second_colour } else { &mut self.colour }, Colour::ALL[class]),
            2 => set(if second { &mut self.second_material } else { &mut self.material }, Material::ALL[class]),
            3 => set(&mut self.motion, Motion::ALL[class]),
            4 => set(&mut self.camera, Camera::ALL[class]),
            5 => set(&mut self.ground, Ground::ALL[class]),
            6 => set(&mut self.light, Light::ALL[class]),
            _ => self.names_second = true,
        }
        length
    }
}

fn set<T>(place: &mut Option<T>, value: T) {
    place.get_or_insert(value);
}

/// How many words the phrase has, if they begin with it.
fn begins(words: &[&str], phrase: &str) -> Option<usize> {
    let length = phrase.split(' ').count();
    (words.len() >= length && phrase.split(' ').eq(words[..length].iter().copied())).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sentences of the recipe that made the first weights, written by its own program.
    #[test]
    fn sentences_are_those_of_the_recipe() {
        for line in include_str!("grammar_sentences.txt").lines() {
            let (numbers, sentence) = line.split_once('\t').expect("a line has a sentence");
            let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().expect("a number")).collect();
            let [seed, clip, variant, full] = numbers[..] else { panic!("{line}") };
            let detail = if full == 1 { Detail::All } else { Detail::Some };
            assert_eq!(caption(&Attributes::of_clip(seed, clip), seed, clip, variant, detail), sentence);
        }
    }

    /// From a prompt to attributes and back to the same prompt.
    #[test]
    fn a_full_sentence_says_the_attributes_it_was_made_from() {
        for clip in 0..2000 {
            let mut attributes = Attributes::of_clip(5, clip);
            let sentence = caption(&attributes, 5, clip, 0, Detail::All);
            let said = read(&sentence);
            let mut read_back = said.attributes().unwrap_or_else(|| panic!("{sentence}: {said:?}"));
            if let (Some(there), Some(back)) = (&mut attributes.second, &mut read_back.second)
                && said.second_material.is_none()
            {
                back.material = there.material;
            }
            assert_eq!(read_back, attributes, "{sentence}");
            assert_eq!(caption(&read_back, 5, clip, 0, Detail::All), sentence);
        }
    }

    #[test]
    fn a_short_sentence_says_nothing_that_is_not_so() {
        for clip in 0..2000 {
            let attributes = Attributes::of_clip(6, clip);
            let sentence = caption(&attributes, 6, clip, 3, Detail::Some);
            let said = read(&sentence);
            let agrees = [
                said.shape == Some(attributes.shape),
                said.colour == Some(attributes.colour),
                said.material.is_none_or(|material| material == attributes.material),
                said.motion.is_none_or(|motion| motion == attributes.motion),
                said.camera.is_none_or(|camera| camera == attributes.camera),
                said.ground.is_none_or(|ground| ground == attributes.ground),
                said.light.is_none_or(|light| light == attributes.light),
                !said.names_second || said.second_shape == attributes.second.map(|second| second.shape),
            ];
            assert_eq!(agrees, [true; 8], "{sentence}: {said:?}");
        }
    }

    #[test]
    fn other_words_are_passed_over() {
        let said = read("Please: a HUGE red ball, next to my green box that rises into the air; the camera rises!");
        assert_eq!((said.shape, said.colour, said.motion), (Some(Shape::Ball), Some(Colour::Red), Some(Motion::FloatsUp)));
        assert_eq!((said.second_shape, said.second_colour), (Some(Shape::Cube), Some(Colour::Green)));
        assert_eq!((said.camera, said.ground), (Some(Camera::Rises), None));
        assert_eq!(said.attributes(), None);
        let over = said.over(Attributes::of_clip(1, 0));
        assert_eq!((over.shape, over.motion, over.ground), (Shape::Ball, Motion::FloatsUp, Attributes::of_clip(1, 0).ground));
        assert_eq!(over.second, Some(Second { shape: Shape::Cube, colour: Colour::Green, material: Material::Matte }));
        assert_eq!(read(""), Said::default());
    }
}
