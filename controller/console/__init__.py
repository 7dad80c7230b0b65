"""The operator's console: a process of its own, fed one picture a second by the controller's tap."""
