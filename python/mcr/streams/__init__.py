"""The multicast streams of a link: seen on the wire, and announced (SAP, SDP).

`listener` reads frames, `table` counts them, and `kinds` recognizes what they carry. All input
comes from the network: each table is bounded, and nothing fails on any bytes.
"""
