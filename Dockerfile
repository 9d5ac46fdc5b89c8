# syntax=docker/dockerfile:1
# The service: web and reconciler are the same image with another command. No Node.js, no CDK, no compiler inside;
# the stacks come along as the snapshots that are checked in.

FROM python:3.11-slim-bookworm AS build
RUN python3 -m venv /opt/venv
COPY requirements-service.txt .
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-service.txt
COPY src/orchestration /opt/app/orchestration
COPY src/pygrid_wire /opt/app/pygrid_wire
RUN /opt/venv/bin/python -m compileall -q /opt/app

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin artificien
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/app /opt/app
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 5001
# The reconciler: CMD ["python", "-m", "orchestration", "reconcile"]
CMD ["gunicorn", "-c", "python:orchestration.gunicorn_conf", "orchestration.wsgi:app"]
