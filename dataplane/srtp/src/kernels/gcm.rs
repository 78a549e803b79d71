// SPDX-License-Identifier: Apache-2.0
//! AES-GCM (NIST SP 800-38D) and AES-CTR over shared plaintext, written once and compiled for each width of vectors.
//!
//! ```text
//!  payload   │ v0 │ v1 │ v2 │ v3 ║ v4 │ v5 │ v6 │ v7 ║ v8 │ v9 │ last │     a vector has LANES blocks
//!  CTR       a group of four in step; the last vector's spare lanes encrypt J0, the mask of the tag
//!  GHASH     one group behind, so that both kinds of instruction are in flight at once
//!  powers    H^16 H^12 H^8 H^4 in all lanes, then one reduction per lane     │ H^n … H^1, one fold
//! ```
//!
//! A group's sums are reduced lane by lane and meet the next group's first vector, so that the key's table ends at
//! H^19 whatever the length. Additional data is hashed into the first block; the block of lengths takes the first spare
//! lane of the last vector.
//!
//! **What the ports allow** (Zen 4 at 3.67 GHz, AVX-512, measured instruction by instruction): an AES round of a vector
//! takes 1 cycle, a field product 2 of one pipe that AES uses too, and mixtures add up to rounds + products. So a vector
//! of AES-128 takes 14 cycles, 1200 bytes (19 vectors) at least 266, which is 73 ns. The kernel takes 118 with one key and
//! one frame as with 3000 keys and 64 frames: memory is not what is lost. A packet of one byte takes 41 (the hashes of head
//! and lengths and the tag, each waiting for the one before, and packets that hardly overlap), every further four vectors
//! 17.8, which is 16.3 cycles a vector. AES-256 takes 147. On a Zen 5 a rougher kernel of this shape took 69 to 74.
//!
//! Tried there without gain: asking for the next frame's lines for writing (noise, single runs); letting the additional data
//! join one group later, so that its load need not wait for the stores of the header (126 → 133 ns; 160 bytes 55 → 54);
//! holding each product to its place between the rounds, where the compiler moves them behind (118 → 125 ns); frames and
//! payloads at multiples of 64 bytes (116 and 115).

use core::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_set_epi8, _mm_set_epi64x, _mm_shuffle_epi32, _mm_xor_si128,
};

/// The field's polynomial, bits reflected: x^127 + x^126 + x^121 + 1.
pub(super) const POLYNOMIAL: i64 = 0xc2_u64.cast_signed() << 56;

/// Shuffle that reverses the bytes of a block.
#[inline]
#[target_feature(enable = "sse2")]
pub(super) fn reversed() -> __m128i {
    _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
}

/// Reduces a product of three parts (low, middle, high).
#[inline]
#[target_feature(enable = "pclmulqdq,sse2")]
pub(super) fn reduce(low: __m128i, middle: __m128i, high: __m128i) -> __m128i {
    let polynomial = _mm_set_epi64x(POLYNOMIAL, 1);
    let folded = _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(low), _mm_clmulepi64_si128::<0x01>(polynomial, low));
    let middle = _mm_xor_si128(middle, folded);
    let folded = _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(middle), _mm_clmulepi64_si128::<0x01>(polynomial, middle));
    _mm_xor_si128(high, folded)
}

/// Encrypts counter vectors and sums the products of `hashed`, which need nothing of each other: the processor runs both at once,
/// though the compiler puts the products behind the rounds. A macro, since a loop over rounds stays a loop, a function that two call stays a call, and
/// both keep vectors on the stack.
macro_rules! rounds {
    ($run:expr, $blocks:ident, $sums:ident, $hashed:expr, $($at:literal)*) => {
        $($run.round::<$at, N, M>(&mut $blocks, &mut $sums, $hashed);)*
    };
    ($run:expr, $blocks:ident, $sums:ident, $hashed:expr) => {
        rounds!($run, $blocks, $sums, $hashed, 1 2 3 4 5 6 7 8 9 10 11 12 13);
    };
}
pub(super) use rounds;

