//! The words of a model inside a prompt: finding them, and putting another one in so that a sentence stays a sentence.
//!
//! Groups stand in the order of a sentence. A word takes the place of another one of its group; without one it goes behind
//! the nearest group before it, else in front of the nearest one after it, else to the end.

use std::ops::Range;

use crate::model::folder::WordGroup;

/// A phrase of the vocabulary in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub group: usize,
    /// Which of the group's meanings.
    pub word: usize,
    pub bytes: Range<usize>,
}

/// All phrases of the vocabulary in a prompt, in its order. Of phrases that lie in each other only the longest counts: the
/// green of `on green grass` is no colour.
pub fn find(prompt: &str, groups: &[WordGroup]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = next_word(prompt, from) {
        let longest = groups
            .iter()
            .enumerate()
            .flat_map(|(group, words)| words.words.iter().enumerate().map(move |(word, ways)| (group, word, ways)))
            .flat_map(|(group, word, ways)| ways.iter().map(move |phrase| (group, word, phrase)))
            .filter_map(|(group, word, phrase)| Some((group, word, matched(&prompt[start..], phrase)?)))
            .max_by_key(|&(.., length)| length);
        from = match longest {
            Some((group, word, length)) => {
                found.push(Found { group, word, bytes: start..start + length });
                start + length
            }
            None => start + word_length(&prompt[start..]),
        };
    }
    found
}

/// Puts a word into the prompt, by its usual phrase; the very word that is there already is taken out.
pub fn put(prompt: &str, groups: &[WordGroup], group: usize, word: usize) -> String {
    let Some(phrase) = groups.get(group).and_then(|words| words.words.get(word)?.first()) else {
        return prompt.to_owned();
    };
    let found = find(prompt, groups);
    match found.iter().find(|found| found.group == group) {
        Some(there) if there.word == word => take_out(prompt, groups, &found, there),
        Some(there) => {
            let Range { start, end } = there.bytes;
            with_article_before(format!("{}{phrase}{}", &prompt[..start], &prompt[end..]), start)
        }
        None => insert(prompt, groups, &found, group, phrase),
    }
}

fn insert(prompt: &str, groups: &[WordGroup], found: &[Found], group: usize, phrase: &str) -> String {
    // The first of equals: what the sentence is about comes before what lies beside it.
    let before = found.iter().rev().filter(|found| found.group < group).max_by_key(|found| found.group);
    let after = found.iter().filter(|found| found.group > group).min_by_key(|found| found.group);
    let end = prompt.trim_end_matches(|c: char| c.is_whitespace() || ".,;!".contains(c)).len();
    let at = match (before, after) {
        (Some(before), _) => before.bytes.end,
        (None, Some(after)) => after.bytes.start,
        (None, None) => end,
    };
    let (left, right) = (prompt[..at].trim_end(), prompt[at..].trim_start());
    let begins = left.is_empty() || left.ends_with([',', '.', ';']);
    let WordGroup { article, joined_by, .. } = &groups[group];
    let mut text = left.to_owned();
    if !left.is_empty() {
        text.push(' ');
    }
    if let Some(joint) = joined_by.as_ref().filter(|_| !begins) {
        text.push_str(joint);
        text.push(' ');
    }
    if *article && begins {
        text.push_str("a ");
    }
    let start = text.len();
    text.push_str(phrase);
    if !right.is_empty() && !right.starts_with([',', '.', ';', '!']) {
        text.push(' ');
        // What began the sentence, and does no more, needs its joint.
        let follows = after.filter(|after| before.is_none() && after.bytes.start == at && left.is_empty());
        if let Some(joint) = follows.and_then(|after| groups[after.group].joined_by.as_ref()) {
            text.push_str(joint);
            text.push(' ');
        }
    }
    text.push_str(right);
    with_article_before(text, start)
}

