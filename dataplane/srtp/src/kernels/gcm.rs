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
//! H^20 whatever the length. Additional data joins the first sums unreduced; the block of lengths takes the first spare
//! lane of the last vector.
//!
//! **What the ports allow** (Zen 4 at 3.67 GHz, AVX-512, measured instruction by instruction): an AES round of a vector
//! takes 1 cycle, a field product 2 of one pipe that AES uses too, and mixtures add up to rounds + products. So a vector
//! of AES-128 takes 14 cycles, 1200 bytes (19 vectors) at least 266, which is 73 ns. The kernel takes 101 with one key and
//! one frame as with 3000 keys and 64 frames: memory is not what is lost. Without the hash it takes 50, which is the 190
//! cycles of the rounds: what is lost lies in the products. If rounds fell on both pipes alike, the one that products need had
//! 190 + 152 + 20 cycles, which is 98 ns. A packet of one byte takes 21, AES-256 30 more at 1200 bytes. On a Zen 5 a rougher
//! kernel of this shape took 69 to 74.
//!
//! What made packets overlap: a nonce that stays a vector, since a load of 16 bytes over two stores of 8 waits until both have
//! retired, and all of a packet's rounds with it (120 → 112 ns, 160 bytes 51 → 40, with 11 of the loop's own); additional data
//! that is not reduced by itself (160 bytes 40 → 39, one byte 35 → 32).
//!
//! Tried there without gain: asking for the next frame's lines for writing (noise, single runs); holding each product to its
//! place between the rounds, where the compiler moves them behind (118 → 125 ns); frames and payloads at multiples of 64 bytes
//! (116 and 115); groups of five, six and eight vectors (119, 132, 147: vectors go to the stack); Karatsuba's three products in
//! place of four (112 → 113; 600 bytes 74 → 71); plain stores in place of masked ones at the end (no difference).

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

        use super::aes::{AesKey, GcmKey, NO_HASH, POWERS};
        use super::gcm::rounds;
        use super::{HASH_NOTHING, HASH_SEALED, HASH_SOURCE, Work, gcm};

        /// Vectors that are encrypted in step.
        const GROUP: usize = 4;
        /// A group is taken while this many bytes of payload are left behind it: each lane of the sums that it carries
        /// over then has a block to meet, the block of lengths included.
        const BEHIND: usize = (LANES - 2) * 16 + 1;
        /// Vectors' worth of counters in a table; later ones are computed.
        const TABLED: usize = 112 / LANES;

        const _: () = {
            let few = (GROUP * BYTES + BEHIND - 1).div_ceil(16);
            assert!(few + 1 < POWERS, "at least one block of additional data has its power too");
            assert!((GROUP + 1) * LANES <= POWERS, "a vector of additional data stands in front of a group");
        };

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

            /// What is left to be multiplied of the additional data, the first block in the first lane: `room` blocks at most,
            /// and how many they are.
            #[inline]
            #[target_feature(enable = $features)]
            fn head(&self, room: usize) -> (Vector, usize) {
                let (mut hash, mut from, mut left) = (zero(), self.work.head, self.work.head_len);
                while left > 16 * room {
                    let len = (16 * (left.div_ceil(16) - room)).min(BYTES);
                    // SAFETY: only bytes below `len` are touched, which lie in the additional data by `Work`.
                    let bytes = unsafe { load_part(from, 0, len) };
                    let mut sums = nothing();
                    add(&mut sums, xor(swap(bytes), hash), powers(self.hash_key, len / 16));
                    hash = in_first_lane(gcm::reduce(fold(sums.low), fold(sums.middle), fold(sums.high)));
                    from = from.wrapping_add(len);
                    left -= len;
                }
                // SAFETY: only bytes below `left` are touched, which lie in the additional data by `Work`.
                (xor(swap(unsafe { load_part(from, 0, left) }), hash), left.div_ceil(16))
            }

            /// The partial products of `hashed` from `first` on, `count` of them.
            #[inline]
            #[target_feature(enable = $features)]
            fn add_share<const M: usize>(&self, sums: &mut Sums, hashed: &[Vector; M], first: usize, count: usize) {
                for part in first..(first + count).min(4 * M) {
                    let power = power_in_all_lanes(self.hash_key, (M - part / 4) * LANES);
                    add_part(sums, part % 4, hashed[part / 4], power);
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

            /// A whole group; returns what is to be hashed of it, with the sums of `hashed` and of `start` in it.
            #[inline]
            #[target_feature(enable = $features)]
            fn group<const N: usize, const M: usize>(
                &self,
                at: usize,
                hashed: &[Vector; M],
                start: Sums,
            ) -> [Vector; N] {
                let (mut blocks, mut sums) = (self.counters_of::<N>(at), start);
                rounds!(self, blocks, sums, hashed);
                for (next, block) in blocks.iter_mut().enumerate() {
                    let source = self.source(at + next, BYTES);
                    let result = encrypt_last(*block, xor(source, self.keys[ROUNDS]));
                    // SAFETY: the whole vector lies in the target because the group does.
                    unsafe { store(self.work.target.wrapping_add((at + next) * BYTES), result) };
                    *block = swap(if HASH == HASH_SOURCE { source } else { result });
                }
                if M != 0 {
                    blocks[0] = xor(blocks[0], reduce(sums));
                }
                blocks
            }

            /// The last `N` vectors; returns the tag. `start` are the sums that meet `hashed`, or these vectors where
            /// nothing is.
            #[inline]
            #[target_feature(enable = $features)]
            fn last<const N: usize, const M: usize>(&self, at: usize, hashed: &[Vector; M], start: Sums) -> __m128i {
                let left = self.work.len - at * BYTES;
                let count = left.div_ceil(16);
                let spare = count % LANES;
                let mut blocks = self.counters_of::<N>(at);
                blocks[N - 1] =
                    with_lanes_from(blocks[N - 1], spare, xor(self.base, splat(_mm_set_epi64x(1 << 56, 0))));
                let mut sums = start;
                rounds!(self, blocks, sums, hashed);
                let (mut meets, mut sums) = if M == 0 { (zero(), sums) } else { (reduce(sums), nothing()) };
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
                let base = xor(splat(work.nonce.0), keys[0]);
                let run = Run::<'_, ROUNDS, HASH> { work, hash_key, keys, base };
                let is_more = |at: usize| (at + GROUP) * BYTES + BEHIND <= work.len;
                if !is_more(0) {
                    return run.rest(0, &[], run.start_of_few());
                }
                let mut hashed: [Vector; GROUP] = run.group(0, &[], nothing());
                let (mut at, mut start) = (GROUP, run.start());
                while is_more(at) {
                    hashed =
                        if HASH == HASH_NOTHING { run.group(at, &[], start) } else { run.group(at, &hashed, start) };
                    at += GROUP;
                    start = nothing();
                }
                if HASH == HASH_NOTHING { run.rest(at, &[], start) } else { run.rest(at, &hashed, start) }
            }

            /// The additional data as what the first group's sums start with: a lane's block stands `head` blocks before
            /// that lane's first block of payload.
            #[inline]
            #[target_feature(enable = $features)]
            fn start(&self) -> Sums {
                let mut sums = nothing();
                if HASH != HASH_NOTHING {
                    let (text, head) = self.head(LANES);
                    add(&mut sums, text, power_in_all_lanes(self.hash_key, GROUP * LANES + head));
                }
                sums
            }

            /// The same where everything is summed up before it is reduced.
            #[inline]
            #[target_feature(enable = $features)]
            fn start_of_few(&self) -> Sums {
                let mut sums = nothing();
                if HASH != HASH_NOTHING {
                    let behind = self.work.len.div_ceil(16) + 1;
                    let (text, head) = self.head(LANES.min(POWERS - behind));
                    add(&mut sums, text, powers(self.hash_key, behind + head));
                }
                sums
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn rest<const M: usize>(&self, at: usize, hashed: &[Vector; M], start: Sums) -> __m128i {
                match (self.work.len - at * BYTES).div_ceil(16) / LANES {
                    0 => self.last::<1, M>(at, hashed, start),
                    1 => self.last::<2, M>(at, hashed, start),
                    2 => self.last::<3, M>(at, hashed, start),
                    3 => self.last::<4, M>(at, hashed, start),
                    _ => self.last::<5, M>(at, hashed, start),
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
