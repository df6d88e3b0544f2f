"""What everything else stands on: errors, fixed point, time, ids and enums."""
