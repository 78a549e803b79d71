// SPDX-License-Identifier: Apache-2.0
//! A port of the benches: it takes everything, writes what a port writes in front of a payload, and sends nothing.

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_io::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use dataplane_io::xdp::{HEAD_BYTES, Head};

const FRAME: usize = 2048;
/// Where a frame's payload begins, as in the AF_XDP port.
const PAYLOAD_AT: usize = 128;

/// Takes every frame and forgets it.
pub(crate) struct NullPort {
    /// What the next receive finds.
    pub(crate) inbox: Vec<(Vec<u8>, RxMeta)>,
    frames: Vec<[u8; FRAME]>,
    next: usize,
    /// Heads by path, where they are written too.
    heads: Vec<Head>,
    head: usize,
    committed: u32,
}

impl NullPort {
    /// A port whose frames are used in turn: few stay in the cache as those of a copying AF_XDP port do, which the kernel gives
    /// back at each flush; many do not, as those of a NIC.
    pub(crate) fn new(frames: usize, paths: u16) -> Self {
        let flow = |path: u16| FlowKey {
            local: map_v4([10, 0, 0, 1]),
            remote: map_v4([10, 1, 1, 1]),
            local_port: 7000,
            remote_port: 10_000 + path,
            reserve: 0,
        };
        let heads = (0..paths).map(|path| Head::new(&flow(path), 0).unwrap()).collect();
        Self { inbox: Vec::new(), frames: vec![[0; FRAME]; frames], next: 0, heads, head: 0, committed: 0 }
    }
}

impl Port for NullPort {
    fn kind(&self) -> PortKind {
        PortKind::Simulated
    }
    fn receive(&mut self, max: usize) -> usize {
        self.inbox.len().min(max)
    }
    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        self.inbox.get(index).map(|(bytes, meta)| (bytes.as_slice(), *meta))
    }
    fn release(&mut self) {
        self.inbox.clear();
    }
    fn open_path(&mut self, _: &FlowKey, _: u8, _: Ecn) -> Result<PathSlot, PathError> {
        Ok(PathSlot(0))
    }
    fn close_path(&mut self, _: PathSlot) {}
    fn tx_room(&self) -> usize {
        1024
    }
    fn room_for(&mut self, _: PathSlot, _: usize) -> usize {
        self.tx_room()
    }
    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        self.head = path.0 as usize;
        self.frames[self.next].get_mut(PAYLOAD_AT..PAYLOAD_AT + len)
    }
    fn commit(&mut self, len: usize) {
        if let Some(head) = self.heads.get(self.head) {
            let (front, payload) = self.frames[self.next].split_at_mut(PAYLOAD_AT);
            let room = front.last_chunk_mut::<HEAD_BYTES>().unwrap();
            std::hint::black_box(head.write(room, &payload[..len], true));
        }
        self.next = (self.next + 1) % self.frames.len();
        self.committed += 1;
    }
    fn flush(&mut self) -> Flushed {
        Flushed { frames: std::mem::take(&mut self.committed), errors: 0 }
    }
    fn reap(&mut self) {}
}
