//! Tagged byte messages between the ranks of a call.
//!
//! This is all that another way of moving bytes (a network, peer-to-peer copies) has to provide. [`in_process`] connects threads
//! of this program: a message is handed over without being copied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use burn::tensor::Bytes;

/// What a message is about. Between two ranks of a call every tag is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Row of the batch.
    pub row: u32,
    pub layer: u32,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Queries of frames.
    Queries,
    /// Keys and values of frames.
    Keys,
    /// Attention of the receiver's queries over the sender's frames, and its log-sums.
    Parts,
    /// Query, key and value of some heads; the number counts the groups of heads.
    Heads(u32),
    /// The attention of those heads.
    HeadsBack(u32),
    /// The predicted noise.
    Output,
}

/// Bytes in one or more parts. A copy shares them.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<Bytes>);

impl Message {
    pub fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self(parts.into_iter().map(Bytes::shared).collect())
    }

    /// Bytes of all parts.
    pub fn length(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    pub fn into_parts(self) -> Vec<Bytes> {
        self.0
    }
}

/// A message that did not come through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    #[error("the device with the number {rank} of this run ended early")]
    Closed { rank: usize },
    #[error("the device with the number {rank} of this run has said nothing for {:.0} seconds", waited.as_secs_f64())]
    Silent { rank: usize, waited: Duration },
    #[error("nothing can be sent to or received from the device with the number {rank} of this run: {reason}")]
    Broken { rank: usize, reason: String },
}

impl TransportError {
    /// Who is at the other end.
    pub fn rank(&self) -> usize {
        match self {
            Self::Closed { rank } | Self::Silent { rank, .. } | Self::Broken { rank, .. } => *rank,
        }
    }
}

/// One rank's end. Ranks are counted from 0.
pub trait Transport: Send {
    fn rank(&self) -> usize;
    fn ranks(&self) -> usize;

    /// Sends without waiting for the receiver.
    ///
    /// # Errors
    /// The other rank has ended, or cannot be reached.
    fn send(&self, to: usize, tag: Tag, message: Message) -> Result<(), TransportError>;

    /// Waits for the message with this tag; others that come first are kept.
    ///
    /// # Errors
    /// As [`Self::send`]; and nothing came `within` that time.
    fn receive(&self, from: usize, tag: Tag, within: Duration) -> Result<Message, TransportError>;
}

struct InProcess {
    rank: usize,
    /// By rank; none to itself.
    to: Vec<Option<Sender<(Tag, Message)>>>,
    from: Vec<Option<Receiver<(Tag, Message)>>>,
    early: RefCell<HashMap<(usize, Tag), Message>>,
}

/// The ends of so many ranks in this process. An end that is dropped tells all others.
pub fn in_process(ranks: usize) -> Vec<Box<dyn Transport>> {
    let mut ends: Vec<_> = (0..ranks)
        .map(|rank| InProcess {
            rank,
            to: (0..ranks).map(|_| None).collect(),
            from: (0..ranks).map(|_| None).collect(),
            early: RefCell::default(),
        })
        .collect();
    for from in 0..ranks {
        for to in (0..ranks).filter(|&to| to != from) {
            let (send, receive) = channel();
            ends[from].to[to] = Some(send);
            ends[to].from[from] = Some(receive);
        }
    }
    ends.into_iter().map(|end| Box::new(end) as Box<dyn Transport>).collect()
}

impl Transport for InProcess {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn send(&self, to: usize, tag: Tag, message: Message) -> Result<(), TransportError> {
        let closed = TransportError::Closed { rank: to };
        let end = self.to.get(to).and_then(Option::as_ref).ok_or_else(|| closed.clone())?;
        end.send((tag, message)).map_err(|_| closed)
    }

    fn receive(&self, from: usize, tag: Tag, within: Duration) -> Result<Message, TransportError> {
        if let Some(message) = self.early.borrow_mut().remove(&(from, tag)) {
            return Ok(message);
        }
        let end = self.from.get(from).and_then(Option::as_ref).ok_or(TransportError::Closed { rank: from })?;
        loop {
            // Any word is a sign of life.
            match end.recv_timeout(within) {
                Ok((found, message)) if found == tag => return Ok(message),
                Ok((other, message)) => drop(self.early.borrow_mut().insert((from, other), message)),
                Err(RecvTimeoutError::Timeout) => return Err(TransportError::Silent { rank: from, waited: within }),
                Err(RecvTimeoutError::Disconnected) => return Err(TransportError::Closed { rank: from }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(layer: u32) -> Tag {
        Tag { row: 0, layer, kind: Kind::Keys }
    }

    const WITHIN: Duration = Duration::from_secs(10);

    fn message(values: &[u8]) -> Message {
        Message::new([Bytes::from_bytes_vec(values.to_vec())])
    }

    #[test]
    fn messages_wait_for_their_tag() {
        let ends = in_process(3);
        assert!(ends.iter().enumerate().all(|(rank, end)| end.rank() == rank && end.ranks() == 3));
        ends[0].send(1, tag(1), message(&[1, 2])).unwrap();
        ends[0].send(1, tag(0), message(&[3])).unwrap();
        ends[2].send(1, tag(0), message(&[4])).unwrap();
        let received = |from, layer| ends[1].receive(from, tag(layer), WITHIN).unwrap().into_parts()[0].to_vec();
        assert_eq!(received(0, 0), [3]);
        assert_eq!(received(2, 0), [4]);
        assert_eq!(received(0, 1), [1, 2]);
    }

    #[test]
    fn an_end_that_is_dropped_tells_the_others() {
        let mut ends = in_process(2);
        let last = ends.pop().unwrap();
        last.send(0, tag(0), message(&[7])).unwrap();
        drop(last);
        assert!(ends[0].receive(1, tag(0), WITHIN).is_ok(), "what was sent before arrives");
        assert_eq!(ends[0].receive(1, tag(1), WITHIN).unwrap_err(), TransportError::Closed { rank: 1 });
        assert_eq!(ends[0].send(1, tag(1), message(&[])).unwrap_err().rank(), 1);
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_without_end() {
        let ends = in_process(2);
        ends[1].send(0, tag(1), message(&[7])).unwrap();
        let waited = Duration::from_millis(20);
        assert_eq!(ends[0].receive(1, tag(0), waited).unwrap_err(), TransportError::Silent { rank: 1, waited });
        assert!(ends[0].receive(1, tag(1), waited).is_ok(), "what came meanwhile is kept");
    }
}
