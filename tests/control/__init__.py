"""Tests of the control process, with fake workers and a fake supervisor."""
