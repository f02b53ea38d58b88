//! The words of a prompt, and which tokens of the text encoder stand for each.

use std::ops::Range;

use super::alignment::{Letter, align, letters};
use crate::generate::GenerateError;
use crate::generate::recipe::Recipe;
use crate::model::text::Tokenizer;
use crate::model::text::prompt_text;

/// What became of a word on its way to the transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Read,
    /// Caption cleaning has taken it out.
    Cleaned,
    /// The prompt is longer than what the model reads.
    Cut,
}

/// A word of a prompt, with what is written to it, such as a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Its bytes in the prompt.
    pub span: Range<usize>,
    /// Its tokens in the text.
    pub tokens: Vec<usize>,
    pub fate: Fate,
}

/// The words of a prompt by their bytes: what white space parts.
pub fn words_in(prompt: &str) -> Vec<Range<usize>> {
    let start_of = |word: &str| word.as_ptr() as usize - prompt.as_ptr() as usize;
    prompt.split_whitespace().map(|word| start_of(word)..start_of(word) + word.len()).collect()
}

/// The words of the recipe's prompt; and for every token before the padding the word that it belongs to. Tokens of the template, and
/// the one that ends the text, belong to none.
///
/// # Errors
/// The prompt cannot be tokenized.
pub(super) fn read_words(tokenizer: &Tokenizer, recipe: &Recipe) -> Result<(Vec<Word>, Vec<Option<usize>>), GenerateError> {
    let (prompt, template) = (&recipe.prompt, &recipe.prompt_template);
    let cleaned = prompt_text(prompt, template, recipe.clean_caption);
    let spans = tokenizer.spans(&cleaned, recipe.max_tokens)?;
    let is_cut = tokenizer.encode_unpadded(&cleaned)?.len() > recipe.max_tokens;

    // Where each letter that is read comes from, in the template with the prompt in it.
    let end = spans.iter().map(|span| span.bytes.end).filter(|&end| end < cleaned.len() || !is_cut).max().unwrap_or(0);
    let (from, to) = (letters(&template.replace("{}", prompt)), letters(&cleaned[..end]));
    let origins = align(&from, &to);
    let start = template.find("{}").unwrap_or(0);
    let ranges = words_in(prompt);
    let word_of_byte = |byte: usize| -> Option<usize> {
        let byte = byte.checked_sub(start)?;
        let word = ranges.partition_point(|range| range.end <= byte);
        ranges.get(word).is_some_and(|range| range.contains(&byte)).then_some(word)
    };
    let word_of_letter: Vec<Option<usize>> =
        origins.into_iter().map(|origin| origin.and_then(|origin| word_of_byte(from[origin].byte))).collect();

    let own = |bytes: &Range<usize>| most_frequent(letters_within(&to, bytes).filter_map(|letter| word_of_letter[letter]));
    let mut word_of_token: Vec<Option<usize>> = spans.iter().map(|span| own(&span.bytes)).collect();
    // A piece that is nothing but the space before a word goes with it.
    for (token, span) in spans.iter().enumerate() {
        if word_of_token[token].is_none() && span.bytes.is_empty() && span.word.is_some() {
            let rest = (token + 1..spans.len()).take_while(|&other| spans[other].word == span.word);
            word_of_token[token] = rest.filter_map(|other| word_of_token[other]).next();
        }
    }

    let last_read = word_of_token.iter().flatten().max().copied();
    let word = |(index, span): (usize, &Range<usize>)| {
        let tokens: Vec<usize> = (0..spans.len()).filter(|&token| word_of_token[token] == Some(index)).collect();
        let fate = if !tokens.is_empty() {
            Fate::Read
        } else if is_cut && last_read.is_none_or(|last| index > last) {
            Fate::Cut
        } else {
            Fate::Cleaned
        };
        Word { text: prompt[span.clone()].to_owned(), span: span.clone(), tokens, fate }
    };
    Ok((ranges.iter().enumerate().map(word).collect(), word_of_token))
}

fn letters_within<'a>(letters: &'a [Letter], bytes: &'a Range<usize>) -> impl Iterator<Item = usize> + 'a {
    let first = letters.partition_point(|letter| letter.byte < bytes.start);
    (first..letters.len()).take_while(|&letter| letters[letter].byte < bytes.end)
}

