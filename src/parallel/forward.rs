//! A member's part of a call of the transformer.
//!
//! The order of the work hides the way of the bytes: frames that others wait for come first. Of a layer, a member queues what is
//! left of the layer before for those frames, then their operands, and begins to read these; the other frames keep the device busy
//! meanwhile. Then it answers queries of others over its own keys, begins to read the answers, and computes the attention of its
//! other frames while they travel.
//!
//! What holds everybody up is the round from a shared query to its merged answer: the next layer of that frame, which again comes
//! first, begins with it. So queries travel alone and before keys and values, which are needed only by what comes after the answers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};

use super::exchange::{FrameExchange, LayerExchange, Scheme, Sending};
use super::group::{Group, RankError, Reading};
use super::merge::merge;
use super::pieces::{Pieces, join};
use super::transport::{Kind, Tag};
use crate::gpu::kernels::tile_attention::Tiles;
use crate::gpu::spans;
use crate::mask::KeyFrames;
use crate::model::dit::rope::RotaryTables;
use crate::model::dit::{Block, Call, TextContext, Transformer, attend, attend_with_row_log_sums};

/// The heads of a rank are exchanged in so many groups, so that one travels while another is computed.
const HEAD_GROUPS: usize = 3;

/// Axes of tokens: of the residual stream, of attention, of its log-sums.
const STREAM_AXIS: usize = 1;
const ATTENTION_AXIS: usize = 2;

/// A member's part of a call.
pub(super) struct Part<'a> {
    pub transformer: &'a Transformer,
    pub group: &'a Group<'a>,
    /// One a layer.
    pub layers: &'a [Arc<LayerExchange>],
    pub stop: &'a dyn Fn() -> bool,
}

/// Query, key and value of this member's frames.
struct Operands {
    query: Pieces<4>,
    key: Pieces<4>,
    value: Pieces<4>,
}

/// What is known between two layers.
struct Between {
    tokens: Pieces<3>,
    /// The block that is not finished, and its attention.
    unfinished: Option<(Block, Pieces<4>)>,
}

impl Between {
    /// The tokens of these frames behind the block.
    fn tokens_of(&self, frames: &[usize], call: &Call) -> Tensor<3> {
        let tokens = self.tokens.select(frames);
        match &self.unfinished {
            None => tokens,
            Some((block, attention)) => block.finish(tokens, attention.select(frames), call),
        }
    }
}

