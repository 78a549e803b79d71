// SPDX-License-Identifier: Apache-2.0
//! A scalar model of AES-GCM, bit by bit from SP 800-38D, against which each kernel is held, and the packet of RFC 7714.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes128, Aes256};

use super::{GcmKey, Isa, Work};
use crate::SharedBytes;

const SSRC: u32 = 0x5501_a0b2;
const SHIFT: u32 = 2;

fn kernels() -> impl Iterator<Item = Isa> {
    [Isa::avx2(), Isa::avx512()].into_iter().flatten()
}

fn encrypted(key: &[u8], block: u128) -> u128 {
    let mut bytes = block.to_be_bytes().into();
    if key.len() == 32 {
        Aes256::new_from_slice(key).unwrap().encrypt_block(&mut bytes);
    } else {
        Aes128::new_from_slice(key).unwrap().encrypt_block(&mut bytes);
    }
    u128::from_be_bytes(bytes.into())
}

/// SP 800-38D §6.3.
fn product(x: u128, y: u128) -> u128 {
    let (mut sum, mut factor) = (0, y);
    for bit in (0..128).rev() {
        sum ^= factor & ((x >> bit) & 1).wrapping_neg();
        factor = (factor >> 1) ^ ((0xe1 << 120) & (factor & 1).wrapping_neg());
    }
    sum
}

fn block(bytes: &[u8]) -> u128 {
    let mut whole = [0; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    u128::from_be_bytes(whole)
}

/// SP 800-38D §7.1: ciphertext and tag.
fn model(key: &[u8], nonce: u128, head: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    for (at, part) in plain.chunks(16).enumerate() {
        let stream = encrypted(key, nonce | (at as u128 + 2)).to_be_bytes();
        sealed.extend(part.iter().zip(stream).map(|(byte, mask)| byte ^ mask));
    }
    let lengths = ((head.len() as u128 * 8) << 64) | (plain.len() as u128 * 8);
    let hash_key = encrypted(key, 0);
    let blocks = head.chunks(16).chain(sealed.chunks(16)).map(block).chain([lengths]);
    let hash = blocks.fold(0, |hash, block| product(hash ^ block, hash_key));
    sealed.extend((hash ^ encrypted(key, nonce | 1)).to_be_bytes());
    sealed
}

/// RFC 7714 §8.1.
fn nonce(salt: &[u8], index: u64) -> u128 {
    block(salt) ^ (u128::from(SSRC) << 80) ^ (u128::from(index) << 32)
}

fn sealed(isa: Isa, key: &GcmKey, index: u64, head: &[u8], plain: &[u8], prefix: usize) -> Vec<u8> {
    let mut out = plain[..prefix].to_vec();
    out.resize(plain.len(), 0xee);
    let rest = Some(SharedBytes::from(&plain[prefix..]));
    let work = Work::seal(key.aes().nonce(SSRC, index, SHIFT), head, &mut out, prefix, rest).unwrap();
    let tag = key.seal(isa, &work);
    out.extend(tag);
    out
}

#[test]
fn every_length_is_the_models() {
    let bytes: Vec<u8> = (0..1600_usize).map(|at| u8::try_from(at * 131 % 251).unwrap()).collect();
    for isa in kernels() {
        for key in [&bytes[7..23], &bytes[7..39]] {
            let salt = &bytes[50..62];
            let schedule = GcmKey::new(isa, key, salt);
            for len in 0..=1500 {
                let (head, plain, index) = (&bytes[..12 + len % 150], &bytes[len % 64..][..len], len as u64 * 0x1_2345);
                let expected = model(key, nonce(salt, index), head, plain);
                assert!(sealed(isa, &schedule, index, head, plain, 0) == expected, "{isa:?} {len}");
                assert!(sealed(isa, &schedule, index, head, plain, len.min(len % 33)) == expected, "{isa:?} {len}");
            }
        }
    }
}

/// RFC 7714 §16.1.1.
#[test]
fn the_packet_of_the_rfc_is_sealed_and_opened() {
    let key: Vec<u8> = (0..16).collect();
    let salt = 0x5175_6964_2070_726f_2071_756f_u128.to_be_bytes();
    let head = 0x8040_f17b_8041_f8d3_5501_a0b2_u128.to_be_bytes();
    let plain = b"Gallia est omnis divisa in partes tres";
    let words = [
        0xf24d_e3a3_fb34_de6c_acba_861c_9d7e_4bca_u128,
        0xbe63_3bd5_0d29_4e6f_42a5_f47a_51c7_d19b,
        0x36de_3adf_8833_899d_7f27_beb1_6a91_52cf,
    ];
    let expected = [&words.map(u128::to_be_bytes).concat()[..], &[0x76, 0x5e, 0xe4, 0x39, 0x0c, 0xce]].concat();
    for isa in kernels() {
        let schedule = GcmKey::new(isa, &key, &salt[4..]);
        assert_eq!(sealed(isa, &schedule, 0xf17b, &head[4..], plain, 5), expected);
        let (cipher, tag) = expected.split_at(plain.len());
        let mut back = [0; 38];
        let nonce = schedule.aes().nonce(SSRC, 0xf17b, SHIFT);
        assert_eq!(schedule.open(isa, &Work::open(nonce, &head[4..], cipher, &mut back).unwrap())[..], *tag);
        assert_eq!(back, *plain);
    }
}
