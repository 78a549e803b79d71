// SPDX-License-Identifier: Apache-2.0
//! Builds transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
//!
//! Two passes over the arrivals: the first packs status chunks and finds out how much fits, the second writes the deltas.
//! Must never emit a delta that was rounded or cut: an arrival that does not fit begins the caller's next packet.

use crate::emit::{EmitError, Emitter};
use crate::rtcp::writer::CompoundWriter;
use crate::rtcp::{FMT_TWCC, PT_RTPFB};

const MAX_RUN: u16 = 0x1FFF;
const LOST: u8 = 0;
const SMALL: u8 = 1;
const LARGE: u8 = 2;
const ONE_BIT_SYMBOLS: usize = 14;
const TWO_BIT_SYMBOLS: usize = 7;

/// The fixed fields of one feedback packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwccFeedback {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// Any stream of the transport.
    pub media_ssrc: u32,
    /// Transport-wide number of the first status.
    pub base_seq: u16,
    /// Reference time in units of 64 ms (256 ticks of 250 µs); the low 24 bits are sent.
    pub reference_time: i32,
    /// Number of this feedback packet, modulo 256.
    pub feedback_count: u8,
}

/// How far a feedback packet went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwccWritten {
    /// Entries of the slice that are covered; the caller continues with the rest.
    pub consumed: usize,
    /// Statuses in the packet, gaps included; `base_seq + status_count` is the next number.
    pub status_count: u16,
}

impl CompoundWriter<'_> {
    /// Appends one transport-wide feedback packet.
    ///
    /// `arrivals` holds (offset from `base_seq`, arrival) with strictly ascending offsets; offsets left out were not
    /// received, nor were those with `None`. An arrival is in ticks of 250 µs after `reference_time`. The packet ends in
    /// front of the first entry that does not fit: no room, a delta beyond 16 bits, or offset 65 535. Without arrivals
    /// nothing is written.
    ///
    /// # Errors
    /// [`EmitError::InvalidValue`] when the very first entry's delta does not fit (choose another reference time) or the
    /// offsets do not ascend; [`EmitError::NoSpace`] when not even the first entry fits.
    pub fn twcc(&mut self, feedback: &TwccFeedback, arrivals: &[(u16, Option<i32>)]) -> Result<TwccWritten, EmitError> {
        if arrivals.is_empty() {
            return Ok(TwccWritten::default());
        }
        let mut written = TwccWritten::default();
        self.packet(PT_RTPFB, FMT_TWCC, |emitter| {
            written = emit_body(emitter, feedback, arrivals)?;
            Ok(())
        })?;
        Ok(written)
    }
}

fn emit_body(
    emitter: &mut Emitter<'_>,
    feedback: &TwccFeedback,
    arrivals: &[(u16, Option<i32>)],
) -> Result<TwccWritten, EmitError> {
    emitter.be32(feedback.sender_ssrc)?;
    emitter.be32(feedback.media_ssrc)?;
    emitter.be16(feedback.base_seq)?;
    let count_at = emitter.position();
    emitter.be16(0)?;
    let [_, r0, r1, r2] = feedback.reference_time.to_be_bytes();
    emitter.put(&[r0, r1, r2, feedback.feedback_count])?;
    let start = emitter.position();
    let mut packer = Packer::default();
    // Room for chunks and deltas; whole words, because the packet is padded.
    let mut room = emitter.room();
    room = room.saturating_sub(room.saturating_add(start) % 4);
    let mut written = TwccWritten::default();
    let mut stop = EmitError::NoSpace;
    for &(offset, arrival) in arrivals {
        let mut next = packer;
        match next.add(emitter, offset, arrival) {
            Ok(()) if next.bytes() <= room => {}
            Ok(()) | Err(EmitError::NoSpace) => break,
            Err(error) => {
                stop = error;
                break;
            }
        }
        packer = next;
        written.consumed = written.consumed.saturating_add(1);
        written.status_count = packer.next_offset;
    }
    if written.consumed == 0 {
        return Err(stop);
    }
    // A chunk emitted by an entry that was taken back is overwritten: the position follows the packer.
    emitter.rewind(start.saturating_add(packer.chunk_bytes));
    emitter.be16(packer.pending.last_chunk())?;
    emit_deltas(emitter, arrivals.get(..written.consumed).unwrap_or_default())?;
    emitter.patch(count_at, &written.status_count.to_be_bytes())?;
    Ok(written)
}

fn emit_deltas(emitter: &mut Emitter<'_>, arrivals: &[(u16, Option<i32>)]) -> Result<(), EmitError> {
    let mut previous = 0;
    for ticks in arrivals.iter().filter_map(|(_, arrival)| *arrival) {
        let delta = ticks.saturating_sub(previous);
        previous = ticks;
        match u8::try_from(delta) {
            Ok(small) => emitter.u8(small)?,
            Err(_) => {
                let large = i16::try_from(delta).map_err(|_| EmitError::InvalidValue)?;
                emitter.put(&large.to_be_bytes())?;
            }
        }
    }
    Ok(())
}

