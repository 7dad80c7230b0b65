"""Where plant and controller meet: demo, lock-step, bench."""
