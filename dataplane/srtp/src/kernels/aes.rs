// SPDX-License-Identifier: Apache-2.0
//! Key schedules of the kernels: AES round keys (FIPS 197) and powers of the hash key (SP 800-38D). Wiped on drop.

use core::arch::x86_64::{
    __m128i, _mm_add_epi64, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_and_si128,
    _mm_clmulepi64_si128, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_set_epi64x, _mm_set1_epi32, _mm_shuffle_epi8,
    _mm_shuffle_epi32, _mm_srai_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Isa, gcm};

/// Powers of the hash key that are kept: additional data, 18 blocks and that of lengths follow each other without a reduction.
pub(super) const POWERS: usize = 20;
const SALT_LEN: usize = 14;
const ROUND_KEYS: usize = 15;

/// The counter block with counter 0.
///
/// A vector from the start: as two halves in memory it would be loaded as one, which waits until both stores have left the
/// processor's queue, and with it all of this packet for all of the one before.
#[derive(Clone, Copy)]
pub(crate) struct Nonce(pub(super) __m128i);

/// AES-128 or AES-256 round keys, with the salt that a counter block starts with.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C)]
pub(crate) struct AesKey {
    salt: [u8; SALT_LEN],
    rounds: u16,
    round_keys: [[u8; 16]; ROUND_KEYS],
}

/// The powers of H, highest first, then the round keys: a vector that starts at H^1 reads into these.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
pub(crate) struct GcmKey {
    powers: [[u8; 16]; POWERS],
    pub(super) aes: AesKey,
}

const _: () = assert!(size_of::<AesKey>() == 256 && size_of::<GcmKey>() == 576);

/// In place of a key where nothing is hashed.
pub(super) static NO_HASH: GcmKey = GcmKey {
    powers: [[0; 16]; POWERS],
    aes: AesKey { salt: [0; SALT_LEN], rounds: 0, round_keys: [[0; 16]; ROUND_KEYS] },
};

impl AesKey {
    /// Expands a key of 16 or 32 bytes; another length is taken as the key it is a prefix of, zeros behind. `salt` is
    /// padded with zeros.
    pub(crate) fn new(_: Isa, key: &[u8], salt: &[u8]) -> Self {
        let words = if key.len() == 32 { 8 } else { 4 };
        let mut schedule = Self { salt: [0; SALT_LEN], rounds: words + 6, round_keys: [[0; 16]; ROUND_KEYS] };
        for (to, from) in schedule.salt.iter_mut().zip(salt) {
            *to = *from;
        }
        for (to, from) in schedule.round_keys.as_flattened_mut().iter_mut().zip(key).take(usize::from(4 * words)) {
            *to = *from;
        }
        // SAFETY: AES instructions exist because an `Isa` is only made where the processor has them.
        unsafe { schedule.expand(usize::from(words)) };
        schedule
    }

    /// FIPS 197 §5.2, words in memory order. The S-box is an instruction, so no table is indexed by a secret.
    #[target_feature(enable = "aes,sse2")]
    fn expand(&mut self, key_words: usize) {
        let rounds = usize::from(self.rounds);
        let bytes = self.round_keys.as_flattened_mut();
        let mut constant = 1u8;
        for at in key_words..4 * (rounds + 1) {
            let word = |bytes: &[u8], at: usize| {
                let word = bytes.get(4 * at..).and_then(|rest| rest.first_chunk::<4>());
                u32::from_le_bytes(word.copied().unwrap_or_default())
            };
            let mut mixed = word(bytes, at - 1);
            if at % key_words == 0 {
                mixed = substitute(mixed).rotate_right(8) ^ u32::from(constant);
                constant = constant << 1 ^ if constant & 0x80 == 0 { 0 } else { 0x1b };
            } else if key_words == 8 && at % key_words == 4 {
                mixed = substitute(mixed);
            }
            mixed ^= word(bytes, at - key_words);
            if let Some(to) = bytes.get_mut(4 * at..4 * at + 4) {
                to.copy_from_slice(&mixed.to_le_bytes());
            }
        }
    }

    /// Whether it has the rounds of a 256-bit key.
    #[inline]
    pub(crate) const fn is_256(&self) -> bool {
        self.rounds == 14
    }

