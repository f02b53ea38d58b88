//! Finding a name by some of its letters.

/// How well the letters of `query` are found in `text` in their order; None if they are not. Letters that begin words and that
/// follow each other count more, long texts a little less.
pub fn score(query: &str, text: &str) -> Option<i32> {
    const FOUND: i32 = 2;
    const BEGINS_WORD: i32 = 10;
    const FOLLOWS: i32 = 8;
    let query: Vec<char> = query.chars().filter(|letter| !letter.is_whitespace()).flat_map(char::to_lowercase).collect();
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    if query.is_empty() {
        return Some(0);
    }
    // Best sums over all ways to place the letters: with the last one here, and anywhere before.
    let mut ending: Vec<Option<i32>> = vec![None; text.len()];
    for (at_query, letter) in query.iter().enumerate() {
        let mut next = vec![None; text.len()];
        let mut best_before: Option<i32> = (at_query == 0).then_some(0);
        for (at, here) in text.iter().enumerate() {
            if here == letter {
                let begins = at == 0 || !text[at - 1].is_alphanumeric();
                let own = FOUND + if begins { BEGINS_WORD } else { 0 };
                let apart = best_before.map(|sum| sum + own);
                let joined = at.checked_sub(1).and_then(|before| ending[before]).map(|sum| sum + own + FOLLOWS);
                next[at] = apart.max(joined);
            }
            if at_query > 0 {
                best_before = best_before.max(ending[at]);
            }
        }
        ending = next;
    }
    ending.into_iter().flatten().max().map(|sum| sum - (text.len() / 8) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_must_come_in_order_and_whole_words_win() {
        assert_eq!(score("xyz", "Export the clip"), None);
        assert_eq!(score("pxe", "Export the clip"), None);
        assert_eq!(score("tt", "to"), None);
        assert!(score("EXP", "Export the clip") > score("exp", "Next plane"));
        assert!(score("etc", "Export the clip") > score("etc", "Sketch"));
        assert!(score("re do", "Redo") > score("redo", "Read our story"));
        assert_eq!(score("", "anything"), Some(0));
    }
}