impl Part<'_> {
    /// The predicted noise of the frames `own` of one row, whose latents `[1, channels, frames, height, width]` are given.
    ///
    /// # Errors
    /// The device or another member failed, or it was stopped.
    pub fn predict(
        &self,
        own: Range<usize>,
        latents: Tensor<5>,
        timestep: f32,
        text: &TextContext,
    ) -> Result<Tensor<5>, RankError> {
        let call = self.transformer.begin_frames(own.start, latents, &[timestep], text);
        let frames: Vec<usize> = own.collect();
        let frame_tokens = call.frame_tokens();
        let first = Pieces::new(STREAM_AXIS, frame_tokens).with(&frames, call.tokens.clone());
        let mut between = Between { tokens: first, unfinished: None };
        let mut rotary = HashMap::new();
        let mut failed = None;
        self.transformer.each_block(|index, block| {
            let done = spans::layer(
                || format!("layer {}", index + 1),
                || self.layer(index, block, &mut between, &frames, &call, &mut rotary),
            );
            failed = done.err();
            failed.is_none()
        })?;
        match failed {
            Some(error) => Err(error),
            None => {
                let tokens = between.tokens_of(&frames, &call);
                Ok(self.transformer.end(tokens, call))
            }
        }
    }

    fn tag(&self, layer: usize, kind: Kind) -> Tag {
        Tag { row: self.group.row, layer: layer as u32, kind }
    }

    fn layer(
        &self,
        index: usize,
        block: &Block,
        between: &mut Between,
        frames: &[usize],
        call: &Call,
        rotary: &mut HashMap<Vec<usize>, RotaryTables>,
    ) -> Result<(), RankError> {
        if (self.stop)() {
            return Err(RankError::Stopped);
        }
        let exchange = &self.layers[index];
        let frame_tokens = call.frame_tokens();
        let lead = exchange.lead(self.group.place);
        let rest: Vec<usize> = frames.iter().copied().filter(|frame| !lead.contains(frame)).collect();
        let empty = || Pieces::new(ATTENTION_AXIS, frame_tokens);
        let mut operands = Operands { query: empty(), key: empty(), value: empty() };
        let mut tokens = Pieces::new(STREAM_AXIS, frame_tokens);
        let mut add = |part: &[usize], operands: &mut Operands| {
            if part.is_empty() {
                return;
            }
            let values = between.tokens_of(part, call);
            let rows =
                rotary.entry(part.to_vec()).or_insert_with(|| call.rotary_rows(&token_ranges(part, frames[0], frame_tokens)));
            let [query, key, value] = block.operands(&values, call, rows);
            tokens.add(part, values);
            operands.query.add(part, query);
            operands.key.add(part, key);
            operands.value.add(part, value);
        };
        add(&lead, &mut operands);
        let attention = match &exchange.scheme {
            Scheme::Local => {
                add(&rest, &mut operands);
                Self::attend_own(exchange, &operands, frames, frame_tokens)
            }
            Scheme::Frames(frame_exchange) => {
                let sendings = frame_exchange.sendings(self.group.place);
                let of_queries: Vec<&Sending> = sendings.iter().filter(|sending| !sending.queries.is_empty()).collect();
                let of_keys: Vec<&Sending> = sendings.iter().filter(|sending| !sending.keys.is_empty()).collect();
                let queries = (!of_queries.is_empty())
                    .then(|| self.group.start_reading(of_queries.iter().map(|sending| operands.query.select(&sending.queries))));
                let keys = (!of_keys.is_empty()).then(|| {
                    self.group.start_reading(of_keys.iter().map(|Sending { keys, .. }| {
                        join(vec![operands.key.select(keys), operands.value.select(keys)], ATTENTION_AXIS)
                    }))
                });
                add(&rest, &mut operands);
                for (kind, of, reading) in [(Kind::Queries, of_queries, queries), (Kind::Keys, of_keys, keys)] {
                    let Some(reading) = reading else { continue };
                    for (sending, bytes) in of.iter().zip(reading.wait()?) {
                        self.group.send(&sending.to, self.tag(index, kind), vec![bytes])?;
                    }
                }
                self.attend_frames(index, exchange, frame_exchange, operands, frames, frame_tokens)?
            }
            Scheme::Heads(heads) => self.attend_heads(index, exchange, heads, &operands, frames, frame_tokens)?,
        };
        *between = Between { tokens, unfinished: Some((block.clone(), attention)) };
        Ok(())
    }

    /// Attention where nobody looks at other members' frames.
    fn attend_own(exchange: &LayerExchange, operands: &Operands, frames: &[usize], frame_tokens: usize) -> Pieces<4> {
        let tiles = tiles_of(&exchange.key_frames, frames, &operands.key.frames(), frame_tokens);
        let attended = attend(operands.query.select(frames), operands.key.joined(), operands.value.joined(), None, &tiles);
        Pieces::new(ATTENTION_AXIS, frame_tokens).with(frames, attended)
    }

    fn attend_frames(
        &self,
        index: usize,
        exchange: &LayerExchange,
        plan: &FrameExchange,
        mut operands: Operands,
        frames: &[usize],
        frame_tokens: usize,
    ) -> Result<Pieces<4>, RankError> {
        let group = self.group;
        let me = group.place;
        let others: Vec<usize> = (1..group.members()).map(|step| (me + step) % group.members()).collect();
        let [batch, heads, _, head] = operands.key.select(&frames[..1]).dims();
        let stored = operands.key.select(&frames[..1]).dtype();
        let rows = |frames: usize| [batch, heads, frames * frame_tokens, head];

        let tag = self.tag(index, Kind::Queries);
        for &from in &others {
            let queries = plan.queries(from, me);
            if !queries.is_empty() {
                let bytes = only(group.receive(from, tag)?)?;
                operands.query.add(queries, group.upload(bytes, rows(queries.len()), stored)?);
            }
        }

        // Shared queries, this member's and others', over this member's keys.
        let sees_own = |&query: &usize| exchange.key_frames.of(query).iter().any(|&key| frames.contains(&(key as usize)));
        let own_shared: Vec<usize> = frames.iter().copied().filter(|&frame| plan.shared[frame]).collect();
        let own_in_part: Vec<usize> = own_shared.iter().copied().filter(sees_own).collect();
        let answered: Vec<(usize, &[usize])> =
            others.iter().map(|&owner| (owner, plan.queries(owner, me))).filter(|(_, queries)| !queries.is_empty()).collect();
        let all: Vec<usize> = own_in_part.iter().chain(answered.iter().flat_map(|(_, queries)| *queries)).copied().collect();
        let mut outputs = Pieces::new(ATTENTION_AXIS, frame_tokens);
        let mut log_sums = Pieces::new(ATTENTION_AXIS, frame_tokens);
        if !all.is_empty() {
            let tiles = tiles_of(&exchange.key_frames, &all, &operands.key.frames(), frame_tokens);
            let (query, key, value) = (operands.query.select(&all), operands.key.joined(), operands.value.joined());
            let (output, sums) = attend_with_row_log_sums(query, key, value, &tiles);
            outputs.add(&all, output);
            log_sums.add(&all, sums);
        }
        let mut reading = (!answered.is_empty()).then(|| {
            let pairs = answered.iter().map(|(_, queries)| (outputs.select(queries), log_sums.select(queries)));
            group.start_reading_pairs(pairs)
        });
        let tag = self.tag(index, Kind::Parts);
        let send_parts = |reading: Reading| -> Result<(), RankError> {
            let mut bytes = reading.wait()?.into_iter();
            for (owner, _) in &answered {
                group.send(&[*owner], tag, bytes.by_ref().take(2).collect())?;
            }
            Ok(())
        };

        // While those travel.
        for &from in &others {
            let keys = plan.keys(from, me);
            if keys.is_empty() {
                continue;
            }
            let bytes = only(group.receive(from, self.tag(index, Kind::Keys))?)?;
            let got = group.upload(bytes, rows(2 * keys.len()), stored)?;
            let half = |start: usize| got.clone().narrow(ATTENTION_AXIS, start * frame_tokens, keys.len() * frame_tokens);
            operands.key.add(keys, half(0));
            operands.value.add(keys, half(keys.len()));
            if let Some(reading) = reading.take_if(|reading| reading.is_there()) {
                send_parts(reading)?;
            }
        }
        let alone: Vec<usize> = frames.iter().copied().filter(|&frame| !plan.shared[frame]).collect();
        let mut attention = Pieces::new(ATTENTION_AXIS, frame_tokens);
        // In the order in which the queries lie, so that they need not be moved.
        if !alone.is_empty() {
            let order: Vec<usize> = operands.query.frames().into_iter().filter(|frame| alone.contains(frame)).collect();
            let tiles = tiles_of(&exchange.key_frames, &order, &operands.key.frames(), frame_tokens);
            let (key, value) = (operands.key.joined(), operands.value.joined());
            attention.add(&order, attend(operands.query.select(&order), key, value, None, &tiles));
        }

        if let Some(reading) = reading {
            send_parts(reading)?;
        }
        let mut parts: Vec<(Vec<usize>, Pieces<4>, Pieces<3>)> = vec![(own_in_part, outputs, log_sums)];
        for &from in &others {
            let queries = plan.queries(me, from);
            if queries.is_empty() {
                continue;
            }
            let [output, sums] = pair(group.receive(from, tag)?)?;
            let output = group.upload(output, rows(queries.len()), stored)?;
            let sums = group.upload(sums, [batch, heads, queries.len() * frame_tokens], DType::F32)?;
            let outputs = Pieces::new(ATTENTION_AXIS, frame_tokens).with(queries, output);
            let log_sums = Pieces::new(ATTENTION_AXIS, frame_tokens).with(queries, sums);
            parts.push((queries.to_vec(), outputs, log_sums));
        }
        // Frames with parts from the same members are merged at once.
        let mut merged: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        for &frame in &own_shared {
            let from: Vec<usize> = (0..parts.len()).filter(|&part| parts[part].0.contains(&frame)).collect();
            match merged.iter_mut().find(|(_, members)| *members == from) {
                Some((frames, _)) => frames.push(frame),
                None => merged.push((vec![frame], from)),
            }
        }
        for (frames, from) in merged {
            let parts = from.iter().map(|&part| (parts[part].1.select(&frames), parts[part].2.select(&frames)));
            attention.add(&frames, merge(parts.collect()));
        }
        Ok(attention)
    }

    /// All frames with a share of the heads.
    fn attend_heads(
        &self,
        index: usize,
        exchange: &LayerExchange,
        heads: &[Range<usize>],
        operands: &Operands,
        frames: &[usize],
        frame_tokens: usize,
    ) -> Result<Pieces<4>, RankError> {
        let group = self.group;
        let me = group.place;
        let others: Vec<usize> = (1..group.members()).map(|step| (me + step) % group.members()).collect();
        let own = [&operands.query, &operands.key, &operands.value].map(|pieces| pieces.select(frames));
        let [batch, _, own_tokens, head] = own[0].dims();
        let stored = own[0].dtype();
        let tokens_of = |member: usize| exchange.frames[member].len() * frame_tokens;
        let packed = |heads: &Range<usize>| {
            let part = |x: &Tensor<4>| x.clone().narrow(1, heads.start, heads.len());
            Tensor::cat(own.iter().map(part).collect(), 0) // [3 * batch, heads, tokens, head]
        };
        let groups: Vec<Vec<Range<usize>>> = heads.iter().map(head_groups).collect();
        let most = groups.iter().map(Vec::len).max().unwrap_or_default();
        let receivers = |step: usize| others.iter().copied().filter(|&to| step < groups[to].len()).collect::<Vec<_>>();
        let readings: Vec<_> = (0..most)
            .map(|step| {
                let to = receivers(step);
                (!to.is_empty()).then(|| group.start_reading(to.iter().map(|&to| packed(&groups[to][step]))))
            })
            .collect();

        let all = exchange.frames.iter().map(Range::len).sum::<usize>();
        let tiles = Tiles { key_frames: exchange.key_frames.clone(), query_tokens: frame_tokens, key_tokens: frame_tokens };
        let mut kept = Vec::new();
        let mut waiting: Option<(usize, Reading)> = None;
        let send_back = |waiting: &mut Option<(usize, Reading)>| -> Result<(), RankError> {
            if let Some((step, reading)) = waiting.take() {
                for (&to, bytes) in others.iter().zip(reading.wait()?) {
                    group.send(&[to], self.tag(index, Kind::HeadsBack(step as u32)), vec![bytes])?;
                }
            }
            Ok(())
        };
        for (step, reading) in readings.into_iter().enumerate() {
            let tag = self.tag(index, Kind::Heads(step as u32));
            if let Some(reading) = reading {
                for (to, bytes) in receivers(step).into_iter().zip(reading.wait()?) {
                    group.send(&[to], tag, vec![bytes])?;
                }
            }
            let Some(mine) = groups[me].get(step) else { continue };
            let mut shares: Vec<Option<Tensor<4>>> = vec![None; group.members()];
            shares[me] = Some(packed(mine));
            for &from in &others {
                let bytes = only(group.receive(from, tag)?)?;
                shares[from] = Some(group.upload(bytes, [3 * batch, mine.len(), tokens_of(from), head], stored)?);
            }
            let whole = join(shares.into_iter().flatten().collect(), ATTENTION_AXIS); // [3 * batch, heads, all tokens, head]
            debug_assert_eq!(whole.dims(), [3 * batch, mine.len(), all * frame_tokens, head]);
            let [query, key, value] = [0, 1, 2].map(|which| whole.clone().narrow(0, which * batch, batch));
            let attended = attend(query, key, value, None, &tiles);
            let of = |member: usize| {
                attended.clone().narrow(ATTENTION_AXIS, exchange.frames[member].start * frame_tokens, tokens_of(member))
            };
            kept.push(of(me));
            let back = (!others.is_empty()).then(|| (step, group.start_reading(others.iter().map(|&to| of(to)))));
            // Those of the step before have had the time of an attention.
            send_back(&mut waiting)?;
            waiting = back;
        }
        send_back(&mut waiting)?;
        let mut parts = Vec::new();
        for (member, of_member) in groups.iter().enumerate() {
            if member == me {
                parts.append(&mut kept);
                continue;
            }
            for (step, range) in of_member.iter().enumerate() {
                let bytes = only(group.receive(member, self.tag(index, Kind::HeadsBack(step as u32)))?)?;
                parts.push(group.upload(bytes, [batch, range.len(), own_tokens, head], stored)?);
            }
        }
        Ok(Pieces::new(ATTENTION_AXIS, frame_tokens).with(frames, join(parts, 1)))
    }
}

