// SPDX-License-Identifier: Apache-2.0
//! HMAC-SHA1 (RFC 2104, FIPS 180-4) of sixteen messages of as many blocks, one in each lane of AVX-512.

use core::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm512_add_epi32, _mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_rol_epi32,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_storeu_si512,
    _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

/// Messages that are hashed together.
pub(crate) const LANES: usize = 16;
const BLOCK: usize = 64;
/// FIPS 180-4 §5.3.1.
const START: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// A chaining value.
pub(crate) type State = [u32; 5];
type Lanes = [__m512i; 5];

/// The chaining value behind a first block: what a key's padded block leaves.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn after(block: &[u8; BLOCK]) -> State {
    let mut state = gather(&[&START; LANES]);
    // SAFETY: one block can be read at each place because the block is one.
    unsafe { blocks(&mut state, &[block.as_ptr(); LANES], 1) };
    let mut first = [0; 5];
    for (to, from) in first.iter_mut().zip(scatter(&state)) {
        *to = from[0];
    }
    first
}

/// Blocks of a message of `len` bytes with its suffix, the bit behind it and the length.
pub(super) const fn message_blocks(len: usize) -> usize {
    (len + 4 + 9).div_ceil(BLOCK)
}

/// Tags of the messages, places and lengths, each followed by the lane's suffix. `keys` are inner and outer values.
///
/// # Safety
/// Each message can be read, and [`message_blocks`] of each is `count`.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn hmac(
    keys: &[(&State, &State); LANES],
    messages: &[(*const u8, usize); LANES],
    count: usize,
    suffixes: &[[u8; 4]; LANES],
) -> [[u8; 20]; LANES] {
    let mut state = gather(&keys.map(|(inner, _)| inner));
    // All that differs between messages of one count lies in their last two blocks, and in the last one where all reach it.
    let is_in_last = messages.iter().all(|(_, len)| *len >= (count - 1) * BLOCK);
    let tail_blocks = if is_in_last { 1 } else { 2 };
    let whole = count - tail_blocks;
    // SAFETY: the blocks can be read because a message lacks at most 4 + 9 bytes of the last of `count`, so that those before
    // the last two are whole, and the one before the last is where all messages reach the last.
    unsafe { blocks(&mut state, &messages.map(|(place, _)| place), whole) };
    let mut tails = [[0_u8; 2 * BLOCK]; LANES];
    for ((tail, (message, len)), suffix) in tails.iter_mut().zip(messages).zip(suffixes) {
        let left = len - whole * BLOCK;
        // SAFETY: the bytes can be read because they are the message's last, and the tail is longer than they are because
        // they are at most 4 + 9 bytes short of it.
        unsafe { core::ptr::copy_nonoverlapping(message.wrapping_add(whole * BLOCK), tail.as_mut_ptr(), left) };
        tail[left..left + 4].copy_from_slice(suffix);
        tail[left + 4] = 0x80;
        let bits = ((BLOCK + len + 4) * 8) as u64;
        tail[tail_blocks * BLOCK - 8..tail_blocks * BLOCK].copy_from_slice(&bits.to_be_bytes());
    }
    let places = core::array::from_fn(|lane| tails[lane].as_ptr());
    // SAFETY: a tail has two blocks, and `tail_blocks` is at most that.
    unsafe { blocks(&mut state, &places, tail_blocks) };
    outer(keys, &state)
}

/// The outer hash over the inner ones.
#[target_feature(enable = "avx512f,avx512bw")]
fn outer(keys: &[(&State, &State); LANES], inner: &Lanes) -> [[u8; 20]; LANES] {
    let mut state = gather(&keys.map(|(_, outer)| outer));
    let mut words = [_mm512_setzero_si512(); 16];
    words[..5].copy_from_slice(inner);
    words[5] = _mm512_set1_epi32(i32::MIN);
    words[15] = _mm512_set1_epi32((64 + 20) * 8);
    compress(&mut state, words);
    let words = scatter(&state);
    core::array::from_fn(|lane| {
        let mut tag = [0; 20];
        for (bytes, word) in tag.as_chunks_mut::<4>().0.iter_mut().zip(&words) {
            *bytes = word[lane].to_be_bytes();
        }
        tag
    })
}

