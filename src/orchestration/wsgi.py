"""Entry point of gunicorn: `orchestration.wsgi:app`."""

from orchestration.pygrid_orchestration import create_app

app = create_app()
