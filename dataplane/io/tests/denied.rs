// SPDX-License-Identifier: Apache-2.0
//! Where io_uring is denied, plain sockets serve, and the port says why.
//!
//! The test runs itself again in a child that has given up io_uring by a seccomp filter.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "an integration test is a test module")]

use std::net::UdpSocket;
use std::process::Command;

use dataplane_io::open::{Backend, SocketPort, open_socket_port};
use dataplane_io::port::{Port, PortKind};
use dataplane_io::socket::SocketConfig;

const CHILD: &str = "MILLRACE_TEST_DENIED";

const fn statement(code: u32, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "BPF codes have 16 bits")]
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k: value }
}

/// Every io_uring call of this thread and its children is answered with `errno`.
fn deny(errno: i32) {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let [setup, enter, register] = calls.map(|call| u32::try_from(call).unwrap());
    let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let mut filter = [
        // The call's number lies at offset 0 of seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, setup, 3, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, enter, 2, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, register, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, answer, 0, 0),
    ];
    let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
    // SAFETY: because the call takes integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
    // SAFETY: because program and filter outlive the call, and the filter's length is its own.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) }, 0);
}

#[test]
fn denied_io_uring_falls_back_to_sockets_and_says_why() {
    let Some(errno) = std::env::var(CHILD).ok().map(|errno| errno.parse::<i32>().unwrap()) else {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "denied_io_uring_falls_back_to_sockets_and_says_why", "--nocapture"])
                .env(CHILD, errno.to_string())
                .status()
                .unwrap();
            assert!(status.success());
        }
        return;
    };
    deny(errno);
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket();
    let number = own.local_addr().unwrap();
    let (mut port, fallback) = open_socket_port(own.into(), Backend::Auto, SocketConfig::default()).unwrap();
    assert!(matches!(port, SocketPort::Sockets(_)) && port.kind() == PortKind::Sockets);
    let fallback = fallback.unwrap();
    assert_eq!(fallback.0.source.raw_os_error(), Some(errno));
    assert!(fallback.to_string().contains("io_uring_setup"), "{fallback}");
    socket().send_to(b"works", number).unwrap();
    while port.receive(64) == 0 {}
    assert_eq!(port.packet(0).unwrap().0, b"works");
    let error = open_socket_port(socket().into(), Backend::Uring, SocketConfig::default()).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(errno));
}
