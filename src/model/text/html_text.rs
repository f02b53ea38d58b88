//! The text of a piece of HTML, as `BeautifulSoup(markup, "html.parser").text` gives it.
//!
//! Captions are rarely HTML, so what counts here is what the reference's lenient parser makes of stray `<`, `&` and quotes. The parser
//! follows the states of CPython's `html.parser` (3.11) with character references reported one by one, which is how Beautiful Soup
//! runs it, and Beautiful Soup's choice of which strings are text. Every step either moves on or ends the parse.

use super::html_entities::{named_entity, parse_code, windows_1252_control};
use super::python_text::is_space;

/// Strings in these elements are no text of the document.
const NOT_TEXT: [&str; 5] = ["rt", "rp", "style", "script", "template"];
const KEEPS_WHITE_SPACE: [&str; 2] = ["pre", "textarea"];
/// Elements that HTML closes by itself.
const EMPTY_ELEMENTS: [&str; 24] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link", "menuitem", "meta", "param", "source", "track",
    "wbr", "basefont", "bgsound", "command", "frame", "image", "isindex", "nextid", "spacer",
];

/// The text of `markup`; the markup itself where the reference's parser refuses it (a malformed `<![...` section).
pub(super) fn html_text(markup: &str) -> String {
    if !markup.contains(['<', '&']) {
        return Document::of_plain_text(markup);
    }
    let mut parser = Parser { source: markup.chars().collect(), position: 0, raw_element: None, document: Document::default() };
    // The reference feeds everything and then closes: what looked unfinished gets a second reading.
    let outcome = parser.parse(false).and_then(|()| parser.parse(true));
    match outcome {
        Ok(()) => parser.document.finish(),
        Err(Refused) => markup.to_owned(),
    }
}

/// A marked section whose name the reference does not know.
struct Refused;

/// What Beautiful Soup keeps of the document: the open elements and the text so far.
#[derive(Default)]
struct Document {
    text: String,
    /// Text since the last tag; none if there was not even an empty string.
    pending: Option<String>,
    open: Vec<String>,
    /// End tags to ignore, for empty elements that are closed already.
    closed_already: Vec<String>,
}

impl Document {
    fn of_plain_text(text: &str) -> String {
        let mut document = Self::default();
        if !text.is_empty() {
            document.data(text);
        }
        document.finish()
    }

    fn data(&mut self, data: &str) {
        self.pending.get_or_insert_default().push_str(data);
    }

    /// Ends the string in progress. Only `is_text` strings outside scripts and the like count.
    fn end_string(&mut self, is_text: bool, is_plain: bool) {
        let Some(mut string) = self.pending.take() else { return };
        let kept_as_it_is = self.open.iter().any(|name| KEEPS_WHITE_SPACE.contains(&name.as_str()));
        if !kept_as_it_is && string.chars().all(|character| matches!(character, ' ' | '\n' | '\t' | '\x0c' | '\r')) {
            string = if string.contains('\n') { "\n" } else { " " }.to_owned();
        }
        let hidden = is_plain && self.open.iter().any(|name| NOT_TEXT.contains(&name.as_str()));
        if is_text && !hidden {
            self.text.push_str(&string);
        }
    }

    fn start_tag(&mut self, name: String, closes_itself: bool) {
        self.end_string(true, true);
        let is_empty_element = EMPTY_ELEMENTS.contains(&name.as_str());
        self.open.push(name.clone());
        if closes_itself {
            self.close(&name);
        } else if is_empty_element {
            self.close(&name);
            self.closed_already.push(name);
        }
    }

    fn end_tag(&mut self, name: &str) {
        match self.closed_already.iter().position(|closed| closed == name) {
            Some(index) => {
                self.closed_already.remove(index);
            }
            None => self.close(name),
        }
    }

    /// Closes the innermost open element of that name with everything in it.
    fn close(&mut self, name: &str) {
        self.end_string(true, true);
        if let Some(index) = self.open.iter().rposition(|open| open == name) {
            self.open.truncate(index);
        }
    }

    /// A comment, declaration or processing instruction.
    fn not_text(&mut self, content: &str) {
        self.end_string(true, true);
        self.data(content);
        self.end_string(false, false);
    }

    fn cdata_section(&mut self, content: &str) {
        self.end_string(true, true);
        self.data(content);
        self.end_string(true, false);
    }

    fn finish(mut self) -> String {
        self.end_string(true, true);
        self.text
    }
}

struct Parser {
    source: Vec<char>,
    position: usize,
    /// Inside `<script>` or `<style>`: nothing but the matching end tag is markup.
    raw_element: Option<String>,
    document: Document,
}

