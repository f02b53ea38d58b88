//! Regular expressions and text functions with the meaning that they have in Python.
//!
//! The reference cleans captions with Python's `re`. Rust's `regex` differs from it in what a word character is (Python: letters and
//! numbers of any kind, no combining marks) and in four control characters that Python counts as white space. A [`PythonPattern`] is
//! matched against a shadow of the text in which such characters are exchanged for stand-ins of the same byte length, so every
//! position found in the shadow holds in the text itself. All matching takes linear time: prompts come from outside.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex, Replacer};

/// A pattern written for Python's `re`, without look-around, matched as Python would.
pub(super) struct PythonPattern {
    regex: Regex,
    /// Whether the pattern speaks of words or white space; sets of single characters need no shadow and must not see one.
    uses_classes: bool,
}

impl PythonPattern {
    /// Compiles a pattern that is part of the program.
    ///
    /// # Panics
    /// If the pattern is malformed; patterns are constants and all compiled by the tests of this module's users.
    pub fn new(pattern: &str) -> Self {
        let regex =
            Regex::new(pattern).unwrap_or_else(|error| panic!("the built-in pattern {pattern:?} does not compile: {error}"));
        let uses_classes = [r"\b", r"\w", r"\W", r"\s", r"\S"].iter().any(|class| pattern.contains(class));
        Self { regex, uses_classes }
    }

    /// `re.sub(pattern, replacement, text)` with a literal replacement.
    pub fn replace_all(&self, text: &str, replacement: &str) -> String {
        self.rewrite(text, |captures| captures.get(0).map(|found| found.range()), false, replacement)
    }

    /// Replaces only what the first matching group matched and goes on right after it, so whatever the pattern has behind the group
    /// acts as a look-ahead.
    pub fn replace_first_group(&self, text: &str, replacement: &str) -> String {
        let first_group = |captures: &Captures<'_>| captures.iter().skip(1).flatten().next().map(|found| found.range());
        self.rewrite(text, first_group, false, replacement)
    }

    /// `re.sub("(pattern)", r"\1" + addition, text)`.
    pub fn append_to_matches(&self, text: &str, addition: &str) -> String {
        self.rewrite(text, |captures| captures.get(0).map(|found| found.range()), true, addition)
    }

    fn rewrite(&self, text: &str, part: impl Fn(&Captures<'_>) -> Option<Range<usize>>, keep: bool, inserted: &str) -> String {
        let shadow = self.view(text);
        let mut result = String::with_capacity(text.len());
        let mut copied = 0;
        // No pattern here matches the empty string, so this always moves on.
        while let Some(found) = self.regex.captures_at(&shadow, copied).and_then(|captures| part(&captures)) {
            result.push_str(&text[copied..if keep { found.end } else { found.start }]);
            result.push_str(inserted);
            copied = found.end;
        }
        result.push_str(&text[copied..]);
        result
    }

    fn view<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.uses_classes { shadow(text) } else { Cow::Borrowed(text) }
    }

    /// The span of the first match.
    pub fn find(&self, text: &str) -> Option<Range<usize>> {
        self.regex.find(&self.view(text)).map(|found| found.range())
    }
}

/// `re.sub` on a pattern for which both languages agree, with a replacement computed from the match.
pub(super) fn replace_all(regex: &Regex, text: &str, replacement: impl FnMut(&Captures) -> String) -> String {
    struct Computed<F>(F);
    impl<F: FnMut(&Captures) -> String> Replacer for Computed<F> {
        fn replace_append(&mut self, captures: &Captures<'_>, destination: &mut String) {
            destination.push_str(&(self.0)(captures));
        }
    }
    regex.replace_all(text, Computed(replacement)).into_owned()
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.isspace()` of one character.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `urllib.parse.unquote_plus`: `+` is a space, `%41` a byte; bytes that are not UTF-8 become U+FFFD.
pub(super) fn unquote_plus(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Matches characters whose class differs between the two languages: word characters of Rust only (marks, joiners, connectors and
/// alphabetic symbols), of Python only (numbers such as `²` or `①`), and white space of Python only.
static DIFFERS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?<symbol>[\w--[\p{L}\p{N}_]])|(?<word>[\p{N}--\w])|(?<space>[\x1C-\x1F])").expect("a constant pattern")
});

fn shadow(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !(0x1c..=0x1f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    DIFFERS.replace_all(text, |captures: &Captures<'_>| {
        let (stand_ins, found) = if let Some(found) = captures.name("symbol") {
            (["", "", "¬", "⁂", "𝄀"], found)
        } else if let Some(found) = captures.name("word") {
            (["", "", "ƿ", "ꙁ", "𐐀"], found)
        } else {
            return "\t";
        };
        stand_ins[found.len()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_word_characters_and_marks_are_not() {
        // Python: re.sub(r"\b\d+\b", "", "12² 12 e\u0301 12\u0301") == "12²  e\u0301 \u0301"
        let pattern = PythonPattern::new(r"\b\d+\b");
        assert_eq!(pattern.replace_all("12² 12 e\u{301} 12\u{301}", ""), "12²  e\u{301} \u{301}");
    }

    #[test]
    fn separators_are_white_space() {
        assert_eq!(PythonPattern::new(r"\s+").replace_all("a\u{1c}\u{1f} b", " "), "a b");
        assert_eq!(strip("\u{1e} a\u{a0}"), "a");
    }

    #[test]
    fn unquoting_replaces_broken_utf8() {
        assert_eq!(unquote_plus("50%25+%E4%BD%A0%E4%BD %zz%C3é"), "50% 你\u{fffd} %zz\u{fffd}é");
    }

    #[test]
    fn a_group_can_be_followed_by_a_condition() {
        let pattern = PythonPattern::new(r"(ab+)(?:[^@]|\z)");
        assert_eq!(pattern.replace_first_group("abb@abab", "-"), "-b@--");
    }
}
