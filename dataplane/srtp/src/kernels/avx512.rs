// SPDX-License-Identifier: Apache-2.0
//! Vectors of four blocks: AVX-512 with VAES and VPCLMULQDQ.

use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _bzhi_u64, _mm_loadu_si128, _mm_set_epi64x, _mm_xor_si128, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_xor_si256, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_broadcast_i32x4,
    _mm512_castsi512_si256, _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32, _mm512_extracti64x4_epi64,
    _mm512_loadu_si512, _mm512_mask_broadcast_i32x4, _mm512_mask_mov_epi64, _mm512_mask_storeu_epi8,
    _mm512_maskz_add_epi32, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8, _mm512_set_epi32, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_epi32, _mm512_storeu_si512, _mm512_xor_si512,
    _mm512_zextsi128_si512,
};

pub(super) type Vector = __m512i;
const LANES: usize = 4;
const BYTES: usize = 16 * LANES;

macro_rules! primitive {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq,aes,pclmulqdq,bmi2")]
        fn $name($($arg: $type),*) -> $result $body
    };
    ($(#[$doc:meta])* unsafe fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq,aes,pclmulqdq,bmi2")]
        unsafe fn $name($($arg: $type),*) -> $result $body
    };
}

primitive! { fn zero() -> Vector { _mm512_setzero_si512() } }
primitive! { fn xor(a: Vector, b: Vector) -> Vector { _mm512_xor_si512(a, b) } }
primitive! { fn splat(block: __m128i) -> Vector { _mm512_broadcast_i32x4(block) } }
primitive! { fn encrypt(a: Vector, key: Vector) -> Vector { _mm512_aesenc_epi128(a, key) } }
primitive! { fn encrypt_last(a: Vector, key: Vector) -> Vector { _mm512_aesenclast_epi128(a, key) } }
primitive! {
    /// `a`, here and in this order: without it the compiler runs one block's rounds after the other's, and each waits
    /// for its own latency.
    fn pinned(a: Vector) -> Vector {
        let mut pinned = a;
        // SAFETY: no instruction is emitted because the text is a comment; the register is the operand's own.
        unsafe { core::arch::asm!("/* {0} */", inout(zmm_reg) pinned, options(nomem, nostack, preserves_flags)) };
        pinned
    }
}
primitive! { fn halves_swapped(a: Vector) -> Vector { _mm512_shuffle_epi32::<0x4e>(a) } }
primitive! {
    /// Each block with its bytes reversed.
    fn swap(a: Vector) -> Vector { _mm512_shuffle_epi8(a, splat(gcm::reversed())) }
}
primitive! { fn in_first_lane(block: __m128i) -> Vector { _mm512_zextsi128_si512(block) } }
primitive! { fn last_lane(a: Vector) -> __m128i { _mm512_extracti32x4_epi32::<3>(a) } }
primitive! {
    /// Sum of the lanes.
    fn fold(a: Vector) -> __m128i {
        let half: __m256i = _mm256_xor_si256(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a));
        _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }
}
primitive! {
    /// `a` with the lanes from `lane` on from `b`.
    fn with_lanes_from(a: Vector, lane: usize, b: Vector) -> Vector {
        _mm512_mask_mov_epi64(a, 0xff << (2 * lane), b)
    }
}
primitive! {
    fn with_lane(a: Vector, lane: usize, block: __m128i) -> Vector {
        _mm512_mask_broadcast_i32x4(a, 0xf << (4 * lane), block)
    }
}
primitive! { fn mask(end: usize) -> u64 { _bzhi_u64(u64::MAX, u32::try_from(end).unwrap_or(0)) } }
primitive! {
    /// `a` with zeros behind its first `end` bytes.
    fn first_bytes(a: Vector, end: usize) -> Vector { _mm512_maskz_mov_epi8(mask(end), a) }
}
primitive! {
    /// Counter blocks without a nonce, big-endian in the last four bytes.
    fn counters_from(first: usize) -> Vector {
        let first = _mm512_set1_epi32(u32::try_from(first).unwrap_or(0).cast_signed());
        let lanes = _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        let swapped = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm512_shuffle_epi8(_mm512_maskz_add_epi32(0x8888, first, lanes), splat(swapped))
    }
}
primitive! {
    /// # Safety
    /// A block can be read at `from`.
    unsafe fn splat_at(from: *const u8) -> Vector {
        // SAFETY: a block can be read by the function's own contract.
        splat(unsafe { _mm_loadu_si128(from.cast()) })
    }
}
primitive! {
    /// # Safety
    /// A vector can be read at `from`.
    unsafe fn load(from: *const u8) -> Vector {
        // SAFETY: a vector can be read by the function's own contract.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
}
primitive! {
    /// # Safety
    /// A vector can be written at `to`.
    unsafe fn store(to: *mut u8, a: Vector) -> () {
        // SAFETY: a vector can be written by the function's own contract.
        unsafe { _mm512_storeu_si512(to.cast(), a) }
    }
}
primitive! {
    /// Bytes `start` to `end`, zeros elsewhere.
    ///
    /// # Safety
    /// These bytes can be read at their distance from `from`.
    unsafe fn load_part(from: *const u8, start: usize, end: usize) -> Vector {
        let bytes = mask(end) & !mask(start);
        // SAFETY: bytes outside of the mask are not touched, and the others can be read by the contract.
        unsafe { _mm512_maskz_loadu_epi8(bytes, from.cast()) }
    }
}
primitive! {
    /// Writes the first `end` bytes.
    ///
    /// # Safety
    /// These bytes can be written at `to`.
    unsafe fn store_part(to: *mut u8, end: usize, a: Vector) -> () {
        let bytes = mask(end);
        // SAFETY: bytes outside of the mask are not touched, and the others can be written by the contract.
        unsafe { _mm512_mask_storeu_epi8(to.cast(), bytes, a) }
    }
}
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn clmul<const PART: i32>(a: Vector, b: Vector) -> Vector {
    _mm512_clmulepi64_epi128::<PART>(a, b)
}

super::gcm::gcm!("avx512f,avx512bw,avx512vl,vaes,vpclmulqdq,aes,pclmulqdq,bmi2");
