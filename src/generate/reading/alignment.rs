//! Which letter of a prompt became which letter of the cleaned caption.
//!
//! Cleaning takes words out, parts them, repairs letters and writes them small, in two dozen steps that keep no positions. What is left
//! is still in order, so the best alignment of both texts tells what came from where: as many equal letters as possible, in runs as
//! long as possible, with words that begin and end together.

use unicode_normalization::UnicodeNormalization;

/// A letter in its plainest form: small, and parted from its accents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub character: char,
    /// Where the character that it comes from begins in the text.
    pub byte: usize,
}

/// The letters of a text. White space of any kind is a space.
pub(super) fn letters(text: &str) -> Vec<Letter> {
    let plain = |(byte, character): (usize, char)| {
        let plain = character.to_lowercase().nfkd();
        plain.map(move |c| Letter { character: if c.is_whitespace() { ' ' } else { c }, byte })
    };
    text.char_indices().flat_map(plain).collect()
}

const EQUAL: i32 = 2;
/// For an equal letter right behind an equal letter.
const GOES_ON: i32 = 3;
/// For a letter that begins or ends a word in both texts.
const EDGE: i32 = 2;
const IMPOSSIBLE: i32 = i32::MIN / 2;
/// Pairs of letters that are looked at, a byte each. A longer text is looked at from its beginning, which is what models read.
const MOST_PAIRS: usize = 64 << 20;

/// What the best alignment of two beginnings of the texts ends with.
const TAKE: u8 = 1;
const SKIP_FROM: u8 = 2;
const SKIP_TO: u8 = 3;
const ENDING: u8 = 3;
/// Whether a taken pair follows a taken pair.
const IN_RUN: u8 = 4;

/// For each letter of `to` the letter of `from` that it stands for, if there is one. Both ascend.
pub(super) fn align(from: &[Letter], to: &[Letter]) -> Vec<Option<usize>> {
    let from = &from[..from.len().min(MOST_PAIRS / (to.len() + 1))];
    let (rows, columns) = (from.len() + 1, to.len() + 1);
    let mut ways = vec![SKIP_FROM; rows * columns];
    ways[..columns].fill(SKIP_TO);
    // The best score of two beginnings, and the best among those that end with a taken pair: of the row before, and of this one.
    let (mut best, mut taken) = (vec![0; columns], vec![IMPOSSIBLE; columns]);
    for row in 1..rows {
        let (mut diagonal_best, mut diagonal_taken) = (best[0], taken[0]);
        for column in 1..columns {
            let (a, b) = (from[row - 1].character, to[column - 1].character);
            let mut way = 0;
            let take = if a == b {
                let goes_on = diagonal_taken + GOES_ON;
                if goes_on >= diagonal_best {
                    way |= IN_RUN;
                }
                EQUAL + edges(from, row - 1, to, column - 1) + diagonal_best.max(goes_on)
            } else {
                IMPOSSIBLE
            };
            (diagonal_best, diagonal_taken) = (best[column], taken[column]);
            let (skip_from, skip_to) = (best[column], best[column - 1]);
            let most = take.max(skip_from).max(skip_to);
            way |= match most {
                // Of two that are as good, the earlier one.
                _ if most == skip_from => SKIP_FROM,
                _ if most == take => TAKE,
                _ => SKIP_TO,
            };
            ways[row * columns + column] = way;
            (best[column], taken[column]) = (most, take);
        }
    }
    trace_back(&ways, rows, columns)
}

fn trace_back(ways: &[u8], rows: usize, columns: usize) -> Vec<Option<usize>> {
    let mut origins = vec![None; columns - 1];
    let (mut row, mut column) = (rows - 1, columns - 1);
    let mut must_take = false;
    while row > 0 && column > 0 {
        let way = ways[row * columns + column];
        if must_take || way & ENDING == TAKE {
            origins[column - 1] = Some(row - 1);
            must_take = way & IN_RUN != 0;
            (row, column) = (row - 1, column - 1);
        } else if way & ENDING == SKIP_FROM {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    origins
}

fn edges(from: &[Letter], a: usize, to: &[Letter], b: usize) -> i32 {
    let is_blank =
        |letters: &[Letter], at: Option<usize>| at.and_then(|at| letters.get(at)).is_none_or(|letter| letter.character == ' ');
    if from[a].character == ' ' {
        return 0;
    }
    let begins = is_blank(from, a.checked_sub(1)) && is_blank(to, b.checked_sub(1));
    let ends = is_blank(from, Some(a + 1)) && is_blank(to, Some(b + 1));
    EDGE * (i32::from(begins) + i32::from(ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that each letter of `to` was found to stand for, with `_` for none.
    fn aligned(from: &str, to: &str) -> String {
        let (from, to) = (letters(from), letters(to));
        align(&from, &to).into_iter().map(|origin| origin.map_or('_', |at| from[at].character)).collect()
    }

    /// Tries all alignments.
    fn best_score(from: &[Letter], to: &[Letter]) -> i32 {
        fn go(from: &[Letter], to: &[Letter], a: usize, b: usize, runs: bool) -> i32 {
            if a == from.len() || b == to.len() {
                return 0;
            }
            let skip = go(from, to, a + 1, b, false).max(go(from, to, a, b + 1, false));
            if from[a].character != to[b].character {
                return skip;
            }
            let run = if runs { GOES_ON } else { 0 };
            skip.max(EQUAL + edges(from, a, to, b) + run + go(from, to, a + 1, b + 1, true))
        }
        go(from, to, 0, 0, false)
    }

    fn score(from: &[Letter], to: &[Letter]) -> i32 {
        let origins = align(from, to);
        let run = |b: usize, a: usize| b > 0 && a > 0 && origins[b - 1] == Some(a - 1);
        let of = |(b, origin): (usize, &Option<usize>)| {
            origin.map_or(0, |a| {
                assert_eq!(from[a].character, to[b].character);
                EQUAL + edges(from, a, to, b) + if run(b, a) { GOES_ON } else { 0 }
            })
        };
        assert!(origins.iter().flatten().is_sorted_by(|a, b| a < b), "no letter is used twice");
        origins.iter().enumerate().map(of).sum()
    }

    #[test]
    fn it_is_the_best_of_all_alignments() {
        let mut random = 1u64;
        let mut text = |most: usize| -> String {
            let mut next = |limit: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % limit
            };
            (0..next(most as u64 + 1)).map(|_| ['a', 'b', ' '][next(3) as usize]).collect()
        };
        for _ in 0..400 {
            let (from, to) = (letters(&text(8)), letters(&text(7)));
            assert_eq!(score(&from, &to), best_score(&from, &to), "{from:?} {to:?}");
        }
    }

    #[test]
    fn whole_words_go_before_scattered_letters() {
        let from = letters("a https://a.b/cat cat sat");
        let to = letters("a cat sat");
        let origins: Vec<usize> = align(&from, &to).into_iter().flatten().collect();
        assert_eq!(origins, [0, 17, 18, 19, 20, 21, 22, 23, 24]);
        assert_eq!(aligned("the cat and the dog", "the dog"), "the dog");
        assert_eq!(aligned("Ｆｕｌｌ ﬁsh É", "full fish e\u{301}!"), "full fish e\u{301}_");
        // Of equal words the first: a caption that is cut ends early.
        let origins: Vec<usize> = align(&letters("ball ball ball"), &letters("ball")).into_iter().flatten().collect();
        assert_eq!(origins, [0, 1, 2, 3]);
        assert_eq!((aligned("", "abc"), aligned("abc", "")), ("___".into(), String::new()));
    }
}
