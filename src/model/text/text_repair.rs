//! Repair of damaged Unicode, with the results of the Python package `ftfy` at its defaults (`ftfy.fix_text`).
//!
//! Mojibake is detected and undone by the crate `plsfix`, a port of ftfy's heuristics. Its other repairs deviate from ftfy (entities are
//! resolved where ftfy leaves them, terminal escapes are missed, wide forms that stand for two characters lose one), so they are done
//! here, in ftfy's order. What remains different from ftfy 6.3 is text misread as Mac Roman, and some that has lost bytes to U+FFFD.

use std::collections::HashMap;
use std::sync::LazyLock;

use plsfix::TextFixerConfig;
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::html_entities::{named_entity, unescape, windows_1252_control};
use super::python_text::replace_all;

/// ftfy never looks at more characters than this at once.
const LONGEST_SEGMENT: usize = 1_000_000;
/// ftfy repeats until nothing changes, which takes two or three rounds.
const MOST_ROUNDS: usize = 16;

static ENTITY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"&#?[0-9A-Za-z]{1,24};").expect("a constant pattern"));
static TERMINAL_ESCAPE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\x1B\[[\d;]*[a-zA-Z]").expect("a constant pattern"));

/// `ftfy.fix_text(text)`.
pub(super) fn fix_text(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    // A literal `<` says that the text is HTML; from there on entities are kept.
    let mut resolve_entities = true;
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while !rest.is_empty() {
            let length = rest.char_indices().nth(LONGEST_SEGMENT).map_or(rest.len(), |(index, _)| index);
            let (segment, later) = rest.split_at(length);
            resolve_entities &= !segment.contains('<');
            result.push_str(&fix_segment(segment, resolve_entities));
            rest = later;
        }
    }
    result
}

fn fix_segment(segment: &str, resolve_entities: bool) -> String {
    let mut text = segment.to_owned();
    for _ in 0..MOST_ROUNDS {
        let mut fixed = if resolve_entities { unescape_entities(&text) } else { text.clone() };
        fixed = undo_mojibake(&fixed);
        fixed = fixed.chars().map(windows_1252_control).collect();
        fixed = exchange(&fixed, ligature);
        fixed = exchange(&fixed, |character| WIDE_FORMS.get(&character).map(String::as_str));
        fixed = exchange(&fixed, straight_quote);
        fixed = fixed.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        fixed = TERMINAL_ESCAPE.replace_all(&fixed, "").into_owned();
        fixed.retain(|character| !is_needless_control(character));
        fixed = fixed.nfc().collect();
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

fn exchange<'a>(text: &str, replacement: impl Fn(char) -> Option<&'a str>) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        match replacement(character) {
            Some(other) => result.push_str(other),
            None => result.push(character),
        }
    }
    result
}

/// Resolves entities that end in a semicolon, also names of small letters written in capitals (`&EACUTE;`).
fn unescape_entities(text: &str) -> String {
    replace_all(&ENTITY, text, |captures| {
        let entity = &captures[0];
        let name = &entity[1..entity.len() - 1];
        if let Some(known) = named_entity(name) {
            return known.to_owned();
        }
        if name.starts_with('#') {
            let resolved = unescape(entity);
            // Only a whole reference counts.
            return if resolved.contains(';') { entity.to_owned() } else { resolved };
        }
        let is_capital = name.chars().any(|character| character.is_ascii_uppercase()) && *name == name.to_ascii_uppercase();
        match named_entity(&name.to_ascii_lowercase()) {
            Some(small) if is_capital && unescape(entity) == entity => small.to_uppercase(),
            _ => entity.to_owned(),
        }
    })
}

fn undo_mojibake(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let config = TextFixerConfig {
        unescape_html: Some(false),
        remove_terminal_escapes: false,
        fix_encoding: true,
        restore_byte_a0: true,
        replace_lossy_sequences: true,
        decode_inconsistent_utf8: true,
        fix_c1_controls: true,
        fix_latin_ligatures: false,
        fix_character_width: false,
        uncurl_quotes: false,
        fix_line_breaks: false,
        remove_control_chars: false,
        normalization: None,
        // The segments are made by `fix_text`; the crate would cut inside a character.
        max_decode_length: i32::MAX,
    };
    // The crate resolves entities whatever its settings say, so ampersands travel as a control character that it passes on.
    if text.contains('\u{1}') {
        return plsfix::fix_text(text, Some(&config));
    }
    plsfix::fix_text(&text.replace('&', "\u{1}"), Some(&config)).replace('\u{1}', "&")
}

fn ligature(character: char) -> Option<&'static str> {
    Some(match character {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Halfwidth and fullwidth forms with their compatibility equivalents, and the ideographic space.
static WIDE_FORMS: LazyLock<HashMap<char, String>> = LazyLock::new(|| {
    let mut forms: HashMap<char, String> = ('\u{ff01}'..'\u{fff0}')
        .map(|character| (character, std::iter::once(character).nfkc().collect::<String>()))
        .filter(|(character, equivalent)| !equivalent.chars().eq([*character]))
        .collect();
    forms.insert('\u{3000}', " ".to_owned());
    forms
});

fn straight_quote(character: char) -> Option<&'static str> {
    match character {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => Some("'"),
        '\u{201c}'..='\u{201f}' => Some("\""),
        _ => None,
    }
}

fn is_needless_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from ftfy 6.3.1.
    #[test]
    fn repairs_as_ftfy_does() {
        for (text, expected) in [
            ("ｆｕｌｌ　ﬁﬂ ￣ ｶﾞ", "full fifl  ̄ ガ"),
            ("don’t “quote„ ‚me‛", "don't \"quote\" 'me'"),
            ("a\r\nb\rc\u{2028}d\u{85}", "a\nb\nc\nd…"),
            ("\u{1b}[36;44mblue\u{1b}[0m \u{feff}x\u{0}y", "blue xy"),
            ("e\u{301} &eacute; &EACUTE; &amp;amp; &amp &#233; &#59;", "é é É & &amp é &#59;"),
            ("<b> &eacute;", "<b> &eacute;"),
            ("itâ€™s schÃ¶n", "it's schön"),
        ] {
            assert_eq!(fix_text(text), expected, "{text}");
        }
    }
}
