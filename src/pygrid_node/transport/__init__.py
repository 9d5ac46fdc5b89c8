"""HTTP and WebSocket on one port: parse a message, call one use case, render its answer."""
