"""The venue simulator: the venues' own protocols on loopback, with faults by seed."""
