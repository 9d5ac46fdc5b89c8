# syntax=docker/dockerfile:1
# Two images. The service, which is built without a target: web and reconciler are the same image with another
# command; no Node.js, no CDK, no compiler inside; instead of the stacks, it has the snapshots of their templates.
# And the node, with `--target node`: what NODE_IMAGE names, unless that is the original PyGrid.

# uv installs what a lock lists into an environment without pip. Only that environment is copied into the images: an
# intruder would find uv and pip useful, the service and the node don't need them.
FROM python:3.11-slim-bookworm AS uv
COPY requirements-uv.txt .
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes \
        -r requirements-uv.txt \
    && python3 -m venv --without-pip /opt/venv
ENV UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NO_CACHE=1 UV_LINK_MODE=copy

FROM uv AS build
COPY requirements-service.txt .
RUN /opt/uv/bin/uv pip sync --python /opt/venv --compile-bytecode --require-hashes --no-build requirements-service.txt
COPY src/orchestration /opt/app/orchestration
COPY src/pygrid_wire /opt/app/pygrid_wire
RUN /opt/venv/bin/python -m compileall -q /opt/app

FROM uv AS build-node
COPY requirements-node.txt .
RUN /opt/uv/bin/uv pip sync --python /opt/venv --compile-bytecode --require-hashes --no-build requirements-node.txt
COPY src/pygrid_node /opt/app/pygrid_node
COPY src/pygrid_wire /opt/app/pygrid_wire
RUN /opt/venv/bin/python -m compileall -q /opt/app

# It writes nowhere but into its database, so its root file system may be read-only (`docker run --read-only`).
# An SQLite file belongs on a volume that user 10001 may write to; in the image there is no such place but /tmp.
FROM python:3.11-slim-bookworm AS node
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin artificien
COPY --from=build-node /opt/venv /opt/venv
COPY --from=build-node /opt/app /opt/app
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PORT=5000
USER 10001
EXPOSE 5000
# For engines that look at it; on ECS the load balancer asks for the same page.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/data-centric/status/\", timeout=4)"]
CMD ["python", "-m", "pygrid_node"]

FROM python:3.11-slim-bookworm AS service
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin artificien
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/app /opt/app
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 5001
# The reconciler: CMD ["python", "-m", "orchestration", "reconcile"]
CMD ["gunicorn", "-c", "python:orchestration.gunicorn_conf", "orchestration.wsgi:app"]
