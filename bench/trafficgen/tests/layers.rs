// SPDX-License-Identifier: Apache-2.0
//! Descriptors of video as the server's own parser reads them, and what a receiver of fewer layers of VP9 would have to be sent.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use bench_trafficgen::Shape;
    use bench_trafficgen::options::Options;
    use bench_trafficgen::payload;
    use bench_trafficgen::sender::Sender;
    use bench_trafficgen::session::{self, End};
    use bench_trafficgen::svc::Svc;
    use dataplane_table::Table;
    use dataplane_wire::codec::{Codec, FrameInfo, parse};
    use rustix::net::sockopt;

    const RECEIVE_BYTES: usize = 16 << 20;

    /// A packet as the server reads it.
    struct Got {
        seq: u16,
        timestamp: u32,
        marker: bool,
        info: FrameInfo,
    }

    /// What a VP9 camera with these layers sends in a while.
    fn sent(mode: &str, is_flexible: bool) -> Vec<Got> {
        let svc = Svc { is_flexible, ..mode.parse().expect("a mode") };
        sent_by(Codec::Vp9, &Options { svc, ..Options::default() })
    }

    /// What a camera sends in a while.
    fn sent_by(codec: Codec, options: &Options) -> Vec<Got> {
        let name = match codec {
            Codec::Vp8 => "vp8",
            Codec::Vp9 => "vp9",
            Codec::H264 => "h264",
            Codec::Av1 => "av1",
            Codec::Opus => "opus",
        };
        let server = UdpSocket::bind("127.0.0.1:0").expect("bound");
        server.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        // Read when all has been sent. Without the right to force it, the default has room for half a second.
        let _ = sockopt::set_socket_recv_buffer_size_force(&server, RECEIVE_BYTES);
        let text = format!(
            r#"{{ "server": "{}", "publisher": [{{ "name": "a", "remote": "127.0.0.1:0",
                "track": [{{ "codec": "{name}", "pt": 98, "ssrc": 7 }}] }}] }}"#,
            server.local_addr().expect("an address")
        );
        let plan = serde_json::from_str::<Table>(&text).expect("a table").plan().expect("a plan");
        let mut options = options.clone();
        options.video.keyframe_every = 20;
        let sender = Sender::open(&plan, &options).expect("open");
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let running = scope.spawn(|| sender.run(&stop, &count));
            std::thread::sleep(Duration::from_secs(1));
            stop.store(true, Ordering::Relaxed);
            running.join().expect("no panic");
        });
        let mut session = session::open(plan.cipher, &plan.publishers[0].keys, End::ToServer).expect("keys");
        let (mut got, mut buffer) = (Vec::new(), [0; 2000]);
        while let Ok(len) = server.recv(&mut buffer) {
            let plain = session.decrypt_rtp(&buffer[..len]).expect("authentic");
            let said = payload::read_of(name, &plain[12..]).expect("as it was sent");
            assert_eq!((said.ssrc, said.number), (7, got.len() as u64));
            got.push(Got {
                seq: u16::from_be_bytes([plain[2], plain[3]]),
                timestamp: u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]),
                marker: plain[1] & 0x80 != 0,
                info: parse(codec, &plain[12..], None).expect("a descriptor"),
            });
        }
        assert_eq!(got.len() as u64, count.load(Ordering::Relaxed), "loopback loses nothing");
        got
    }

    fn pictures(got: &[Got]) -> impl Iterator<Item = &[Got]> {
        got.chunk_by(|one, next| one.timestamp == next.timestamp)
    }

    #[test]
    fn every_codec_has_pictures_that_begin_once_and_keyframes_that_are_seen() {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
            // Pictures of five packets, and of one: what is longer than a packet is cut by each codec's own rules.
            for rate in [150.0, 30.0] {
                let video = Shape { packet_rate: rate, ..Shape::VIDEO };
                let got = sent_by(codec, &Options { video, ..Options::default() });
                for picture in pictures(&got) {
                    let begins = picture.iter().filter(|packet| packet.info.frame_start).count();
                    // A keyframe of H.264 begins with its parameter sets, and once more with its slice.
                    let most = 1 + usize::from(codec == Codec::H264 && picture[0].info.keyframe_start);
                    assert!(picture[0].info.frame_start && (1..=most).contains(&begins), "{codec:?}: {begins}");
                    let last = picture.last().expect("packets");
                    assert!(last.marker && picture.iter().filter(|packet| packet.marker).count() == 1, "{codec:?}");
                }
                let firsts: Vec<bool> = pictures(&got).map(|picture| picture[0].info.keyframe_start).collect();
                assert!(
                    firsts.iter().enumerate().all(|(at, is_key)| *is_key == (at % 20 == 0)),
                    "{codec:?}: {firsts:?}"
                );
                if codec != Codec::Vp8 {
                    let sizes = got.iter().filter_map(|packet| packet.info.resolution);
                    assert!(sizes.map(|size| (size.width, size.height)).eq([(1280, 720); 2]), "{codec:?}");
                }
            }
        }
    }

    #[test]
    fn each_picture_has_all_its_layers_in_order_and_each_layer_its_marks() {
        for (mode, layers) in [("L1T1", 1), ("L1T3", 1), ("L2T2", 2), ("L3T3", 3), ("L3T3_KEY", 3)] {
            let got = sent(mode, false);
            assert!(got.len() > 100, "{mode}: {}", got.len());
            for picture in pictures(&got) {
                let parts: Vec<_> = picture.chunk_by(|one, next| one.info.spatial_id == next.info.spatial_id).collect();
                assert!(parts.iter().map(|part| part[0].info.spatial_id).eq(0..layers), "{mode}");
                for part in parts {
                    let ends = part.iter().filter(|packet| packet.info.frame_end_hint).count();
                    let begins = part.iter().filter(|packet| packet.info.frame_start).count();
                    assert_eq!((begins, ends), (1, 1), "{mode}");
                    assert!(part[0].info.frame_start && part[part.len() - 1].info.frame_end_hint, "{mode}");
                }
                let (last, before) = picture.split_last().expect("packets");
                assert!(last.marker && before.iter().all(|packet| !packet.marker), "{mode}: M ends a picture");
                let ids: BTreeSet<_> = picture.iter().map(|packet| packet.info.picture_id.map(|id| id.value)).collect();
                assert_eq!(ids.len(), 1, "{mode}: one picture id");
            }
            let keyframes = got.iter().filter(|packet| packet.info.keyframe_start).count();
            let structures = got.iter().filter(|packet| packet.info.resolution.is_some()).count();
            assert!(
                keyframes >= 2 && keyframes == structures,
                "{mode}: {keyframes} keyframes, {structures} structures"
            );
        }
    }

    #[test]
    fn temporal_layers_take_turns_and_tl0picidx_counts_the_lowest() {
        for is_flexible in [false, true] {
            let got = sent("L2T3", is_flexible);
            let firsts: Vec<&FrameInfo> = pictures(&got).map(|picture| &picture[0].info).collect();
            let layers: Vec<u8> = firsts.iter().map(|info| info.temporal_id).collect();
            assert_eq!(layers[..8], [0, 2, 1, 2, 0, 2, 1, 2]);
            let counts: Vec<_> = firsts.iter().map(|info| info.tl0_pic_idx.map(|field| field.value)).collect();
            let wanted = [0, 0, 0, 0, 1, 1, 1, 1].map(|count| (!is_flexible).then_some(count));
            assert_eq!(counts[..8], wanted, "flexible mode has none");
        }
    }

    /// MEDIA_RULES N2 and N5: whoever watches a spatial and a temporal layer is sent those layers that it builds on, and each
    /// packet that is sent can be decoded from those before it.
    #[test]
    fn whoever_watches_lower_layers_can_decode_them_without_the_others() {
        for mode in ["L3T3", "L3T3_KEY"] {
            let got = sent(mode, false);
            for (spatial, temporal) in [(0, 0), (1, 1), (2, 2), (0, 2), (2, 0)] {
                let is_wanted = |info: &FrameInfo| {
                    info.temporal_id <= temporal
                        && (info.spatial_id == spatial || info.spatial_id < spatial && !info.not_upper_reference)
                };
                let wanted: Vec<&Got> = got.iter().filter(|packet| is_wanted(&packet.info)).collect();
                if (spatial, temporal) == (2, 2) && mode == "L3T3" {
                    assert_eq!(wanted.len(), got.len(), "the topmost layers are all of it");
                } else {
                    assert!(wanted.len() < got.len(), "{mode} {spatial} {temporal}");
                }
                assert_decodes(&wanted, spatial);
                let left_out = got.iter().filter(|packet| !is_wanted(&packet.info)).map(|packet| packet.seq);
                assert_eq!(wanted.len() + left_out.count(), got.len());
            }
        }
    }

    /// Follows P and D as a decoder does.
    fn assert_decodes(wanted: &[&Got], spatial: u8) {
        let mut had = [false; 3];
        let mut shown = 0;
        for picture in wanted.chunk_by(|one, next| one.timestamp == next.timestamp) {
            let mut in_picture = [false; 3];
            for packet in picture.iter().filter(|packet| packet.info.frame_start) {
                let at = usize::from(packet.info.spatial_id);
                assert!(!packet.info.inter_picture || had[at], "P: the layer has a picture before");
                assert!(!packet.info.inter_layer || in_picture[at - 1], "D: the layer below is in this picture");
                (had[at], in_picture[at]) = (true, true);
            }
            shown += u32::from(in_picture[usize::from(spatial)]);
        }
        assert!(shown >= 7, "{shown} pictures");
    }
}