fn take_out(prompt: &str, groups: &[WordGroup], found: &[Found], there: &Found) -> String {
    let mut left = prompt[..there.bytes.start].trim_end();
    let right = prompt[there.bytes.end..].trim_start();
    let WordGroup { article, joined_by, .. } = &groups[there.group];
    if let Some(joint) = joined_by {
        left = without_last_word(left, |word| word == joint).trim_end_matches([',', ' ']);
    }
    let noun_follows = found.iter().any(|other| {
        groups[other.group].article
            && other.bytes.start > there.bytes.start
            && prompt[there.bytes.end..other.bytes.start].trim().is_empty()
    });
    if *article && !noun_follows {
        left = without_last_word(left, is_article);
    }
    let space = if left.is_empty() || right.is_empty() || right.starts_with([',', '.', ';', '!']) { "" } else { " " };
    let start = left.len() + space.len();
    with_article_before(format!("{left}{space}{right}"), start)
}

/// Makes an article directly before a place fit the word that begins there.
fn with_article_before(text: String, start: usize) -> String {
    let left = text[..start].trim_end();
    let without = without_last_word(left, is_article);
    let Some(first) = text[start..].chars().next().filter(|_| without.len() < left.len()) else { return text };
    let old = left[without.len()..].trim_start();
    let capital = old.starts_with('A');
    let article = match ("aeiou".contains(first.to_ascii_lowercase()), capital) {
        (true, false) => "an",
        (true, true) => "An",
        (false, false) => "a",
        (false, true) => "A",
    };
    let space = if without.is_empty() { "" } else { " " };
    format!("{without}{space}{article} {}", &text[start..])
}

fn is_article(word: &str) -> bool {
    ["a", "an"].iter().any(|article| word.eq_ignore_ascii_case(article))
}

/// The text without its last word, if that is such a one.
fn without_last_word(text: &str, such: impl Fn(&str) -> bool) -> &str {
    let start = text.rfind(|c: char| c.is_whitespace()).map_or(0, |space| space + 1);
    // White space of more than one byte.
    let start = text.ceil_char_boundary(start);
    if such(&text[start..]) { text[..start].trim_end() } else { text }
}

/// Where the next word begins.
fn next_word(text: &str, from: usize) -> Option<usize> {
    text[from..].find(char::is_alphanumeric).map(|offset| from + offset)
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len())
}

