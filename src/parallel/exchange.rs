//! What the ranks of a group tell each other in a layer, as it follows from the layer's mask.
//!
//! Plain integers: the same plan is what a rank does ([`super::forward`]), what its bytes are predicted by, and what the cost model
//! reckons with. In units of one frame's query, key or value:
//!
//! - a frame whose keys are seen from another rank costs two units (key and value) for each such rank;
//! - a *shared* frame, whose query is answered in parts by all ranks that own keys of it, costs two units (its query, and the part
//!   that comes back with its log-sums) for each such rank, and then needs no keys from them;
//! - heads instead of frames cost four units of what leaves a rank: all but its own share of the heads of query, key and value,
//!   and the attention on the way back.
//!
//! Which frames are shared is chosen by bytes: those that look at most other ranks' frames come first. For the paper's masks these
//! are the reference frames. The same bytes for several ranks are read from their device once, and written into each.

use std::collections::BTreeSet;
use std::ops::{Add, Range};
use std::sync::Arc;

use super::shares::deal_heads;
use crate::mask::KeyFrames;

/// Sizes of the operands of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeSizes {
    pub heads: usize,
    /// Channels of a head.
    pub head: usize,
    pub frame_tokens: usize,
    /// Of a stored value.
    pub element_bytes: usize,
}

/// Bytes of a log-sum.
const LOG_SUM_BYTES: usize = 4;

impl ExchangeSizes {
    /// Of one frame's query, key or value.
    fn frame_bytes(&self) -> u64 {
        (self.heads * self.head * self.frame_tokens * self.element_bytes) as u64
    }

    fn log_sum_bytes(&self) -> u64 {
        (self.heads * self.frame_tokens * LOG_SUM_BYTES) as u64
    }
}

/// Bytes between devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Over all pairs of ranks: what is written into devices.
    pub sent: u64,
    /// What is read from devices: less where the same bytes go to several ranks.
    pub read: u64,
}

impl Add for Traffic {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { sent: self.sent + other.sent, read: self.read + other.read }
    }
}

/// How a layer's attention is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nobody looks at another rank's frames.
    Local,
    Frames(FrameExchange),
    /// The heads of each rank, over all frames.
    Heads(Vec<Range<usize>>),
}

/// Keys and values of some frames, and queries of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameExchange {
    /// By frame: its query is answered in parts.
    pub shared: Vec<bool>,
    /// `[to][from]`: the frames whose keys and values one rank needs from another.
    keys: Vec<Vec<Vec<usize>>>,
    /// `[to][from]`: the frames of `from` whose queries `to` answers over its own keys.
    queries: Vec<Vec<Vec<usize>>>,
}

/// What a rank sends to some others alike, before the attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Places in the group.
    pub to: Vec<usize>,
    pub keys: Vec<usize>,
    pub queries: Vec<usize>,
}

/// A layer's exchange in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerExchange {
    pub key_frames: Arc<KeyFrames>,
    /// The frames of each member.
    pub frames: Vec<Range<usize>>,
    pub scheme: Scheme,
}

impl FrameExchange {
    fn new(key_frames: &KeyFrames, frames: &[Range<usize>], shared: Vec<bool>) -> Self {
        let members = frames.len();
        let mut keys = vec![vec![BTreeSet::new(); members]; members];
        let mut queries = vec![vec![BTreeSet::new(); members]; members];
        let owner = owners(frames);
        for (to, own) in frames.iter().enumerate() {
            for query in own.clone() {
                for key in key_frames.of(query).iter().map(|&key| key as usize) {
                    let other = owner[key];
                    if other == to {
                        continue;
                    }
                    if shared[query] {
                        queries[other][to].insert(query);
                    } else {
                        keys[to][other].insert(key);
                    }
                }
            }
        }
        let lists = |sets: Vec<Vec<BTreeSet<usize>>>| {
            sets.into_iter().map(|of| of.into_iter().map(|set| set.into_iter().collect()).collect()).collect()
        };
        Self { shared, keys: lists(keys), queries: lists(queries) }
    }

    /// The frames whose keys and values `to` gets from `from`.
    pub fn keys(&self, from: usize, to: usize) -> &[usize] {
        &self.keys[to][from]
    }

    /// The frames of `from` whose queries `to` answers over its own keys.
    pub fn queries(&self, from: usize, to: usize) -> &[usize] {
        &self.queries[to][from]
    }

