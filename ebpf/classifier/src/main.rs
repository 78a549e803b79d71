// SPDX-License-Identifier: Apache-2.0
//! The XDP program in front of the media port. It sends a known flow's frames to the socket of the worker that owns the
//! flow and an unknown source's STUN to the worker that answers strangers, drops what else strangers send to our port,
//! and leaves everything that is not for our port to the kernel.
//!
//! Every frame has one fate ([`XdpFate`]), counted per CPU. It must never look into a payload beyond its first eight
//! bytes, change a byte of a frame, or drop a frame that is not for our port and address.
#![no_std]
#![no_main]

mod frame;
mod mutant;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::WORKERS;
use dataplane_abi::xdp::{
    COUNTER_ENTRIES, FAILURE_ENTRIES, FailureEntry, FailureKey, FlowEntry, LOCAL_ENTRIES, LocalEntry, QUEUES,
    StrangerEntry, UNSTAMPED, Verdict, XDP_VERSION, XSK_ENTRIES, XdpConfig, XdpFate, flow_entries,
};
use dataplane_wire::demux::{Class, classify, is_rtcp};
use dataplane_wire::stun::may_be_message;
use dataplane_wire::{FrameError, UdpHead, Window, parse_head};

use crate::frame::Frame;

/// The loader asks for as many as the server has room for; this is what the object says.
const TRANSPORTS: u32 = 8192;

#[map]
static FLOWS: HashMap<FlowKey, FlowEntry> = HashMap::with_max_entries(flow_entries(TRANSPORTS), 0);
#[map]
static XSKS: XskMap = XskMap::with_max_entries(XSK_ENTRIES, 0);
#[map]
static STRANGERS: Array<StrangerEntry> = Array::with_max_entries(QUEUES as u32, 0);
#[map]
static FAILURES: LruHashMap<FailureKey, FailureEntry> = LruHashMap::with_max_entries(FAILURE_ENTRIES, 0);
#[map]
static LOCALS: HashMap<[u8; 16], LocalEntry> = HashMap::with_max_entries(LOCAL_ENTRIES, 0);
#[map]
static CONFIG: Array<XdpConfig> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);

/// Where a frame goes that is not decided by its headers alone.
struct Target {
    fate: XdpFate,
    worker: u32,
}

/// The program.
#[xdp]
pub fn millrace_xdp(ctx: XdpContext) -> u32 {
    let fate = match judge(&ctx) {
        Ok(target) => redirect(&ctx, &target),
        Err(fate) => fate,
    };
    count(fate.index() as u32);
    match fate.verdict() {
        Verdict::Pass => XDP_PASS,
        Verdict::Redirect => XDP_REDIRECT,
        Verdict::Drop => XDP_DROP,
    }
}

/// Decides by headers and maps; `Err` is a fate that needs no socket.
#[inline(always)]
fn judge(ctx: &XdpContext) -> Result<Target, XdpFate> {
    let frame = Frame::of(ctx);
    let config = CONFIG.get(0).ok_or(XdpFate::PassNotConfigured)?;
    if config.version != XDP_VERSION {
        return Err(XdpFate::PassNotConfigured);
    }
    let head = parse_head(frame).map_err(fate_of)?;
    if u32::from(head.dst_port) != config.media_port {
        return Err(XdpFate::PassOtherPort);
    }
    // SAFETY: the entry is not read, and that it is there is all that is asked.
    if !mutant::ANY_ADDRESS && unsafe { LOCALS.get(head.dst_ip) }.is_none() {
        return Err(XdpFate::PassOtherAddress);
    }
    let payload_len = head.payload_len().map_err(|_| XdpFate::DropBadLength)?;
    // SAFETY: a worker may overwrite the entry meanwhile; both old and new worker are one that exists.
    if let Some(entry) = unsafe { FLOWS.get(flow_of(&head)) } {
        return Ok(Target { fate: XdpFate::RedirectFlow, worker: entry.worker });
    }
    judge_stranger(ctx, config, frame, &head, payload_len)
}

/// An unknown source may send STUN, as long as its prefix does not fail too often.
#[inline(always)]
fn judge_stranger(
    ctx: &XdpContext,
    config: &XdpConfig,
    frame: Frame,
    head: &UdpHead,
    payload_len: usize,
) -> Result<Target, XdpFate> {
    if payload_len < 2 {
        return Err(XdpFate::DropShort);
    }
    let first: [u8; 2] = frame.array(head.payload_offset).ok_or(XdpFate::DropShort)?;
    let class = classify(&first[..1]);
    if !mutant::ANY_STRANGER && !matches!(class, Class::Stun) {
        return Err(match class {
            Class::Zrtp => XdpFate::DropZrtp,
            Class::Dtls => XdpFate::DropDtls,
            Class::TurnChannel => XdpFate::DropTurnChannel,
            Class::RtpOrRtcp if is_rtcp(&first) => XdpFate::DropRtcp,
            Class::RtpOrRtcp => XdpFate::DropRtp,
            Class::Stun | Class::Unknown => XdpFate::DropUnknownProtocol,
        });
    }
    let start: [u8; 8] = frame.array(head.payload_offset).ok_or(XdpFate::DropNotStun)?;
    if !mutant::ANY_STRANGER && !may_be_message(start, payload_len) {
        return Err(XdpFate::DropNotStun);
    }
    // SAFETY: a worker may overwrite the entry meanwhile; a torn one is off by one failure or one window.
    if let Some(failures) = unsafe { FAILURES.get(FailureKey::of(head.src_ip)) } {
        // SAFETY: the helper has no precondition because it only reads the clock.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        if !mutant::NO_LIMIT && failures.is_limited(now_ns, config.failure_limit, config.failure_window_ns) {
            return Err(XdpFate::DropStrangerLimited);
        }
    }
    let entry = STRANGERS.get(ctx.rx_queue_index()).ok_or(XdpFate::PassNoSocket)?;
    Ok(Target { fate: XdpFate::RedirectStranger, worker: entry.worker })
}

/// Stamps the frame and sends it to the worker's socket at this queue; without one it goes on as it came.
#[inline(always)]
fn redirect(ctx: &XdpContext, target: &Target) -> XdpFate {
    if target.worker >= WORKERS as u32 {
        return XdpFate::PassNoSocket;
    }
    let key = mutant::xsk_key(ctx.rx_queue_index(), target.worker);
    if XSKS.get(key).is_none() {
        return XdpFate::PassNoSocket;
    }
    if !frame::stamp(ctx) {
        count(UNSTAMPED);
    }
    match XSKS.redirect(key, u64::from(XDP_PASS)) {
        Ok(_) => target.fate,
        Err(_) => XdpFate::PassNoSocket,
    }
}

#[inline(always)]
const fn fate_of(error: FrameError) -> XdpFate {
    match error {
        FrameError::NotIp => XdpFate::PassNotIp,
        FrameError::Fragment => XdpFate::PassFragment,
        FrameError::NotUdp => XdpFate::PassNotUdp,
        FrameError::Truncated | FrameError::TooManyTags | FrameError::BadIp | FrameError::BadUdp => {
            XdpFate::PassMalformed
        }
    }
}

#[inline(always)]
fn flow_of(head: &UdpHead) -> FlowKey {
    FlowKey {
        local: mutant::address(head.dst_ip, head.is_ipv4),
        remote: mutant::address(head.src_ip, head.is_ipv4),
        local_port: head.dst_port,
        remote_port: head.src_port,
        reserve: 0,
    }
}

#[inline(always)]
fn count(slot: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: no other writer because the slot is this CPU's and XDP programs of one CPU do not interrupt each other.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
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
