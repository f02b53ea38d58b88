//! Shader texts and their variants.
//!
//! A shader is one WGSL file under `shaders/`. Lines that belong to some variants only stand between `#if NAME` and `#end`
//! (with an optional `#else`); lines between `#for i in A..B` and `#end` are repeated, because matrices in registers must be
//! named one by one. `{{ name }}` is replaced by a value; sums of products and quotients such as `{{ rows / 16 + 1 }}` are
//! computed, from left to right. The variants that exist are data: `shaders/variants.txt` names them, and a test validates
//! every one of them without a GPU.

use std::fmt::Display;
use std::sync::Arc;

/// Cheap to clone: a launch hands it on several times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    settings: Arc<Settings>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Settings {
    switches: Vec<String>,
    values: Vec<(String, String)>,
}

impl Variant {
    #[must_use]
    pub fn switch(mut self, name: &str, on: bool) -> Self {
        if on {
            Arc::make_mut(&mut self.settings).switches.push(name.to_owned());
        }
        self
    }

    #[must_use]
    pub fn value(mut self, name: &str, value: impl Display) -> Self {
        Arc::make_mut(&mut self.settings).values.push((name.to_owned(), value.to_string()));
        self
    }

    /// The WGSL text of this variant of `template`.
    ///
    /// # Panics
    /// The template and the variant do not fit: an unclosed `#if` or a placeholder without a value. The variants' test
    /// expands every variant, so this cannot happen to a person.
    pub fn expand(&self, template: &str) -> String {
        let lines: Vec<&str> = template.lines().collect();
        let mut text = String::with_capacity(2 * template.len());
        self.expand_lines(&lines, &mut Vec::new(), &mut text);
        text
    }

    /// `counters` are the names and values of the `#for`s around, the outermost first.
    fn expand_lines<'t>(&self, lines: &[&'t str], counters: &mut Vec<(&'t str, usize)>, text: &mut String) {
        let mut at = 0;
        while at < lines.len() {
            let words: Vec<&str> = lines[at].split_whitespace().collect();
            match words.as_slice() {
                ["#if", name @ ..] => {
                    let (middle, end) = block_end(lines, at);
                    let on = self.settings.switches.contains(&self.substitute(&name.join(" "), counters));
                    let part = if on { &lines[at + 1..middle] } else { &lines[(middle + 1).min(end)..end] };
                    self.expand_lines(part, counters, text);
                    at = end;
                }
                ["#for", counter, "in", ..] => {
                    let (_, end) = block_end(lines, at);
                    let range = self.substitute(&words[3..].join(" "), counters);
                    let (first, last) = range.split_once("..").expect("#for has no range");
                    let [first, last] = [first, last].map(|text| text.trim().parse().expect("#for has no numbers"));
                    for value in first..last {
                        counters.push((counter, value));
                        self.expand_lines(&lines[at + 1..end], counters, text);
                        counters.pop();
                    }
                    at = end;
                }
                _ => {
                    text.push_str(&self.substitute(lines[at], counters));
                    text.push('\n');
                }
            }
            at += 1;
        }
    }

    fn substitute(&self, line: &str, counters: &[(&str, usize)]) -> String {
        let mut text = String::with_capacity(line.len());
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            let (expression, after) = after.split_once("}}").unwrap_or_else(|| panic!("a placeholder is not closed: {line}"));
            text.push_str(before);
            text.push_str(&self.evaluate(expression.trim(), counters));
            rest = after;
        }
        text.push_str(rest);
        text
    }

    fn evaluate(&self, expression: &str, counters: &[(&str, usize)]) -> String {
        let find = |name: &str| {
            let counter = counters.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
            counter.or_else(|| self.settings.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        let number = |name: &str| -> usize {
            let text = find(name).unwrap_or_else(|| name.to_owned());
            text.parse().unwrap_or_else(|_| panic!("a placeholder has no value: {name} in {expression}"))
        };
        let words: Vec<&str> = expression.split_whitespace().collect();
        let [first, operations @ ..] = words.as_slice() else { panic!("a placeholder is empty") };
        if operations.is_empty() {
            return find(first).unwrap_or_else(|| panic!("a placeholder has no value: {expression}"));
        }
        let (mut sum, mut term) = (0, number(first));
        for pair in operations.chunks(2) {
            let [operator, name] = *pair else { panic!("a number is missing: {expression}") };
            match operator {
                "+" => {
                    sum += term;
                    term = number(name);
                }
                "*" => term *= number(name),
                "/" => term /= number(name),
                other => panic!("there is no operator {other}: {expression}"),
            }
        }
        (sum + term).to_string()
    }
}

/// The places of the `#else` (that of the `#end` without one) and of the `#end` of the block that begins at `start`.
fn block_end(lines: &[&str], start: usize) -> (usize, usize) {
    let (mut depth, mut middle) = (1, None);
    for (at, line) in lines.iter().enumerate().skip(start + 1) {
        match line.split_whitespace().next() {
            Some("#if" | "#for") => depth += 1,
            Some("#else") if depth == 1 => middle = Some(at),
            Some("#end") => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (middle.unwrap_or(at), at);
        }
    }
    panic!("an #if or #for is not closed: {}", lines[start]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_and_values() {
        let template = "a {{ x }}\n#if half\nb\n#else\nc\n#end\nd";
        let half = Variant::default().switch("half", true).value("x", 3);
        assert_eq!(half.expand(template), "a 3\nb\nd\n");
        let full = Variant::default().switch("half", false).value("x", 3);
        assert_eq!(full.expand(template), "a 3\nc\nd\n");
    }

    #[test]
    fn repeated_lines_and_arithmetic() {
        let template = "#for i in 0..{{ n / 2 }}\n#if on_{{ i }}\nx\n#end\n#for j in 1..3\n{{ i * n + j + 1 }}\n#end\n#end";
        let variant = Variant::default().switch("on_1", true).value("n", 4);
        assert_eq!(variant.expand(template), "2\n3\nx\n6\n7\n");
    }

    #[test]
    #[should_panic(expected = "has no value")]
    fn a_placeholder_without_a_value() {
        Variant::default().expand("{{ x }}");
    }
}