    /// The messages of a member, those with the same content as one.
    pub fn sendings(&self, from: usize) -> Vec<Sending> {
        let mut sendings: Vec<Sending> = Vec::new();
        for to in 0..self.keys.len() {
            let (keys, queries) = (self.keys(from, to), self.queries(from, to));
            if keys.is_empty() && queries.is_empty() {
                continue;
            }
            match sendings.iter_mut().find(|sending| sending.keys == keys && sending.queries == queries) {
                Some(sending) => sending.to.push(to),
                None => sendings.push(Sending { to: vec![to], keys: keys.to_vec(), queries: queries.to_vec() }),
            }
        }
        sendings
    }
}

/// Who has each frame.
fn owners(frames: &[Range<usize>]) -> Vec<usize> {
    frames.iter().enumerate().flat_map(|(member, own)| own.clone().map(move |_| member)).collect()
}

impl LayerExchange {
    /// The scheme whose busiest member has the fewest bytes to read from its device and to write into it: each has a way of its own
    /// to the program's memory. Heads are dealt by speed.
    pub fn choose(key_frames: &Arc<KeyFrames>, frames: &[Range<usize>], heads: usize, speeds: &[f64]) -> Self {
        let with = |scheme| Self { key_frames: key_frames.clone(), frames: frames.to_vec(), scheme };
        // The bytes of all schemes are in the same proportion for all sizes, but for those of log-sums.
        let sizes = ExchangeSizes { heads, head: 96, frame_tokens: 1, element_bytes: 2 };
        let mut best = with(Scheme::Heads(deal_heads(heads, speeds)));
        let mut fewest = best.busiest(&sizes);
        for shared in Self::candidates(key_frames, frames) {
            let candidate = with(Scheme::Frames(FrameExchange::new(key_frames, frames, shared)));
            let bytes = candidate.busiest(&sizes);
            if bytes == 0 {
                return with(Scheme::Local);
            }
            if bytes < fewest {
                (best, fewest) = (candidate, bytes);
            }
        }
        best
    }

    /// Sets of shared frames: none, and then more and more of those that look at most frames of others.
    fn candidates(key_frames: &KeyFrames, frames: &[Range<usize>]) -> Vec<Vec<bool>> {
        let owner = owners(frames);
        let elsewhere = |query: usize| key_frames.of(query).iter().filter(|&&key| owner[key as usize] != owner[query]).count();
        let mut order: Vec<(usize, usize)> = (0..owner.len()).map(|query| (elsewhere(query), query)).collect();
        order.sort_by(|a, b| b.cmp(a));
        order.retain(|&(count, _)| count > 0);
        let mut shared = vec![false; owner.len()];
        let mut candidates = vec![shared.clone()];
        for (place, &(count, query)) in order.iter().enumerate() {
            shared[query] = true;
            // Frames that look at equally many are alike.
            if order.get(place + 1).is_none_or(|&(next, _)| next != count) {
                candidates.push(shared.clone());
            }
        }
        candidates
    }

    /// All members' bytes.
    pub fn traffic(&self, sizes: &ExchangeSizes) -> Traffic {
        (0..self.frames.len()).map(|member| self.traffic_from(member, sizes)).fold(Traffic::default(), Add::add)
    }

    /// Bytes of the member that has most to read and to write.
    pub fn busiest(&self, sizes: &ExchangeSizes) -> u64 {
        let of = |member: usize| self.traffic_from(member, sizes).read + self.bytes_into(member, sizes);
        (0..self.frames.len()).map(of).max().unwrap_or_default()
    }

    /// What leaves a member.
    pub fn traffic_from(&self, from: usize, sizes: &ExchangeSizes) -> Traffic {
        let mut traffic = Traffic::default();
        let mut add = |bytes: u64, receivers: usize| {
            traffic.sent += bytes * receivers as u64;
            traffic.read += if receivers == 0 { 0 } else { bytes };
        };
        match &self.scheme {
            Scheme::Local => {}
            Scheme::Frames(exchange) => {
                for Sending { to, keys, queries } in exchange.sendings(from) {
                    add((2 * keys.len() + queries.len()) as u64 * sizes.frame_bytes(), to.len());
                }
                for owner in 0..self.frames.len() {
                    let parts = exchange.queries(owner, from).len() as u64;
                    add(parts * (sizes.frame_bytes() + sizes.log_sum_bytes()), 1);
                }
            }
            Scheme::Heads(heads) => {
                for to in (0..self.frames.len()).filter(|&to| to != from) {
                    let of = |heads: &Range<usize>, frames: &Range<usize>| {
                        sizes.frame_bytes() / sizes.heads as u64 * (heads.len() * frames.len()) as u64
                    };
                    add(3 * of(&heads[to], &self.frames[from]), 1);
                    add(of(&heads[from], &self.frames[to]), 1);
                }
            }
        }
        traffic
    }

