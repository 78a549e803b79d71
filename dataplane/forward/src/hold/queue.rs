// SPDX-License-Identifier: Apache-2.0
//! A bounded first-in first-out queue of plain values.

/// The queue; a push into a full one fails and changes nothing.
pub(crate) struct Queue<T> {
    items: std::collections::VecDeque<T>,
    capacity: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { items: std::collections::VecDeque::with_capacity(capacity), capacity }
    }

    pub(crate) fn push(&mut self, item: T) -> bool {
        if self.items.len() >= self.capacity {
            return false;
        }
        self.items.push_back(item);
        true
    }

    pub(crate) fn push_front(&mut self, item: T) -> bool {
        if self.items.len() >= self.capacity {
            return false;
        }
        self.items.push_front(item);
        true
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
