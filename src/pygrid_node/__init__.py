"""The node: a server of the PyGrid model-centric protocol, for one dataset."""
