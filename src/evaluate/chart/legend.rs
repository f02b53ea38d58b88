//! The names of the chart's rows, broken or cut to the room that there is.

use crate::clip::drawing::text_width;

/// The lines of each name, in a column that is so many pixels wide and has room for so many lines. Where all lines have room
/// long names are broken between words, up to three lines; otherwise each has one line, cut in its middle.
pub fn lines(names: &[String], width: usize, scale: usize, most_lines: usize) -> Vec<Vec<String>> {
    let broken: Vec<Vec<String>> = names.iter().map(|name| broken(name, width, scale)).collect();
    let fits = |lines: &Vec<String>| lines.len() <= 3 && lines.iter().all(|line| text_width(line, scale) <= width);
    if broken.iter().map(Vec::len).sum::<usize>() <= most_lines && broken.iter().all(fits) {
        return broken;
    }
    names.iter().map(|name| vec![cut(name, width, scale)]).collect()
}

fn broken(name: &str, width: usize, scale: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in name.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), scale) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Begin and end of a name say more than its middle.
pub fn cut(name: &str, width: usize, scale: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = name.to_owned();
    let mut kept = letters.len();
    while text_width(&text, scale) > width && kept > 1 {
        kept -= 1;
        let behind = kept / 2;
        let begin = &letters[..kept - behind];
        text = begin.iter().chain(&['.', '.']).chain(&letters[letters.len() - behind..]).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_broken_where_there_is_room_and_cut_where_not() {
        let names = ["mini/base", "real clips through the VAE of mini/base"].map(str::to_owned);
        let roomy = lines(&names, 250, 2, 9);
        assert_eq!(roomy[0], ["mini/base"]);
        assert!(roomy[1].len() == 2 && roomy[1].join(" ") == names[1]);
        let tight = lines(&names, 250, 2, 2);
        assert!(tight[1].len() == 1 && tight[1][0].starts_with("real clips") && tight[1][0].ends_with("base"), "{tight:?}");
        assert!(tight[1][0].contains("..") && text_width(&tight[1][0], 2) <= 250);
        // A word that is too long has no place to break.
        let path = ["/a/very/long/folder/of/models/with/many/parts/base".to_owned()];
        let [one] = &lines(&path, 250, 2, 9)[..] else { panic!("one name") };
        assert!(one.len() == 1 && text_width(&one[0], 2) <= 250);
        assert_eq!(cut("", 0, 2), "");
    }
}
