"""Settings of who is told, besides Alertmanager: a webhook, a model registry."""

from datetime import timedelta
from pathlib import Path

from haldane.config.base import Section
from haldane.config.quantities import Duration, HttpUrl


class WebhookSection(Section):
    """A receiver of notices: conditions that begin and end, rollouts that start and move (extra `notify`)."""

    url: HttpUrl
    """Where CloudEvents 1.0 are posted, in structured JSON."""

    secret_file: Path | None = None
    """File with the secret that signs them, as Standard Webhooks writes it: whsec_ and random bytes in base64."""

    secret_env: str | None = None
    """Environment variable that holds it."""

    timeout: Duration = timedelta(seconds=5)
    """For each; no answer by then counts as not taken."""


class MlflowSection(Section):
    """An MLflow tracking server whose registry is kept in step (models.X.registered)."""

    url: HttpUrl
    """Its base URL, e.g. http://mlflow:5000."""

    token_file: Path | None = None
    """File that holds a bearer token."""

    token_env: str | None = None
    """Environment variable that holds a bearer token."""

    timeout: Duration = timedelta(seconds=10)
    """For each call."""
