"""Tests of the control process, with workers and a supervisor that only play."""
