// SPDX-License-Identifier: Apache-2.0
//! The classifier on a veth with real packets: modes, refusals with the command that helps, and when it is gone again.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataplane_abi::flow::map_v4;
use dataplane_abi::xdp::{XdpConfig, XdpFate};
use ebpf_loader::{AttachError, AttachedMode, Attachment, Classifier, Interface, Maps, Mode, Object, Sizes};

use crate::bed::{Bed, QUEUES, VETH};
use crate::frames::{OUR_V4, OUR_V6, PORT, datagram, stun};

/// Longer than any packet takes through a veth on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(5);

struct Live {
    maps: Maps,
    socket: UdpSocket,
    _attachment: Attachment,
    _classifier: Classifier,
}

/// Attached and configured, with a socket of the kernel at our port and none of AF_XDP.
fn live(mode: Mode) -> Result<Live> {
    let mut classifier = Classifier::load(&Object::from_environment()?, Sizes::default())?;
    let attachment = classifier.attach(VETH, mode, QUEUES)?;
    let mut maps = classifier.maps()?;
    maps.config.set(&XdpConfig::new(PORT, QUEUES, 1))?;
    maps.locals.insert(map_v4(OUR_V4))?;
    maps.locals.insert(OUR_V6)?;
    let socket = UdpSocket::bind(("::", PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(Live { maps, socket, _attachment: attachment, _classifier: classifier })
}

/// Waits until the counter has grown by `by` over `before`.
fn wait_for(maps: &Maps, fate: XdpFate, wanted: u64) -> Result<()> {
    let start = Instant::now();
    while maps.counters.read(fate)? < wanted {
        anyhow::ensure!(start.elapsed() < PATIENCE, "{}: {} of {wanted}", fate.name(), maps.counters.read(fate)?);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn from_peer(bed: &Bed, to: SocketAddr, payloads: &[&[u8]]) -> Result<()> {
    bed.peer.inside(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        for payload in payloads {
            socket.send_to(payload, to)?;
        }
        Ok(())
    })
}

#[test]
fn real_packets_are_judged_in_both_modes_and_families() {
    let Some(bed) = Bed::create("the live veth") else { return };
    for (mode, obtained) in [(Mode::Native, AttachedMode::Native), (Mode::Generic, AttachedMode::Generic)] {
        let live = bed.server.inside(|| live(mode)).expect("attached");
        assert_eq!(live._attachment.mode, obtained);
        let mut sent = 0;
        for to in [SocketAddr::from((OUR_V4, PORT)), SocketAddr::from((OUR_V6, PORT))] {
            sent += 1;
            // Dropped in front of the stack; then STUN, which without an AF_XDP socket goes on to the kernel's.
            from_peer(&bed, to, &[&datagram(22, 254), &datagram(128, 96), &stun(8)]).expect("sent");
            let mut buffer = [0; 100];
            let (len, _) = live.socket.recv_from(&mut buffer).expect("STUN by the kernel's socket");
            assert_eq!(buffer[..len], stun(8)[..]);
            from_peer(&bed, SocketAddr::new(to.ip(), 9), &[b"discard"]).expect("sent");
            for fate in [XdpFate::DropDtls, XdpFate::DropRtp, XdpFate::PassNoSocket, XdpFate::PassOtherPort] {
                wait_for(&live.maps, fate, sent).expect("counted");
                assert_eq!(live.maps.counters.read(fate).expect("counter"), sent, "{}", fate.name());
            }
        }
    }
}

#[test]
fn it_goes_when_the_last_descriptor_does() {
    let Some(bed) = Bed::create("the life of an attachment") else { return };
    let done = bed.server.inside(|| {
        let attached = || Ok::<_, anyhow::Error>(Interface::named(VETH)?.xdp_program.is_some());
        let mut classifier = Classifier::load(&Object::from_environment()?, Sizes::default())?;
        let attachment = classifier.attach(VETH, Mode::Auto, 1)?;
        anyhow::ensure!(attachment.mode == AttachedMode::Native && attachment.why_not_native.is_none());
        let copy = attachment.link_fd()?;
        drop((attachment, classifier));
        anyhow::ensure!(attached()?, "a copy of the descriptor holds it");
        drop(copy);
        let start = Instant::now();
        while attached()? {
            anyhow::ensure!(start.elapsed() < PATIENCE, "still attached");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
    done.expect("carried out");
}

fn refused(mode: Mode, interface: &str, queues: u32) -> Result<AttachError> {
    let mut classifier = Classifier::load(&Object::from_environment()?, Sizes::default())?;
    classifier.attach(interface, mode, queues).err().context("attached")
}

#[test]
fn another_program_is_named_and_left_alone() {
    let Some(bed) = Bed::create("the occupied interface") else { return };
    let done = bed.server.inside(|| {
        let mut first = Classifier::load(&Object::from_environment()?, Sizes::default())?;
        let _attachment = first.attach(VETH, Mode::Generic, 1)?;
        let before = Interface::named(VETH)?.xdp_program;
        let refusal = refused(Mode::Auto, VETH, 1)?.to_string();
        let wanted = format!("ip link set dev {VETH} xdp off");
        anyhow::ensure!(refusal.contains("`millrace_xdp` (id ") && refusal.contains(&wanted), "{refusal}");
        anyhow::ensure!(Interface::named(VETH)?.xdp_program == before);
        Ok(())
    });
    done.expect("carried out");
}

#[test]
fn what_does_not_fit_is_refused_with_the_command_that_helps() {
    let Some(bed) = Bed::create("the refusals") else { return };
    let set_mtu = |end: &tools_netlab::netns::Namespace, mtu| end.ip(&["link", "set", VETH, "mtu", mtu]).expect("mtu");
    let refusal = |mode, interface: &str, queues| {
        let refusal = bed.server.inside(|| refused(mode, interface, queues)).expect("refused");
        refusal.to_string()
    };
    let text = refusal(Mode::Auto, "no-such-if", 1);
    assert!(text.contains("no interface `no-such-if`"), "{text}");
    let text = refusal(Mode::Auto, "a-name-longer-than-any", 1);
    assert!(text.contains("no interface `a-name-longer-than-any`"), "{text}");
    let text = refusal(Mode::Auto, VETH, QUEUES + 1);
    assert!(
        text.contains("has 4 receive queues, 5 are needed") && text.contains("ethtool -L veth0 combined 5"),
        "{text}"
    );
    set_mtu(&bed.server, "9000");
    set_mtu(&bed.peer, "9000");
    let text = refusal(Mode::Native, VETH, 1);
    assert!(text.contains("MTU 9000") && text.contains("ip link set dev veth0 mtu 3498"), "{text}");
    set_mtu(&bed.server, "1500");
    let text = refusal(Mode::Native, VETH, 1);
    assert!(text.contains("peer of veth0") && text.contains("mtu 3498"), "{text}");
    let done = bed.server.inside(|| {
        let mut classifier = Classifier::load(&Object::from_environment()?, Sizes::default())?;
        let attachment = classifier.attach(VETH, Mode::Auto, 1)?;
        let why = attachment.why_not_native.context("generic without a reason")?;
        anyhow::ensure!(attachment.mode == AttachedMode::Generic && why.to_string().contains("peer of veth0"), "{why}");
        Ok(())
    });
    done.expect("auto takes what the driver cannot");
    set_mtu(&bed.peer, "1500");
    // The peer sends on more queues than we receive on.
    let fewer = bed.server.command("ethtool").args(["-L", VETH, "rx", "1"]).status().expect("ethtool");
    assert!(fewer.success());
    let text = refusal(Mode::Native, VETH, 1);
    assert!(text.contains("ethtool -L veth0"), "{text}");
}

#[test]
fn an_interface_without_native_xdp_gets_the_generic_one_and_the_reason() {
    let Some(bed) = Bed::create("the bridge") else { return };
    bed.server.ip(&["link", "add", "br0", "type", "bridge"]).expect("a bridge");
    let done = bed.server.inside(|| {
        let mut classifier = Classifier::load(&Object::from_environment()?, Sizes::default())?;
        let refusal = classifier.attach("br0", Mode::Native, 1).err().context("attached")?.to_string();
        anyhow::ensure!(refusal.contains("driver of br0 does not run XDP"), "{refusal}");
        let attachment = classifier.attach("br0", Mode::Auto, 1)?;
        anyhow::ensure!(attachment.mode == AttachedMode::Generic && attachment.mode.name() == "generic");
        let why = attachment.why_not_native.context("no reason")?.to_string();
        anyhow::ensure!(why.contains("br0 does not run XDP"), "{why}");
        Ok(())
    });
    done.expect("carried out");
}

#[test]
fn an_interface_is_described_as_ip_link_does() {
    let Some(bed) = Bed::create("the interface's facts") else { return };
    bed.server.ip(&["link", "set", VETH, "address", "02:00:5e:10:20:30", "mtu", "1400"]).expect("set");
    let found = bed.server.inside(|| Ok(Interface::named(VETH)?)).expect("asked");
    assert_eq!(found.mac, [2, 0, 0x5e, 0x10, 0x20, 0x30]);
    assert_eq!((found.mtu, found.rx_queues, found.xdp_program, found.name.as_str()), (1400, QUEUES, None, VETH));
    assert!(found.index > 0);
}
