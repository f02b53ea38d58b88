//! HTML character references as Python's `html.unescape` and Beautiful Soup resolve them.

use std::sync::LazyLock;

use regex::Regex;

use super::python_text::replace_all;

/// The entities that HTML also knows without a semicolon.
const WITHOUT_SEMICOLON: &str = "AElig AMP Aacute Acirc Agrave Aring Atilde Auml COPY Ccedil ETH Eacute Ecirc Egrave Euml GT Iacute \
    Icirc Igrave Iuml LT Ntilde Oacute Ocirc Ograve Oslash Otilde Ouml QUOT REG THORN Uacute Ucirc Ugrave Uuml Yacute aacute acirc \
    acute aelig agrave amp aring atilde auml brvbar ccedil cedil cent copy curren deg divide eacute ecirc egrave eth euml frac12 \
    frac14 frac34 gt iacute icirc iexcl igrave iquest iuml laquo lt macr micro middot nbsp not ntilde oacute ocirc ograve ordf ordm \
    oslash otilde ouml para plusmn pound quot raquo reg sect shy sup1 sup2 sup3 szlig thorn times uacute ucirc ugrave uml uuml yacute \
    yen yuml";

static LEGACY_NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| WITHOUT_SEMICOLON.split_whitespace().collect());

static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\x0C <&#;]{1,32};?)").expect("a constant pattern"));

/// What Windows-1252 has at the bytes 0x80 to 0x9F; unassigned bytes stand for themselves.
const WINDOWS_1252_CONTROLS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”',
    '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The Windows-1252 character meant by a C1 control character; any other character is returned as it is.
pub(super) fn windows_1252_control(character: char) -> char {
    match u32::from(character) {
        code @ 0x80..=0x9f => WINDOWS_1252_CONTROLS[code as usize - 0x80],
        _ => character,
    }
}

/// The text of a named entity, given without `&` and `;`.
pub(super) fn named_entity(name: &str) -> Option<&'static str> {
    let entities = &html_escape::NAMED_ENTITIES;
    let index = entities.binary_search_by(|(known, _)| (*known).cmp(name.as_bytes())).ok()?;
    Some(entities[index].1)
}

/// Python's `html.unescape`: HTML 5 rules, including names without a semicolon.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    replace_all(&REFERENCE, text, |captures| {
        let body = &captures[1];
        match body.strip_prefix('#') {
            Some(number) => numeric_reference(number),
            None => named_reference(body),
        }
    })
}

fn numeric_reference(number: &str) -> String {
    let number = number.trim_end_matches(';');
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => parse_code(digits, 16),
        None => parse_code(number, 10),
    };
    match code {
        Some(0) | None => '\u{fffd}'.to_string(),
        Some(0x0d) => "\r".to_owned(),
        Some(code @ 0x80..=0x9f) => WINDOWS_1252_CONTROLS[code as usize - 0x80].to_string(),
        Some(0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef) => String::new(),
        Some(code) if code <= 0x10_ffff && code & 0xfffe == 0xfffe => String::new(),
        Some(code) => char::from_u32(code).unwrap_or('\u{fffd}').to_string(),
    }
}

fn named_reference(body: &str) -> String {
    if let Some(text) = body.strip_suffix(';').and_then(named_entity) {
        return text.to_owned();
    }
    // The longest known beginning wins, as in "&notit" = "¬it".
    let prefix = LEGACY_NAMES.iter().filter(|name| body.starts_with(**name)).max_by_key(|name| name.len());
    match prefix.and_then(|name| named_entity(name).map(|text| (text, name.len()))) {
        Some((text, length)) => format!("{text}{}", &body[length..]),
        None => format!("&{body}"),
    }
}

/// The number, or none when it is too large for any character.
pub(super) fn parse_code(digits: &str, radix: u32) -> Option<u32> {
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_as_python_does() {
        for (text, expected) in [
            ("&lt;b&gt; &amp;amp; &eacute; &eacute", "<b> &amp; é é"),
            ("&notit; &notin; &unknown; &", "¬it; ∉ &unknown; &"),
            ("&#65; &#x42 &#0; &#xD800; &#99999999999; &#128; &#1;x", "A B \u{fffd} \u{fffd} \u{fffd} € x"),
            ("&NotEqualTilde; &ampamp;", "≂̸ &amp;"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn every_name_without_a_semicolon_is_an_entity() {
        assert_eq!(LEGACY_NAMES.len(), 106);
        assert!(LEGACY_NAMES.iter().all(|name| named_entity(name).is_some()));
    }
}
