// SPDX-License-Identifier: Apache-2.0
//! Loads the XDP classifier into the kernel, attaches it to an interface and gives its maps names and types.
//!
//! Two sides use it. The keeper, as root: [`Object`] → [`Classifier::load`] → [`Classifier::attach`], then it hands the maps'
//! descriptors over. The data plane, without any capability: [`FlowMap::from_fd`] and its siblings. The classifier stays
//! attached as long as the [`Attachment`] (or a copy of its descriptor) lives, and not longer.
//!
//! It must never decide a verdict (that is the classifier's), keep state of its own about flows, or allocate per update.
#![forbid(unsafe_code)]

mod attach;
mod classifier;
mod interface;
mod maps;
mod object;

pub use attach::{AttachError, AttachedMode, Attachment, Mode};
pub use classifier::{Classifier, LoadError, MINIMUM_KERNEL, Sizes, TestRun};
pub use interface::{Interface, InterfaceError};
pub use maps::{ConfigMap, CounterMap, FailureMap, FlowMap, LocalMap, MapError, Maps, StrangerMap, XskMap};
pub use object::{Object, ObjectError};