/// The one that comes most often; of two, the first.
fn most_frequent(words: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(other, _)| *other == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::pipeline::load_tokenizer;
    use crate::gpu::device::Precision;
    use crate::model::folder::{ModelFolder, SearchPath};

    fn folder() -> ModelFolder {
        let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
        ModelFolder::resolve("fast", &search).unwrap()
    }

    /// Each word with the text of its tokens as the tokenizer saw it, and what became of it.
    fn read(prompt: &str, change: impl FnOnce(&mut Recipe)) -> Vec<(String, String, Fate)> {
        let mut recipe = Recipe::without_hash(&folder(), prompt, Precision::F32).unwrap();
        change(&mut recipe);
        let tokenizer = load_tokenizer(&folder()).unwrap();
        let cleaned = prompt_text(prompt, &recipe.prompt_template, recipe.clean_caption);
        let spans = tokenizer.spans(&cleaned, recipe.max_tokens).unwrap();
        let (words, word_of_token) = read_words(&tokenizer, &recipe).unwrap();
        assert_eq!(word_of_token.len(), spans.len());
        assert_eq!(word_of_token.last(), Some(&None), "the end of the text is no word");
        let mut seen = vec![false; spans.len()];
        let words = words.into_iter().map(|word| {
            assert_eq!(&prompt[word.span.clone()], word.text);
            assert!(word.tokens.is_sorted());
            for &token in &word.tokens {
                assert!(!std::mem::replace(&mut seen[token], true), "a token of two words");
            }
            // A piece that holds the space before a word has the word's first letter as its span.
            let covered = |byte: usize| word.tokens.iter().any(|&token| spans[token].bytes.contains(&byte));
            let text: String = cleaned.char_indices().filter(|(byte, _)| covered(*byte)).map(|(_, letter)| letter).collect();
            (word.text, text, word.fate)
        });
        words.collect()
    }

    fn is_read(words: &[(String, String, Fate)], pairs: &[(&str, &str)]) {
        let got: Vec<(&str, &str)> = words.iter().map(|(word, text, _)| (word.as_str(), text.as_str())).collect();
        assert_eq!(got, pairs);
        for (word, text, fate) in words {
            assert_eq!(*fate == Fate::Read, !text.is_empty(), "{word} {fate:?}");
        }
    }

    #[test]
    fn plain_words_are_their_own_tokens() {
        let words = read("a shiny red ball  bounces,\non the snow.", |_| {});
        is_read(
            &words,
            &[
                ("a", "a"),
                ("shiny", "shiny"),
                ("red", "red"),
                ("ball", "ball"),
                ("bounces,", "bounces,"),
                ("on", "on"),
                ("the", "the"),
                ("snow.", "snow."),
            ],
        );
    }

    #[test]
    fn cleaned_words_keep_what_is_left_of_them() {
        let words = read("A (Shiny) ball.png BALL see https://a.com/ball/x &amp; the the <b>RED</b> cube @me #1234567", |_| {});
        let read_words: Vec<(&str, &str)> =
            words.iter().filter(|word| word.2 == Fate::Read).map(|word| (word.0.as_str(), word.1.as_str())).collect();
        let want = [("A", "a"), ("(Shiny)", "shiny"), ("BALL", "ball"), ("see", "see"), ("the", "the"), ("the", "the")];
        assert_eq!(read_words[..6], want);
        assert_eq!(read_words[6..], [("<b>RED</b>", "red"), ("cube", "cube")]);
        assert!(words.iter().all(|word| word.2 != Fate::Cut));
        // Without cleaning everything is read.
        assert!(read("A (Shiny) ball.png @me", |recipe| recipe.clean_caption = false).iter().all(|word| word.2 == Fate::Read));
    }

    #[test]
    fn words_of_the_template_are_not_those_of_the_prompt() {
        let template = |recipe: &mut Recipe| recipe.prompt_template = "a red ball video, {}, of a red ball, best quality".into();
        let words = read("a red ball", template);
        is_read(&words, &[("a", "a"), ("red", "red"), ("ball", "ball")]);
        let mut recipe = Recipe::without_hash(&folder(), "a red ball", Precision::F32).unwrap();
        template(&mut recipe);
        let (words, word_of_token) = read_words(&load_tokenizer(&folder()).unwrap(), &recipe).unwrap();
        let first = words[0].tokens[0];
        assert!(first >= 4 && word_of_token[..first].iter().all(Option::is_none), "the middle one of three");
    }

    #[test]
    fn letters_beyond_ascii_find_their_words() {
        let words = read("Ein SÜSSES Kätzchen — 一只猫 и Ёлка Ｆｕｌｌ ﬁsh e\u{301}clair", |recipe| {
            recipe.max_tokens = 96
        });
        let texts: Vec<&str> = words.iter().map(|word| word.1.as_str()).collect();
        assert_eq!(texts[..3], ["ein", "süsses", "kätzchen"]);
        let rest: Vec<&str> = words[4..].iter().map(|word| word.1.as_str()).collect();
        assert_eq!(rest, ["一只猫", "и", "ёлка", "full", "fish", "éclair"]);
        assert!(words.iter().enumerate().all(|(index, word)| index == 3 || word.2 == Fate::Read), "{words:?}");
    }

    #[test]
    fn words_beyond_the_models_reach_are_cut() {
        let prompt = "word ".repeat(8) + &"ball ".repeat(60);
        let words = read(&prompt, |recipe| recipe.max_tokens = 16);
        let fates: Vec<Fate> = words.iter().map(|word| word.2).collect();
        let read_count = fates.iter().filter(|&&fate| fate == Fate::Read).count();
        // A word is read if the words before it leave room for one of its tokens, and one for the end of the text.
        let tokenizer = load_tokenizer(&folder()).unwrap();
        let is_reached = |before: usize| before == 0 || tokenizer.encode_unpadded(&"word ".repeat(before)).unwrap().len() < 16;
        assert_eq!(read_count, (0..8).filter(|&before| is_reached(before)).count(), "{fates:?}");
        assert!((1..8).contains(&read_count));
        assert!(fates[..read_count].iter().all(|&fate| fate == Fate::Read), "{fates:?}");
        assert!(fates[read_count..].iter().all(|&fate| fate == Fate::Cut), "{fates:?}");
        assert!(read("a red ball", |recipe| recipe.max_tokens = 1).iter().all(|word| word.2 == Fate::Cut));
        // A pasted book makes nobody wait.
        let started = std::time::Instant::now();
        let book = "a small red boat drifts slowly across a frozen lake. ".repeat(300);
        let words = read(&book, |recipe| (recipe.max_tokens, recipe.clean_caption) = (512, false));
        assert!(words.iter().take(100).all(|word| word.2 == Fate::Read));
        assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
    }
}