/// The algorithm over the primitives that are in scope where it is expanded.
macro_rules! gcm {
    ($features:literal) => {
        use core::arch::x86_64::{_mm_shuffle_epi8, _mm_storeu_si128};

        use super::aes::{AesKey, GcmKey, NO_HASH};
        use super::gcm::rounds;
        use super::{HASH_NOTHING, HASH_SEALED, HASH_SOURCE, Work, gcm};

        /// Vectors that are encrypted in step.
        const GROUP: usize = 4;
        /// A group is taken while this many bytes of payload are left behind it: each lane of the sums that it carries
        /// over then has a block to meet, the block of lengths included.
        const BEHIND: usize = (LANES - 2) * 16 + 1;
        /// Vectors' worth of counters in a table; later ones are computed.
        const TABLED: usize = 112 / LANES;

        #[repr(C, align(64))]
        struct Counters([[u8; 16]; TABLED * LANES]);

        impl Counters {
            const fn from(first: u8) -> Self {
                let mut blocks = [[0; 16]; TABLED * LANES];
                let (mut at, mut value) = (0, first);
                while at < TABLED * LANES {
                    blocks[at][15] = value;
                    at += 1;
                    value += 1;
                }
                Self(blocks)
            }
        }

        /// Counter blocks without their nonce, from 0 (RFC 3711 §4.1.1) and from 2 (SP 800-38D: J0 has 1).
        static COUNTERS: [Counters; 2] = [Counters::from(0), Counters::from(2)];

        /// Sums of products that are not yet reduced.
        #[derive(Clone, Copy)]
        struct Sums {
            low: Vector,
            middle: Vector,
            high: Vector,
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn nothing() -> Sums {
            Sums { low: zero(), middle: zero(), high: zero() }
        }

        /// Adds one of the four partial products of `x` and `power`.
        #[inline]
        #[target_feature(enable = $features)]
        fn add_part(sums: &mut Sums, part: usize, x: Vector, power: Vector) {
            match part {
                0 => sums.low = xor(sums.low, clmul::<0x00>(x, power)),
                1 => sums.middle = xor(sums.middle, clmul::<0x01>(x, power)),
                2 => sums.middle = xor(sums.middle, clmul::<0x10>(x, power)),
                _ => sums.high = xor(sums.high, clmul::<0x11>(x, power)),
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn add(sums: &mut Sums, x: Vector, power: Vector) {
            for part in 0..4 {
                add_part(sums, part, x, power);
            }
        }

        /// Reduces each lane.
        #[inline]
        #[target_feature(enable = $features)]
        fn reduce(sums: Sums) -> Vector {
            let polynomial = splat(_mm_set_epi64x(gcm::POLYNOMIAL, 1));
            let middle = xor(xor(sums.middle, halves_swapped(sums.low)), clmul::<0x01>(polynomial, sums.low));
            xor(xor(sums.high, halves_swapped(middle)), clmul::<0x01>(polynomial, middle))
        }

        /// Powers for the blocks of a vector whose first lane has H^`exponent`.
        #[inline]
        #[target_feature(enable = $features)]
        fn powers(key: &GcmKey, exponent: usize) -> Vector {
            // SAFETY: a whole vector lies there because `power` clamps the exponent to the table, and because the key goes
            // on for more than a vector behind H^1. Lanes behind H^1 meet zeros only.
            unsafe { load(key.power(exponent)) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn power_in_all_lanes(key: &GcmKey, exponent: usize) -> Vector {
            // SAFETY: a block lies there because `power` clamps the exponent to the table.
            unsafe { splat_at(key.power(exponent)) }
        }

        /// One packet in work.
        struct Run<'a, const ROUNDS: usize, const HASH: u8> {
            work: &'a Work<'a>,
            hash_key: &'a GcmKey,
            keys: [Vector; 15],
            /// Nonce with the first round key, in all lanes.
            base: Vector,
        }

        impl<const ROUNDS: usize, const HASH: u8> Run<'_, ROUNDS, HASH> {
            #[inline]
            #[target_feature(enable = $features)]
            fn counters_of<const N: usize>(&self, at: usize) -> [Vector; N] {
                let mut blocks = [zero(); N];
                for (next, block) in blocks.iter_mut().enumerate() {
                    *block = self.counters(at + next);
                }
                blocks
            }

            /// Counter blocks of vector `at` with the nonce, whitened.
            #[inline]
            #[target_feature(enable = $features)]
            fn counters(&self, at: usize) -> Vector {
                let is_gcm = HASH == HASH_SEALED || HASH == HASH_SOURCE;
                let blocks = match COUNTERS[usize::from(is_gcm)].0.get(at * LANES..) {
                    // SAFETY: a whole vector lies there because the table is a whole number of vectors long and `at` is
                    // before its end, since an empty rest is the other arm.
                    Some(rest @ [_, ..]) => unsafe { load(rest.as_ptr().cast()) },
                    _ => counters_from(at * LANES + if is_gcm { 2 } else { 0 }),
                };
                xor(self.base, blocks)
            }

            /// Source of vector `at`, zero behind its first `end` bytes.
            #[inline]
            #[target_feature(enable = $features)]
            fn source(&self, at: usize, end: usize) -> Vector {
                let from = self.work.source.wrapping_add(at * BYTES);
                if at == 0 && self.work.prefix != 0 {
                    let prefix = self.work.prefix.min(end);
                    // SAFETY: only bytes from `prefix` to `end` are touched, which lie in the source by `Work`.
                    let rest = unsafe { load_part(from, prefix, end) };
                    // SAFETY: only bytes below `prefix` are touched, which lie in the target by `Work`.
                    return xor(rest, unsafe { load_part(self.work.target, 0, prefix) });
                }
                if end == BYTES {
                    // SAFETY: the whole vector lies in the source because `end` says so.
                    unsafe { load(from) }
                } else {
                    // SAFETY: only bytes below `end` are touched, which lie in the source by `Work`.
                    unsafe { load_part(from, 0, end) }
                }
            }

            /// Hash of the additional data, at the place of the first payload block.
            #[inline]
            #[target_feature(enable = $features)]
            fn head(&self) -> Vector {
                let mut hash = zero();
                let (mut from, mut left) = (self.work.head, self.work.head_len);
                while left > 0 {
                    let len = left.min(BYTES);
                    // SAFETY: only bytes below `len` are touched, which lie in the additional data by `Work`.
                    let bytes = unsafe { load_part(from, 0, len) };
                    let mut sums = nothing();
                    add(&mut sums, xor(swap(bytes), hash), powers(self.hash_key, len.div_ceil(16)));
                    hash = in_first_lane(gcm::reduce(fold(sums.low), fold(sums.middle), fold(sums.high)));
                    from = from.wrapping_add(len);
                    left -= len;
                }
                hash
            }

            /// The partial products of `hashed` from `first` on, `count` of them and at most two.
            #[inline]
            #[target_feature(enable = $features)]
            fn add_share<const M: usize>(&self, sums: &mut Sums, hashed: &[Vector; M], first: usize, count: usize) {
                if count > 0 && first < 4 * M {
                    let power = power_in_all_lanes(self.hash_key, (M - first / 4) * LANES);
                    add_part(sums, first % 4, hashed[first / 4], power);
                }
                let second = first + 1;
                if count > 1 && second < 4 * M {
                    let power = power_in_all_lanes(self.hash_key, (M - second / 4) * LANES);
                    add_part(sums, second % 4, hashed[second / 4], power);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn round<const AT: usize, const N: usize, const M: usize>(
                &self,
                blocks: &mut [Vector; N],
                sums: &mut Sums,
                hashed: &[Vector; M],
            ) {
                if AT < ROUNDS {
                    for block in blocks {
                        *block = pinned(encrypt(*block, self.keys[AT]));
                    }
                    let count = (4 * M).div_ceil(ROUNDS - 1);
                    self.add_share(sums, hashed, (AT - 1) * count, count);
                }
            }

            /// A whole group; returns what is to be hashed of it, with `carry` or the sums of `hashed` in it.
            #[inline]
            #[target_feature(enable = $features)]
            fn group<const N: usize, const M: usize>(
                &self,
                at: usize,
                hashed: &[Vector; M],
                carry: Vector,
            ) -> [Vector; N] {
                let (mut blocks, mut sums) = (self.counters_of::<N>(at), nothing());
                rounds!(self, blocks, sums, hashed);
                for (next, block) in blocks.iter_mut().enumerate() {
                    let source = self.source(at + next, BYTES);
                    let result = encrypt_last(*block, xor(source, self.keys[ROUNDS]));
                    // SAFETY: the whole vector lies in the target because the group does.
                    unsafe { store(self.work.target.wrapping_add((at + next) * BYTES), result) };
                    *block = swap(if HASH == HASH_SOURCE { source } else { result });
                }
                blocks[0] = xor(blocks[0], if M == 0 { carry } else { reduce(sums) });
                blocks
            }

            /// The last `N` vectors; returns the tag.
            #[inline]
            #[target_feature(enable = $features)]
            fn last<const N: usize, const M: usize>(&self, at: usize, hashed: &[Vector; M], carry: Vector) -> __m128i {
                let left = self.work.len - at * BYTES;
                let count = left.div_ceil(16);
                let spare = count % LANES;
                let mut blocks = self.counters_of::<N>(at);
                blocks[N - 1] =
                    with_lanes_from(blocks[N - 1], spare, xor(self.base, splat(_mm_set_epi64x(1 << 56, 0))));
                let mut sums = nothing();
                rounds!(self, blocks, sums, hashed);
                let mut meets = if M == 0 { carry } else { reduce(sums) };
                let mut sums = nothing();
                for (next, block) in blocks.iter_mut().enumerate() {
                    let end = left.saturating_sub(next * BYTES).min(BYTES);
                    let source = self.source(at + next, end);
                    let result = encrypt_last(*block, xor(source, self.keys[ROUNDS]));
                    // SAFETY: only bytes below `end` are touched, which lie in the target by `Work`.
                    unsafe { store_part(self.work.target.wrapping_add((at + next) * BYTES), end, result) };
                    *block = result;
                    if HASH == HASH_NOTHING {
                        continue;
                    }
                    let text = swap(if HASH == HASH_SOURCE { source } else { first_bytes(result, end) });
                    let text = if next + 1 == N { with_lane(text, spare, self.lengths()) } else { text };
                    add(&mut sums, xor(text, meets), powers(self.hash_key, count + 1 - next * LANES));
                    meets = zero();
                }
                let hash = gcm::reduce(fold(sums.low), fold(sums.middle), fold(sums.high));
                _mm_xor_si128(_mm_shuffle_epi8(hash, gcm::reversed()), last_lane(blocks[N - 1]))
            }

            /// The block of lengths in bits, reversed like all that is hashed.
            #[inline]
            #[target_feature(enable = $features)]
            fn lengths(&self) -> __m128i {
                let bits = |len: usize| i64::try_from(len * 8).unwrap_or(0);
                _mm_set_epi64x(bits(self.work.head_len), bits(self.work.len))
            }

            /// All of the packet; returns the tag. The keys are spread here, so that they stay in registers.
            #[inline]
            #[target_feature(enable = $features)]
            fn all(aes: &AesKey, hash_key: &GcmKey, work: &Work<'_>) -> __m128i {
                let mut keys = [zero(); 15];
                for (key, round) in keys.iter_mut().zip(aes.round_keys()).take(ROUNDS + 1) {
                    // SAFETY: a block lies there because a round key is one.
                    *key = unsafe { splat_at(round.as_ptr()) };
                }
                let base = xor(splat(work.nonce.block()), keys[0]);
                let run = Run::<'_, ROUNDS, HASH> { work, hash_key, keys, base };
                let carry = if HASH == HASH_NOTHING { zero() } else { run.head() };
                let is_more = |at: usize| (at + GROUP) * BYTES + BEHIND <= work.len;
                if !is_more(0) {
                    return run.rest(0, &[], carry);
                }
                let mut hashed: [Vector; GROUP] = run.group(0, &[], carry);
                let mut at = GROUP;
                while is_more(at) {
                    hashed =
                        if HASH == HASH_NOTHING { run.group(at, &[], carry) } else { run.group(at, &hashed, carry) };
                    at += GROUP;
                }
                if HASH == HASH_NOTHING { run.rest(at, &[], carry) } else { run.rest(at, &hashed, carry) }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn rest<const M: usize>(&self, at: usize, hashed: &[Vector; M], carry: Vector) -> __m128i {
                match (self.work.len - at * BYTES).div_ceil(16) / LANES {
                    0 => self.last::<1, M>(at, hashed, carry),
                    1 => self.last::<2, M>(at, hashed, carry),
                    2 => self.last::<3, M>(at, hashed, carry),
                    3 => self.last::<4, M>(at, hashed, carry),
                    _ => self.last::<5, M>(at, hashed, carry),
                }
            }
        }

        #[target_feature(enable = $features)]
        fn run<const ROUNDS: usize, const HASH: u8>(aes: &AesKey, hash_key: &GcmKey, work: &Work<'_>) -> [u8; 16] {
            let tag = Run::<'_, ROUNDS, HASH>::all(aes, hash_key, work);
            let mut bytes = [0; 16];
            // SAFETY: the array has the size of the vector.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), tag) };
            bytes
        }

        /// Encrypts without a tag.
        #[target_feature(enable = $features)]
        #[allow(dead_code, reason = "the narrow kernels have no lanes to encrypt for")]
        pub(super) fn ctr(aes: &AesKey, work: &Work<'_>) {
            run::<10, HASH_NOTHING>(aes, &NO_HASH, work);
        }

        /// Encrypts or decrypts, hashes as `HASH` says, and returns the tag.
        #[target_feature(enable = $features)]
        pub(super) fn gcm<const HASH: u8>(key: &GcmKey, work: &Work<'_>) -> [u8; 16] {
            if key.aes.is_256() { run::<14, HASH>(&key.aes, key, work) } else { run::<10, HASH>(&key.aes, key, work) }
        }
    };
}
pub(super) use gcm;