/// How many bytes of the text's beginning are this phrase, in whole words, whatever the case and the spaces.
fn matched(text: &str, phrase: &str) -> Option<usize> {
    let mut rest = text;
    for (index, word) in phrase.split_whitespace().enumerate() {
        if index > 0 {
            let trimmed = rest.trim_start();
            if trimmed.len() == rest.len() {
                return None;
            }
            rest = trimmed;
        }
        let beginning = rest.get(..word.len())?;
        if !beginning.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = &rest[word.len()..];
    }
    let ends = !rest.starts_with(char::is_alphanumeric);
    ends.then_some(text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::ModelInfo;

    fn groups() -> Vec<WordGroup> {
        ModelInfo::find("fast").unwrap().folder.facts().vocabulary.clone()
    }

    /// Puts a word in by the phrase of its chip.
    fn click(prompt: &str, phrase: &str) -> String {
        let groups = groups();
        let place = groups
            .iter()
            .enumerate()
            .find_map(|(group, words)| Some((group, words.words.iter().position(|ways| ways[0] == phrase)?)));
        let (group, word) = place.unwrap_or_else(|| panic!("no chip says {phrase}"));
        put(prompt, &groups, group, word)
    }

    #[test]
    fn a_word_takes_the_place_of_its_group() {
        for (before, phrase, after) in [
            ("a red ball bounces", "blue", "a blue ball bounces"),
            ("a red sphere bounces", "cube", "a red cube bounces"),
            ("a red ball", "orange", "an orange ball"),
            ("An orange ball", "red", "A red ball"),
            ("an orange ball beside a blue cube", "pink", "a pink ball beside a blue cube"),
            ("a ball is  rolling to the left at dusk", "spins", "a ball spins at dusk"),
            ("a green ball on green grass", "red", "a red ball on green grass"),
            ("a ball on green grass", "red", "a red ball on green grass"),
            ("a ball bounces up and down", "swings", "a ball swings"),
            ("a ball, static camera", "the camera rises", "a ball, the camera rises"),
        ] {
            assert_eq!(click(before, phrase), after, "{before} + {phrase}");
        }
    }

    #[test]
    fn a_new_word_goes_where_the_sentence_wants_it() {
        for (before, phrase, after) in [
            ("", "red", "a red"),
            ("", "orange", "an orange"),
            ("", "the camera zooms in", "the camera zooms in"),
            ("a ball", "shiny", "a shiny ball"),
            ("an octahedron", "red", "a red octahedron"),
            ("a dragon", "on the snow", "a dragon on the snow"),
            ("a dragon.", "at night", "a dragon at night."),
            ("a ball, in high quality", "bounces", "a ball bounces, in high quality"),
            ("at sunset a ball bounces", "on the snow", "at sunset a ball bounces on the snow"),
            ("a ball beside a cube", "bounces", "a ball bounces beside a cube"),
            ("a ball", "the camera rises", "a ball while the camera rises"),
            ("the camera rises", "at night", "at night while the camera rises"),
            ("größer als ein ball", "red", "größer als ein red ball"),
        ] {
            assert_eq!(click(before, phrase), after, "{before} + {phrase}");
        }
    }

    #[test]
    fn the_word_itself_is_taken_out() {
        for (before, phrase, after) in [
            ("an orange ball bounces", "orange", "a ball bounces"),
            ("a ball bounces", "ball", "bounces"),
            ("a ball at night while the camera rises", "the camera rises", "a ball at night"),
            ("a ball, static camera", "the camera stays still", "a ball"),
            ("a ball bounces.", "bounces", "a ball."),
            ("red", "red", ""),
        ] {
            assert_eq!(click(before, phrase), after, "{before} - {phrase}");
        }
    }

    /// Every order of clicks gives one sentence, and clicking all of it again takes it all out.
    #[test]
    fn chips_make_a_sentence_in_every_order() {
        let chips = ["shiny", "orange", "ball", "bounces", "on the snow", "at sunset", "the camera zooms in"];
        let whole = "a shiny orange ball bounces on the snow at sunset while the camera zooms in";
        let groups = groups();
        let words: Vec<usize> =
            (0..7).map(|group| groups[group].words.iter().position(|ways| ways[0] == chips[group]).unwrap()).collect();
        let mut order: Vec<usize> = (0..7).collect();
        let mut orders = 0;
        permute(&mut order, 0, &mut |order| {
            orders += 1;
            let said = order.iter().fold(String::new(), |prompt, &group| put(&prompt, &groups, group, words[group]));
            assert_eq!(said, whole, "{order:?}");
            let unsaid = order.iter().fold(said, |prompt, &group| put(&prompt, &groups, group, words[group]));
            assert_eq!(unsaid, "", "{order:?}");
        });
        assert_eq!(orders, 5040);
    }

    fn permute(order: &mut Vec<usize>, from: usize, each: &mut impl FnMut(&[usize])) {
        if from == order.len() {
            return each(order);
        }
        for other in from..order.len() {
            order.swap(from, other);
            permute(order, from + 1, each);
            order.swap(from, other);
        }
    }

    #[test]
    fn words_are_found_whole_and_longest_first() {
        let groups = groups();
        let said = |prompt: &str| -> Vec<(String, String)> {
            let found = find(prompt, &groups);
            found.iter().map(|found| (groups[found.group].title.clone(), prompt[found.bytes.clone()].to_owned())).collect()
        };
        let pair = |title: &str, phrase: &str| (title.to_owned(), phrase.to_owned());
        assert_eq!(said("a redder ballroom, boxing"), []);
        assert_eq!(said("RED Ball"), [pair("colour", "RED"), pair("shape", "Ball")]);
        assert_eq!(said("on green\ngrass"), [pair("ground", "on green\ngrass")]);
        assert_eq!(said("the camera rises"), [pair("camera", "the camera rises")]);
        assert_eq!(said("ß red ß"), [pair("colour", "red")]);
    }
}
