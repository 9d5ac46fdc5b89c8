"""gunicorn's settings: `gunicorn -c python:orchestration.gunicorn_conf orchestration.wsgi:app`."""

import os

bind = os.environ.get("BIND", "0.0.0.0:5001")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "16"))
timeout = 60
graceful_timeout = 20

# Longer than the load balancer's idle time-out of 60 s: whoever closes last never cuts off a request.
keepalive = 75

# The pod's header is called `api_key`, and gunicorn drops names with an underscore. `forwarder_headers` lets
# one name through, but from trusted peers only, and phones call from anywhere. All that a trusted peer could
# claim beyond that, that its connection was https, is switched off with the third line.
forwarder_headers = "API_KEY"
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}

accesslog = os.environ.get("ACCESS_LOG") or None
errorlog = "-"
control_socket_disable = True  # it would be a file in the home of a user that has none
