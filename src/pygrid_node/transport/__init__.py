"""HTTP and WebSocket, on one port: parse, call one use case, render. The only package that serves."""
