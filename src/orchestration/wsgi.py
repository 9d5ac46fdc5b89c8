"""What gunicorn runs: `orchestration.wsgi:app`."""

from orchestration.pygrid_orchestration import create_app

app = create_app()