#[target_feature(enable = "avx512f")]
fn gather(states: &[&State; LANES]) -> Lanes {
    let mut lanes = [_mm512_setzero_si512(); 5];
    for (at, lane) in lanes.iter_mut().enumerate() {
        let words: [u32; LANES] = core::array::from_fn(|which| states[which][at]);
        // SAFETY: the array has the size of the vector.
        *lane = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
    }
    lanes
}

#[target_feature(enable = "avx512f")]
fn scatter(lanes: &Lanes) -> [[u32; LANES]; 5] {
    let mut words = [[0; LANES]; 5];
    for (to, from) in words.iter_mut().zip(lanes) {
        // SAFETY: the array has the size of the vector.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *from) };
    }
    words
}

/// # Safety
/// `count` blocks can be read at each place.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn blocks(state: &mut Lanes, places: &[*const u8; LANES], count: usize) {
    let swapped = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    for block in 0..count {
        let mut words = [_mm512_setzero_si512(); 16];
        for (word, place) in words.iter_mut().zip(places) {
            // SAFETY: the block can be read by the function's own contract.
            let bytes = unsafe { _mm512_loadu_si512(place.wrapping_add(block * BLOCK).cast()) };
            *word = _mm512_shuffle_epi8(bytes, swapped);
        }
        transpose(&mut words);
        compress(state, words);
    }
}

/// Rows become columns: word i of all messages comes into vector i.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; 16]) {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for at in 0..8 {
        pairs[2 * at] = _mm512_unpacklo_epi32(rows[2 * at], rows[2 * at + 1]);
        pairs[2 * at + 1] = _mm512_unpackhi_epi32(rows[2 * at], rows[2 * at + 1]);
    }
    let mut fours = [_mm512_setzero_si512(); 16];
    for at in (0..16).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    for at in 0..4 {
        let low_even = _mm512_shuffle_i32x4::<0x88>(fours[at], fours[4 + at]);
        let low_odd = _mm512_shuffle_i32x4::<0xdd>(fours[at], fours[4 + at]);
        let high_even = _mm512_shuffle_i32x4::<0x88>(fours[8 + at], fours[12 + at]);
        let high_odd = _mm512_shuffle_i32x4::<0xdd>(fours[8 + at], fours[12 + at]);
        rows[at] = _mm512_shuffle_i32x4::<0x88>(low_even, high_even);
        rows[8 + at] = _mm512_shuffle_i32x4::<0xdd>(low_even, high_even);
        rows[4 + at] = _mm512_shuffle_i32x4::<0x88>(low_odd, high_odd);
        rows[12 + at] = _mm512_shuffle_i32x4::<0xdd>(low_odd, high_odd);
    }
}

/// FIPS 180-4 §6.1.2, sixteen times.
#[inline]
#[target_feature(enable = "avx512f")]
fn compress(state: &mut Lanes, mut words: [__m512i; 16]) {
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    macro_rules! rounds {
        ($first:literal, $choice:literal, $constant:expr) => {
            for at in $first..$first + 20 {
                if at >= 16 {
                    let mixed = _mm512_ternarylogic_epi32::<0x96>(
                        words[(at + 13) % 16],
                        words[(at + 8) % 16],
                        words[(at + 2) % 16],
                    );
                    words[at % 16] = _mm512_rol_epi32::<1>(_mm512_xor_si512(mixed, words[at % 16]));
                }
                let keyed = _mm512_add_epi32(words[at % 16], _mm512_set1_epi32($constant));
                let chosen = _mm512_ternarylogic_epi32::<$choice>(b, c, d);
                let next =
                    _mm512_add_epi32(_mm512_add_epi32(_mm512_rol_epi32::<5>(a), chosen), _mm512_add_epi32(e, keyed));
                (e, d, c, b, a) = (d, c, _mm512_rol_epi32::<30>(b), a, next);
            }
        };
    }
    rounds!(0, 0xca, 0x5a82_7999_u32.cast_signed());
    rounds!(20, 0x96, 0x6ed9_eba1_u32.cast_signed());
    rounds!(40, 0xe8, 0x8f1b_bcdc_u32.cast_signed());
    rounds!(60, 0x96, 0xca62_c1d6_u32.cast_signed());
    for (value, added) in state.iter_mut().zip([a, b, c, d, e]) {
        *value = _mm512_add_epi32(*value, added);
    }
}
