# SPDX-License-Identifier: Apache-2.0
"""libsrtp behind stdin and stdout, one line each way, for tests/oracle_libsrtp.rs.

  context NAME PROFILE tx|rx KEY_AND_SALT_HEX   makes a session; PROFILE is the IANA number
  CALL NAME PACKET_HEX                          CALL is protect, unprotect, protect_rtcp, unprotect_rtcp

Answers "+HEX", or "-REASON". It touches no network and no file.
"""

import sys

from pylibsrtp import Error, Policy, Session

PROFILES = {
    1: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    7: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    8: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
CALLS = ("protect", "unprotect", "protect_rtcp", "unprotect_rtcp")


def make_session(profile, direction, key):
    policy = Policy(
        key=bytes.fromhex(key),
        ssrc_type=Policy.SSRC_ANY_OUTBOUND if direction == "tx" else Policy.SSRC_ANY_INBOUND,
        srtp_profile=PROFILES[int(profile)],
    )
    policy.window_size = 1024
    return Session(policy=policy)


def main():
    sessions = {}
    for line in sys.stdin:
        call, name, *rest = line.split()
        try:
            if call == "context":
                sessions[name] = make_session(*rest)
                answer = "+"
            elif call in CALLS:
                answer = "+" + getattr(sessions[name], call)(bytes.fromhex(rest[0])).hex()
            else:
                answer = "-unknown call"
        except Error as error:
            answer = "-" + str(error)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


main()
