// SPDX-License-Identifier: Apache-2.0
//! The way home of frames that come out at another worker: one ring for each two workers that share a queue, one producer
//! and one consumer, in the process's own memory.
//!
//! It has room for every frame of its consumer, so that it is never full. It must never be the only one who knows of a
//! frame: the frame table says whose it is while it lies here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A position on cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Position(AtomicU32);

#[derive(Debug)]
struct Shared {
    slots: Box<[AtomicU32]>,
    produced: Position,
    consumed: Position,
}

impl Shared {
    fn slot(&self, position: u32) -> Option<&AtomicU32> {
        // The number of slots is a power of two.
        self.slots.get(position as usize & (self.slots.len() - 1))
    }
}

/// The end that frames are put into.
#[derive(Debug)]
pub(super) struct Outbox(Arc<Shared>);

/// The end that they come out of.
#[derive(Debug)]
pub(super) struct Inbox(Arc<Shared>);

/// A ring for at least `frames` frames.
pub(super) fn channel(frames: u32) -> (Outbox, Inbox) {
    let slots = (0..frames.next_power_of_two()).map(|_| AtomicU32::new(0)).collect();
    let shared = Arc::new(Shared { slots, produced: Position::default(), consumed: Position::default() });
    (Outbox(Arc::clone(&shared)), Inbox(shared))
}

impl Outbox {
    /// Sends a frame home; false where there is no room, which means that a frame was sent twice.
    pub(super) fn push(&mut self, frame: u32) -> bool {
        let produced = self.0.produced.0.load(Ordering::Relaxed);
        if self.len() >= self.0.slots.len() {
            return false;
        }
        let Some(slot) = self.0.slot(produced) else { return false };
        slot.store(frame, Ordering::Relaxed);
        // Pairs with the Acquire in `pop`; without it the consumer may read the slot's former frame.
        self.0.produced.0.store(produced.wrapping_add(1), Ordering::Release);
        true
    }

    /// Frames on their way.
    pub(super) fn len(&self) -> usize {
        // Pairs with the Release in `pop`; without it a slot may be written before it was read.
        let consumed = self.0.consumed.0.load(Ordering::Acquire);
        self.0.produced.0.load(Ordering::Relaxed).wrapping_sub(consumed) as usize
    }
}

impl Inbox {
    /// Takes a frame.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let consumed = self.0.consumed.0.load(Ordering::Relaxed);
        if self.0.produced.0.load(Ordering::Acquire) == consumed {
            return None;
        }
        let frame = self.0.slot(consumed)?.load(Ordering::Relaxed);
        self.0.consumed.0.store(consumed.wrapping_add(1), Ordering::Release);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_their_order_and_none_twice() {
        const FRAMES: u32 = 100_000;
        let (mut outbox, mut inbox) = channel(60);
        let producer = std::thread::spawn(move || {
            for frame in 0..FRAMES {
                while !outbox.push(frame) {
                    std::thread::yield_now();
                }
            }
        });
        for frame in 0..FRAMES {
            let found = loop {
                match inbox.pop() {
                    Some(found) => break found,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(found, frame);
        }
        producer.join().unwrap();
        assert_eq!(inbox.pop(), None);
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let (mut outbox, mut inbox) = channel(4);
        assert!((0..4).all(|frame| outbox.push(frame)));
        assert!(!outbox.push(4));
        assert_eq!((outbox.len(), inbox.pop(), outbox.len()), (4, Some(0), 3));
        assert!(outbox.push(4));
        assert_eq!(core::iter::from_fn(|| inbox.pop()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