impl Parser {
    fn parse(&mut self, at_end: bool) -> Result<(), Refused> {
        let end = self.source.len();
        while self.position < end {
            let next = match &self.raw_element {
                Some(element) => match self.find_end_tag_of(element) {
                    Some(found) => found,
                    None => break,
                },
                None => self.find(self.position, |character| matches!(character, '<' | '&')).unwrap_or(end),
            };
            if self.position < next {
                self.data(self.position, next);
            }
            self.position = next;
            if next == end {
                break;
            }
            let goes_on = if self.source[next] == '<' { self.markup(at_end)? } else { self.reference(at_end) };
            if !goes_on {
                break;
            }
        }
        if at_end && self.position < end && self.raw_element.is_none() {
            self.data(self.position, end);
            self.position = end;
        }
        Ok(())
    }

    /// Reads what begins with `<`; false if the rest has to wait for the end of the input.
    fn markup(&mut self, at_end: bool) -> Result<bool, Refused> {
        let start = self.position;
        let after = match self.source.get(start + 1) {
            Some(character) if character.is_ascii_alphabetic() => self.start_tag(start),
            Some('/') => self.end_tag(start),
            Some('!') if self.starts_with(start, "<!--") => self.comment(start),
            Some('?') => self.up_to_greater_than(start + 2).map(|close| self.not_text(start + 2, close)),
            Some('!') => self.declaration(start)?,
            Some(_) => {
                self.document.data("<");
                Some(start + 1)
            }
            None => return Ok(false),
        };
        self.position = match after {
            Some(after) => after,
            None if !at_end => return Ok(false),
            None => {
                let after = match self.find(start + 1, |character| character == '>') {
                    Some(close) => close + 1,
                    None => self.find(start + 1, |character| character == '<').unwrap_or(start + 1),
                };
                self.data(start, after);
                after
            }
        };
        Ok(true)
    }

    /// Reads what begins with `&`; false if parsing ends here.
    fn reference(&mut self, at_end: bool) -> bool {
        let start = self.position;
        if self.source.get(start + 1) == Some(&'#') {
            return self.numeric_reference(start);
        }
        let name_end = match self.source.get(start + 1) {
            Some(character) if character.is_ascii_alphabetic() => {
                self.find(start + 2, |character| !(character.is_ascii_alphanumeric() || matches!(character, '-' | '.')))
            }
            Some(_) => {
                self.document.data("&");
                self.position = start + 1;
                return true;
            }
            None => return false,
        };
        // A name may hold `-` and `.` but a reference ends before a character that is no letter or digit, so at the end of the
        // input the last of those in the name ends it.
        let name_end =
            name_end.or_else(|| (start + 2..self.source.len()).rev().find(|&index| matches!(self.source[index], '-' | '.')));
        let Some(name_end) = name_end else {
            if at_end && self.source.len() == start + 2 {
                // The reference loses this `&`.
                self.position = start + 1;
            }
            return false;
        };
        let name: String = self.source[start + 1..name_end].iter().collect();
        match named_entity(&name) {
            Some(text) => self.document.data(text),
            None => self.document.data(&format!("&{name}")),
        }
        self.position = name_end + usize::from(self.source.get(name_end) == Some(&';'));
        true
    }

    fn numeric_reference(&mut self, start: usize) -> bool {
        let is_hex = matches!(self.source.get(start + 2), Some('x' | 'X'));
        let (digits_start, radix) = if is_hex { (start + 3, 16) } else { (start + 2, 10) };
        let digits_end = self.find(digits_start, |character| !character.is_digit(radix)).unwrap_or(self.source.len());
        let ends_well = self.source.get(digits_end).is_some_and(|character| !character.is_ascii_hexdigit());
        if digits_end == digits_start || !ends_well {
            if self.source[start..].contains(&';') {
                self.document.data("&#");
                self.position = start + 2;
            }
            return false;
        }
        let digits: String = self.source[digits_start..digits_end].iter().collect();
        let character = match parse_code(&digits, radix) {
            None | Some(0) => '\u{fffd}',
            Some(code) => char::from_u32(code).map_or('\u{fffd}', windows_1252_control),
        };
        self.document.data(character.encode_utf8(&mut [0; 4]));
        self.position = digits_end + usize::from(self.source[digits_end] == ';');
        true
    }

    /// Reads `<name attributes>`; none if it is unfinished.
    fn start_tag(&mut self, start: usize) -> Option<usize> {
        let after = self.end_of_start_tag(start)?;
        let name_end = self.end_of_tag_name(start + 1);
        let name: String = self.source[start + 1..name_end].iter().collect::<String>().to_lowercase();
        let mut position = self.skip_separators(name_end);
        while position < after {
            match self.attribute(position) {
                Some(next) => position = next,
                None => break,
            }
        }
        let closing: String = self.source[position.min(after)..after].iter().collect();
        let closes_itself = match super::python_text::strip(&closing) {
            ">" => false,
            "/>" => true,
            _ => {
                self.data(start, after);
                return Some(after);
            }
        };
        if !closes_itself && (name == "script" || name == "style") {
            self.raw_element = Some(name.clone());
        }
        self.document.start_tag(name, closes_itself);
        Some(after)
    }

