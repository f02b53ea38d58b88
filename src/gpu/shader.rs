//! Shader texts and their variants.
//!
//! A shader is one WGSL file under `shaders/`. Lines that belong to some variants only stand between `#if NAME` and `#end`
//! (with an optional `#else`), and `{{ name }}` is replaced by a value. The variants that exist are data:
//! `shaders/variants.txt` names them, and a test validates every one of them without a GPU.

use std::fmt::Display;

/// The switches and values of one variant, in the order in which they were set; part of the kernel's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    switches: Vec<String>,
    values: Vec<(String, String)>,
}

impl Variant {
    #[must_use]
    pub fn switch(mut self, name: &str, on: bool) -> Self {
        if on {
            self.switches.push(name.to_owned());
        }
        self
    }

    #[must_use]
    pub fn value(mut self, name: &str, value: impl Display) -> Self {
        self.values.push((name.to_owned(), value.to_string()));
        self
    }

    /// The WGSL text of this variant of `template`.
    ///
    /// # Panics
    /// The template and the variant do not fit: an unclosed `#if` or a placeholder without a value. The variants' test
    /// expands every variant, so this cannot happen to a person.
    pub fn expand(&self, template: &str) -> String {
        let mut text = String::with_capacity(template.len());
        let mut conditions: Vec<bool> = Vec::new();
        for line in template.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("#if"), Some(name)) => conditions.push(self.switches.iter().any(|s| s == name)),
                (Some("#else"), None) => {
                    let last = conditions.last_mut().expect("#else outside of #if");
                    *last = !*last;
                }
                (Some("#end"), None) => {
                    conditions.pop().expect("#end outside of #if");
                }
                _ if conditions.iter().all(|&on| on) => {
                    text.push_str(line);
                    text.push('\n');
                }
                _ => {}
            }
        }
        assert!(conditions.is_empty(), "an #if is not closed");
        for (name, value) in &self.values {
            text = text.replace(&format!("{{{{ {name} }}}}"), value);
        }
        assert!(!text.contains("{{"), "a placeholder has no value: {text}");
        text
    }
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
}
