//! Checks the normalization table of a SentencePiece model before anything looks things up in it.
//!
//! The table is a double-array trie (Darts) over UTF-8 bytes with a blob of NUL-terminated replacements behind it. The crate that uses it
//! follows its links without looking, so a damaged file would make it read out of bounds; here every link that a lookup can take is
//! followed once.

/// The table of the largest known model (nmt_nfkc_cf) has a third of a million bytes.
const LARGEST_TABLE_BYTES: usize = 4 << 20;
/// The longest known replacement has 33 bytes (U+FDFA).
const LONGEST_REPLACEMENT_BYTES: usize = 256;

/// Whether `table` is safe to use; otherwise what is wrong with it.
pub(super) fn check(table: &[u8]) -> Result<(), &'static str> {
    if table.len() > LARGEST_TABLE_BYTES {
        return Err("its normalization table is far too large");
    }
    let (size, rest) = table.split_first_chunk::<4>().ok_or("its normalization table is cut short")?;
    let size = u32::from_le_bytes(*size) as usize;
    let (trie, replacements) = rest.split_at_checked(size).ok_or("its normalization table is cut short")?;
    let (units, remainder) = trie.as_chunks::<4>();
    if !remainder.is_empty() || units.is_empty() {
        return Err("its normalization table has no whole number of entries");
    }
    let units: Vec<u32> = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let replacements = str::from_utf8(replacements).map_err(|_| "its normalization table has replacements that are not UTF-8")?;
    check_links(&units, replacements)
}

fn check_links(units: &[u32], replacements: &str) -> Result<(), &'static str> {
    let mut seen = vec![false; units.len()];
    let mut children_of = vec![offset(units[0])];
    while let Some(children) = children_of.pop() {
        // A child is at `children ^ byte`, which stays in a block of 256.
        let block = children & !0xff;
        if block + 0xff >= units.len() {
            return Err("its normalization table links to places outside of itself");
        }
        for byte in 1..=0xff {
            let position = children ^ byte;
            let unit = units[position];
            let is_child = unit & (1 << 31 | 0xff) == byte as u32;
            if !is_child || std::mem::replace(&mut seen[position], true) {
                continue;
            }
            let below = position ^ offset(unit);
            let has_value = unit >> 8 & 1 == 1;
            if has_value {
                let value = units.get(below).ok_or("its normalization table links to places outside of itself")?;
                check_replacement(replacements, (value & !(1 << 31)) as usize)?;
            }
            children_of.push(below);
        }
    }
    Ok(())
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & 1 << 9) >> 6)
}

fn check_replacement(replacements: &str, start: usize) -> Result<(), &'static str> {
    let rest = replacements.get(start..).ok_or("its normalization table refers to a replacement that is not there")?;
    let searched = &rest.as_bytes()[..rest.len().min(LONGEST_REPLACEMENT_BYTES)];
    if !searched.contains(&0) && rest.len() > searched.len() {
        return Err("its normalization table has an endless replacement");
    }
    Ok(())
}
