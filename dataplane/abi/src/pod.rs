// SPDX-License-Identifier: Apache-2.0
//! Which records may be copied from and to shared memory byte by byte.
//!
//! The one place of this crate with `unsafe`: the marker trait is implemented by `record!` for structs whose fields
//! are all `Pod` themselves.
#![expect(unsafe_code, reason = "marker trait for plain records; the implementations are argued one by one")]

/// A record for which every bit pattern is a value and which has no padding that matters and no pointers.
///
/// # Safety
/// The type is `repr(C)`, consists of integers and arrays of integers only, and is `Copy`.
pub unsafe trait Pod: Copy + 'static {}

// SAFETY: an integer accepts any bit pattern because it has no invalid values.
unsafe impl Pod for u8 {}
// SAFETY: an integer accepts any bit pattern because it has no invalid values.
unsafe impl Pod for u16 {}
// SAFETY: an integer accepts any bit pattern because it has no invalid values.
unsafe impl Pod for u32 {}
// SAFETY: an integer accepts any bit pattern because it has no invalid values.
unsafe impl Pod for u64 {}
// SAFETY: an integer accepts any bit pattern because it has no invalid values.
unsafe impl Pod for i64 {}
// SAFETY: an array of records that accept any bit pattern accepts any bit pattern because arrays add no padding.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// A record that lies in shared memory and changes in place: its fields are atomics, its owner is the only writer.
///
/// # Safety
/// The type is `repr(C)` and consists of atomics of integers and arrays of such only, so that a shared reference to
/// memory with any content, changed by other processes, is sound.
pub unsafe trait SharedRecord: Sync + 'static {}

// SAFETY: an atomic integer accepts any bit pattern and concurrent change because that is what atomics are for.
unsafe impl SharedRecord for core::sync::atomic::AtomicU64 {}
// SAFETY: an atomic integer accepts any bit pattern and concurrent change because that is what atomics are for.
#[cfg(not(target_arch = "bpf"))]
unsafe impl SharedRecord for core::sync::atomic::AtomicU32 {}
// SAFETY: an atomic integer accepts any bit pattern and concurrent change because that is what atomics are for.
#[cfg(not(target_arch = "bpf"))]
unsafe impl SharedRecord for core::sync::atomic::AtomicU16 {}
// SAFETY: an atomic integer accepts any bit pattern and concurrent change because that is what atomics are for.
#[cfg(not(target_arch = "bpf"))]
unsafe impl SharedRecord for core::sync::atomic::AtomicU8 {}
// SAFETY: an array of shared records is one because arrays add no padding.
unsafe impl<T: SharedRecord, const N: usize> SharedRecord for [T; N] {}

/// Implements [`Pod`] for a record whose fields all are; checked by the bound on each field's type.
macro_rules! impl_pod {
    ($name:ident { $($ty:ty),* $(,)? }) => {
        const _: () = {
            const fn field_is_pod<T: $crate::pod::Pod>() {}
            $( field_is_pod::<$ty>(); )*
        };
        // SAFETY: the struct is `repr(C)` and each field type was just checked to be `Pod`, so any bit pattern is valid.
        #[expect(unsafe_code, reason = "argued in abi/pod.rs")]
        unsafe impl $crate::pod::Pod for $name {}
    };
}
pub(crate) use impl_pod;

/// Implements [`SharedRecord`] for a record whose fields all are; checked by the bound on each field's type.
#[cfg(not(target_arch = "bpf"))]
macro_rules! impl_shared {
    ($name:ident { $($ty:ty),* $(,)? }) => {
        const _: () = {
            const fn field_is_shared<T: $crate::pod::SharedRecord>() {}
            $( field_is_shared::<$ty>(); )*
        };
        // SAFETY: the struct is `repr(C)` and each field type was just checked to be a shared record.
        #[expect(unsafe_code, reason = "argued in abi/pod.rs")]
        unsafe impl $crate::pod::SharedRecord for $name {}
    };
}
#[cfg(not(target_arch = "bpf"))]
pub(crate) use impl_shared;
