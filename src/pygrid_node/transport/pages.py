"""The page for somebody who looks at the node with a browser, and for health checks."""

HOME = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>PyGrid node</title></head>
<body>
<h1>PyGrid node</h1>
<p>This node trains models together with the devices that hold the data.</p>
</body>
</html>
"""