    #[inline]
    pub(super) const fn round_keys(&self) -> &[[u8; 16]; ROUND_KEYS] {
        &self.round_keys
    }

    /// The counter block of `number` with counter 0: salt XOR number, which lies `shift` bytes from the block's start.
    /// RFC 7714 §8.1, §9.1 (shift 2) and RFC 3711 §4.1.1 (shift 4) differ in nothing else.
    #[inline]
    pub(crate) fn nonce(&self, ssrc: u32, index: u64, shift: u32) -> Nonce {
        let number = (u128::from(ssrc) << 48 | u128::from(index)) << (8 * (6 - shift));
        // SAFETY: every processor of this architecture has SSE2.
        Nonce(unsafe { self.salted(number) })
    }

    /// Salt XOR `number`, big-endian.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn salted(&self, number: u128) -> __m128i {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0).swap_bytes().cast_signed();
        // SAFETY: a block can be read there because the number of rounds lies behind the salt.
        let salt_and_rounds = unsafe { _mm_loadu_si128(core::ptr::from_ref(self).cast()) };
        let salt = _mm_and_si128(salt_and_rounds, _mm_set_epi64x(i64::MAX >> 15, -1));
        _mm_xor_si128(salt, _mm_set_epi64x(half(number), half(number >> 64)))
    }

    /// Encrypts the zero block: GCM's hash key.
    #[target_feature(enable = "aes,sse2")]
    fn of_zero(&self) -> __m128i {
        let rounds = usize::from(self.rounds);
        let mut block = _mm_set_epi64x(0, 0);
        for (at, key) in self.round_keys.iter().enumerate().take(rounds + 1) {
            // SAFETY: a round key has the size of the vector.
            let key = unsafe { _mm_loadu_si128(key.as_ptr().cast()) };
            block = match at {
                0 => key,
                _ if at == rounds => _mm_aesenclast_si128(block, key),
                _ => _mm_aesenc_si128(block, key),
            };
        }
        block
    }
}

#[target_feature(enable = "aes,sse2")]
fn substitute(word: u32) -> u32 {
    let words = _mm_set1_epi32(word.cast_signed());
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(words)).cast_unsigned()
}

impl GcmKey {
    /// As [`AesKey::new`].
    pub(crate) fn new(isa: Isa, key: &[u8], salt: &[u8]) -> Self {
        let mut schedule = Self { powers: [[0; 16]; POWERS], aes: AesKey::new(isa, key, salt) };
        // SAFETY: the instructions exist because an `Isa` is only made where the processor has them.
        unsafe { schedule.raise() };
        schedule
    }

    /// H·x, then its powers. The factor x makes up for the reflected bits of the carry-less product.
    #[target_feature(enable = "aes,pclmulqdq,sse2,ssse3")]
    fn raise(&mut self) {
        let h = _mm_shuffle_epi8(self.aes.of_zero(), gcm::reversed());
        let carry = _mm_srai_epi32::<31>(_mm_shuffle_epi32::<0xd3>(h));
        let wrapped = _mm_and_si128(carry, _mm_set_epi64x(gcm::POLYNOMIAL | 1, 1));
        let h = _mm_xor_si128(_mm_add_epi64(h, h), wrapped);
        let mut power = h;
        for place in self.powers.iter_mut().rev() {
            // SAFETY: a power has the size of the vector.
            unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), power) };
            let middle = _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(power, h), _mm_clmulepi64_si128::<0x10>(power, h));
            power = gcm::reduce(_mm_clmulepi64_si128::<0x00>(power, h), middle, _mm_clmulepi64_si128::<0x11>(power, h));
        }
    }

    /// Where H^`exponent` lies; an exponent outside of the table is taken as the nearest in it. A whole vector can be
    /// read there.
    #[inline]
    pub(super) fn power(&self, exponent: usize) -> *const u8 {
        let at = POWERS - exponent.clamp(1, POWERS);
        // Of the whole key, because a vector that starts at H^1 ends behind the powers.
        core::ptr::from_ref(self).cast::<u8>().wrapping_add(16 * at)
    }
}