    fn end_of_start_tag(&self, start: usize) -> Option<usize> {
        let mut position = self.end_of_tag_name(start + 1);
        position = self.find(position, |character| !(is_space(character) || character == '/')).unwrap_or(self.source.len());
        while let Some(next) = self.attribute(position) {
            position = next;
        }
        position = self.skip_white_space(position);
        match self.source.get(position)? {
            '>' => Some(position + 1),
            '/' if self.source.get(position + 1) == Some(&'>') => Some(position + 2),
            '/' | '=' => None,
            character if character.is_ascii_alphabetic() => None,
            _ => Some(position),
        }
    }

    fn end_of_tag_name(&self, start: usize) -> usize {
        self.find(start, |character| matches!(character, '\t' | '\n' | '\r' | '\x0c' | ' ' | '/' | '>' | '\0'))
            .unwrap_or(self.source.len())
    }

    /// The place after one attribute and the separators behind it.
    fn attribute(&self, start: usize) -> Option<usize> {
        let before = *self.source.get(start.checked_sub(1)?)?;
        let first = *self.source.get(start)?;
        if !(is_space(before) || matches!(before, '\'' | '"' | '/')) || is_space(first) || matches!(first, '/' | '>') {
            return None;
        }
        let is_name_end = |character| is_space(character) || matches!(character, '/' | '=' | '>');
        let name_end = self.find(start + 1, is_name_end).unwrap_or(self.source.len());
        Some(self.skip_separators(self.attribute_value(name_end).unwrap_or(name_end)))
    }

    /// The place after `= value`. An unfinished quoted string is no value, but the reference's pattern then finds an empty one before
    /// it or takes the last of several equals signs for a part of it.
    fn attribute_value(&self, name_end: usize) -> Option<usize> {
        let equals = self.skip_white_space(name_end);
        let equals_end = self.find(equals, |character| character != '=').unwrap_or(self.source.len());
        if equals_end == equals {
            return None;
        }
        let value = self.skip_white_space(equals_end);
        let is_bare_end = |character| is_space(character) || character == '>';
        let bare_end = |from| self.find(from, is_bare_end).unwrap_or(self.source.len());
        match self.source.get(value) {
            Some(&quote @ ('\'' | '"')) => match self.find(value + 1, |character| character == quote) {
                Some(close) => Some(close + 1),
                None if value > equals_end => Some(value - 1),
                None if equals_end > equals + 1 => Some(bare_end(equals_end - 1)),
                None => None,
            },
            _ => Some(bare_end(value)),
        }
    }

    /// Skips white space and every `/` that is not followed by `>`.
    fn skip_separators(&self, mut position: usize) -> usize {
        while let Some(&character) = self.source.get(position) {
            let separates = is_space(character) || (character == '/' && self.source.get(position + 1) != Some(&'>'));
            if !separates {
                break;
            }
            position += 1;
        }
        position
    }

