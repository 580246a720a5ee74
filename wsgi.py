"""The application for gunicorn: `gunicorn wsgi:app`. The `flask` commands load it too."""

from click import get_current_context

import memory
from app import create_app, say_if_spool_is_another
from settings import Settings

memory.keep_buffers()
_settings = Settings.from_environment()
app = create_app(_settings)

# A command may be there to make the catalog in the first place.
if get_current_context(silent=True) is None:
    say_if_spool_is_another(_settings)
