"""Configuration files of the daemon: read, checked, described and written.

    workers and other settings of `mcr serve`   [daemon]
    what rules and their outputs leave out      [defaults]
    the rules, as text or as tables             rules
    further files with rules                    include

Pure: who opens files, and what becomes of the rules, is decided elsewhere.
"""