    fn end_tag(&mut self, start: usize) -> Option<usize> {
        let close = self.find(start + 1, |character| character == '>')?;
        // `</ name >` with nothing else in it.
        let name_start = self.skip_white_space(start + 2);
        let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | ':' | '_');
        let name_end = self.find(name_start, |character| !is_name(character)).unwrap_or(self.source.len());
        let is_proper = self.source[name_start].is_ascii_alphabetic() && self.skip_white_space(name_end) == close;
        if is_proper {
            let name = self.source[name_start..name_end].iter().collect::<String>().to_lowercase();
            if self.raw_element.as_ref().is_some_and(|element| *element != name) {
                self.data(start, close + 1);
                return Some(close + 1);
            }
            self.document.end_tag(&name);
            self.raw_element = None;
            return Some(close + 1);
        }
        if !self.source[start + 2].is_ascii_alphabetic() {
            if close > start + 2 {
                self.not_text(start + 2, close);
            }
            return Some(close + 1);
        }
        let name_end = self.end_of_tag_name(start + 2);
        let name = self.source[start + 2..name_end].iter().collect::<String>().to_lowercase();
        self.document.end_tag(&name);
        Some(close + 1)
    }

    fn comment(&mut self, start: usize) -> Option<usize> {
        let (content_end, after) = self.find_section_end(start + 4, &['-', '-', '>'])?;
        self.not_text(start + 4, content_end);
        Some(after)
    }

    /// Reads what begins with `<!` and is no comment.
    fn declaration(&mut self, start: usize) -> Result<Option<usize>, Refused> {
        if self.source.get(start + 2) == Some(&'[') {
            return self.marked_section(start);
        }
        Ok(self.up_to_greater_than(start + 2).map(|close| self.not_text(start + 2, close)))
    }

    fn marked_section(&mut self, start: usize) -> Result<Option<usize>, Refused> {
        let name_start = start + 3;
        match self.source.get(name_start) {
            None => return Ok(None),
            Some(character) if !character.is_ascii_alphabetic() => return Err(Refused),
            Some(_) => {}
        }
        let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        let name_end = self.find(name_start, |character| !is_name(character)).unwrap_or(self.source.len());
        if self.skip_white_space(name_end) == self.source.len() {
            return Ok(None);
        }
        let name = self.source[name_start..name_end].iter().collect::<String>().to_lowercase();
        let close: &[char] = match name.as_str() {
            "temp" | "cdata" | "ignore" | "include" | "rcdata" => &[']', ']', '>'],
            "if" | "else" | "endif" => &[']', '>'],
            _ => return Err(Refused),
        };
        let Some((content_end, after)) = self.find_section_end(name_start, close) else { return Ok(None) };
        let content: String = self.source[name_start..content_end].iter().collect();
        match content.get(..6) {
            Some(opening) if opening.eq_ignore_ascii_case("cdata[") => self.document.cdata_section(&content[6..]),
            _ => self.document.not_text(&content),
        }
        Ok(Some(after))
    }

    /// Finds `close` with white space allowed before each of its characters but the first and, for a comment, the second.
    fn find_section_end(&self, from: usize, close: &[char]) -> Option<(usize, usize)> {
        (from..self.source.len()).find_map(|start| {
            let mut position = start;
            for (index, expected) in close.iter().enumerate() {
                if index > 0 && !(index == 1 && *expected == '-') {
                    position = self.skip_white_space(position);
                }
                if self.source.get(position) != Some(expected) {
                    return None;
                }
                position += 1;
            }
            Some((start, position))
        })
    }

    /// The place of the `</name>` that ends a script or style sheet.
    fn find_end_tag_of(&self, element: &str) -> Option<usize> {
        (self.position..self.source.len()).find(|&start| {
            if !self.starts_with(start, "</") {
                return false;
            }
            let name_start = self.skip_white_space(start + 2);
            let name_end = name_start + element.len();
            let Some(name) = self.source.get(name_start..name_end) else { return false };
            let is_same = name.iter().zip(element.chars()).all(|(found, expected)| found.eq_ignore_ascii_case(&expected));
            is_same && self.source.get(self.skip_white_space(name_end)) == Some(&'>')
        })
    }

    fn up_to_greater_than(&self, from: usize) -> Option<usize> {
        self.find(from, |character| character == '>')
    }

    fn not_text(&mut self, from: usize, close: usize) -> usize {
        let content: String = self.source[from..close].iter().collect();
        self.document.not_text(&content);
        close + 1
    }

    fn data(&mut self, from: usize, to: usize) {
        let data: String = self.source[from..to].iter().collect();
        self.document.data(&data);
    }

    fn find(&self, from: usize, matches: impl Fn(char) -> bool) -> Option<usize> {
        let rest = self.source.get(from..)?;
        rest.iter().position(|&character| matches(character)).map(|offset| from + offset)
    }

    fn skip_white_space(&self, from: usize) -> usize {
        self.find(from, |character| !is_space(character)).unwrap_or(self.source.len())
    }

    fn starts_with(&self, from: usize, expected: &str) -> bool {
        expected.chars().enumerate().all(|(offset, character)| self.source.get(from + offset) == Some(&character))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from Beautiful Soup 4.15 on CPython 3.11.
    #[test]
    fn gives_the_text_that_beautiful_soup_gives() {
        for (markup, expected) in [
            ("<b>bold</b> &amp; <i>italic</i>", "bold & italic"),
            ("a < b and c > d <3", "a < b and c > d <3"),
            ("x <script>var a = '<b>';</script>y<!-- no -->z", "x yz"),
            ("a<br>  <br/>b</br>c <img src=\"x>y\">", "a bc "),
            ("&unknown; &copy &#65; &#x41;", "&unknown © A A"),
            ("<a href='x", "<a href='x"),
            ("<![cdata[kept]]> <![if x]>gone", "kept gone"),
            ("ends with &b", "ends with b"),
        ] {
            assert_eq!(html_text(markup), expected, "{markup}");
        }
    }

    #[test]
    fn a_refused_section_leaves_the_markup_alone() {
        assert_eq!(html_text("<b>x</b> <![1]>"), "<b>x</b> <![1]>");
    }
}
