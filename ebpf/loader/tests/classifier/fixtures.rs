// SPDX-License-Identifier: Apache-2.0
//! What goes in and what must come out. One table for the right program and for the wrong ones.

use dataplane_abi::flow::map_v4;
use dataplane_abi::xdp::{FAILURE_WINDOW_NS, XdpConfig, XdpFate};
use ebpf_loader::Maps;

use crate::bed::QUEUES;
use crate::frames::{OUR_V4, OUR_V6, PORT, Shape, datagram, stun};

/// Workers; each has a socket at each queue.
pub(crate) const WORKERS: u32 = 4;
/// Failures of one prefix that are allowed.
const LIMIT: u32 = 5;
/// The worker that answers strangers of queue 0, 1, 2 and 3.
pub(crate) const STRANGERS: [u32; 4] = [3, 0, 2, 1];

/// One frame and its fate.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) frame: Vec<u8>,
    pub(crate) queue: u32,
    pub(crate) fate: XdpFate,
    /// For a redirect: the worker whose socket gets the frame.
    pub(crate) worker: u32,
}

/// Fills the maps as the planes do.
pub(crate) fn prepare(maps: &mut Maps, now_ns: u64) {
    let config = XdpConfig { failure_limit: LIMIT, ..XdpConfig::new(PORT, QUEUES, WORKERS) };
    maps.config.set(&config).expect("config");
    assert_eq!(maps.config.get().expect("config"), config);
    for address in [map_v4(OUR_V4), OUR_V6] {
        maps.locals.insert(address).expect("local");
    }
    for (queue, worker) in (0..).zip(STRANGERS) {
        maps.strangers.set(queue, worker).expect("stranger");
    }
    for (shape, worker) in known() {
        maps.flows.insert(&shape.flow(), worker).expect("flow");
    }
    // Over the limit: 203.0.113/24 and 2020:2020:2021/48. Of another window: 198.51.100/24. Just below: 192.0.3/24.
    let mut fail = |remote: [u8; 16], count: u32, at_ns: u64| {
        for _ in 0..count {
            maps.failures.record(remote, at_ns, FAILURE_WINDOW_NS).expect("failure");
        }
    };
    fail(map_v4([203, 0, 113, 250]), LIMIT, now_ns);
    fail(limited_v6(), LIMIT, now_ns);
    fail(map_v4([198, 51, 100, 1]), LIMIT * 10, now_ns.saturating_sub(FAILURE_WINDOW_NS));
    fail(map_v4([192, 0, 3, 1]), LIMIT - 1, now_ns);
}

fn limited_v6() -> [u8; 16] {
    let mut address = [0x20; 16];
    address[5] = 0x21;
    address
}

/// Admitted flows with their owners.
fn known() -> Vec<(Shape, u32)> {
    vec![(Shape::v4(10, 40_000), 2), (Shape::v4(10, 40_001), 0), (Shape::v6(10, 40_000), 1), (Shape::v6(11, 40_000), 3)]
}

/// Every fixture.
pub(crate) fn all() -> Vec<Fixture> {
    let mut all = Vec::new();
    passed(&mut all);
    of_known_flows(&mut all);
    of_strangers(&mut all);
    all
}

fn add(all: &mut Vec<Fixture>, name: &str, fate: XdpFate, frame: Vec<u8>) {
    all.push(Fixture { name: name.to_owned(), frame, queue: 0, fate, worker: STRANGERS[0] });
}

