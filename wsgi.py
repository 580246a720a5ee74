"""The application for gunicorn: `gunicorn wsgi:app`. The `flask` commands load it too."""

from click import get_current_context

import cli
import memory
import observe
from app import about, create_app, say_if_spool_is_another
from errors import LadingError
from settings import Settings

memory.keep_buffers()
# A command may be there to make the catalog in the first place, or, `flask doctor`, to say what is wrong.
if get_current_context(silent=True) is None:
    _settings = Settings.from_environment()
    app = create_app(_settings)
    observe.start(_settings, about)
    say_if_spool_is_another(_settings)
else:
    try:
        app = create_app()
    except (LadingError, OSError) as reason:
        app = cli.without_app(reason)