    /// What comes into a member.
    pub fn bytes_into(&self, to: usize, sizes: &ExchangeSizes) -> u64 {
        match &self.scheme {
            Scheme::Local => 0,
            Scheme::Frames(exchange) => (0..self.frames.len())
                .map(|from| {
                    let operands = (2 * exchange.keys(from, to).len() + exchange.queries(from, to).len()) as u64;
                    let parts = exchange.queries(to, from).len() as u64;
                    (operands + parts) * sizes.frame_bytes() + parts * sizes.log_sum_bytes()
                })
                .sum(),
            Scheme::Heads(heads) => {
                let of = |heads: &Range<usize>, frames: &Range<usize>| {
                    sizes.frame_bytes() / sizes.heads as u64 * (heads.len() * frames.len()) as u64
                };
                let others = (0..self.frames.len()).filter(|&from| from != to);
                others.map(|from| 3 * of(&heads[to], &self.frames[from]) + of(&heads[from], &self.frames[to])).sum()
            }
        }
    }

    /// The frames of a member that others wait for, so that they should come first.
    pub fn lead(&self, member: usize) -> Vec<usize> {
        match &self.scheme {
            Scheme::Local => Vec::new(),
            Scheme::Heads(_) => self.frames[member].clone().collect(),
            Scheme::Frames(exchange) => {
                let sendings = exchange.sendings(member);
                let wanted = sendings.iter().flat_map(|sending| sending.keys.iter().chain(&sending.queries).copied());
                wanted.collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    /// Tiles of attention that a member computes, a tile of all heads being 1.
    pub fn tiles(&self, member: usize) -> f64 {
        let own = &self.frames[member];
        let all = |queries: Range<usize>| queries.map(|query| self.key_frames.of(query).len()).sum::<usize>() as f64;
        match &self.scheme {
            Scheme::Local => all(own.clone()),
            Scheme::Heads(heads) => {
                let share = heads[member].len() as f64 / heads.iter().map(Range::len).sum::<usize>() as f64;
                share * all(0..self.key_frames.query_frames())
            }
            Scheme::Frames(exchange) => {
                let of = |query: usize| {
                    let keys = self.key_frames.of(query).iter().map(|&key| key as usize);
                    match exchange.shared[query] {
                        true => keys.filter(|key| own.contains(key)).count(),
                        false if own.contains(&query) => keys.count(),
                        false => 0,
                    }
                };
                (0..self.key_frames.query_frames()).map(of).sum::<usize>() as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{FrameMask, MaskFamily, Mode, Neighbours, Placement};
    use crate::parallel::shares::deal;

    const PUBLISHED: ExchangeSizes = ExchangeSizes { heads: 24, head: 96, frame_tokens: 3600, element_bytes: 2 };

    fn exchange(mask: &FrameMask, ranks: usize) -> LayerExchange {
        let speeds = vec![1.0; ranks];
        let frames = deal(mask.frames(), &speeds);
        LayerExchange::choose(&Arc::new(mask.key_frames()), &frames, 24, &speeds)
    }

    fn all_to_all(frames: usize, ranks: usize) -> LayerExchange {
        let speeds = vec![1.0; ranks];
        let key_frames = Arc::new(KeyFrames::dense(frames));
        LayerExchange { key_frames, frames: deal(frames, &speeds), scheme: Scheme::Heads(deal_heads(24, &speeds)) }
    }

    /// Whatever the scheme, every kept tile is computed once.
    #[test]
    fn members_compute_the_tiles_of_the_mask() {
        for ranks in 1..=5 {
            for frames in [1, 5, 8, 24] {
                let references = (0..=4.min(frames)).flat_map(|references| {
                    [Mode::Symmetric, Mode::KvOnly].map(|mode| {
                        let family = MaskFamily { placement: Placement::First(references), mode };
                        (format!("{family:?}"), family.frame_mask(frames).unwrap())
                    })
                });
                let neighbours = (0..=4).map(|distance| {
                    let neighbours = Neighbours { distance };
                    (neighbours.name(), neighbours.frame_mask(frames).unwrap())
                });
                for (name, mask) in references.chain(neighbours) {
                    let exchange = exchange(&mask, ranks);
                    let tiles: f64 = (0..exchange.frames.len()).map(|member| exchange.tiles(member)).sum();
                    assert!((tiles - mask.kept_tiles() as f64).abs() < 1e-9, "{frames} frames, {name}, {ranks} ranks");
                    let into: u64 = (0..exchange.frames.len()).map(|member| exchange.bytes_into(member, &PUBLISHED)).sum();
                    assert_eq!(into, exchange.traffic(&PUBLISHED).sent);
                }
            }
        }
    }

    #[test]
    fn the_mask_decides() {
        let full = FrameMask::full(8).unwrap();
        assert!(matches!(exchange(&full, 4).scheme, Scheme::Heads(_)));
        assert_eq!(exchange(&full, 1).scheme, Scheme::Local);
        // Each frame alone.
        let alone = MaskFamily::paper(0).frame_mask(8).unwrap();
        assert_eq!(exchange(&alone, 4).scheme, Scheme::Local);
        // The reference frames' queries are shared, and nothing but their keys is sent.
        let paper = MaskFamily::paper(3).frame_mask(24).unwrap();
        let Scheme::Frames(frames) = exchange(&paper, 4).scheme else { panic!("frames") };
        assert_eq!((0..24).filter(|&frame| frames.shared[frame]).collect::<Vec<_>>(), [0, 8, 16]);
        assert_eq!((frames.keys(0, 3), frames.queries(1, 0), frames.keys(3, 0)), (&[0][..], &[8][..], &[][..]));
        assert_eq!(exchange(&paper, 4).lead(1), [8]);
        // Where the reference frames look at nobody else, nothing is shared.
        let kv_only = MaskFamily { placement: Placement::First(1), mode: Mode::KvOnly }.frame_mask(8).unwrap();
        let Scheme::Frames(frames) = exchange(&kv_only, 2).scheme else { panic!("frames") };
        assert!(!frames.shared.contains(&true));
        assert_eq!(frames.sendings(0), [Sending { to: vec![1], keys: vec![0], queries: vec![] }]);
    }

    /// Neighbours that look at each other need only the frames at the borders, as many as their distance, with nothing shared.
    #[test]
    fn any_mask_gets_exactly_the_frames_that_it_needs() {
        for (distance, before, behind) in [(1, vec![3], vec![4]), (2, vec![2, 3], vec![4, 5])] {
            let exchange = exchange(&Neighbours { distance }.frame_mask(8).unwrap(), 2);
            let Scheme::Frames(frames) = &exchange.scheme else { panic!("frames") };
            assert_eq!((frames.keys(0, 1), frames.keys(1, 0)), (&before[..], &behind[..]));
            assert!(!frames.shared.contains(&true));
            // Key and value of each, in both directions.
            assert_eq!(exchange.traffic(&PUBLISHED).sent, 4 * distance as u64 * PUBLISHED.frame_bytes());
        }
        // In the middle of a group a rank hears from both sides, and ranks that are not beside each other tell each other nothing.
        let exchange = exchange(&Neighbours { distance: 2 }.frame_mask(24).unwrap(), 4);
        let Scheme::Frames(frames) = &exchange.scheme else { panic!("frames") };
        assert_eq!((frames.keys(0, 1), frames.keys(2, 1)), (&[4, 5][..], &[12, 13][..]));
        assert!(frames.keys(0, 2).is_empty() && frames.keys(3, 0).is_empty());
        assert_eq!(exchange.traffic(&PUBLISHED).sent, 3 * 8 * PUBLISHED.frame_bytes());
    }

    #[test]
    fn one_reference_frame_moves_a_third_of_an_all_to_all() {
        let mask = MaskFamily::paper(1).frame_mask(8).unwrap();
        for ranks in [2, 4, 8] {
            let (own, all) = (exchange(&mask, ranks).traffic(&PUBLISHED), all_to_all(8, ranks).traffic(&PUBLISHED));
            let share = |own: u64, all: u64| own as f64 / all as f64;
            println!(
                "1:7 on {ranks} ranks: {:.1} MB read, {:.1} MB written; all-to-all {:.1} MB; {:.3} and {:.3} of it",
                own.read as f64 / 1e6,
                own.sent as f64 / 1e6,
                all.sent as f64 / 1e6,
                share(own.read, all.read),
                share(own.sent, all.sent)
            );
            // What is read from devices leaves each of them once; what is written into them comes to each of several.
            assert!(ranks == 8 || share(own.read, all.read) <= 0.35, "{ranks} ranks");
            assert!(ranks != 2 || share(own.sent, all.sent) <= 0.35);
            assert!(exchange(&mask, ranks).busiest(&PUBLISHED) <= all_to_all(8, ranks).busiest(&PUBLISHED));
        }
    }
}