/// A member's heads in groups of nearly the same size.
fn head_groups(heads: &Range<usize>) -> Vec<Range<usize>> {
    let at_once = heads.len().div_ceil(HEAD_GROUPS).max(1);
    heads.clone().step_by(at_once).map(|start| start..(start + at_once).min(heads.end)).collect()
}

/// The rows of these frames among tokens that begin with those of `first`.
fn token_ranges(frames: &[usize], first: usize, frame_tokens: usize) -> Vec<Range<usize>> {
    frames.iter().map(|frame| (frame - first) * frame_tokens..(frame - first + 1) * frame_tokens).collect()
}

/// The kept tiles of some query frames, among the keys that are there, in the order in which they lie.
fn tiles_of(kept: &KeyFrames, queries: &[usize], keys: &[usize], frame_tokens: usize) -> Tiles {
    let place = |key: u32| keys.iter().position(|&other| other == key as usize).map(|place| place as u32);
    let list = |&query: &usize| kept.of(query).iter().filter_map(|&key| place(key)).collect();
    let key_frames = Arc::new(KeyFrames::of_lists(queries.iter().map(list)));
    Tiles { key_frames, query_tokens: frame_tokens, key_tokens: frame_tokens }
}

fn unlike(parts: usize) -> RankError {
    RankError::Device(format!("a message has {parts} parts, which is not what the plan says"))
}

fn only<T>(parts: Vec<T>) -> Result<T, RankError> {
    let count = parts.len();
    let [part] = <[T; 1]>::try_from(parts).map_err(|_| unlike(count))?;
    Ok(part)
}

fn pair<T>(parts: Vec<T>) -> Result<[T; 2], RankError> {
    let count = parts.len();
    <[T; 2]>::try_from(parts).map_err(|_| unlike(count))
}
