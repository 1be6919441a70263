"""Imports point down, and what is dangerous stays behind one door."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "mcr"
CRATE = ROOT / "rust"

# A module imports only what stands before it.
PYTHON_LAYERS = [
    "_native",
    "errors",
    "json_reader",
    "affinity",
    "rules",
    "stats",
    "traffic",
    "relay",
    "doctor",
    "protocol",
