//! What happens to a prompt before it is tokenized.
//!
//! Open-Sora-Plan cleans prompts and negative prompts the way DeepFloyd IF cleaned its training captions: small letters, no addresses,
//! no mark-up, no file names, one kind of dash and quote, and so on. The text encoder has only ever seen such captions, so the exact
//! steps, in their order, belong to the model: "(masterpiece)" loses its parentheses, "jpeg artifacts" becomes "artifacts". Open-Sora-Plan
//! keeps Chinese characters, which the original removes.

use std::sync::LazyLock;

use super::html_entities::unescape;
use super::html_text::html_text;
use super::python_text::{PythonPattern, strip, unquote_plus};
use super::text_repair::fix_text;

/// Longer captions are cut here first. The encoder reads at most a few hundred tokens, which never reach this far; the mark-up parser
/// needs quadratic time for the worst inputs.
const LONGEST_CAPTION_BYTES: usize = 16 * 1024;

/// Cleans a caption as the pipeline does by default: twice, because the first pass uncovers what the second removes.
///
/// Captions of more than 16 KiB are cut at the last white space before that (or in the middle of a word that long).
pub fn clean_caption(text: &str) -> String {
    clean_once(&clean_once(beginning(text)))
}

/// What the pipeline does to a prompt when caption cleaning is turned off.
pub fn lower_and_strip(text: &str) -> String {
    strip(&text.to_lowercase()).to_owned()
}

fn beginning(text: &str) -> &str {
    if text.len() <= LONGEST_CAPTION_BYTES {
        return text;
    }
    let cut = &text[..text.floor_char_boundary(LONGEST_CAPTION_BYTES)];
    let at_space = cut.rfind(char::is_whitespace).unwrap_or(cut.len());
    &cut[..at_space]
}

/// The patterns of one pass.
struct Steps {
    address: PythonPattern,
    www_address: PythonPattern,
    before_repair: Vec<Step>,
    joiner: PythonPattern,
    after_repair: Vec<Step>,
    after_punctuation: PythonPattern,
    white_space: PythonPattern,
    quoted: PythonPattern,
    at_the_ends: Vec<Step>,
}

struct Step {
    pattern: PythonPattern,
    replacement: &'static str,
}

