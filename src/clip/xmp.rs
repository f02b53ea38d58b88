//! A text inside of an XMP packet, the place for such things in a WebP file.

/// The property, in a namespace of its own.
const OPEN: &str = "<tilereel:recipe>";
const CLOSE: &str = "</tilereel:recipe>";
const HEAD: &str = concat!(
    "<?xpacket begin=\"\u{FEFF}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n",
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n",
    "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n",
    "<rdf:Description rdf:about=\"\" xmlns:tilereel=\"urn:tilereel\">\n",
);
const TAIL: &str = concat!("\n</rdf:Description>\n", "</rdf:RDF>\n", "</x:xmpmeta>\n", "<?xpacket end=\"r\"?>",);

/// A packet that holds `text`.
pub(super) fn packet(text: &str) -> String {
    let mut packet = String::with_capacity(HEAD.len() + text.len() * 9 / 8 + TAIL.len() + 64);
    packet.push_str(HEAD);
    packet.push_str(OPEN);
    for character in text.chars() {
        match character {
            '&' => packet.push_str("&amp;"),
            '<' => packet.push_str("&lt;"),
            // `]]>` must not appear in XML text.
            '>' => packet.push_str("&gt;"),
            // An XML reader would turn a return into a line feed. The others XML 1.0 cannot hold in any way: written
            // like this they come back here, and a text without them, as JSON is, makes a valid packet.
            '\0'..='\u{8}' | '\u{B}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => {
                packet.push_str(&format!("&#{};", u32::from(character)));
            }
            other => packet.push(other),
        }
    }
    packet.push_str(CLOSE);
    packet.push_str(TAIL);
    packet
}

/// The text in a packet. `Ok(None)` without one, `Err` where the text is not closed or a reference means nothing.
pub(super) fn text(packet: &str) -> Result<Option<String>, ()> {
    let Some((_, after)) = packet.split_once(OPEN) else {
        return Ok(None);
    };
    let (mut escaped, _) = after.split_once(CLOSE).ok_or(())?;
    let mut text = String::with_capacity(escaped.len());
    while let Some((plain, reference)) = escaped.split_once('&') {
        text.push_str(plain);
        let (name, rest) = reference.split_once(';').ok_or(())?;
        text.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => character(number).ok_or(())?,
        });
        escaped = rest;
    }
    text.push_str(escaped);
    Ok(Some(text))
}

fn character(reference: &str) -> Option<char> {
    let number = reference.strip_prefix('#')?;
    let code = match number.strip_prefix('x') {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() {
        let every_odd_one: String = ('\0'..='\u{FF}').chain(['\u{FFFE}', '😀']).collect();
        for expected in ["", "{\"a\":\"]]> <b> &amp; </tilereel:recipe>\"}", "\r\n\t", &every_odd_one] {
            let packet = packet(expected);
            assert!(!packet.contains("]]>"));
            assert_eq!(text(&packet), Ok(Some(expected.to_owned())));
        }
    }

    #[test]
    fn strange_packets_are_told_from_empty_ones() {
        assert_eq!(text("<x/>"), Ok(None));
        assert_eq!(text("<tilereel:recipe>a"), Err(()));
        assert_eq!(text("<tilereel:recipe>&no;</tilereel:recipe>"), Err(()));
        assert_eq!(text("<tilereel:recipe>&#xD800;</tilereel:recipe>"), Err(()));
        assert_eq!(text("<tilereel:recipe>&#x41;&quot;</tilereel:recipe>"), Ok(Some("A\"".to_owned())));
    }
}
