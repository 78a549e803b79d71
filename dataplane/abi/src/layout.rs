// SPDX-License-Identifier: Apache-2.0
//! Layouts written down: names, offsets and sizes of every field, a fingerprint of them all, and the macros that make a record.
//!
//! `layout.snap` beside this crate is the rendered table; the test `layout` compares.

/// One field of a record.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// Offset from the record's start, in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// What it means: its comment in the source.
    pub doc: &'static str,
}

/// A record whose layout is part of the contract.
pub trait Layout {
    /// The record's name.
    const NAME: &'static str;
    /// Version of this record type; grows when a reserve byte gets a meaning.
    const VERSION: u16;
    /// Size in bytes.
    const SIZE: usize;
    /// What it is: its comment in the source.
    const DOC: &'static str;
    /// All fields in order.
    const FIELDS: &'static [Field];
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

const fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(FNV_PRIME)
}

/// FNV-1a over a number, continued from `hash`.
#[must_use]
pub const fn fingerprint_number(mut hash: u64, number: usize) -> u64 {
    let bytes = (number as u64).to_le_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = mix(hash, bytes[i]);
        i += 1;
    }
    hash
}

/// A record's layout as a value.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The record's name.
    pub name: &'static str,
    /// Version of this record type.
    pub version: u16,
    /// Size in bytes.
    pub size: usize,
    /// What it is: its comment in the source.
    pub doc: &'static str,
    /// All fields in order.
    pub fields: &'static [Field],
}

impl Record {
    /// The layout of `T`.
    #[must_use]
    pub const fn of<T: Layout>() -> Self {
        Self { name: T::NAME, version: T::VERSION, size: T::SIZE, doc: T::DOC, fields: T::FIELDS }
    }

    /// Offset of the reserve: what lies before it is known to this version. A record without one is known in whole.
    #[must_use]
    pub const fn known_bytes(&self) -> usize {
        let mut f = 0;
        while f < self.fields.len() {
            if is_reserve(self.fields[f].name) {
                return self.fields[f].offset;
            }
            f += 1;
        }
        self.size
    }
}

const fn is_reserve(name: &str) -> bool {
    let (name, reserve) = (name.as_bytes(), b"reserve");
    let mut i = 0;
    while i < name.len() && i < reserve.len() && name[i] == reserve[i] {
        i += 1;
    }
    i == name.len() && i == reserve.len()
}

/// FNV-1a over a record's name, version, size and fields, continued from `hash`.
#[must_use]
pub const fn fingerprint_record(mut hash: u64, record: &Record) -> u64 {
    let name = record.name.as_bytes();
    let mut i = 0;
    while i < name.len() {
        hash = mix(hash, name[i]);
        i += 1;
    }
    hash = fingerprint_number(hash, record.version as usize);
    hash = fingerprint_number(hash, record.size);
    let mut f = 0;
    while f < record.fields.len() {
        hash = fingerprint_number(hash, record.fields[f].offset);
        hash = fingerprint_number(hash, record.fields[f].size);
        f += 1;
    }
    hash
}

/// The start value for [`fingerprint_record`].
pub const FINGERPRINT_START: u64 = FNV_OFFSET;

/// Declares an immutable record: plain integers, copied as a whole.
macro_rules! record {
    ($(#[doc = $doc:literal])* $(#[derive($($derive:ident),*)])? $name:ident, version $version:literal, size $size:literal { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])?
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $($(#[doc = $fdoc])* pub $field: $ty),* }
        $crate::pod::impl_pod!($name { $($ty),* });
        $crate::layout::layout_of!($name, concat!($($doc),*), $version, $size, { $($field : $ty = concat!($($fdoc),*)),* });
        impl $name {
            /// The record with every field zero, which reads as "not known", but for version and size.
            #[must_use]
            pub const fn zeroed() -> Self {
                Self { $($field: <$ty as $crate::layout::Zero>::ZERO),* }
            }
        }
        impl $crate::layout::Zero for $name { const ZERO: Self = Self::zeroed(); }
    };
}
pub(crate) use record;

/// Declares a record that its owner changes in place: atomics only.
#[cfg(not(target_arch = "bpf"))]
macro_rules! shared_record {
    ($(#[doc = $doc:literal])* $(#[derive($($derive:ident),*)])? $name:ident, version $version:literal, size $size:literal { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])?
        #[repr(C)]
        pub struct $name { $($(#[doc = $fdoc])* pub $field: $ty),* }
        $crate::pod::impl_shared!($name { $($ty),* });
        $crate::layout::layout_of!($name, concat!($($doc),*), $version, $size, { $($field : $ty = concat!($($fdoc),*)),* });
    };
}
#[cfg(not(target_arch = "bpf"))]
pub(crate) use shared_record;

macro_rules! layout_of {
    ($name:ident, $doc:expr, $version:literal, $size:literal, { $($field:ident : $ty:ty = $fdoc:expr),* }) => {
        impl $crate::layout::Layout for $name {
            const NAME: &'static str = stringify!($name);
            const VERSION: u16 = $version;
            const SIZE: usize = core::mem::size_of::<$name>();
            const DOC: &'static str = $doc;
            const FIELDS: &'static [$crate::layout::Field] = &[
                $($crate::layout::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($name, $field),
                    size: core::mem::size_of::<$ty>(),
                    doc: $fdoc,
                }),*
            ];
        }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}
pub(crate) use layout_of;

/// The all-zero value of a plain field.
pub trait Zero {
    /// Zero.
    const ZERO: Self;
}
macro_rules! zero_int { ($($t:ty),*) => { $(impl Zero for $t { const ZERO: Self = 0; })* } }
zero_int!(u8, u16, u32, u64, i64);
impl<T: Zero + Copy, const N: usize> Zero for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}
