// SPDX-License-Identifier: Apache-2.0
//! An object that most owners do not have: made in a slab when it is needed, given back when it is not.

use core::marker::PhantomData;

use crate::hold::slab::Slab;
use crate::objects::NONE;

/// The slot of an owner's object, once it has one. It must be given back before the owner goes.
pub(crate) struct OnDemand<T> {
    slot: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> OnDemand<T> {
    /// There is none.
    pub(crate) const fn none() -> Self {
        Self { slot: NONE, of: PhantomData }
    }

    #[inline]
    pub(crate) fn get<'s>(&self, slab: &'s Slab<T>) -> Option<&'s T> {
        slab.get(self.slot)
    }

    pub(crate) fn get_mut<'s>(&self, slab: &'s mut Slab<T>) -> Option<&'s mut T> {
        slab.get_mut(self.slot)
    }

    /// The object, made where there was none; nothing where the slab is full.
    pub(crate) fn get_or_make<'s>(&mut self, slab: &'s mut Slab<T>, make: impl FnOnce() -> T) -> Option<&'s mut T> {
        if self.slot == NONE {
            self.slot = slab.insert(make()).ok()?;
        }
        slab.get_mut(self.slot)
    }

    /// Gives the object back.
    pub(crate) fn forget(&mut self, slab: &mut Slab<T>) {
        slab.remove(core::mem::replace(&mut self.slot, NONE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_there_from_its_first_use_until_it_is_given_back() {
        let mut slab = Slab::new(1);
        let (mut one, mut other) = (OnDemand::none(), OnDemand::none());
        assert_eq!((one.get(&slab), slab.len()), (None, 0));
        assert_eq!(one.get_or_make(&mut slab, || 7), Some(&mut 7));
        assert_eq!(one.get_or_make(&mut slab, || 8), Some(&mut 7), "it is there already");
        assert_eq!(other.get_or_make(&mut slab, || 9), None, "there is room for one");
        one.forget(&mut slab);
        one.forget(&mut slab);
        assert_eq!(one.get_mut(&mut slab), None);
        assert_eq!(slab.len(), 0);
        assert_eq!(other.get_or_make(&mut slab, || 9), Some(&mut 9));
    }
}