/// State of the first pass; copied before each entry so that one that does not fit can be taken back.
#[derive(Clone, Copy, Debug, Default)]
struct Packer {
    pending: Pending,
    /// Bytes of chunks already emitted.
    chunk_bytes: usize,
    /// Bytes the deltas will take.
    delta_bytes: usize,
    /// Offset behind the last status.
    next_offset: u16,
    /// Last arrival in ticks.
    previous: i32,
}

impl Packer {
    /// Bytes when the packet ends here.
    fn bytes(&self) -> usize {
        self.chunk_bytes.saturating_add(2).saturating_add(self.delta_bytes)
    }

    fn add(&mut self, emitter: &mut Emitter<'_>, offset: u16, arrival: Option<i32>) -> Result<(), EmitError> {
        if offset < self.next_offset {
            return Err(EmitError::InvalidValue);
        }
        let following = offset.checked_add(1).ok_or(EmitError::NoSpace)?;
        let symbol = match arrival {
            None => LOST,
            Some(ticks) => {
                let delta = ticks.checked_sub(self.previous).ok_or(EmitError::InvalidValue)?;
                self.previous = ticks;
                let (symbol, len) = if u8::try_from(delta).is_ok() { (SMALL, 1) } else { (LARGE, 2) };
                i16::try_from(delta).map_err(|_| EmitError::InvalidValue)?;
                self.delta_bytes = self.delta_bytes.saturating_add(len);
                symbol
            }
        };
        for _ in self.next_offset..offset {
            self.push(emitter, LOST)?;
        }
        self.push(emitter, symbol)?;
        self.next_offset = following;
        Ok(())
    }

    fn push(&mut self, emitter: &mut Emitter<'_>, symbol: u8) -> Result<(), EmitError> {
        if !self.pending.accepts(symbol) {
            emitter.be16(self.pending.take_chunk())?;
            self.chunk_bytes = self.chunk_bytes.saturating_add(2);
        }
        self.pending.push(symbol);
        Ok(())
    }
}

/// Symbols that one chunk can still hold: a run of equal ones, up to 14 without a large one, up to 7 of any.
#[derive(Clone, Copy, Debug)]
struct Pending {
    symbols: [u8; ONE_BIT_SYMBOLS],
    len: u16,
    is_uniform: bool,
    has_large: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Self { symbols: [LOST; ONE_BIT_SYMBOLS], len: 0, is_uniform: true, has_large: false }
    }
}

impl Pending {
    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn first(&self) -> u8 {
        let [first, ..] = self.symbols;
        first
    }

    /// Whether one chunk can hold the pending symbols and this one.
    fn accepts(&self, symbol: u8) -> bool {
        let continues_run = self.is_uniform && (self.len == 0 || symbol == self.first());
        (continues_run && self.len < MAX_RUN)
            || self.len() < TWO_BIT_SYMBOLS
            || (self.len() < ONE_BIT_SYMBOLS && !self.has_large && symbol != LARGE)
    }

    fn push(&mut self, symbol: u8) {
        let at = self.len();
        if let Some(slot) = self.symbols.get_mut(at) {
            *slot = symbol;
        }
        self.is_uniform &= symbol == self.first();
        self.has_large |= symbol == LARGE;
        self.len = self.len.saturating_add(1);
    }

    /// The densest chunk of what is pending, which goes; up to six symbols may stay behind a two-bit vector.
    fn take_chunk(&mut self) -> u16 {
        let whole = self.is_uniform || self.len() == ONE_BIT_SYMBOLS || self.len() <= TWO_BIT_SYMBOLS;
        if whole {
            let chunk = self.last_chunk();
            *self = Self::default();
            return chunk;
        }
        let chunk = self.two_bit_chunk();
        let pending = *self;
        *self = Self::default();
        for symbol in pending.symbols.iter().take(pending.len()).skip(TWO_BIT_SYMBOLS) {
            self.push(*symbol);
        }
        chunk
    }

    /// One chunk that holds everything pending, filled up with "not received".
    fn last_chunk(&self) -> u16 {
        if self.is_uniform {
            (u16::from(self.first()) << 13) | self.len
        } else if self.len() <= TWO_BIT_SYMBOLS {
            self.two_bit_chunk()
        } else {
            self.symbols.iter().fold(0x8000 >> 14, |bits, symbol| (bits << 1) | u16::from(symbol & 1))
        }
    }

    fn two_bit_chunk(&self) -> u16 {
        self.symbols.iter().take(TWO_BIT_SYMBOLS).fold(0b11, |bits, symbol| (bits << 2) | u16::from(symbol & 3))
    }
}
