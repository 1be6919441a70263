"""`mcr import`: configurations of other programs become ours, with comments on what is left."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr.cli import main
from mcr.config.document import FileContent
from mcr.config.importers import FORMATS
from mcr.config.importers.json5 import parse_json5
from mcr.config.reader import read_files
from mcr.errors import ConfigError

SMCROUTE = """
phyint eth0 enable ttl-threshold 11   # a comment
mgroup from eth0 group 225.1.2.3
mroute from eth0 source 192.168.1.42 group 225.1.2.3 to eth1 eth2
mroute from eth0 source 10.0.0.0/8 group 225.0.0.0/24 to eth1
mroute from eth0 group ff3e::1 to eth1
include /etc/smcroute.d/*.conf
"""
SAMPLICATOR = """
# listen 10.0.0.1:2055
10.0.0.5: 192.0.2.7/9000 192.0.2.8
10.1.0.0/255.255.0.0: 192.0.2.9/9000/1,5
0.0.0.0/0: 192.0.2.10/9001/10 192.0.2.11/9002
"""
RELAY = """
python3 multicast-relay.py --interfaces eth0 wlan0 --noSSDP --noSonosDiscovery
    --relay 239.9.9.9:7 --aclInterface x
"""
MCRD = r"""
// written by hand
{
  pinning: { eth0: [0, 0x1,], },
  multicast_ttl: 8, /* for all */
  'rules': [
    { name: "feed\x2da", input: { interface: 'eth0', group: "239.1.1.1", port: 5001 },
      outputs: [ { group: "239.2.0.1", port: 6001, interface: "eth1" },
                 { group: "239.2.0.2", port: 6001, interface: "eth1", ttl: 3 }, ] },
    { input: { interface: 'eth0', group: "239.1.1.2", port: 1, protocol: "esp" }, outputs: [] },
  ],
  igmp: {},
}
"""
KEEP = "ttl=decrement,source=keep,sport=keep"
SAME = "ttl=keep,source=keep,sport=keep"


@pytest.mark.parametrize(
    ("name", "text", "rules", "comments"),
    [
        (
            "smcroute",
            SMCROUTE,
            [
                f"192.168.1.42@225.1.2.3%eth0:1-65535 to 225.1.2.3%eth1:1-65535,{KEEP}"
                f" 225.1.2.3%eth2:1-65535,{KEEP}",
                f"225.0.0.0/24%eth0:1-65535 to 225.0.0.0/24%eth1:1-65535,{KEEP}",
                f"ff3e::1%eth0:1-65535 to ff3e::1%eth1:1-65535,{KEEP}",
            ],
            ["line 2: mcr has no TTL threshold", "senders 10.0.0.0/8", "smcroute.d/*.conf as well"],
        ),
        (
            "samplicator",
            SAMPLICATOR,
            [
                "10.0.0.5@10.0.0.1:2055 to 192.0.2.7:9000 192.0.2.8:2000",
                "10.0.0.1:2055 to 192.0.2.9:9000,ttl=5",
                "10.0.0.1:2055 to 192.0.2.11:9002",
            ],
            ["only the senders 10.1.0.0/16", "one of 10 datagrams went to 192.0.2.10"],
        ),
        (
            "multicast-relay",
            RELAY,
            [
                f"224.0.0.251%eth0:5353 to 224.0.0.251%wlan0:5353,{SAME}",
                f"224.0.0.251%wlan0:5353 to 224.0.0.251%eth0:5353,{SAME}",
                f"239.9.9.9%eth0:7 to 239.9.9.9%wlan0:7,{SAME}",
                f"239.9.9.9%wlan0:7 to 239.9.9.9%eth0:7,{SAME}",
            ],
            ["--aclInterface has no counterpart: x"],
        ),
        (
            "mcrd",
            MCRD,
            [
                "239.1.1.1%eth0:5001,name=feed-a to 239.2.0.1%eth1:6001,ttl=8"
                " 239.2.0.2%eth1:6001,ttl=3"
            ],
            ["igmp has no counterpart", "daemon.cpus", "rule 2: mcr relays UDP, and no esp"],
        ),
    ],
)
def test_a_configuration_is_imported(
    name: str,
    text: str,
    rules: list[str],
    comments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The output is a configuration with these rules, and says what is left out."""
    file = tmp_path / "other.conf"
    file.write_text(text)
    assert main(["import", name, str(file)]) == 0
    out = capsys.readouterr().out
    configuration = read_files([FileContent("mcr.toml", out.encode())])
    assert list(map(str, configuration.parsed)) == rules
    told = " ".join(re.findall("# (.*)", out))
    assert not [comment for comment in comments if comment not in told], told


@pytest.mark.parametrize(
    ("name", "text", "problems"),
    [
        ("smcroute", "mroute to x\nwhat 7\nmroute from a group 1.2.3 to b", 4),
        ("samplicator", "10.0.0.5: 192.0.2.7/9000", 1),
        ("samplicator", "# listen 10.0.0.1:1\nx: y\n10.0.0.5: a/b/c\n10.0.0.5", 3),
        ("multicast-relay", "--interfaces eth0", 1),
        ("multicast-relay", "--interfaces '10.0.0.1", 1),
        ("mcrd", "{ rules: [ {}, 7 ] }", 2),
        ("mcrd", "{ rules: ", 1),
        ("mcrd", "[@]", 1),
    ],
)
def test_a_wrong_configuration_is_refused(name: str, text: str, problems: int) -> None:
    """With the line of each problem."""
    with pytest.raises(ConfigError) as caught:
        FORMATS[name](text)
    assert len({str(each) for each in caught.value.problems}) == problems
    assert all(str(each).startswith("line ") for each in caught.value.problems)


@given(
    st.sampled_from([*FORMATS]),
    st.text(max_size=80),
    st.text("mroute fgp{}[]:,/'\"\\#01", max_size=60),
)
def test_any_text_is_imported_or_refused(name: str, text: str, signs: str) -> None:
    """By one kind of error."""
    for each in (text, signs):
        told = ""
        try:
            FORMATS[name](each)
        except ConfigError as error:
            told = str(error)
        assert "Traceback" not in told


def test_json5_is_read() -> None:
    """With what it adds to JSON."""
    text = "{a: 'x\\\ny\\u0041', \"b\": [+1, .5, 0xff, 1e2, -3,], /* c */ c: false}"
    assert parse_json5(text) == {
        "a": "xyA",
        "b": [1, 0.5, 255, 100.0, -3],
        "c": False,
    }
