"""AWS, the service, its nodes and a demo on one machine: `artificien local`."""


class LocalPlatformError(Exception):
    """The platform or the demo can't go on. The message is for the person at the command line."""