fn passed(all: &mut Vec<Fixture>) {
    use XdpFate::{PassFragment, PassMalformed, PassNotIp, PassNotUdp, PassOtherAddress, PassOtherPort};
    let (v4, v6) = (Shape::v4(1, 5000), Shape::v6(1, 5000));
    let stun = stun(8);
    let mut arp = vec![0xff; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    add(all, "ARP", PassNotIp, arp);
    let three = v4.clone().with(|s| s.tags = vec![0x88a8, 0x8100, 0x8100]);
    add(all, "three tags", PassMalformed, three.frame(&stun));
    add(
        all,
        "a tag that is cut",
        PassMalformed,
        v4.clone().with(|s| s.tags = vec![0x8100]).frame(&stun)[..17].to_vec(),
    );
    for (name, shape) in [("v4", &v4), ("v6", &v6)] {
        let whole = shape.frame(&stun);
        for cut in [14, 20, whole.len() - 1] {
            add(all, &format!("{name} cut at {cut}"), PassMalformed, whole[..cut].to_vec());
        }
        add(all, &format!("{name} TCP"), PassNotUdp, shape.clone().with(|s| s.protocol = 6).frame(&stun));
        add(all, &format!("{name} other port"), PassOtherPort, shape.clone().with(|s| s.to_port = 53).frame(&stun));
        let elsewhere = shape.clone().with(|s| s.to[15] = 9);
        add(all, &format!("{name} other address, STUN"), PassOtherAddress, elsewhere.frame(&stun));
        add(all, &format!("{name} other address, DTLS"), PassOtherAddress, elsewhere.frame(&datagram(22, 254)));
    }
    let mut version = v4.frame(&stun);
    version[14] = 0x55;
    add(all, "IPv4 with version 5", PassMalformed, version);
    let mut header = v4.frame(&stun);
    header[14] = 0x44;
    add(all, "IPv4 with a header of 16 bytes", PassMalformed, header);
    let mut version = v6.frame(&stun);
    version[14] = 0x40;
    add(all, "IPv6 with version 4", PassMalformed, version);
    add(all, "v4 first fragment", PassFragment, v4.clone().with(|s| s.fragment = 0x2000).frame(&stun));
    add(all, "v4 last fragment", PassFragment, v4.clone().with(|s| s.fragment = 0x0010).frame(&stun));
    let first = v6.clone().with(|s| s.extension = Some((44, [17, 0, 0, 1, 0, 0, 0, 1])));
    add(all, "v6 first fragment", PassFragment, first.frame(&stun));
    let options = v6.clone().with(|s| s.extension = Some((60, [17, 0, 1, 4, 0, 0, 0, 0])));
    add(all, "v6 destination options", PassNotUdp, options.frame(&stun));
    let mut tiny = v4.frame(b"");
    tiny[17] = 24;
    add(all, "v4 without room for UDP", PassMalformed, tiny);
}

fn of_known_flows(all: &mut Vec<Fixture>) {
    for (shape, worker) in known() {
        let family = if shape.frame(b"")[12] == 8 { "v4" } else { "v6" };
        for (queue, what, payload) in [
            (0, "RTP", datagram(128, 96)),
            (1, "RTCP", datagram(128, 200)),
            (2, "DTLS", datagram(22, 254)),
            (3, "STUN", stun(80)),
            (1, "one byte", vec![200]),
            (2, "nothing", Vec::new()),
        ] {
            let name = format!("{family} {what} of worker {worker}'s flow at queue {queue}");
            all.push(Fixture { name, frame: shape.frame(&payload), queue, fate: XdpFate::RedirectFlow, worker });
        }
    }
    let (shape, worker) = known().swap_remove(0);
    let media = datagram(128, 96);
    let fate = XdpFate::RedirectFlow;
    let mut redirect = |name: &str, frame| all.push(Fixture { name: name.to_owned(), frame, queue: 1, fate, worker });
    redirect("one tag", shape.clone().with(|s| s.tags = vec![0x8100]).frame(&media));
    redirect("two tags", shape.clone().with(|s| s.tags = vec![0x88a8, 0x8100]).frame(&media));
    redirect("options", shape.clone().with(|s| s.options = vec![1; 12]).frame(&media));
    redirect("most options", shape.clone().with(|s| s.options = vec![1; 40]).frame(&media));
    let tagged = shape.clone().with(|s| (s.tags, s.options) = (vec![0x88a8, 0x8100], vec![1; 40]));
    redirect("two tags and options", tagged.frame(&media));
    let mut padded = shape.frame(b"x");
    padded.resize(60, 0);
    redirect("padding behind the packet", padded);
    redirect("a UDP length below the packet's", shape.clone().with(|s| s.udp_len_off_by = -4).frame(&media));
    let v6 = known().swap_remove(2).0;
    for tags in [vec![0x8100], vec![0x88a8, 0x8100]] {
        let name = format!("v6 with {} tags", tags.len());
        all.push(Fixture { name, frame: v6.clone().with(|s| s.tags = tags).frame(&media), queue: 1, fate, worker: 1 });
    }
    let atomic = v6.with(|s| s.extension = Some((44, [17, 0, 0, 0, 0, 0, 0, 1])));
    let name = "v6 atomic fragment".to_owned();
    all.push(Fixture { name, frame: atomic.frame(&media), queue: 1, fate, worker: 1 });
    let long = shape.clone().with(|s| s.udp_len_off_by = 1);
    add(all, "known flow, UDP length beyond the packet", XdpFate::DropBadLength, long.frame(&media));
    let below = shape.with(|s| s.udp_len_off_by = -41);
    add(all, "known flow, UDP length of seven", XdpFate::DropBadLength, below.frame(&media));
}

fn of_strangers(all: &mut Vec<Fixture>) {
    use XdpFate::{DropNotStun, DropShort, DropStrangerLimited, RedirectStranger};
    for (family, shape) in [("v4", Shape::v4(1, 5000)), ("v6", Shape::v6(1, 5000))] {
        for (queue, worker) in (0..).zip(STRANGERS) {
            let name = format!("{family} stranger's STUN at queue {queue}");
            let frame = shape.frame(&stun(72));
            all.push(Fixture { name, frame, queue, fate: RedirectStranger, worker });
        }
        add(all, &format!("{family} STUN without attributes"), RedirectStranger, shape.frame(&stun(0)));
        for first in 0..=255_u8 {
            add(all, &format!("{family} first byte {first}"), fate_of(first), shape.frame(&datagram(first, 96)));
        }
        for second in [191, 192, 200, 223, 224] {
            let is_rtcp = (192..=223).contains(&second);
            let fate = if is_rtcp { XdpFate::DropRtcp } else { XdpFate::DropRtp };
            add(all, &format!("{family} payload type byte {second}"), fate, shape.frame(&datagram(144, second)));
        }
        add(all, &format!("{family} empty"), DropShort, shape.frame(b""));
        add(all, &format!("{family} one byte"), DropShort, shape.frame(&[0]));
        for len in [2, 7, 8, 19] {
            let cut = &stun(0)[..len];
            add(all, &format!("{family} STUN cut at {len}"), DropNotStun, shape.frame(cut));
        }
        let cookie = |at: usize| {
            let mut message = stun(8);
            message[at] ^= 1;
            message
        };
        for at in 4..8 {
            add(all, &format!("{family} cookie wrong at {at}"), DropNotStun, shape.frame(&cookie(at)));
        }
        add(all, &format!("{family} STUN length off by one word"), DropNotStun, shape.frame(&stun(12)[..28]));
        add(all, &format!("{family} STUN length of three"), DropNotStun, shape.frame(&stun(3)));
        let long = shape.clone().with(|s| s.udp_len_off_by = 1);
        add(all, &format!("{family} stranger's UDP length"), XdpFate::DropBadLength, long.frame(&stun(8)));
    }
    // A flow is the whole 5-tuple.
    let other_port = Shape::v4(10, 40_002);
    add(all, "known address, other port", XdpFate::DropRtp, other_port.frame(&datagram(128, 96)));
    let from = |address| Shape::v4(1, 5000).with(|s| s.from = address);
    let mut check = |name: &str, fate, remote| {
        let shape = from(map_v4(remote));
        add(all, name, fate, shape.frame(&stun(8)));
    };
    check("v4 prefix over the limit", DropStrangerLimited, [203, 0, 113, 7]);
    check("v4 prefix beside it", RedirectStranger, [203, 0, 112, 7]);
    check("v4 prefix whose window is over", RedirectStranger, [198, 51, 100, 7]);
    check("v4 prefix just below the limit", RedirectStranger, [192, 0, 3, 7]);
    let mut limited = limited_v6();
    limited[6] = 0x55;
    let v6 = |address| Shape::v6(1, 5000).with(|s| s.from = address).frame(&stun(8));
    add(all, "v6 prefix over the limit", DropStrangerLimited, v6(limited));
    limited[5] = 0x22;
    add(all, "v6 prefix beside it", RedirectStranger, v6(limited));
}

/// The fate of a stranger's datagram that is no STUN message (RFC 7983 §7).
fn fate_of(first: u8) -> XdpFate {
    match first {
        0..=3 => XdpFate::DropNotStun,
        16..=19 => XdpFate::DropZrtp,
        20..=63 => XdpFate::DropDtls,
        64..=79 => XdpFate::DropTurnChannel,
        128..=191 => XdpFate::DropRtp,
        4..=15 | 80..=127 | 192..=255 => XdpFate::DropUnknownProtocol,
    }
}
