#!/usr/bin/env bash
# sdp-transform 1.1.0 (PyPI) turns each text that Python's int() or float() accepts into a number.
# 42e028, H.264's constrained baseline profile at level 4.0, is read as 4.2 * 10^29. A description
# that was read cannot be written back: leading zeros are gone from the session's name, the mid and
# the ICE user name, and with the last one connectivity checks fail.
# RFC 6184, section 8.1: profile-level-id is base 16. RFC 8866, section 5.3, RFC 5888, section 4,
# and RFC 8839, section 5.4: name, mid and ice-ufrag are texts.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sdp-transform==1.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import sdp_transform

DESCRIPTION = """v=0
o=- 3890 1 IN IP4 10.0.0.1
s=0712
t=0 0
m=video 5000 RTP/AVP 96
c=IN IP4 10.0.0.1
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42e028
a=ice-ufrag:0042
a=ice-pwd:Zr7cT0pWq4LmXs9vBn2KdE
a=mid:01
"""

read = sdp_transform.parse(DESCRIPTION)
(media,) = read["media"]
parameters = sdp_transform.parseParams(media["fmtp"][0]["config"])
written = sdp_transform.write(read).splitlines()
lost = [line for line in DESCRIPTION.splitlines() if line not in written]
print("level 4.0, 42e028:", parameters["profile-level-id"])
print("not written back: ", lost)
raise SystemExit(
    parameters["profile-level-id"] != 4.2e29
    or lost != ["s=0712", "a=ice-ufrag:0042", "a=mid:01"]
)
PYTHON
