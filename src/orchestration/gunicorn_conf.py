"""gunicorn's settings: `gunicorn -c python:orchestration.gunicorn_conf orchestration.wsgi:app`."""

import os

bind = os.environ.get("BIND", "0.0.0.0:5001")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "16"))
timeout = 60
graceful_timeout = 20

# Longer than the load balancer's idle time-out of 60 s, so that the load balancer closes connections first.
keepalive = 75

# The pod's header is called `api_key`, and gunicorn drops names with an underscore. `forwarder_headers` lets
# one name through, but from trusted peers only, and devices call from any address. The third line disables
# the only other claim of a trusted peer, that its connection was https.
forwarder_headers = "API_KEY"
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}

# The largest limit that gunicorn takes. A download link has the model's id in its path: up to 512 characters,
# of up to 12 bytes when percent-encoded.
limit_request_line = 8190

accesslog = os.environ.get("ACCESS_LOG") or None
errorlog = "-"
control_socket_disable = True  # the socket is a file in the home directory, which the image's user lacks
