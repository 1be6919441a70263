"""Certificates for TLS on loopback, made by openssl."""

import subprocess
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def write_certificates(directory: Path, *names: str) -> Path:
    """Write an authority (ca.pem) and a certificate and key of it for each name; return it."""
    directory.mkdir(exist_ok=True)
    authority, key = directory / "ca.pem", directory / "ca.key"
    extension = ("-addext", "keyUsage=critical,keyCertSign")
    _openssl("-x509", *_CURVE, "-subj", "/CN=ca", *extension, "-keyout", key, "-out", authority)
    for name in names:
        _openssl(
            *("-x509", *_CURVE, "-subj", f"/CN={name}", "-CA", authority, "-CAkey", key),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"),
            *("-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"),
        )
    return authority


def _openssl(*words: str | Path) -> None:
    command = ["openssl", "req", *map(str, words), "-days", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
