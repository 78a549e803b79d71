// SPDX-License-Identifier: Apache-2.0
//! The XDP program behind every system that is measured. It counts what each receiver gets, notes when probes came, lets a few
//! packets through so that somebody decrypts them, and drops the rest: the same work for everybody's packets.
//!
//! One queue feeds it, so that nobody else writes the maps while it runs. It must never change a byte of a frame, or drop what
//! is not sent to a receiver.
#![no_std]
#![no_main]

#[allow(dead_code, reason = "the reader needs the rest")]
mod layout;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::XdpContext;

use layout::{CONFIG_WORDS, PROBE_ENTRIES, PROBE_IDS, STREAM_WORDS, TOTAL_ENTRIES};

type Stream = [u64; STREAM_WORDS];

#[map]
static CONFIG: Array<[u64; CONFIG_WORDS]> = Array::with_max_entries(1, 0);
#[map]
static STREAMS: HashMap<u64, Stream> = HashMap::with_max_entries(65_536, 0);
#[map]
static PROBES: Array<[u64; 2]> = Array::with_max_entries(PROBE_ENTRIES, 0);
#[map]
static TOTALS: Array<u64> = Array::with_max_entries(TOTAL_ENTRIES, 0);

/// Ethernet, IPv4 without options, UDP.
const HEADS: usize = 14 + 20 + 8;
const RTP_HEAD: usize = 12;

/// The program.
#[xdp]
pub fn millrace_sink(ctx: XdpContext) -> u32 {
    let Some(config) = CONFIG.get(0) else { return XDP_PASS };
    let Some(heads) = read::<HEADS>(&ctx, 0) else { return pass_other() };
    let is_udp = heads[12] == 8 && heads[13] == 0 && heads[14] == 0x45 && heads[23] == 17;
    let to = u32::from_be_bytes([heads[30], heads[31], heads[32], heads[33]]);
    let receiver = to.wrapping_sub(config[layout::BASE] as u32);
    if !is_udp || receiver >= config[layout::COUNT] as u32 {
        return pass_other();
    }
    let Some(first) = read::<2>(&ctx, HEADS) else { return drop_as(layout::UNKNOWN) };
    // RFC 7983 §7, RFC 5761 §4.
    match first {
        [128..=191, 192..=223] | [0..=3, _] | [20..=63, _] => {
            count(layout::CONTROL);
            if config[layout::PASS_CONTROL] != 0 { XDP_PASS } else { XDP_DROP }
        }
        [128..=191, _] => match read::<RTP_HEAD>(&ctx, HEADS) {
            Some(rtp) => {
                let len = u16::from_be_bytes([heads[38], heads[39]]).wrapping_sub(8);
                media(config, receiver, &rtp, len)
            }
            None => drop_as(layout::UNKNOWN),
        },
        _ => drop_as(layout::UNKNOWN),
    }
}

/// Counts an RTP packet.
#[inline(always)]
fn media(config: &[u64; CONFIG_WORDS], receiver: u32, rtp: &[u8; RTP_HEAD], len: u16) -> u32 {
    let seq = u16::from_be_bytes([rtp[2], rtp[3]]);
    let timestamp = u32::from_be_bytes([rtp[4], rtp[5], rtp[6], rtp[7]]);
    let ssrc = u32::from_be_bytes([rtp[8], rtp[9], rtp[10], rtp[11]]);
    let key = (u64::from(receiver) << 32) | u64::from(ssrc);
    let stream = match STREAMS.get_ptr_mut(&key) {
        Some(stream) => stream,
        None => {
            let fresh = [0, 0, u64::from(seq), u64::from(seq), 0, u64::from(timestamp), 0, 0];
            if STREAMS.insert(&key, &fresh, 0).is_err() {
                return drop_as(layout::NO_ROOM);
            }
            match STREAMS.get_ptr_mut(&key) {
                Some(stream) => stream,
                None => return drop_as(layout::NO_ROOM),
            }
        }
    };
    // SAFETY: no other reference to the value because one queue runs this program one packet at a time, and the reader copies.
    let stream = unsafe { &mut *stream };
    let number = stream[layout::PACKETS];
    stream[layout::PACKETS] = number + 1;
    stream[layout::BYTES] += u64::from(len);
    stream[layout::MARKERS] += u64::from(rtp[1] >> 7);
    let ahead = seq.wrapping_sub(stream[layout::TOP] as u16);
    if ahead == 0 || ahead >= 0x8000 {
        stream[layout::BACKWARD] += u64::from(number != 0);
    } else {
        stream[layout::TOP] += u64::from(ahead);
    }
    let step = timestamp.wrapping_sub(stream[layout::TIMESTAMP] as u32);
    if step != 0 && step < 0x8000_0000 {
        stream[layout::TIMESTAMP] = u64::from(timestamp);
        probe(config, receiver, step);
    }
    count(layout::RTP);
    let every = config[layout::SAMPLE_EVERY];
    let stride = config[layout::SAMPLE_STRIDE];
    if every != 0 && number % every == 0 && stride != 0 && u64::from(receiver) % stride == 0 {
        count(layout::SAMPLES);
        return XDP_PASS;
    }
    XDP_DROP
}

/// Notes the arrival of a probe.
#[inline(always)]
fn probe(config: &[u64; CONFIG_WORDS], receiver: u32, step: u32) {
    let video = step.wrapping_sub(config[layout::STEPS[0]] as u32);
    let audio = step.wrapping_sub(config[layout::STEPS[1]] as u32);
    let what = if video.wrapping_sub(1) < PROBE_IDS {
        video
    } else if audio.wrapping_sub(1) < PROBE_IDS {
        audio | (1 << 16)
    } else {
        return;
    };
    let Some(seen) = TOTALS.get_ptr_mut(layout::PROBES_SEEN) else { return };
    // SAFETY: nobody else writes it because one queue runs this program one packet at a time.
    let seen = unsafe { &mut *seen };
    let at = *seen as u32;
    *seen += 1;
    if let Some(place) = PROBES.get_ptr_mut(at) {
        // SAFETY: the helper has no precondition because it only reads the clock.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        // SAFETY: as above.
        unsafe { *place = [now_ns, (u64::from(receiver) << 32) | u64::from(what)] };
    }
}

#[inline(always)]
fn pass_other() -> u32 {
    count(layout::OTHERS);
    XDP_PASS
}

#[inline(always)]
fn drop_as(counter: u32) -> u32 {
    count(counter);
    XDP_DROP
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(counter) = TOTALS.get_ptr_mut(counter) {
        // SAFETY: nobody else writes it because one queue runs this program one packet at a time.
        unsafe { *counter += 1 };
    }
}

/// Bytes of the frame, where it has them.
#[inline(always)]
fn read<const N: usize>(ctx: &XdpContext, at: usize) -> Option<[u8; N]> {
    let start = ctx.data() + at;
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes are there because `start + N` does not reach beyond the frame's end.
    Some(unsafe { (start as *const [u8; N]).read_unaligned() })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program with a loop that does not end.
    loop {}
}

/// The kernel wants it in this section; none of the helpers above is for GPL programs only (Linux ≥ 5.8).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
