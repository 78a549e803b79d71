// SPDX-License-Identifier: Apache-2.0
//! A small XDP program for these tests, loaded by bpf(2): UDP to our port goes to the socket of its queue and of the worker
//! that the peer's port chooses, with the arrival stamp in front; everything else passes. It stands in for the classifier.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use dataplane_abi::xdp::{XSK_ENTRIES, xsk_key};
use dataplane_io::xdp::{Mode, Pair};

const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_PASS: i32 = 2;

/// The map and the attached program; both go when this is dropped.
pub(crate) struct Program {
    map: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
}

fn bpf(command: i32, attributes: &mut [u8]) -> io::Result<i64> {
    // SAFETY: because the attributes outlive the call, their length is given, and the pointers in them are to live buffers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: because the kernel just gave us the descriptor and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

fn put(attributes: &mut [u8], at: usize, bytes: &[u8]) {
    attributes[at..at + bytes.len()].copy_from_slice(bytes);
}

/// One instruction (Linux include/uapi/linux/bpf.h `struct bpf_insn`).
const fn instruction(code: u8, registers: (u8, u8), offset: i16, value: i32) -> [u8; 8] {
    let ([o0, o1], [v0, v1, v2, v3]) = (offset.to_le_bytes(), value.to_le_bytes());
    [code, registers.0 | (registers.1 << 4), o0, o1, v0, v1, v2, v3]
}

/// The program; queues and workers are powers of two. The low bits of the peer's port choose among the workers of a queue.
fn code(map: &OwnedFd, port: u16, queues: u16, workers: u16) -> Vec<[u8; 8]> {
    const LOAD_BYTE: u8 = 0x71;
    const LOAD_HALF: u8 = 0x69;
    const LOAD_WORD: u8 = 0x61;
    let sharers = i32::from(workers / queues).max(1);
    let big_endian = i32::from(u16::from_ne_bytes(port.to_be_bytes()));
    // Jumps are to the label PASS at the end; their offsets are filled in below.
    const PASS: i16 = i16::MAX;
    let mut code = vec![
        instruction(0xbf, (6, 1), 0, 0),         // r6 = ctx
        instruction(LOAD_WORD, (7, 6), 0, 0),    // r7 = data
        instruction(LOAD_WORD, (8, 6), 4, 0),    // r8 = data_end
        instruction(0xbf, (1, 7), 0, 0),         // r1 = r7
        instruction(0x07, (1, 0), 0, 62),        // r1 += 62
        instruction(0x2d, (1, 8), PASS, 0),      // if r1 > r8: pass
        instruction(LOAD_HALF, (2, 7), 12, 0),   // r2 = ethertype
        instruction(0x55, (2, 0), 5, 0x0008),    // if r2 != IPv4: six
        instruction(LOAD_BYTE, (3, 7), 23, 0),   // r3 = protocol
        instruction(LOAD_HALF, (4, 7), 34, 0),   // r4 = source port
        instruction(0xdc, (4, 0), 0, 16),        // r4 = be16(r4)
        instruction(LOAD_HALF, (5, 7), 36, 0),   // r5 = destination port
        instruction(0x05, (0, 0), 5, 0),         // goto udp
        instruction(0x55, (2, 0), PASS, 0xdd86), // six: if r2 != IPv6: pass
        instruction(LOAD_BYTE, (3, 7), 20, 0),
        instruction(LOAD_HALF, (4, 7), 54, 0),
        instruction(0xdc, (4, 0), 0, 16),
        instruction(LOAD_HALF, (5, 7), 56, 0),
        instruction(0x55, (3, 0), PASS, 17), // udp: if r3 != UDP: pass
        instruction(0x55, (5, 0), PASS, big_endian),
        instruction(0xbf, (9, 4), 0, 0),      // r9 = source port
        instruction(0xbf, (1, 6), 0, 0),      // r1 = ctx
        instruction(0xb7, (2, 0), 0, -8),     // r2 = -8
        instruction(0x85, (0, 0), 0, 54),     // bpf_xdp_adjust_meta
        instruction(0x55, (0, 0), 7, 0),      // if r0 != 0: choose
        instruction(0x85, (0, 0), 0, 5),      // bpf_ktime_get_ns
        instruction(LOAD_WORD, (1, 6), 8, 0), // r1 = data_meta
        instruction(LOAD_WORD, (2, 6), 0, 0), // r2 = data
        instruction(0xbf, (3, 1), 0, 0),
        instruction(0x07, (3, 0), 0, 8),
        instruction(0x2d, (3, 2), 1, 0),       // if r1 + 8 > data: choose
        instruction(0x7b, (1, 0), 0, 0),       // the stamp
        instruction(LOAD_WORD, (2, 6), 16, 0), // choose: r2 = rx_queue_index
        instruction(0xbf, (1, 2), 0, 0),
        instruction(0x57, (1, 0), 0, i32::from(workers) - 1), // r1 = the queue's first worker
        instruction(0x57, (9, 0), 0, sharers - 1),
        instruction(0x27, (9, 0), 0, i32::from(queues)),
        instruction(0x0f, (9, 1), 0, 0), // r9 = the worker
        instruction(0x67, (2, 0), 0, 6),
        instruction(0x0f, (2, 9), 0, 0),
        instruction(0x18, (1, 1), 0, map.as_raw_fd()), // r1 = map
        instruction(0, (0, 0), 0, 0),
        instruction(0xb7, (3, 0), 0, XDP_PASS),
        instruction(0x85, (0, 0), 0, 51), // bpf_redirect_map
        instruction(0x95, (0, 0), 0, 0),
        instruction(0xb7, (0, 0), 0, XDP_PASS), // pass
        instruction(0x95, (0, 0), 0, 0),
    ];
    let pass = i16::try_from(code.len()).unwrap() - 2;
    for (at, instruction) in (0_i16..).zip(&mut code) {
        if instruction[2..4] == PASS.to_le_bytes() {
            put(instruction, 2, &(pass - at - 1).to_le_bytes());
        }
    }
    code
}

impl Program {
    /// Loads and attaches the program: `port` is ours, `workers` share each of `queues`.
    pub(crate) fn attach(interface: u32, mode: Mode, port: u16, (queues, workers): (u16, u16)) -> io::Result<Self> {
        let mut create = [0; 72];
        put(&mut create, 0, &MAP_TYPE_XSKMAP.to_ne_bytes());
        put(&mut create, 4, &4_u32.to_ne_bytes());
        put(&mut create, 8, &4_u32.to_ne_bytes());
        put(&mut create, 12, &XSK_ENTRIES.to_ne_bytes());
        let map = owned(bpf(BPF_MAP_CREATE, &mut create)?);
        let code = code(&map, port, queues, workers).concat();
        let mut log = vec![0_u8; 64 * 1024];
        let mut load = [0; 128];
        put(&mut load, 0, &PROG_TYPE_XDP.to_ne_bytes());
        put(&mut load, 4, &u32::try_from(code.len() / 8).unwrap().to_ne_bytes());
        put(&mut load, 8, &(code.as_ptr().addr() as u64).to_ne_bytes());
        put(&mut load, 16, &(c"Apache-2.0".as_ptr().addr() as u64).to_ne_bytes());
        put(&mut load, 24, &1_u32.to_ne_bytes());
        put(&mut load, 28, &u32::try_from(log.len()).unwrap().to_ne_bytes());
        put(&mut load, 32, &(log.as_mut_ptr().addr() as u64).to_ne_bytes());
        let program = bpf(BPF_PROG_LOAD, &mut load).map_err(|error| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            io::Error::new(error.kind(), format!("{error}: {}", String::from_utf8_lossy(&log[..end])))
        })?;
        let program = owned(program);
        let flags: u32 = match mode {
            Mode::Generic => 1 << 1,
            Mode::Native => 1 << 2,
        };
        let mut link = [0; 64];
        put(&mut link, 0, &program.as_raw_fd().to_ne_bytes());
        put(&mut link, 4, &interface.to_ne_bytes());
        put(&mut link, 8, &ATTACH_XDP.to_ne_bytes());
        put(&mut link, 12, &flags.to_ne_bytes());
        let link = owned(bpf(BPF_LINK_CREATE, &mut link)?);
        Ok(Self { map, _program: program, _link: link })
    }

    /// Lets frames of a queue and a worker go to a socket.
    pub(crate) fn insert(&self, pair: Pair, socket: BorrowedFd<'_>) {
        let key = xsk_key(u32::from(pair.queue), u32::from(pair.worker)).to_ne_bytes();
        let value = socket.as_raw_fd().to_ne_bytes();
        let mut update = [0; 32];
        put(&mut update, 0, &self.map.as_raw_fd().to_ne_bytes());
        put(&mut update, 8, &(key.as_ptr().addr() as u64).to_ne_bytes());
        put(&mut update, 16, &(value.as_ptr().addr() as u64).to_ne_bytes());
        bpf(BPF_MAP_UPDATE_ELEM, &mut update).unwrap();
    }
}