fn steps(steps: &[(&str, &'static str)]) -> Vec<Step> {
    steps.iter().map(|(pattern, replacement)| Step { pattern: PythonPattern::new(pattern), replacement }).collect()
}

static STEPS: LazyLock<Steps> = LazyLock::new(|| Steps {
    // The second kind must not be followed by `@`, which would make it an e-mail address. Group 1 is what goes; what stands behind it
    // in the pattern is only looked at.
    address: address("https?"),
    www_address: address("www"),
    before_repair: steps(&[
        (r"@\w+\b", ""),
        // Strokes, phonetic extensions, enclosed and compatibility characters, extension A, hexagrams.
        (r"[\u31c0-\u31ef]+", ""),
        (r"[\u31f0-\u31ff]+", ""),
        (r"[\u3200-\u32ff]+", ""),
        (r"[\u3300-\u33ff]+", ""),
        (r"[\u3400-\u4dbf]+", ""),
        (r"[\u4dc0-\u4dff]+", ""),
        (
            r"[\u002D\u058A\u05BE\u1400\u1806\u2010-\u2015\u2E17\u2E1A\u2E3A\u2E3B\u2E40\u301C\u3030\u30A0\uFE31\uFE32\uFE58\uFE63\uFF0D]+",
            "-",
        ),
        (r"[`´«»“”¨]", "\""),
        (r"[‘’]", "'"),
        (r"&quot;?", ""),
        (r"&amp", ""),
        // Internet addresses, article numbers, written-out line breaks, numbers.
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
        (r"\d:\d\d\s+\z", ""),
        (r"\\n", " "),
        (r"#\d{1,3}\b", ""),
        (r"#\d{5,}\b", ""),
        (r"\b\d{6,}\b", ""),
        // File names.
        (r"\S+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),
        (r#"["']{2,}"#, "\""),
        (r"\.{2,}", " "),
        (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
        (r"\s+\.\s+", " "),
    ]),
    joiner: PythonPattern::new(r"[-_]"),
    after_repair: steps(&[
        // Identifiers such as jc6640, jc6640vc and 6640vc231.
        (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
        (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
        (r"\b\d+[a-zA-Z]+\d+\b", ""),
        // Phrases of web shops.
        (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
        (r"(?:free\s)?download(?:\sfree)?", ""),
        (r"\bclick\b\s(?:for|on)\s\w+", ""),
        (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:\simages?)?", ""),
        (r"\bpage\s+\d+\b", ""),
        (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
        // Sizes, also with a Cyrillic x.
        (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
        (r"\b\s+:\s+", ": "),
    ]),
    after_punctuation: PythonPattern::new(r"\D[,./]\b"),
    white_space: PythonPattern::new(r"\s+"),
    quoted: PythonPattern::new(r#"\A["'][\w\W]+["']\z"#),
    at_the_ends: steps(&[(r"\A['_,\-:;]", ""), (r"['_,\-:+]\z", ""), (r"\A\.\S+\z", "")]),
});

fn address(scheme: &str) -> PythonPattern {
    PythonPattern::new(&format!(
        r"\b(?:({scheme}:(?:/{{1,3}}|[a-zA-Z0-9%]))|([a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?)(?:[^@]|\z))"
    ))
}

fn clean_once(text: &str) -> String {
    let steps = &*STEPS;
    let mut caption = strip(&unquote_plus(text)).to_lowercase();
    caption = caption.replace("<person>", "person");
    caption = steps.address.replace_first_group(&caption, "");
    caption = steps.www_address.replace_first_group(&caption, "");
    caption = html_text(&caption);
    caption = apply(&steps.before_repair, caption);
    // this-is-my-cute-cat, this_is_my_cute_cat
    if caption.matches(['-', '_']).count() > 3 {
        caption = steps.joiner.replace_all(&caption, " ");
    }
    caption = fix_text(&caption);
    caption = unescape(&unescape(&caption));
    caption = apply(&steps.after_repair, caption);
    caption = steps.after_punctuation.append_to_matches(&caption, " ");
    caption = steps.white_space.replace_all(&caption, " ");
    if steps.quoted.find(&caption).is_some() {
        // Both quotes are single bytes.
        caption = caption[1..caption.len() - 1].to_owned();
    }
    caption = apply(&steps.at_the_ends, caption);
    strip(&caption).to_owned()
}

fn apply(steps: &[Step], caption: String) -> String {
    steps.iter().fold(caption, |caption, step| step.pattern.replace_all(&caption, step.replacement))
}

/// The text that the tokenizer gets for a prompt: put into the model's template, then cleaned as the reference does or only
/// made small.
pub fn prompt_text(prompt: &str, template: &str, clean: bool) -> String {
    let text = template.replace("{}", prompt);
    if clean { clean_caption(&text) } else { lower_and_strip(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        cleaned: String,
    }

    /// The expected values come from the Python original (Beautiful Soup 4.15, ftfy 6.3.1, CPython 3.11).
    #[test]
    fn cleans_as_the_python_original_does() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/data/caption_cleaning.json")).unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            assert_eq!(clean_caption(&case.text), case.cleaned, "{:?}", case.text);
        }
    }

    #[test]
    fn a_very_long_caption_is_cut() {
        let text = "a <b ".repeat(300_000);
        let started = std::time::Instant::now();
        assert!(clean_caption(&text).len() < LONGEST_CAPTION_BYTES);
        assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
    }

    #[test]
    fn without_cleaning_only_case_and_ends_change() {
        assert_eq!(lower_and_strip("\n (UPPER)  Case. \u{1f}"), "(upper)  case.");
    }
}
