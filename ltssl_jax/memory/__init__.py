"""What methods remember between steps: pure updates of plain arrays, equal on all devices.

A memory is a part of the method's state: an array or a dictionary of arrays, made by an `init` and
replaced, never changed, by an update. Whatever enters one comes from all devices.
"""
